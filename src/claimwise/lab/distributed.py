"""One run in several processes on one machine: each takes its share of every batch, and gradients are averaged.

All processes run the same experiment with the same seed. Outside :meth:`Run.fit` they compute the same thing; within
it each computes on its share, with random numbers of its own, and after every backward gradients and batch statistics
become the mean over the processes. Only process 0 writes into the run's folder. The process that asked for the run
computes nothing: it holds the run's lock, starts the others, and ends them when one of them fails.

Gradients are averaged here rather than by torch's DistributedDataParallel: that wants a model to be used through its
`forward` alone and every parameter to take part in every loss, which an experiment need not do.
"""

import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from multiprocessing import connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from claimwise.lab import loop as loops
from claimwise.lab.state import load_state, restore, save_state
from claimwise.lab.storage import locked

Transform = Callable[[tuple[Tensor, ...], torch.Generator], tuple[Tensor, ...]]

_HOST = "127.0.0.1"
_PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others at one step. One that dies is noticed at once; this ends a run whose
processes came to wait for different things."""


class ProcessBroke(RuntimeError):
    """A process of a run raised, or died; the cause is its traceback."""


class _Told(Exception):
    """The traceback of another process, as text."""


class _Progress(Protocol):
    def __call__(self, address: str, seed: int, loop: str, step: int, total: int | None) -> None: ...


# in each process that computes ----------------------------------------------------------------------------------------


class Ranks:
    """This process among those that compute one run. What stands here determines numbers."""

    def __init__(
        self,
        rank: int,
        count: int,
        store: distributed.Store,
        scratch: Path,
        progress: _Progress,
    ) -> None:
        self.rank = rank
        self.count = count
        self.scratch = scratch
        """A folder for what is not kept, the same for all processes."""
        self.progress = progress
        self._store = store
        self._turns = 0

    def first(self, call: Callable[[], Any]) -> Any:
        """`call()` in process 0, and only then in the others: they find what it has made."""
        self._turns += 1
        turn = f"turn {self._turns}"
        if self.rank > 0:
            while not self._store.check([turn]):  # without limit: what process 0 makes may take days
                time.sleep(0.05)
        result = call()
        if self.rank == 0:
            self._store.set(turn, "over")
        return result

    def agree(self, *values: int) -> list[int]:
        """Whole numbers as process 0 has them."""
        agreed = torch.tensor(values, dtype=torch.long)
        distributed.broadcast(agreed, 0)
        return agreed.tolist()

    def mean(self, values: Iterable[float]) -> list[float]:
        """The mean of each number over the processes."""
        total = torch.tensor(list(values), dtype=torch.float64)
        distributed.all_reduce(total)
        return (total / self.count).tolist()

    def journal(self, kept: "_KeptJournal", *, apart: bool) -> "SharedJournal":
        """A run's journal for a loop of all processes."""
        return SharedJournal(kept, self, apart=apart)

    def meet(self, what: str, step: int) -> None:
        """Make sure that all processes have come to the same place.

        Raises:
            RuntimeError: if the experiment took another path in another process.
        """
        here = torch.tensor([zlib.crc32(what.encode()), step])
        there = [torch.empty_like(here) for _ in range(self.count)]
        distributed.all_gather(there, here)
        if any(not torch.equal(other, here) for other in there):
            raise RuntimeError(
                f"process {self.rank} of {self.count} came to {what}, step {step}, another to something else: "
                "an experiment on several devices must take the same path in every process"
            )

    @contextlib.contextmanager
    def on_its_own(
        self, seed: int, name: str, streams: Sequence[tuple[str, torch.Generator | np.random.Generator]]
    ) -> Iterator[None]:
        """Within, this process draws other random numbers than the others; afterwards the same as they again.

        Args:
            seed: Of the run.
            name: Of what is computed within.
            streams: Generators of the experiment, by name.
        """
        before = loops.random_states()
        undo: list[Callable[[], Any]] = []
        place = f"{name}, process {self.rank}"
        for number, (stream, generator) in enumerate(streams):
            own = loops.stream(seed, f"{place}, stream {number}: {stream}")
            if isinstance(generator, torch.Generator):
                undo.append(partial(generator.set_state, generator.get_state()))
                generator.manual_seed(own)
            else:
                undo.append(partial(setattr, generator.bit_generator, "state", generator.bit_generator.state))
                generator.bit_generator.state = np.random.default_rng(own).bit_generator.state
        loops.seed_everything(loops.stream(seed, place) % 2**32)  # NumPy takes no more
        try:
            yield
        finally:
            loops.set_random_states(before)
            for restore_stream in undo:
                restore_stream()

    def transforming(self, transform: Transform, seed: int, name: str) -> tuple[Transform, torch.Generator]:
        """A batch's change that draws from a generator of this process, and that generator.

        Shares differ in size, so each process draws another amount; the order of the examples stays the same in all.
        """
        own = torch.Generator().manual_seed(loops.stream(seed, f"{name}, process {self.rank}, transform"))

        def transformed(batch: tuple[Tensor, ...], _: torch.Generator) -> tuple[Tensor, ...]:
            return transform(batch, own)

        return transformed, own

    def as_process_0(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Give the model, and what the optimiser steps, the values that they have in process 0."""
        tensors = {id(t): t for t in (*model.parameters(), *model.buffers(), *_stepped(optimizer))}
        for tensor in tensors.values():
            if tensor.numel() > 0:
                value = tensor.detach().clone(memory_format=torch.contiguous_format)
                distributed.broadcast(value.reshape(-1).view(torch.uint8), 0)  # bytes: any dtype
                tensor.detach().copy_(value)

    def averaging(
        self, backward: Callable[[Tensor], Any], model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> Callable[[Tensor], None]:
        """A backward after which gradients and the model's statistics are the mean over the processes.

        All travel in one vector. A parameter without a gradient here counts as zero where another process has one, and
        keeps none where no process has.
        """

        @torch.no_grad()
        def average() -> None:
            parameters = [p for p in _stepped(optimizer) if p.requires_grad]
            statistics = [b for b in model.buffers() if b.is_floating_point()]
            if any(p.grad is not None and p.grad.is_sparse for p in parameters):
                raise ValueError("fit: sparse gradients cannot be averaged over processes; make them dense")
            held = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
            # Half precision is summed in single precision.
            wide = torch.float64 if any(t.dtype == torch.float64 for t in (*held, *statistics)) else torch.float32
            if not held:
                return
            has = torch.tensor([p.grad is not None for p in parameters], dtype=wide, device=held[0].device)
            mean = torch.cat([has, *(t.reshape(-1).to(has) for t in (*held, *statistics))])
            distributed.all_reduce(mean)
            mean /= self.count
            sizes = [len(has), *(t.numel() for t in (*held, *statistics))]
            found, *means = mean.split(sizes)  # type: ignore[no-untyped-call]
            for number, (parameter, value) in enumerate(zip(parameters, means, strict=False)):
                if parameter.grad is not None:
                    parameter.grad.copy_(value.view_as(parameter))
                elif found[number] > 0:
                    parameter.grad = value.view_as(parameter).to(parameter, copy=True)
            for buffer, value in zip(statistics, means[len(held) :], strict=True):
                buffer.copy_(value.view_as(buffer))

        def backward_and_average(loss: Tensor) -> None:
            backward(loss)
            average()

        return backward_and_average


def _stepped(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


class _KeptJournal(loops.Journal, Protocol):
    """The journal of a run as one process has it."""

    streams: list[tuple[str, torch.Generator | np.random.Generator]]


_ALIKE = ("model", "optimizer", "generator", "order")
"""What is the same in all processes while they fit."""


class SharedJournal:
    """The journal of a loop in several processes: they keep a checkpoint at the same step, which process 0 writes.

    A clock tells no two processes to stop at the same step, so process 0 says when they ask it next: about every
    quarter of a second, by the pace of the steps so far.
    """

    def __init__(self, kept: _KeptJournal, ranks: Ranks, *, apart: bool) -> None:
        self.kept = kept
        self.ranks = ranks
        self.apart = apart
        """Whether processes compute on shares of their own (fit), or all the same thing."""
        self.due = 0.0
        self._asked = self._next = 0
        self._asked_at = 0.0

    def _part(self, rank: int) -> Path:
        return self.ranks.scratch / f"part{rank}.safetensors"

    def load(self, name: str) -> dict[str, Any] | None:
        """The last checkpoint, with what this process had of its own."""
        saved = self.kept.load(name)
        step = 0 if saved is None else int(saved["step"])
        self.ranks.meet(name, step)
        self._asked, self._next, self._asked_at = step, step + 1, time.perf_counter()
        if saved is not None and self.apart:
            parts = saved["state"].pop("of the other processes")
            if self.ranks.rank > 0:
                self._part(self.ranks.rank).write_bytes(parts[self.ranks.rank - 1])
                own = load_state(self._part(self.ranks.rank))
                saved["state"] |= own["state"]
                saved["rng"] = own["rng"]
                restore([g for _, g in self.kept.streams], own["streams"])
        return saved

    def save(self, name: str, step: int, state: dict[str, Any], rng: dict[str, Any]) -> None:
        """Keep a checkpoint; called at the same step in all processes."""
        if self.apart and self.ranks.rank > 0:
            own = {key: value for key, value in state.items() if key not in _ALIKE}
            streams = [generator for _, generator in self.kept.streams]
            save_state(self._part(self.ranks.rank), {"state": own, "rng": rng, "streams": streams})
        self.ranks.meet(f"a checkpoint of {name}", step)
        if self.ranks.rank == 0:
            if self.apart:
                parts = [self._part(rank).read_bytes() for rank in range(1, self.ranks.count)]
                state = {**state, "of the other processes": parts}
            self.kept.save(name, step, state, rng)
        self.ranks.agree(step)  # the parts are read: they may be written again

    def tick(self, name: str, step: int, total: int | None) -> bool:
        """Show progress now and then; True, in all processes at the same step, when a checkpoint should be kept."""
        if step < self._next:
            return False
        save, gap = False, 1
        if self.ranks.rank == 0:
            save = self.kept.tick(name, step, total)
            now = time.perf_counter()
            seconds, pace = self.kept.due - now, (step - self._asked) / max(now - self._asked_at, 1e-9)
            gap = max(1, min(int(seconds * pace), 2 * (step - self._asked)))
            self._asked_at = now
        agreed_save, agreed_gap = self.ranks.agree(save, gap)
        self._asked, self._next = step, step + agreed_gap
        return bool(agreed_save)

    def finished(self, name: str, step: int) -> bool:
        """Show that a loop ended; True, in all processes, when its end is worth a checkpoint."""
        self.ranks.meet(f"the end of {name}", step)
        return bool(*self.ranks.agree(self.kept.finished(name, step)))

    def log(self, name: str, step: int, scalars: Mapping[str, float]) -> None:
        """Append to the log; what shares gave is averaged."""
        if self.apart:
            scalars = dict(zip(scalars, self.ranks.mean(scalars.values()), strict=True))
        self.kept.log(name, step, scalars)


def _rank(
    pipe: connection.Connection,
    rank: int,
    count: int,
    port: int,
    cuda: bool,
    scratch: Path,
    target: Callable[..., Any],
    arguments: Sequence[Any],
) -> None:
    """What a process that computes does from beginning to end."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent ends this process

    def progress(address: str, seed: int, loop: str, step: int, total: int | None) -> None:
        if rank == 0:
            pipe.send(("progress", (address, seed, loop, step, total)))

    try:
        with locked(scratch / "process0.lock") if rank == 0 else contextlib.nullcontext():
            if cuda:
                torch.cuda.set_device(rank)
            else:  # loopback: the processes are on one machine, whose name need not resolve
                os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
            store = TCPStore(_HOST, port, is_master=False, timeout=_PATIENCE)
            backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
            distributed.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=_PATIENCE)
            result = target(Ranks(rank, count, store, scratch, progress), *arguments)
            distributed.barrier()
            distributed.destroy_process_group()
        pipe.send(("done", result if rank == 0 else None))
    except Exception as error:
        said = "".join(traceback.format_exception_only(error)).strip()
        pipe.send(("broke", (time.monotonic(), said, traceback.format_exc())))


