"""Recurrent steps as machine code, compiled once by the C compiler that the machine has.

A step of an LSTM is a product of few rows with a weight matrix and about twenty cheap operations on small tensors. As
operations of torch each costs more to call than to compute. ``kernels.c`` and its headers do all steps of an LSTM layer
in one call, products included (:mod:`~claimwise.recurrent.compiled_lstm`), and the point-wise part of a GRU's step. It
is compiled at first use, into the user's cache, for the processor at hand; where that cannot be done, torch's
operations do the same to rounding (relative errors of sigmoid and tanh below 1e-6 in float32), slower, the more so the
smaller the layer.

Whether there is machine code depends on the machine alone and never changes within a process; whether an LSTM uses it,
on the sizes of the call too. So runs on one machine with one number of threads repeat exactly. The environment variable
``CLAIMWISE_RECURRENT_STEP`` decides otherwise: ``compiled`` (an error where it cannot be), ``torch`` (never compile),
``auto`` (the default).
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch

FOLDER = Path(__file__).parent
SOURCE = "kernels.c"
HEADERS = ("pointwise.h", "product.h", "lstm_sweep.h")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-std=gnu11", "-pthread", "-shared", "-fPIC")
SOURCES_SHA256 = "76039a76cede76becedb5681378c005c693005256782951c1832530515c48930"
"""Of the C files: their arithmetic is part of what a run did. A run's identity has this line; a test keeps it true."""
VARIABLE = "CLAIMWISE_RECURRENT_STEP"
# Arguments of each function: i integer, p address.
SIGNATURES = {
    "lstm_sweep_forward": "p",
    "lstm_sweep_backward": "p",
    "gru_forward": "iippp",
    "gru_backward": "iippppp",
    "gru_before_gates": "iippp",
    "gru_before_forward": "iippp",
    "gru_before_backward": "iippppp",
    "gru_before_reset": "iippppp",
    "elementwise": "ippp",
}


class CompiledStep:
    """The functions of ``kernels.c`` for one type. Addresses are those of contiguous tensors on the CPU."""

    def __getattr__(self, name: str) -> Callable[..., None]:  # only what the loop below does not set
        raise AttributeError(f"kernels.c has no function {name}")

    def __init__(self, library: ctypes.CDLL, kind: str) -> None:
        for name, signature in SIGNATURES.items():
            function = getattr(library, f"{name}_{kind}")
            function.restype = ctypes.c_int if name.startswith("lstm_sweep") else None  # not 0: too little memory
            function.argtypes = [ctypes.c_long if letter == "i" else ctypes.c_void_p for letter in signature]
            setattr(self, name, function)


def _folders() -> Iterator[Path]:
    """Where compiled code is kept: the user's cache or, where that is of no use, among temporary files."""
    with contextlib.suppress(RuntimeError):  # a user without a home
        base = os.environ.get("XDG_CACHE_HOME") or (Path.home() / ".cache")
        yield Path(base) / "claimwise" / "recurrent"
    yield Path(tempfile.gettempdir()) / f"claimwise-{os.getuid()}"


def _processor() -> str:
    """What ``-march=native`` depends on: a home folder may be shared by machines of several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))


def sources() -> str:
    """The C files, one after another."""
    return "".join((FOLDER / name).read_text() for name in (SOURCE, *HEADERS))


def _compile(compiler: str) -> ctypes.CDLL:
    """``compiler`` may have arguments, as in ``ccache gcc``."""
    command = shlex.split(compiler)
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout
    parts = (sources(), SOURCES_SHA256, *command, *FLAGS, version, _processor())
    name = f"kernels-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:20]}.so"
    problem: OSError | None = None
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if folder.stat().st_uid != os.getuid():  # somebody else's folder in the common place
                continue
            made = folder / name
            if not made.exists():
                with tempfile.TemporaryDirectory(dir=folder) as scratch:
                    half = Path(scratch) / name
                    subprocess.run(
                        [*command, *FLAGS, "-o", str(half), str(FOLDER / SOURCE)],
                        capture_output=True,
                        check=True,
                        timeout=120,
                    )
                    ctypes.CDLL(str(half))  # what cannot be loaded is not kept
                    os.replace(half, made)  # whole or not at all, also beside another process
            return ctypes.CDLL(str(made))
        except OSError as error:  # it cannot be made, written to, or run from
            problem = error
    raise OSError(
        f"there is no folder to keep compiled code in and run it from ({problem or 'others own them'})"
    ) from problem


@functools.cache
def _library() -> ctypes.CDLL | str:
    """The compiled functions, or why there are none."""
    wanted = os.environ.get(VARIABLE, "auto")
    if wanted not in ("auto", "compiled", "torch"):
        raise ValueError(f"{VARIABLE} must be auto, compiled or torch, got {wanted!r}")
    if wanted == "torch":
        return f"{VARIABLE}=torch"
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        problem = "no C compiler was found (CC, cc, gcc, clang)"
    else:
        try:
            return _compile(compiler)
        except (OSError, AttributeError, ValueError, subprocess.SubprocessError) as error:
            problem = f"{compiler} failed: {error}"
    if wanted == "compiled":
        raise RuntimeError(f"{VARIABLE}=compiled, but {problem}; install a C compiler, or set {VARIABLE}=torch")
    return problem


@functools.cache
def _functions(dtype: torch.dtype) -> CompiledStep | None:
    library = _library()
    kind = {torch.float32: "float", torch.float64: "double"}.get(dtype)
    return None if kind is None or isinstance(library, str) else CompiledStep(library, kind)


def compiled_step(dtype: torch.dtype, device: torch.device) -> CompiledStep | None:
    """The compiled functions for tensors of this type there, or None where torch's operations do it."""
    return _functions(dtype) if device.type == "cpu" else None


def recurrent_step() -> Literal["compiled", "torch"]:
    """What computes the steps of LSTM and GRU layers on the CPU of this machine.

    ``"compiled"``: machine code, made at first use by the machine's C compiler and kept in the user's cache: all of an
    LSTM's steps (but for those that :class:`LSTM` names), and of a GRU's steps what is point-wise; ``"torch"``: torch's
    operations. Both give the same results to rounding. It stays the same while the process lives; the environment
    variable ``CLAIMWISE_RECURRENT_STEP`` (``auto``, ``compiled`` or ``torch``) decides it.

    Raises:
        ValueError: the variable is none of the three.
        RuntimeError: it is ``compiled``, and nothing can be compiled.

    Example:
        >>> recurrent_step() in ("compiled", "torch")
        True
    """
    return "torch" if isinstance(_library(), str) else "compiled"
