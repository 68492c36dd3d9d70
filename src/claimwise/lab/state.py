"""The state of an iteration to one file and back, bit for bit and without pickle.

A state is a tree: dictionaries, lists and tuples of tensors, arrays, numbers, strings, random generators, and objects
with `state_dict` and `load_state_dict` (modules, optimisers, schedulers). The file is safetensors: tensors and arrays
are its tensors; the rest of the tree is JSON in its metadata. A CRC-32 over both tells a damaged file from a whole one.
"""

import io
import json
import random
import struct
import zipfile
import zlib
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from claimwise.lab.storage import CorruptFile, write_atomic

HEADER_LIMIT = 100_000_000
"""Bytes of header that readers of safetensors accept."""

_SAFETENSORS = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
}
"""What every release of safetensors knows; other types (complex, float8, uint16, ...) are stored as their bytes."""

_KEYS = (str, int, float, bool, type(None), tuple)

_STORABLE = (
    "a state holds None, numbers, strings, bytes, tensors, arrays, random generators, dicts, lists and tuples of "
    "these, and objects with state_dict and load_state_dict"
)


class CorruptState(CorruptFile):
    """A state or array file that is truncated, damaged, or not one of ours."""


class StateDict(dict[Any, Any]):
    """What an object's `state_dict` gave, as loaded from a file."""

    of: str = ""
    """The type of the object, for messages."""


def save_state(path: str | Path, tree: Any) -> None:
    """Write a tree atomically: `path` is wholly the earlier state or wholly this one, whenever the process dies.

    Tensors that are the same view of the same memory (tied weights) are stored once and loaded as one.
    Memory layout is kept where it is dense (transposed, channels last), since kernels may round differently by layout.
    Gradients are not part of a state.

    Raises:
        TypeError: a leaf that cannot be stored, named by its place (`state['model'][3]`).
        DiskFull: there is no room; the earlier file is untouched.
    """
    writer = _Writer()
    skeleton = json.dumps(writer.encode(tree, "state"), separators=(",", ":"))
    checksum = zlib.crc32(skeleton.encode())
    for name in sorted(writer.tensors):
        checksum = zlib.crc32(writer.tensors[name][2], checksum)
    header: dict[str, Any] = {"__metadata__": {"claimwise": skeleton, "crc32": f"{checksum:08x}"}}
    # Wide types first, so that each tensor is aligned in the file.
    names = sorted(writer.tensors, key=lambda name: (-_WIDTH[writer.tensors[name][0]], name))
    end = 0
    for name in names:
        dtype, shape, content = writer.tensors[name]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(content)]}
        end += len(content)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    if len(head) > HEADER_LIMIT:
        raise ValueError(
            f"{path}: {len(head):,} bytes of numbers and strings outside tensors, at most {HEADER_LIMIT:,} fit; "
            "keep long lists of numbers in a tensor or an array"
        )
    # safetensors' own writer wants the whole file in memory and reports a full disk as text only.
    write_atomic(path, _chunks(struct.pack("<Q", len(head)), head, *(writer.tensors[name][2] for name in names)))


def load_state(path: str | Path, device: str | torch.device | None = None) -> Any:
    """Read the tree that `save_state` wrote, as plain containers and new leaves.

    Objects with a `state_dict` come back as that dictionary (a `StateDict`), on the CPU.

    Args:
        path: the file.
        device: where to put tensors; by default each on the device it was saved from.

    Raises:
        CorruptState: truncated, damaged, or not written by `save_state`.
    """
    path = Path(path)
    with path.open("rb"):
        pass  # a missing or unreadable file is its own error, not a corrupt one
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            # Copied out of the file's memory map: a tensor must outlive the file, and be aligned as torch aligns it.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CorruptState(f"{path}: not a whole safetensors file: {error}") from error
    if not {"claimwise", "crc32"} <= metadata.keys():
        raise CorruptState(f"{path}: safetensors, but not a state of this program")
    checksum = zlib.crc32(metadata["claimwise"].encode())
    for name in sorted(tensors):
        checksum = zlib.crc32(_bytes(tensors[name]), checksum)
    if f"{checksum:08x}" != metadata["crc32"]:
        raise CorruptState(f"{path}: damaged: its content does not match its checksum")
    try:
        return _Reader(tensors, device).decode(json.loads(metadata["claimwise"]))
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise CorruptState(f"{path}: not a state that this version reads: {error!r}") from error