# in the process that asks ---------------------------------------------------------------------------------------------


def together(
    target: Callable[..., Any],
    arguments: Sequence[Any],
    *,
    count: int,
    cuda: bool,
    scratch: Path,
    progress: _Progress,
) -> Any:
    """Call ``target(ranks, *arguments)`` in `count` processes that compute together; what process 0 returns.

    Args:
        target: A function that processes can import; `ranks` is each one's :class:`Ranks`.
        arguments: The same for all.
        count: How many processes.
        cuda: Whether process i computes on CUDA device i (NCCL), or all on the CPU (Gloo).
        scratch: A folder of this call's own; removed at the end.
        progress: Hears what process 0 tells.

    Raises:
        ProcessBroke: if a process raises or dies; the others are ended.
    """
    if multiprocessing.current_process().daemon:
        raise ValueError(
            "several devices: a daemonic process may not start others; "
            "Dask's workers may when distributed.worker.daemon is False"
        )
    scratch.mkdir(parents=True, exist_ok=True)
    with locked(scratch / "process0.lock"):
        pass  # what a killed predecessor left behind has ended
    context = multiprocessing.get_context("spawn")
    store = TCPStore(_HOST, 0, is_master=True, wait_for_workers=False)
    processes: dict[Any, Any] = {}
    try:
        for rank in range(count):
            listening, speaking = context.Pipe(duplex=False)
            process = context.Process(
                target=_rank, args=(speaking, rank, count, store.port, cuda, scratch, target, arguments)
            )
            process.start()
            speaking.close()  # the process has it now; its end is the pipe's end
            processes[listening] = (rank, process)
        return _listen(processes, progress)
    finally:
        for pipe, (_, process) in processes.items():
            process.terminate()
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()
            pipe.close()
        shutil.rmtree(scratch, ignore_errors=True)


