import hashlib
import os
import subprocess
import sys

import pytest
import torch

from claimwise.recurrent import LSTM, compiled_step, recurrent_step


def functions(dtype):
    step = compiled_step.compiled_step(dtype, torch.device("cpu"))
    if step is None:
        pytest.skip("no C compiler")
    return step


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 2e-15)])
def test_sigmoid_and_tanh_are_accurate(dtype, tolerance):
    """Relative errors, down to the smallest arguments; where tanh(x) is x and where both are saturated."""
    step = functions(dtype)
    small = torch.logspace(-30, 0, 20001, dtype=torch.float64)
    x = torch.cat([small, torch.linspace(0, 60, 60001, dtype=torch.float64)])
    x = torch.cat([x, -x]).to(dtype)
    sigmoids, tanhs = torch.empty_like(x), torch.empty_like(x)
    step.elementwise(len(x), x.data_ptr(), sigmoids.data_ptr(), tanhs.data_ptr())
    for made, function in ((sigmoids, torch.sigmoid), (tanhs, torch.tanh)):
        exact = function(x.double())
        assert ((made.double() - exact).abs() <= tolerance * exact.abs()).all()


def test_extremes_saturate_and_nan_stays():
    step = functions(torch.float32)
    x = torch.tensor([-torch.inf, -1e30, 1e30, torch.inf, torch.nan, 0.0])
    sigmoids, tanhs = torch.empty_like(x), torch.empty_like(x)
    step.elementwise(6, x.data_ptr(), sigmoids.data_ptr(), tanhs.data_ptr())
    assert torch.allclose(sigmoids[:4], torch.tensor([0.0, 0.0, 1.0, 1.0]), atol=1e-30)
    assert tanhs[:4].tolist() == [-1.0, -1.0, 1.0, 1.0]
    assert sigmoids[4].isnan()
    assert tanhs[4].isnan()
    assert (sigmoids[5].item(), tanhs[5].item()) == (0.5, 0.0)


def test_float32_agrees_with_torchs_operations(monkeypatch):
    from claimwise.recurrent import lstm_cell

    torch.manual_seed(0)
    lstm, x = LSTM(16, 33), torch.randn(40, 5, 16)
    ours, _ = lstm(x)
    monkeypatch.setattr(lstm_cell, "compiled_step", lambda dtype, device: None)
    assert torch.allclose(lstm(x)[0], ours, atol=1e-6)


def test_a_runs_identity_knows_the_c_files():
    assert hashlib.sha256(compiled_step.sources().encode()).hexdigest() == compiled_step.SOURCES_SHA256, (
        "the C files have changed: put their digest into SOURCES_SHA256, and measure anew"
    )


SAYS = (
    "import torch; from claimwise.recurrent import *; print(recurrent_step(), LSTM(2, 3)(torch.ones(2, 1, 2))[0].shape)"
)


@pytest.mark.parametrize(
    ("wanted", "compiler", "printed", "error"),
    [
        ("torch", None, "torch torch.Size([2, 1, 3])", ""),
        ("auto", "/nonexistent/cc", "torch torch.Size([2, 1, 3])", ""),
        ("compiled", "/nonexistent/cc", "", "RuntimeError: CLAIMWISE_RECURRENT_STEP=compiled, but /nonexistent/cc"),
    ],
)
def test_the_switch_and_the_fall_back(wanted, compiler, printed, error, tmp_path):
    variables = {**os.environ, "CLAIMWISE_RECURRENT_STEP": wanted, "XDG_CACHE_HOME": str(tmp_path)}
    if compiler:
        variables["CC"] = compiler
    done = subprocess.run([sys.executable, "-c", SAYS], env=variables, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == printed
    assert error in done.stderr


@pytest.fixture
def quickly_compiled(monkeypatch):
    """Where it matters only that something is compiled."""
    functions(torch.float32)
    monkeypatch.setattr(compiled_step, "FLAGS", (*compiled_step.FLAGS, "-O0"))


def test_a_compiler_may_have_arguments(quickly_compiled, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled_step._compile(os.environ.get("CC", "cc") + " -DNOTHING")
    assert len(list((tmp_path / "claimwise" / "recurrent").glob("kernels-*.so"))) == 1


def test_what_cannot_be_loaded_is_not_kept(tmp_path, monkeypatch):
    """A compiler that makes something that is no library; the error says what was wrong with it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiled_step.tempfile, "gettempdir", lambda: str(tmp_path))
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\nfor word; do [ "$last" = -o ] && echo no > "$word"; last=$word; done\n')
    compiler.chmod(0o700)
    with pytest.raises(OSError, match=r"no folder to keep compiled code in and run it from .*kernels-"):
        compiled_step._compile(str(compiler))
    assert not list(tmp_path.rglob("kernels-*.so"))


def test_it_is_compiled_once_into_the_cache(quickly_compiled, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiler = os.environ.get("CC", "cc")
    compiled_step._compile(compiler)
    (made,) = (tmp_path / "claimwise" / "recurrent").iterdir()
    before = made.stat().st_mtime_ns
    compiled_step._compile(compiler)
    assert made.stat().st_mtime_ns == before


@pytest.mark.parametrize("homeless", [True, False])
def test_without_a_home_it_is_compiled_among_temporary_files(homeless, quickly_compiled, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(compiled_step.tempfile, "gettempdir", lambda: str(tmp_path))

    def home():
        if homeless:
            raise RuntimeError("Could not determine home directory.")
        return compiled_step.Path("/proc/nothing")

    monkeypatch.setattr(compiled_step.Path, "home", home)
    compiled_step._compile(os.environ.get("CC", "cc"))
    assert list(tmp_path.glob("claimwise-*/kernels-*.so"))


def test_a_wrong_word_is_refused(monkeypatch):
    monkeypatch.setenv("CLAIMWISE_RECURRENT_STEP", "fast")
    compiled_step._library.cache_clear()
    with pytest.raises(ValueError, match="must be auto, compiled or torch, got 'fast'"):
        recurrent_step()
    monkeypatch.undo()
    compiled_step._library.cache_clear()