def restore(live: Any, saved: Any, place: str = "state") -> Any:
    """Bring a live tree to a saved state, in place where there is something to keep in place.

    Objects get `load_state_dict`, generators their state, tensors and arrays of equal shape and dtype their values,
    dictionaries and lists their items; other values are replaced. What the live tree does not have is taken over from
    the saved one, which must not be used afterwards (load it again).

    Tensors that share memory in the live tree but had come apart when it was saved come apart again.

    Args:
        live: the tree as the program set it up.
        saved: what `load_state` returned.
        place: the tree's name in messages.

    Returns:
        The tree in its saved state: `live` itself if that is an object, a generator, a dictionary or a list.

    Raises:
        TypeError: the saved tree needs an object or a generator of another kind than the live one has.
    """
    _overwrite(live, saved, place)
    return _merged(live, saved, {})


def save_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as npz, atomically and without pickle; equal arrays give equal files.

    Raises:
        TypeError: an array of Python objects, or something that is not an array.
        DiskFull: there is no room; the earlier file is untouched.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray) or array.dtype.hasobject:
                kind = f"an array of {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
                raise TypeError(f"{path}: {name!r}: cannot store {kind}; give an array of numbers or strings")
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    write_atomic(path, buffer.getvalue())


def load_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Read what `save_arrays` wrote.

    Raises:
        CorruptState: truncated, damaged, or not an npz of plain arrays.
    """
    content = Path(path).read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            arrays = {}
            for name in archive.namelist():
                with archive.open(name) as member:
                    arrays[name.removesuffix(".npy")] = np.lib.format.read_array(member, allow_pickle=False)
            return arrays
    except (zipfile.BadZipFile, ValueError, EOFError, KeyError, OSError, NotImplementedError, zlib.error) as error:
        raise CorruptState(f"{path}: not a whole npz of plain arrays: {error}") from error


_WIDTH = {name: torch.empty(0, dtype=dtype).element_size() for dtype, name in _SAFETENSORS.items()}


def _chunks(*parts: bytes | memoryview) -> Iterator[bytes | memoryview]:
    yield from parts


def _bytes(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous CPU tensor, not copied."""
    # A contiguous tensor of one element or none may have any stride, which view() minds.
    return tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8).numpy().data


def _memory_order(shape: tuple[int, ...], strides: tuple[int, ...]) -> list[int]:
    """Axes from the widest stride to the narrowest; a dense tensor is contiguous once its axes stand in this order."""
    return sorted(range(len(shape)), key=lambda axis: (-strides[axis], axis))