def _listen(processes: Mapping[Any, tuple[int, Any]], progress: _Progress) -> Any:
    """What process 0 returns once all are done; raises as soon as one is not well."""
    results: dict[int, Any] = {}
    count = len(processes)
    open_pipes = dict(processes)
    while open_pipes:
        died: list[tuple[int, Any]] = []
        broke: list[tuple[float, int, str, str]] = []
        for pipe in connection.wait(list(open_pipes)):
            assert isinstance(pipe, connection.Connection)
            rank, process = open_pipes[pipe]
            try:
                kind, content = pipe.recv()
            except EOFError:
                del open_pipes[pipe]
                if rank not in results:
                    died.append((rank, process))
                continue
            if kind == "progress":
                progress(*content)
            elif kind == "done":
                results[rank] = content
            else:
                broke.append((content[0], rank, *content[1:]))
        # When one process fails, the others fail for want of it: the first is the cause.
        for rank, process in died:
            process.join(5)
            status = process.exitcode or 0
            how = f"was killed by signal {-status}: out of memory?" if status < 0 else f"ended with status {status}."
            raise ProcessBroke(f"process {rank} of {count} {how} Run again to resume")
        for _, rank, said, told in sorted(broke):
            raise ProcessBroke(f"process {rank} of {count}: {said}") from _Told(told)
    return results[0]
