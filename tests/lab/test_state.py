"""A state must come back bit for bit: what follows from it is compared with what would have followed."""

import collections
import copy
import json
import math
import random
import struct
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from safetensors import safe_open
from torch import nn

from claimwise.lab.state import CorruptState, load_arrays, load_state, restore, save_arrays, save_state
from claimwise.lab.storage import DiskFull


def bits(value):
    """A value by type and bits, so that == tells nan from nan, -0.0 from 0.0, 1 from True, and layouts apart."""
    if isinstance(value, torch.Tensor):
        flat = value.detach().cpu().contiguous().as_strided((value.numel(),), (1,))
        content = flat.view(torch.uint8).numpy().tobytes()
        return "tensor", value.dtype, tuple(value.shape), value.requires_grad, content
    if isinstance(value, np.ndarray):
        return "array", value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, np.generic):
        return "scalar", value.dtype.str, value.tobytes()
    if isinstance(value, torch.Generator):
        return "torch.Generator", value.get_state().numpy().tobytes()
    if isinstance(value, np.random.Generator):
        return "numpy.random.Generator", bits(value.bit_generator.state)
    if isinstance(value, random.Random):
        return "random.Random", value.getstate()
    if isinstance(value, dict):
        return "dict", [(bits(key), bits(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value).__name__, [bits(item) for item in value]
    if isinstance(value, float):
        return "float", struct.pack("<d", value)
    return type(value).__name__, value


def there_and_back(tmp_path, tree):
    save_state(tmp_path / "state.safetensors", tree)
    return load_state(tmp_path / "state.safetensors")


DTYPES = [
    torch.bool,
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
]


@st.composite
def tensors(draw):
    """Any bits in any dtype and shape, contiguous or not."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    size = torch.empty(0, dtype=dtype).element_size()
    content = draw(st.binary(min_size=math.prod(shape) * size, max_size=math.prod(shape) * size))
    raw = torch.tensor(list(content), dtype=torch.uint8)
    tensor = (raw > 127 if dtype is torch.bool else raw.view(dtype)).reshape(shape)
    if draw(st.booleans()) and tensor.dim() > 1:
        tensor = tensor.transpose(0, -1)
    if draw(st.booleans()) and tensor.dim() > 0:
        tensor = tensor[::2]
    return tensor.requires_grad_(dtype is torch.float32 and draw(st.booleans()) and tensor.is_leaf)


@st.composite
def generators(draw):
    seed = draw(st.integers(0, 2**32 - 1))
    bit_generator = draw(st.sampled_from([np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64]))
    generator = draw(
        st.sampled_from(
            [torch.Generator().manual_seed(seed), np.random.Generator(bit_generator(seed)), random.Random(seed)]
        )
    )
    if isinstance(generator, torch.Generator):
        torch.randn(3, generator=generator)
    elif isinstance(generator, np.random.Generator):
        generator.integers(10, size=3, dtype=np.int32)  # leaves half a word behind
    else:
        generator.gauss(0, 1)  # leaves the second of a pair behind
    return generator


any_arrays = arrays_of.arrays(
    dtype=arrays_of.boolean_dtypes()
    | arrays_of.integer_dtypes(endianness="?")
    | arrays_of.unsigned_integer_dtypes()
    | arrays_of.floating_dtypes(endianness="?")
    | arrays_of.complex_number_dtypes()
    | arrays_of.unicode_string_dtypes()
    | arrays_of.byte_string_dtypes(),
    shape=arrays_of.array_shapes(min_dims=0, min_side=0, max_side=3),
)
plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
keys = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
trees = st.recursive(
    plain | tensors() | any_arrays | any_arrays.map(lambda a: a.T) | generators(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(keys | st.tuples(keys, keys), inner)
        | st.dictionaries(st.text(), inner).map(collections.OrderedDict)
    ),
    max_leaves=8,
)


@settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(trees)
def test_any_tree_comes_back_bit_for_bit(tmp_path, tree):
    expected = bits(tree)
    assert bits(there_and_back(tmp_path, tree)) == expected
    assert bits(tree) == expected  # saving changes nothing, draws nothing


@settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(trees, trees)
def test_any_live_dictionary_can_be_brought_to_any_saved_one(tmp_path, live, saved):
    """Whatever stands in a live tree, after restoring it is the saved one, or its generators are of another kind."""
    expected = bits({"x": saved})
    loaded = there_and_back(tmp_path, {"x": saved})
    live = {"x": live, "gone": 1}
    try:
        restored = restore(live, loaded)
    except TypeError as error:
        assert "in the saved state" in str(error)  # noqa: PT017
        return
    except ValueError as error:
        assert "PRNG" in str(error)  # noqa: PT017
        return
    assert restored is live
    assert bits(restored) == expected


@pytest.mark.parametrize(
    "value",
    [pytest.param(10**5000, id="large"), -(2**63), 2**63 - 1, 2**64, math.nan, -math.nan, -0.0, 5e-324, "\ud800"],
)
def test_hard_plain_values(tmp_path, value):
    assert bits(there_and_back(tmp_path, [value])) == bits([value])


@pytest.mark.parametrize("kind", [dict, collections.OrderedDict, collections.Counter])
def test_a_dictionary_keeps_its_kind(tmp_path, kind):
    """Schedules keep their milestones in a Counter and ask it for its elements()."""
    loaded = there_and_back(tmp_path, [kind({"b": 2, "a": 1})])[0]
    assert type(loaded) is kind
    assert list(loaded.items()) == [("b", 2), ("a", 1)]


def test_views_that_only_promise_a_conjugate_or_a_sign_are_stored_as_their_values(tmp_path):
    z = torch.tensor([1 + 2j, 3 - 4j])
    loaded = there_and_back(tmp_path, {"z": z, "conjugate": z.conj(), "negative": z.conj().imag})
    assert loaded["z"].tolist() == [1 + 2j, 3 - 4j]
    assert loaded["conjugate"].tolist() == [1 - 2j, 3 + 4j]
    assert loaded["negative"].tolist() == [-2.0, 4.0]


@pytest.mark.parametrize("value", [np.float64(math.nan), np.bool_(True), np.str_("ε"), np.int8(-3), np.float16(0.1)])
def test_numpy_scalars_keep_their_type(tmp_path, value):
    assert bits(there_and_back(tmp_path, value)) == bits(value)


def test_the_file_is_safetensors_that_others_read(tmp_path):
    weight = torch.arange(6.0).reshape(2, 3)
    save_state(tmp_path / "state.safetensors", {"weight": weight, "flags": torch.tensor([True]), "step": 3})
    with safe_open(tmp_path / "state.safetensors", framework="numpy") as file:
        json.loads(file.metadata()["claimwise"])
        names = list(file.keys())
        assert len(names) == 2
        (name,) = (name for name in names if "weight" in name)
        assert np.array_equal(file.get_tensor(name), weight.numpy())


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        (len, r"state\['model'\]\[3\]: cannot store a function \(len\); give its state_dict"),
        (nn.Linear, r"\[3\]: cannot store a class \(Linear\)"),
        (SimpleNamespace(a=1), r"\[3\]: cannot store a SimpleNamespace"),
        ({1, 2}, r"\[3\]: cannot store a set"),
        (bytearray(b"x"), r"\[3\]: cannot store a bytearray"),
        (torch.float32, r"\[3\]: cannot store a dtype"),
        ({frozenset(): 1}, r"\[3\]: cannot store the key frozenset\(\)"),
        ({(1, b"x"): 1}, r"\[3\]: cannot store the key b'x'"),
        (np.array([object()]), r"\[3\]: cannot store an array of object"),
        (np.zeros(1, dtype=[("a", "f4")]), r"\[3\]: cannot store an array of \[\('a', '<f4'\)\]"),
        (np.ma.masked_array([1.0]), r"\[3\]: cannot store a MaskedArray; give numpy.asarray"),
        (np.random.RandomState(0), r"\[3\]: cannot store a RandomState"),
        (torch.ones(2).to_sparse(), r"\[3\]: cannot store a torch.sparse_coo tensor"),
        (torch.ones(2, device="meta"), r"\[3\]: cannot store a meta tensor"),
        (torch.ones(2, requires_grad=True) * 2, r"\[3\]: cannot store a tensor with its gradient history"),
        (SimpleNamespace(state_dict=lambda: 3, load_state_dict=id), r"state_dict\(\) must return a dict, got int"),
    ],
)
def test_what_cannot_be_stored_is_named_by_its_place(tmp_path, leaf, message):
    save_state(tmp_path / "state.safetensors", "earlier")
    with pytest.raises(TypeError, match=message):
        save_state(tmp_path / "state.safetensors", {"model": [0, 1, 2, leaf]})
    assert load_state(tmp_path / "state.safetensors") == "earlier"


def test_a_tree_that_contains_itself_is_refused(tmp_path):
    tree = {"a": []}
    tree["a"].append(tree)
    with pytest.raises(TypeError, match=r"state\['a'\]\[0\]: cannot store a dict that contains itself"):
        save_state(tmp_path / "state.safetensors", tree)
    twice = [1]
    assert there_and_back(tmp_path, [twice, twice]) == [[1], [1]]


def test_too_much_outside_tensors_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("claimwise.lab.state.HEADER_LIMIT", 1000)
    save_state(tmp_path / "state.safetensors", {"history": torch.rand(1000)})
    with pytest.raises(ValueError, match="keep long lists of numbers in a tensor or an array"):
        save_state(tmp_path / "state.safetensors", {"history": [0.5] * 1000})
    assert load_state(tmp_path / "state.safetensors")["history"].shape == (1000,)


# -- damage ------------------------------------------------------------------------------------------------------------


def test_every_damage_is_noticed(tmp_path):
    path = tmp_path / "state.safetensors"
    save_state(path, {"step": 3, "weight": torch.arange(5.0), "generator": np.random.default_rng(0), "name": "x"})
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptState, match=r"state\.safetensors"):
            load_state(path)
    path.write_bytes(whole + b"\x00")
    with pytest.raises(CorruptState):
        load_state(path)
    intact = bits(load_state_of(path, whole))
    unnoticed = 0
    for place in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        try:
            unnoticed += bits(load_state(path)) != intact
        except CorruptState:
            continue
    assert unnoticed == 0  # what loads in spite of a flipped bit (padding, a tensor's name) is the same state


def load_state_of(path, content):
    path.write_bytes(content)
    return load_state(path)


def test_other_files_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CorruptState, match="not a state of this program"):
        load_state(tmp_path / "foreign.safetensors")
    torch.save({"weight": torch.ones(2)}, tmp_path / "pickle.pt")
    with pytest.raises(CorruptState, match="not a whole safetensors file"):
        load_state(tmp_path / "pickle.pt")
    with pytest.raises(FileNotFoundError):
        load_state(tmp_path / "missing.safetensors")


def test_no_room_keeps_the_earlier_state(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "state.safetensors"
    save_state(path, {"step": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(DiskFull, match="earlier state is kept") as caught:
            save_state(path, {"step": 2, "weight": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.needed > 400_000
    assert load_state(path) == {"step": 1}
    assert [found.name for found in tmp_path.iterdir()] == ["state.safetensors"]


# -- what follows from a state -----------------------------------------------------------------------------------------


class Tied(nn.Module):
    """Two layers of one weight, dropout and batch statistics."""

    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(4, 4)
        self.normalise = nn.BatchNorm1d(4)
        self.dropout = nn.Dropout(0.3)
        self.decode = nn.Linear(4, 4)
        self.decode.weight = self.encode.weight

    def forward(self, x):
        return self.decode(self.dropout(self.normalise(self.encode(x))))


OPTIMISERS = {
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01, amsgrad=True),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.01),
    "sgd with momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
    "adadelta": lambda parameters: torch.optim.Adadelta(parameters),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.01, momentum=0.5, centered=True),
    "lbfgs": lambda parameters: torch.optim.LBFGS(parameters, max_iter=3),
}
SCHEDULES = {
    "multistep": lambda optimiser: torch.optim.lr_scheduler.MultiStepLR(optimiser, [2, 5, 5], gamma=0.5),
    "cosine": lambda optimiser: torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 10),
    "one cycle": lambda optimiser: torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 0.1, total_steps=20, cycle_momentum=False
    ),
    "plateau": lambda optimiser: torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, patience=1),
    "sequence": lambda optimiser: torch.optim.lr_scheduler.SequentialLR(
        optimiser,
        [
            torch.optim.lr_scheduler.LinearLR(optimiser, total_iters=3),
            torch.optim.lr_scheduler.StepLR(optimiser, 2),
        ],
        [3],
    ),
    "lambda": lambda optimiser: torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 / (1 + step)),
}


def training(seed, optimiser, schedule):
    torch.manual_seed(seed)
    model = Tied()
    optimiser = OPTIMISERS[optimiser](model.parameters())
    return {
        "model": model,
        "optimiser": optimiser,
        "schedule": SCHEDULES[schedule](optimiser),
        "order": torch.Generator().manual_seed(seed),
        "history": [],
        "best": None,
        "average": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "noise": np.random.default_rng(seed),
    }


def train(state, steps):
    for _ in range(steps):
        x = torch.randn(16, 4, generator=state["order"])
        x += torch.from_numpy(state["noise"].normal(size=(16, 4))).float()

        def closure(x=x):
            state["optimiser"].zero_grad()
            loss = (state["model"](x) - x).square().mean()
            loss.backward()
            return loss

        loss = state["optimiser"].step(closure)
        value = loss.item()
        state["schedule"].step(*[value] * isinstance(state["schedule"], torch.optim.lr_scheduler.ReduceLROnPlateau))
        state["history"].append(value)
        for name, tensor in state["model"].state_dict().items():
            state["average"][name].mul_(0.5).add_(tensor, alpha=0.5) if tensor.is_floating_point() else None
        if state["best"] is None or value < state["best"]["loss"]:
            state["best"] = {"loss": value, "weight": state["model"].encode.weight.detach().clone()}


def outcome(state):
    return bits(
        {
            **state,
            "model": state["model"].state_dict(),
            "optimiser": state["optimiser"].state_dict(),
            "schedule": state["schedule"].state_dict(),
        }
    )


@pytest.mark.parametrize(
    ("optimiser", "schedule"),
    [*((name, "multistep") for name in OPTIMISERS), *(("adam", name) for name in SCHEDULES if name != "multistep")],
)
def test_training_goes_on_as_if_never_interrupted(tmp_path, optimiser, schedule):
    uninterrupted = training(0, optimiser, schedule)
    train(uninterrupted, 4)
    save_state(tmp_path / "state.safetensors", {"state": uninterrupted, "dropout": torch.get_rng_state()})
    train(uninterrupted, 6)
    fresh = training(1, optimiser, schedule)  # other weights, other order: nothing of it may remain
    train(fresh, 2)
    saved = load_state(tmp_path / "state.safetensors")
    resumed = restore(fresh, saved["state"])
    torch.set_rng_state(saved["dropout"])
    assert resumed is fresh
    assert resumed["model"].decode.weight is resumed["model"].encode.weight
    train(resumed, 6)
    assert outcome(resumed) == outcome(uninterrupted)


def test_an_optimiser_that_fabric_wraps_is_restored(tmp_path):
    fabric_module = pytest.importorskip("lightning_fabric")

    def wrapped(seed):
        torch.manual_seed(seed)
        model = nn.Linear(3, 1)
        fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
        model, optimiser = fabric.setup(model, torch.optim.Adam(model.parameters(), lr=0.1))
        return {"model": model, "optimiser": optimiser}

    def descend(state):
        for _ in range(3):
            state["optimiser"].zero_grad()
            state["model"](torch.ones(2, 3)).square().sum().backward()
            state["optimiser"].step()

    uninterrupted = wrapped(0)
    descend(uninterrupted)
    save_state(tmp_path / "state.safetensors", uninterrupted)
    descend(uninterrupted)
    resumed = restore(wrapped(1), load_state(tmp_path / "state.safetensors"))
    descend(resumed)
    assert bits(resumed["model"].state_dict()) == bits(uninterrupted["model"].state_dict())


def test_a_module_is_restored_as_the_version_it_was_saved_as(tmp_path):
    """Without its metadata a state dictionary passes for one of version None, and modules upgrade it."""

    class Versioned(nn.Linear):
        _version = 3

        def _load_from_state_dict(self, state_dict, prefix, local_metadata, *arguments):
            assert local_metadata.get("version") == 3
            super()._load_from_state_dict(state_dict, prefix, local_metadata, *arguments)

    saved = there_and_back(tmp_path, {"model": Versioned(2, 2)})
    restore({"model": Versioned(2, 2)}, saved)


# -- sharing and layout ------------------------------------------------------------------------------------------------


def test_tied_tensors_are_stored_once_and_stay_tied(tmp_path):
    weight = torch.rand(1000, requires_grad=True)
    table = np.random.default_rng(0).random(1000)
    loaded = there_and_back(tmp_path, {"a": weight, "b": [weight, weight.detach()], "c": table, "d": table})
    assert (tmp_path / "state.safetensors").stat().st_size < 4000 + 8000 + 1500
    assert loaded["a"] is loaded["b"][0]
    assert loaded["b"][1].data_ptr() == loaded["a"].data_ptr()
    assert not loaded["b"][1].requires_grad
    assert loaded["c"] is loaded["d"]
    restored = restore({"a": torch.zeros(1000), "b": None, "c": np.zeros(1000), "d": None}, loaded)
    assert restored["a"] is restored["b"][0]
    assert restored["c"] is restored["d"]


def test_short_lived_tensors_are_not_taken_for_each_other(tmp_path):
    """Objects may hand out new tensors at each call; the memory of one must not be reused while its bytes wait."""

    class Fleeting:
        def __init__(self, value):
            self.value = value

        def state_dict(self):
            # numpy hands the memory of a small array that is gone to the next one.
            return {"array": np.full(8, self.value), "tensor": torch.from_numpy(np.full(16, self.value))[::2]}

        def load_state_dict(self, state):
            pass

    loaded = there_and_back(tmp_path, [Fleeting(float(i)) for i in range(20)])
    assert [item["array"][0] for item in loaded] == list(range(20))
    assert [item["tensor"][0].item() for item in loaded] == list(range(20))


def test_views_that_overlap_are_restored_in_their_one_memory(tmp_path):
    def live(fill):
        buffer = torch.full((6,), fill)
        return {"all": buffer, "head": buffer[:3]}

    state = live(0.0)
    state["head"][1] = 5.0
    resumed = restore(live(9.0), there_and_back(tmp_path, state))
    resumed["head"][0] = 7.0
    assert resumed["all"].tolist() == [7.0, 5.0, 0.0, 0.0, 0.0, 0.0]


def test_tensors_that_came_apart_before_saving_come_apart_again(tmp_path):
    def live():
        start = torch.zeros(3)
        return {"theta": start, "best": start, "values": np.zeros(2)}

    state = live()
    state["theta"] = torch.ones(3)
    resumed = restore(live(), there_and_back(tmp_path, state))
    assert resumed["theta"].tolist() == [1.0, 1.0, 1.0]
    assert resumed["best"].tolist() == [0.0, 0.0, 0.0]
    resumed["theta"].add_(1)
    assert resumed["best"].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.rand(3, 4).t(),
        torch.rand(2, 3, 4).permute(2, 0, 1),
        torch.rand(1, 4).t(),
    ],
)
def test_a_dense_layout_is_kept(tmp_path, tensor):
    loaded = there_and_back(tmp_path, tensor)
    wide = [axis for axis, size in enumerate(tensor.shape) if size > 1]
    assert [loaded.stride(axis) for axis in wide] == [tensor.stride(axis) for axis in wide]
    array = there_and_back(tmp_path, tensor.numpy())
    assert [array.strides[axis] for axis in wide] == [tensor.numpy().strides[axis] for axis in wide]
    assert np.array_equal(array, tensor.numpy())


def test_a_slice_does_not_store_what_it_is_cut_from(tmp_path):
    save_state(
        tmp_path / "state.safetensors", {"row": torch.zeros(1000, 1000)[3], "column": torch.zeros(1000, 1000)[:, 3]}
    )
    assert (tmp_path / "state.safetensors").stat().st_size < 10_000


def test_an_expanded_tensor_is_stored_and_replaced(tmp_path):
    loaded = there_and_back(tmp_path, {"x": torch.tensor(3.0).expand(4)})
    live = {"x": torch.tensor(1.0).expand(4)}
    assert restore(live, loaded)["x"].tolist() == [3.0] * 4


# -- restoring in place ------------------------------------------------------------------------------------------------


def test_what_others_refer_to_is_kept_and_given_its_saved_value(tmp_path):
    tensor, array, numbers, items = torch.zeros(3), np.zeros(2), {"step": 0, "old": 1}, [1]
    torch_rng, numpy_rng, python_rng = torch.Generator(), np.random.default_rng(1), random.Random(1)
    live = {"t": tensor, "a": array, "n": numbers, "l": items, "rng": (torch_rng, numpy_rng, python_rng)}
    saved = {
        "t": torch.ones(3, requires_grad=True),
        "a": np.ones(2),
        "n": {"step": 7, "new": {"deep": [1, (2,)]}},
        "l": [1, 2, 3],
        "rng": (torch.Generator().manual_seed(5), np.random.default_rng(5), random.Random(5)),
    }
    expected = bits(saved)
    restored = restore(live, there_and_back(tmp_path, saved))
    assert bits(restored) == expected
    assert restored["t"] is tensor
    assert restored["a"] is array
    assert restored["n"] is numbers
    assert restored["l"] is items
    assert all(a is b for a, b in zip(restored["rng"], (torch_rng, numpy_rng, python_rng), strict=True))
    assert tensor.is_leaf


def test_named_tuples_keep_their_type(tmp_path):
    Point = collections.namedtuple("Point", "x y")
    restored = restore({"p": Point(1, 2)}, there_and_back(tmp_path, {"p": Point(3, torch.ones(1))}))
    assert restored["p"] == Point(3, torch.ones(1))
    assert type(restored["p"]) is Point


def test_a_read_only_array_is_replaced(tmp_path):
    live = {"x": np.zeros(3)}
    live["x"].flags.writeable = False
    assert restore(live, there_and_back(tmp_path, {"x": np.ones(3)}))["x"].tolist() == [1, 1, 1]


def test_a_tensor_of_another_shape_or_dtype_is_replaced(tmp_path):
    live = {"grown": torch.zeros(2), "widened": torch.zeros(2)}
    saved = {"grown": torch.ones(3), "widened": torch.ones(2, dtype=torch.float64)}
    restored = restore(live, there_and_back(tmp_path, saved))
    assert bits(restored) == bits(saved)


@pytest.mark.parametrize(
    ("live", "saved", "message"),
    [
        (None, nn.Linear(1, 1), r"state\['x'\]: NoneType here, the state of a torch.nn.modules.linear.Linear"),
        ({}, nn.Linear(1, 1), r"state\['x'\]: a plain dictionary here, the state of a torch.nn"),
        (nn.Linear(1, 1), 3, r"state\['x'\]: a Linear here, int in the saved state"),
        (torch.Generator(), 3, r"state\['x'\]: a torch._C.Generator here, int in the saved state"),
        (random.Random(), np.random.default_rng(), r"state\['x'\]: a random.Random here, Generator in the saved state"),
    ],
)
def test_a_state_of_another_kind_is_refused(tmp_path, live, saved, message):
    with pytest.raises(TypeError, match=message):
        restore({"x": live}, there_and_back(tmp_path, {"x": saved}))


def test_a_model_of_another_shape_is_refused_with_its_place(tmp_path):
    saved = there_and_back(tmp_path, {"model": nn.Linear(2, 2)})
    with pytest.raises(RuntimeError, match="size mismatch") as caught:
        restore({"model": nn.Linear(3, 2)}, saved)
    assert caught.value.__notes__ == ["while restoring state['model']"]


def test_loading_to_a_named_device(tmp_path):
    save_state(tmp_path / "state.safetensors", {"x": torch.ones(2)})
    assert load_state(tmp_path / "state.safetensors", device="cpu")["x"].device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_tensors_return_to_the_device_they_were_saved_from(tmp_path):
    device = torch.device("cuda:0")
    model = nn.Linear(2, 2).to(device)
    optimiser = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2, device=device)).sum().backward()
    optimiser.step()
    state = {"x": torch.rand(3, device=device), "rng": torch.Generator(device).manual_seed(3)}
    state |= {"model": model, "optimiser": optimiser}
    expected = copy.deepcopy(optimiser.state_dict())
    loaded = there_and_back(tmp_path, state)
    assert loaded["x"].device == device
    assert loaded["model"]["weight"].device.type == "cpu"
    assert torch.equal(loaded["x"], state["x"])
    fresh = nn.Linear(2, 2).to(device)
    live = {
        "x": None,
        "rng": torch.Generator(device),
        "model": fresh,
        "optimiser": torch.optim.Adam(fresh.parameters()),
    }
    restored = restore(live, loaded)
    assert bits(restored["optimiser"].state_dict()) == bits(expected)
    assert restored["x"].device == device
    draws = [torch.rand(3, generator=rng, device=device) for rng in (restored["rng"], state["rng"])]
    assert torch.equal(*draws)
    assert load_state(tmp_path / "state.safetensors", device="cpu")["x"].device.type == "cpu"


# -- arrays ------------------------------------------------------------------------------------------------------------


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.text(st.characters(codec="utf-8", exclude_characters="\x00")), any_arrays))
def test_named_arrays_come_back_bit_for_bit(tmp_path, arrays):
    save_arrays(tmp_path / "arrays.npz", arrays)
    assert bits(load_arrays(tmp_path / "arrays.npz")) == bits(arrays)


def test_arrays_are_npz_that_numpy_reads_and_equal_arrays_are_equal_files(tmp_path):
    arrays = {"file": np.arange(3), "allow_pickle": np.eye(2, order="F")}  # names that numpy.savez takes for its own
    save_arrays(tmp_path / "a.npz", arrays)
    save_arrays(tmp_path / "b.npz", arrays)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {member.date_time[0] for member in archive.infolist()} == {1980}
    with np.load(tmp_path / "a.npz") as read:
        assert read["file"].tolist() == [0, 1, 2]
        assert read["allow_pickle"].tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("value", [np.array([None]), [1, 2], np.zeros(1, dtype=[("a", object)])])
def test_what_would_need_pickle_is_refused(tmp_path, value):
    with pytest.raises(TypeError, match=r"arrays\.npz: 'bad': cannot store"):
        save_arrays(tmp_path / "arrays.npz", {"bad": value})
    assert not (tmp_path / "arrays.npz").exists()


def test_damaged_arrays_are_refused(tmp_path):
    path = tmp_path / "arrays.npz"
    save_arrays(path, {"a": np.arange(100)})
    whole = path.read_bytes()
    for length in range(0, len(whole), 11):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptState, match=r"arrays\.npz"):
            load_arrays(path)
    damaged = bytearray(whole)
    damaged[200] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CorruptState):
        load_arrays(path)
    np.savez(path, a=np.array([{"pickled": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(CorruptState):
        load_arrays(path)