class _Writer:
    """Turns a tree into JSON; gathers its tensors as name -> (safetensors dtype, shape, bytes)."""

    def __init__(self) -> None:
        self.tensors: dict[str, tuple[str, list[int], memoryview]] = {}
        self.seen: dict[tuple[Any, ...], tuple[str, Any]] = {}  # view -> its name, and itself, to keep its memory alive
        self.inside: set[int] = set()

    def encode(self, value: Any, place: str) -> Any:
        kind = type(value)
        if value is None or kind in (bool, str):
            return value
        if kind is int:
            # Other readers of JSON, and Python beyond 4300 digits, stop at large numbers.
            return value if abs(value) < 1 << 63 else {"int": hex(value)}
        if kind is float:
            return value if value - value == 0 else {"float": struct.pack("<d", value).hex()}  # nan - nan, inf - inf
        if isinstance(value, torch.Tensor):
            return self.tensor(value, place)
        if isinstance(value, np.ndarray):
            return self.array(value, place)
        if isinstance(value, np.generic):
            self.check_dtype(value.dtype, place)
            return {"scalar": [value.dtype.str, value.tobytes().hex()]}
        if kind is bytes:
            return {"bytes": self.store(torch.from_numpy(np.frombuffer(value, np.uint8).copy()), place)}
        if isinstance(value, torch.Generator):
            return {"torch.Generator": [str(value.device), self.store(value.get_state(), place)]}
        if isinstance(value, np.random.Generator):
            return {"numpy.random.Generator": self.encode(value.bit_generator.state, place)}
        if kind is random.Random:
            return {"random.Random": self.encode(value.getstate(), place)}
        if isinstance(value, list | tuple | dict) or _is_stateful(value):
            if id(value) in self.inside:
                raise TypeError(f"{place}: cannot store a {kind.__name__} that contains itself")
            self.inside.add(id(value))
            try:
                return self.container(value, place)
            finally:
                self.inside.remove(id(value))
        if isinstance(value, type) or (callable(value) and not hasattr(value, "state_dict")):
            found = (
                f"a {'class' if isinstance(value, type) else 'function'} ({getattr(value, '__name__', kind.__name__)})"
            )
            raise TypeError(f"{place}: cannot store {found}; give its state_dict or leave it out: {_STORABLE}")
        raise TypeError(f"{place}: cannot store a {kind.__name__} ({value!r:.60}); {_STORABLE}")

    def container(self, value: Any, place: str) -> Any:
        if isinstance(value, list):
            return [self.encode(item, f"{place}[{index}]") for index, item in enumerate(value)]
        if isinstance(value, tuple):
            return {"tuple": [self.encode(item, f"{place}[{index}]") for index, item in enumerate(value)]}
        if isinstance(value, dict):
            tag = {OrderedDict: "OrderedDict", Counter: "Counter"}.get(type(value), "dict")
            return {
                tag: [[self.key(key, place), self.encode(item, f"{place}[{key!r}]")] for key, item in value.items()]
            }
        state = value.state_dict()
        if not isinstance(state, dict):
            kind = type(value).__name__
            raise TypeError(f"{place}: {kind}.state_dict() must return a dict, got {type(state).__name__}")
        name = f"{type(value).__module__}.{type(value).__qualname__}"
        return {"object": [name, self.encode(state, place)]}

    def key(self, key: Any, place: str) -> Any:
        if type(key) not in _KEYS:
            raise TypeError(
                f"{place}: cannot store the key {key!r} ({type(key).__name__}); "
                "keys are strings, numbers, None or tuples"
            )
        if type(key) is tuple:
            return {"tuple": [self.key(part, place) for part in key]}
        return self.encode(key, place)

    def tensor(self, tensor: torch.Tensor, place: str) -> Any:
        kind = "meta" if tensor.is_meta else "quantized" if tensor.is_quantized else str(tensor.layout)
        if kind != "torch.strided":
            raise TypeError(f"{place}: cannot store a {kind} tensor; store the dense tensors it is made of")
        if tensor.requires_grad and not tensor.is_leaf:
            raise TypeError(f"{place}: cannot store a tensor with its gradient history; give its detach()")
        details: dict[str, Any] = {"name": self.store(tensor.detach(), place)}
        details["shape"] = list(tensor.shape)
        details["dtype"] = str(tensor.dtype).removeprefix("torch.")
        order = _memory_order(tensor.shape, tensor.stride())
        if order != sorted(order) and tensor.permute(order).is_contiguous():
            details["order"] = order
        if tensor.device.type != "cpu":
            details["device"] = str(tensor.device)
        if tensor.requires_grad:
            details["requires_grad"] = True
        return {"tensor": details}

    def store(self, tensor: torch.Tensor, place: str) -> str:
        view = (
            tensor.untyped_storage().data_ptr(),
            tensor.storage_offset(),
            tensor.shape,
            tensor.stride(),
            tensor.dtype,
            tensor.device,
            tensor.is_conj(),
            tensor.is_neg(),
        )
        if view in self.seen and tensor.numel():
            return self.seen[view][0]
        name = f"{len(self.tensors)} {place}"
        self.seen[view] = name, tensor
        order = _memory_order(tensor.shape, tensor.stride())
        dense = tensor.permute(order)
        if not dense.is_contiguous():
            dense = tensor
        dense = dense.resolve_conj().resolve_neg().cpu().contiguous()
        content = _bytes(dense)
        if dense.dtype in _SAFETENSORS:
            self.tensors[name] = _SAFETENSORS[dense.dtype], list(dense.shape), content
        else:
            self.tensors[name] = "U8", [len(content)], content
        return name

    def array(self, array: np.ndarray, place: str) -> Any:
        if type(array) is not np.ndarray:
            raise TypeError(f"{place}: cannot store a {type(array).__name__}; give numpy.asarray of it")
        self.check_dtype(array.dtype, place)
        view = ("array", array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str)
        order = _memory_order(array.shape, array.strides)
        dense = array.transpose(order)
        if not dense.flags.c_contiguous:
            order, dense = sorted(order), np.ascontiguousarray(array)
        if view not in self.seen or not array.size:
            name = f"{len(self.tensors)} {place}"
            self.seen[view] = name, array
            content = memoryview(dense.tobytes())
            self.tensors[name] = "U8", [len(content)], content
        details = {"name": self.seen[view][0], "shape": list(array.shape), "dtype": array.dtype.str}
        if order != sorted(order):
            details["order"] = order
        return {"array": details}

    def check_dtype(self, dtype: np.dtype, place: str) -> None:
        if dtype.kind not in "biufcSUmM":
            raise TypeError(f"{place}: cannot store an array of {dtype}; give one of numbers, booleans or strings")


