"""All steps of a layer in machine code against torch's operations, where tiles, panels, pieces and threads end."""

import ctypes
import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from claimwise.recurrent import GRU, LSTM, LSTM_VARIANTS, compiled_lstm, compiled_step, lstm_cell
from claimwise.recurrent.packed_rows import PackedRows

DOUBLE = {"dtype": torch.float64}


@pytest.fixture(autouse=True)
def _machine_code_and_threads():
    if compiled_step.compiled_step(torch.float64, torch.device("cpu")) is None:
        pytest.skip("no C compiler")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def shared_out(monkeypatch):
    """However little there is to do, threads share it. Returns what each call was given: (threads, by units)."""
    given, rule = [], compiled_lstm._threads

    def threads(*what):
        given.append(rule(*what))
        return given[-1]

    for name in ("WORK_OF_A_THREAD", "SEQUENCES_OF_A_THREAD"):
        monkeypatch.setattr(compiled_lstm, name, 1)
    monkeypatch.setattr(compiled_lstm, "_threads", threads)
    return given


@pytest.fixture
def units_shared(monkeypatch):
    """Threads share units, however few."""
    if compiled_lstm._openmp() is None:
        assert "OpenMP" not in torch.__config__.parallel_info() or sys.platform != "linux"
        pytest.skip("torch has no OpenMP of GNU's kind here")
    monkeypatch.setattr(compiled_lstm, "_threads", lambda *what: (torch.get_num_threads(), True))


def outcomes(lstm, x, lengths=None):
    x = x.detach().requires_grad_()
    state = torch.linspace(-1, 1, x.shape[1] * lstm.hidden_size, dtype=x.dtype).reshape(1, x.shape[1], -1)
    hx = (state.requires_grad_(), (state.detach() / 2).requires_grad_())
    output, finals = lstm(x, hx, lengths=lengths)
    made = [output, *finals]
    upward = [torch.linspace(-1, 2, part.numel(), dtype=x.dtype).reshape(part.shape) for part in made]
    return made, torch.autograd.grad(made, [x, *hx, *lstm.parameters()], upward)


def by_torch(monkeypatch, *given):
    with monkeypatch.context() as patch:
        patch.setattr(lstm_cell, "compiled_step", lambda dtype, device: None)
        return outcomes(*given)


def assert_same(found, expected, **tolerance):
    for ours, theirs in zip((*found[0], *found[1]), (*expected[0], *expected[1]), strict=True):
        assert torch.allclose(ours, theirs, **tolerance)


