"""Forward and backward through one recurrent layer: ours against torch's modules, variants against vanilla, and loops.

``python benchmarks/recurrent.py`` writes ``results/benchmarks/recurrent.json`` and ``.md``. Goals, at (batch 32, time
128, features 256) and (64, 64, 128): vanilla at least as fast as torch's LSTM; every variant within 1.3 times the
vanilla (a ratio of 0.77); five times faster than a loop over ``LSTMCell``. Two of them are out of reach by arithmetic:
full gate recurrence has 13 recurrent matrices to vanilla's 4, 2.1 times the multiplications in all; and the products
alone, 6 * batch * time * features * 8 * features multiplications and additions, are 12.9 and 3.2 GFLOP, which in a
fifth of the loop's time in the table would be 150 GFLOP/s and more of one core. With vectors of eight it does 32 in a
cycle, some 100 GFLOP/s. ``--threads 2`` adds rows with two threads, on the wall clock, for which the machine must be
idle: they are left out by default.
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn

from claimwise.recurrent import GRU, LSTM, LSTM_VARIANTS, RNN
from timing import Row, compare, max_difference, write_table

SIZES = {"32 x 128 x 256": (32, 128, 256), "64 x 64 x 128": (64, 64, 128)}
OTHERS = {
    "16 x 64 x 32": (16, 64, 32),
    "1 x 100 x 64": (1, 100, 64),
    "8 x 50 x 512": (8, 50, 512),
    "64 x 50 x 512": (64, 50, 512),
}


class Loop(nn.Module):
    """What a person writes: a step at a time, by torch's cell."""

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(lstm.input_size, lstm.hidden_size)
        self.cell.load_state_dict({name.removesuffix("_l0"): value for name, value in lstm.state_dict().items()})

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        state, outputs = None, []
        for step in x.unbind():
            state = self.cell(step, state)
            outputs.append(state[0])
        return torch.stack(outputs), None


def program(module: nn.Module, x: Tensor, upward: Tensor) -> Callable[[], Tensor]:
    """Forward and backward; returns the gradient of the input, which all steps lie before."""
    parameters = list(module.parameters())

    def run() -> Tensor:
        output, _ = module(x)
        return torch.autograd.grad(output, [x, *parameters], upward)[0]

    return run


def row(size: str, name: str, ours: nn.Module, peer_name: str, peer: nn.Module, shape, threads: int, note: str) -> Row:
    batch, time, features = shape
    torch.manual_seed(0)
    x, upward = torch.randn(time, batch, features, requires_grad=True), torch.randn(time, batch, features)
    same = {"difference": max_difference, "tolerance": 1e-4} if peer_name.startswith("torch") and not note else {}
    return compare(
        f"{name}, {size}" + (f", {threads} threads" if threads > 1 else ""),
        program(ours, x, upward),
        program(peer, x, upward),
        peer_name=peer_name,
        threads=threads,
        clock="processor" if threads == 1 else "wall",
        repeats=5,
        block_seconds=0.05,
        note=note,
        **same,
    )


def rows(threads: int) -> list[Row]:
    found = []
    for size, shape in (SIZES | OTHERS).items():
        features = shape[2]
        torch.manual_seed(0)
        theirs, vanilla = nn.LSTM(features, features), LSTM(features, features)
        plain = LSTM(features, features, variant="NP")
        plain.load_state_dict(theirs.state_dict())
        found.append(
            row(
                size, "LSTM vanilla", vanilla, "torch.nn.LSTM", theirs, shape, threads, "ours has peepholes too; goal 1"
            )
        )
        found.append(row(size, "LSTM NP", plain, "torch.nn.LSTM", theirs, shape, threads, ""))
        found.append(row(size, "LSTM NP", plain, "torch.nn.LSTMCell in a loop", Loop(theirs), shape, threads, ""))
        for variant in LSTM_VARIANTS:
            if variant not in ("vanilla", "NP") and size in SIZES:
                ours = LSTM(features, features, variant=variant)
                matrices = len(ours.variant.blocks)
                # Input and recurrent products, forward, back, and of the weights' gradients: three of each.
                work = (2 * matrices + 9 * ours.variant.gate_recurrence) / 8
                note = f"{work:.3g} times vanilla's multiplications; goal 0.77"
                found.append(row(size, f"LSTM {variant}", ours, "LSTM vanilla, ours", vanilla, shape, threads, note))
        theirs_gru = nn.GRU(features, features)
        gru = GRU(features, features)
        gru.load_state_dict(theirs_gru.state_dict())
        before = GRU(features, features, form="reset-before")
        found.append(row(size, "GRU reset-after", gru, "torch.nn.GRU", theirs_gru, shape, threads, ""))
        found.append(
            row(
                size, "GRU reset-before", before, "torch.nn.GRU", theirs_gru, shape, threads, "torch has the other form"
            )
        )
        theirs_rnn = nn.RNN(features, features)
        rnn = RNN(features, features)
        rnn.load_state_dict(theirs_rnn.state_dict())
        found.append(row(size, "RNN tanh", rnn, "torch.nn.RNN", theirs_rnn, shape, threads, ""))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    table = rows(1)
    if (threads := parser.parse_args().threads) > 1:
        table += rows(threads)
    write_table("recurrent", table)