class _Reader:
    """Turns JSON and named tensors back into a tree."""

    def __init__(self, tensors: dict[str, torch.Tensor], device: str | torch.device | None) -> None:
        self.tensors = tensors
        self.device = device
        self.made: dict[str, Any] = {}  # what was stored once is loaded as one

    def decode(self, node: Any, in_object: bool = False) -> Any:
        if isinstance(node, list):
            return [self.decode(item, in_object) for item in node]
        if not isinstance(node, dict):
            return node
        ((tag, content),) = node.items()
        match tag:
            case "int":
                return int(content, 16)
            case "float":
                return struct.unpack("<d", bytes.fromhex(content))[0]
            case "tuple":
                return tuple(self.decode(item, in_object) for item in content)
            case "dict" | "OrderedDict" | "Counter":
                made = {"dict": dict, "OrderedDict": OrderedDict, "Counter": Counter}[tag]()
                for key, item in content:
                    made[self.decode(key)] = self.decode(item, in_object)
                return made
            case "object":
                state = StateDict(self.decode(content[1], in_object=True))
                state.of = content[0]
                return state
            case "tensor" | "array":
                if (name := json.dumps([content, in_object])) not in self.made:
                    self.made[name] = self.tensor(content, in_object) if tag == "tensor" else self.array(content)
                return self.made[name]
            case "scalar":
                return np.frombuffer(bytes.fromhex(content[1]), np.dtype(content[0]))[0]
            case "bytes":
                return self.tensors[content].numpy().tobytes()
            case "torch.Generator":
                return torch.Generator(content[0]).set_state(self.tensors[content[1]])
            case "numpy.random.Generator":
                state = self.decode(content)
                bit_generator = getattr(np.random, state["bit_generator"])
                if not issubclass(bit_generator, np.random.BitGenerator):
                    raise ValueError(f"numpy.random.{state['bit_generator']} is not a bit generator")
                generator = np.random.Generator(bit_generator())
                generator.bit_generator.state = state
                return generator
            case "random.Random":
                chance = random.Random()
                chance.setstate(self.decode(content))
                return chance
        raise ValueError(f"unknown kind {tag!r}")

    def tensor(self, details: dict[str, Any], in_object: bool) -> torch.Tensor:
        shape, order = details["shape"], details.get("order", range(len(details["shape"])))
        dtype = getattr(torch, details["dtype"])
        stored = self.tensors[details["name"]]
        flat = stored.reshape(-1) if stored.dtype is dtype else stored.reshape(-1).view(dtype)
        tensor = flat.reshape([shape[axis] for axis in order]).permute(np.argsort(order).tolist())
        # load_state_dict moves to where the object lives; moving its tensors before would hold them there twice.
        device = self.device or ("cpu" if in_object else details.get("device", "cpu"))
        return tensor.to(device).requires_grad_(details.get("requires_grad", False))

    def array(self, details: dict[str, Any]) -> np.ndarray:
        shape, order = details["shape"], details.get("order", range(len(details["shape"])))
        dtype = np.dtype(details["dtype"])
        if 0 in shape or dtype.itemsize == 0:
            return np.zeros(shape, dtype)
        flat = self.tensors[details["name"]].numpy().view(dtype)
        return flat.reshape([shape[axis] for axis in order]).transpose(np.argsort(order).tolist())


def _is_stateful(value: Any) -> bool:
    return not isinstance(value, type) and hasattr(value, "state_dict") and hasattr(value, "load_state_dict")