@pytest.mark.parametrize("variant", ["vanilla", "CIFG", "FGR"])
@pytest.mark.parametrize(
    ("steps", "batch", "inputs", "hidden"),
    [
        (1, 1, 1, 1),
        (3, 2, 5, 8),
        (4, 3, 17, 7),  # three rows: two panels at once; columns that fill no panel
        (5, 7, 3, 13),  # seven rows: tiles of four and three
        (40, 9, 6, 16),  # 360 rows: two pieces on the way back
        (2, 75, 4, 5),  # rows beyond a block
        (2, 300, 2, 3),  # a step of more rows than a piece
        (3, 2, 261, 10),  # a product deeper than a panel's part
        (3, 2, 4, 70),  # the way back through 280 rows of weights
    ],
)
def test_all_sizes_give_what_torch_gives(variant, steps, batch, inputs, hidden, monkeypatch):
    torch.manual_seed(0)
    lstm = LSTM(inputs, hidden, variant=variant, **DOUBLE)
    x = torch.randn(steps, batch, inputs, **DOUBLE)
    expected = by_torch(monkeypatch, lstm, x)
    assert_same(outcomes(lstm, x), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("pool", ["torch's", "new", "fewer"])
@pytest.mark.parametrize("variant", LSTM_VARIANTS)
@pytest.mark.parametrize("lengths", [None, [1, 9, 4, 9, 2, 1, 7]])
def test_threads_share_sequences(variant, lengths, pool, shared_out, monkeypatch):
    """On the threads of torch's OpenMP, on threads of our own, and on a team smaller than was asked for."""
    calls = []
    if pool == "new":
        monkeypatch.setattr(compiled_lstm, "_openmp", lambda: None)
    elif pool == "fewer":
        team = ctypes.CFUNCTYPE(None, ctypes.CFUNCTYPE(None, ctypes.c_void_p), ctypes.c_void_p, *[ctypes.c_uint] * 2)

        @team
        def alone(work, argument, threads, flags):
            calls.append(threads)
            work(argument)

        monkeypatch.setattr(compiled_lstm, "_openmp", lambda: (ctypes.cast(alone, ctypes.c_void_p).value, 0, 0, 0))
    torch.manual_seed(0)
    lstm, x = LSTM(3, 5, variant=variant, **DOUBLE), torch.randn(9, 7, 3, **DOUBLE)
    expected = by_torch(monkeypatch, lstm, x, lengths)
    for threads in (1, 2, 3, 16):
        torch.set_num_threads(threads)
        assert_same(outcomes(lstm, x, lengths), expected, rtol=1e-10, atol=1e-12)
        assert shared_out[-2:] == [(min(threads, 7), False)] * 2
    assert len(calls) == (9 if pool == "fewer" else 0)  # inputs, steps forward, steps back; not with one thread


@pytest.mark.parametrize("hidden", [5, 40])  # one panel, so that a thread has nothing to do; panels of unequal shares
@pytest.mark.parametrize("variant", LSTM_VARIANTS)
@pytest.mark.parametrize("lengths", [None, [1, 9, 4, 9, 2, 1, 7]])
def test_threads_share_units(variant, lengths, hidden, units_shared, monkeypatch):
    torch.manual_seed(0)
    lstm, x = LSTM(19, hidden, variant=variant, **DOUBLE), torch.randn(9, 7, 19, **DOUBLE)
    expected = by_torch(monkeypatch, lstm, x, lengths)
    alone = None
    for threads in (1, 2, 3, 5):
        torch.set_num_threads(threads)
        found = outcomes(lstm, x, lengths)
        assert_same(found, expected, rtol=1e-10, atol=1e-12)
        alone = alone or found
        assert all(torch.equal(one, other) for one, other in zip(found[0], alone[0], strict=True))


def test_many_rows_are_gathered_in_pieces_by_units_too(units_shared, monkeypatch):
    torch.manual_seed(0)
    lstm, x = LSTM(6, 70, variant="FGR", **DOUBLE), torch.randn(40, 20, 6, **DOUBLE)
    expected = by_torch(monkeypatch, lstm, x)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        assert_same(outcomes(lstm, x), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("batch", "hidden", "steps", "threads", "expected"),
    [
        (64, 128, 64, 2, (2, False)),  # sequences enough
        (1, 32, 10, 2, (1, False)),  # little to do
        (16, 512, 50, 2, (2, True)),  # more weights than a cache holds
        (1, 256, 100, 2, (2, True)),  # one sequence
        (1, 256, 100, 1, (1, False)),
        (16, 512, 50, 64, (8, False)),  # too few units for so many threads
    ],
)
def test_what_threads_share(batch, hidden, steps, threads, expected, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(compiled_lstm, "_openmp", lambda: (1, 2, 3, 4))
    rows = PackedRows([batch] * steps, torch.device("cpu"))
    assert compiled_lstm._threads(LSTM(1, hidden).cell, rows, hidden, 4 * hidden) == expected
    monkeypatch.setattr(compiled_lstm, "_openmp", lambda: None)
    assert not compiled_lstm._threads(LSTM(1, hidden).cell, rows, hidden, 4 * hidden)[1]


def test_a_single_step_of_a_wide_layer_is_torchs(monkeypatch):
    """Packing its weights would take longer than the step."""

    def refuse(*given):
        raise AssertionError("machine code was called")

    monkeypatch.setattr(lstm_cell, "sweep_forward", refuse)
    assert LSTM(256, 512)(torch.randn(1, 1, 256))[0].shape == (1, 1, 512)
    with pytest.raises(AssertionError, match="machine code was called"):
        LSTM(256, 512)(torch.randn(3, 1, 256))


@pytest.mark.parametrize("sharing", ["shared_out", "units_shared"])
def test_several_python_threads_at_once(sharing, request):
    request.getfixturevalue(sharing)
    torch.manual_seed(0)
    torch.set_num_threads(2)
    lstm, x = LSTM(7, 40), torch.randn(30, 6, 7)
    expected, found = outcomes(lstm, x), []
    workers = [threading.Thread(target=lambda: found.append(outcomes(lstm, x))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 4
    for made in found:
        assert_same(made, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("variant", LSTM_VARIANTS)
def test_a_team_of_one_where_units_are_shared(variant, units_shared, monkeypatch):
    """As inside another parallel region: fewer threads than were asked for."""
    number = ctypes.CFUNCTYPE(ctypes.c_int)
    thread, team = number(lambda: 0), number(lambda: 1)

    @ctypes.CFUNCTYPE(None, ctypes.CFUNCTYPE(None, ctypes.c_void_p), ctypes.c_void_p, *[ctypes.c_uint] * 2)
    def parallel(work, argument, threads, flags):
        assert threads == 3
        work(argument)

    addresses = [ctypes.cast(function, ctypes.c_void_p).value for function in (parallel, thread, team)]
    torch.manual_seed(0)
    lstm, x = LSTM(3, 40, variant=variant, **DOUBLE), torch.randn(5, 4, 3, **DOUBLE)
    expected = by_torch(monkeypatch, lstm, x)
    monkeypatch.setattr(compiled_lstm, "_openmp", lambda: (addresses[0], 0, addresses[1], addresses[2]))
    torch.set_num_threads(3)
    assert_same(outcomes(lstm, x), expected, rtol=1e-10, atol=1e-12)


def test_a_sequence_gets_the_same_to_the_bit_in_any_batch_and_by_any_thread(shared_out):
    torch.manual_seed(0)
    lstm, x = LSTM(20, 33), torch.randn(30, 13, 20)
    torch.set_num_threads(1)
    whole, _ = lstm(x)
    for k in range(13):
        assert torch.equal(lstm(x[:, : k + 1])[0], whole[:, : k + 1])
        assert torch.equal(lstm(x[:, k])[0], whole[:, k])
    torch.set_num_threads(3)
    assert torch.equal(lstm(x)[0], whole)


@pytest.mark.parametrize(("threads", "sharing"), [(1, "shared_out"), (2, "shared_out"), (2, "units_shared")])
def test_only_what_is_wanted_is_computed(threads, sharing, request):
    """Frozen weights and inputs without a gradient, each missing once."""
    request.getfixturevalue(sharing)
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    lstm, x = LSTM(3, 4, variant="FGR", **DOUBLE), torch.randn(5, 2, 3, **DOUBLE)
    wanted = [x.requires_grad_(), *lstm.parameters()]
    full = torch.autograd.grad(lstm(x)[0].sum(), wanted)
    for k, tensor in enumerate(wanted):
        tensor.requires_grad_(False)
        rest = [other for other in wanted if other is not tensor]
        expected = [grad for j, grad in enumerate(full) if j != k]
        for found, grad in zip(torch.autograd.grad(lstm(x)[0].sum(), rest), expected, strict=True):
            assert torch.equal(found, grad)
        tensor.requires_grad_()


def test_too_little_memory_is_said(monkeypatch):
    functions = compiled_step.compiled_step(torch.float32, torch.device("cpu"))
    monkeypatch.setattr(functions, "lstm_sweep_forward", lambda sweep: 1)
    with pytest.raises(MemoryError, match=r"LSTM: too little memory for 6 rows of 16 pre-activations"):
        LSTM(2, 4)(torch.zeros(3, 2, 2))


def test_memory_that_gives_out_anywhere_is_noticed(tmp_path):
    """A build whose n-th allocation fails returns 1, for every n, and neither crashes nor leaks into a later call."""
    compiler = os.environ.get("CC") or "cc"
    library = tmp_path / "failing.so"
    header = tmp_path / "failing.h"
    header.write_text(
        "#include <stdlib.h>\nlong allowed;\n"
        "static void *counted(size_t size) { return allowed-- > 0 ? malloc(size) : 0; }\n#define malloc counted\n"
    )
    command = [*shlex.split(compiler), "-O1", "-std=gnu11", "-pthread", "-shared", "-fPIC", "-include", str(header)]
    subprocess.run([*command, "-o", str(library), str(compiled_step.FOLDER / compiled_step.SOURCE)], check=True)
    loaded = ctypes.CDLL(str(library))
    functions = compiled_step.CompiledStep(loaded, "float")
    allowed = ctypes.c_long.in_dll(loaded, "allowed")
    lstm, x = LSTM(3, 4, variant="FGR"), torch.randn(5, 2, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled_lstm, "compiled_step", lambda dtype, device: functions)
        for count in range(2):
            allowed.value = count
            with pytest.raises(MemoryError):
                lstm(x)
        allowed.value = 2
        output, _ = lstm(x)
        for count in range(3):
            allowed.value = count
            with pytest.raises(MemoryError):
                torch.autograd.grad(output.sum(), lstm.weight_hh_l0, retain_graph=True)
        allowed.value = 3
        (found,) = torch.autograd.grad(output.sum(), lstm.weight_hh_l0)
    (expected,) = torch.autograd.grad(lstm(x)[0].sum(), lstm.weight_hh_l0)
    assert torch.allclose(found, expected, atol=1e-6)


def test_negative_views_are_read_as_what_they_are():
    """Tensors whose sign is a flag and not in memory, such as parts of conjugates."""
    torch.manual_seed(0)
    x = torch._neg_view(torch.randn(5, 2, 3))
    state = torch._neg_view(torch.randn(1, 2, 4))
    plain = state.resolve_neg()
    for layer, hx, same in ((LSTM(3, 4), (state, state), (plain, plain)), (GRU(3, 4), state, plain)):
        assert torch.equal(layer(x, hx)[0], layer(x.resolve_neg(), same)[0])


@pytest.mark.long
@pytest.mark.parametrize("waits", [True, False])
def test_threads_do_not_race(waits, tmp_path):
    """ThreadSanitizer finds nothing; without the barriers it finds races, so it looks."""
    built = [*shlex.split(os.environ.get("CC") or "cc"), "-O1", "-g", "-std=gnu11", "-pthread", "-fsanitize=thread"]
    program = tmp_path / "threads"
    source = Path(__file__).with_name("threads.c")
    made = subprocess.run(
        [*built, f"-I{compiled_step.FOLDER}", *([] if waits else ["-DNEVER_WAIT"]), "-o", str(program), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode and "tsan" in made.stderr:
        pytest.skip("this compiler has no ThreadSanitizer")
    assert made.returncode == 0, made.stderr
    found = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert ("data race" in found.stderr) != waits, found.stderr[:3000]
    assert (found.returncode == 0) == waits