def _overwrite(live: Any, saved: Any, place: str) -> None:
    """Give everything that is kept in place its saved state; leave the containers as they are."""
    if isinstance(live, torch.Tensor):
        if _can_hold(live, saved):
            with torch.no_grad():
                live.copy_(saved)
            live.requires_grad_(saved.requires_grad)
    elif isinstance(live, np.ndarray):
        if _can_hold(live, saved):
            np.copyto(live, saved)
    elif isinstance(live, torch.Generator | np.random.Generator | random.Random):
        if type(live) is not type(saved):
            expected, found = f"{type(live).__module__}.{type(live).__name__}", type(saved).__name__
            raise TypeError(f"{place}: a {expected} here, {found} in the saved state")
        _set_generator(live, saved)
    elif isinstance(live, dict):
        if isinstance(saved, StateDict):
            raise TypeError(f"{place}: a plain dictionary here, the state of a {saved.of} in the saved state")
        if isinstance(saved, dict):
            for key in live.keys() & saved.keys():
                _overwrite(live[key], saved[key], f"{place}[{key!r}]")
    elif isinstance(live, list | tuple):
        if isinstance(saved, list | tuple):
            for index, (item, value) in enumerate(zip(live, saved, strict=False)):
                _overwrite(item, value, f"{place}[{index}]")
    elif _is_stateful(live):
        if not isinstance(saved, dict):
            raise TypeError(f"{place}: a {type(live).__name__} here, {type(saved).__name__} in the saved state")
        state = OrderedDict(saved)
        if hasattr(current := live.state_dict(), "_metadata"):
            state._metadata = current._metadata  # type: ignore[attr-defined]  # modules' versions, else taken for old ones
        try:
            live.load_state_dict(state)
        except Exception as error:
            error.add_note(f"while restoring {place}")
            raise
    elif isinstance(saved, StateDict):
        raise TypeError(
            f"{place}: {type(live).__name__} here, the state of a {saved.of} in the saved state; "
            "create the object before the loop starts"
        )


def _set_generator(live: Any, saved: Any) -> None:
    if isinstance(live, torch.Generator):
        live.set_state(saved.get_state())
    elif isinstance(live, np.random.Generator):
        live.bit_generator.state = saved.bit_generator.state
    else:
        live.setstate(saved.getstate())


def _merged(live: Any, saved: Any, chosen: dict[int, Any]) -> Any:
    """The restored tree: what was kept in place where it holds its saved value, and what was saved elsewhere."""
    if isinstance(saved, torch.Tensor | np.ndarray):
        if id(saved) not in chosen:
            # Two live tensors in one memory cannot hold two saved values: compare after all was written.
            chosen[id(saved)] = live if _can_hold(live, saved) and _same_bits(live, saved) else saved
        return chosen[id(saved)]
    if isinstance(saved, dict) and isinstance(live, dict):
        items = {key: _merged(live.get(key), value, chosen) for key, value in saved.items()}
        live.clear()
        live.update(items)
        return live
    if isinstance(saved, list | tuple):
        old = live if isinstance(live, list | tuple) else ()
        new = [_merged(old[index] if index < len(old) else None, value, chosen) for index, value in enumerate(saved)]
        if isinstance(saved, list):
            if not isinstance(live, list):
                return new
            live[:] = new
            return live
        if isinstance(live, tuple) and hasattr(live, "_fields"):
            return type(live)(*new)
        return tuple(new)
    if isinstance(live, torch.Generator | np.random.Generator | random.Random) or _is_stateful(live):
        return live
    return saved


def _can_hold(live: Any, saved: Any) -> bool:
    """Whether the saved values can be written into the live tensor or array."""
    if isinstance(live, torch.Tensor) and isinstance(saved, torch.Tensor):
        expanded = any(stride == 0 and size > 1 for stride, size in zip(live.stride(), live.shape, strict=True))
        writeable = live.is_leaf and not live.is_inference() and not expanded
    elif isinstance(live, np.ndarray) and isinstance(saved, np.ndarray):
        writeable = live.flags.writeable
    else:
        return False
    return writeable and live.shape == saved.shape and live.dtype == saved.dtype


def _same_bits(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return a.tobytes() == b.tobytes()
    a, b = a.detach().cpu().contiguous(), b.detach().cpu().contiguous()
    return _bytes(a) == _bytes(b)
