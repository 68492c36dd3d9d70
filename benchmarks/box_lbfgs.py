"""The box-constrained L-BFGS attack against SciPy's L-BFGS-B example by example, and foolbox's nearest relative.

``python benchmarks/box_lbfgs.py`` writes ``results/benchmarks/box_lbfgs.json`` and ``.md``. Needs foolbox and MNIST
(``CLAIMWISE_DATA``). SciPy minimises the same objective with the same search on c, twice: at its own defaults and from
the image at every c, as published attacks call it (on 32 of the images, its time scaled); and as favourably as we know
how, started from our starting points and stopped by our decrease. foolbox 3 has no L-BFGS attack, so its
Carlini-Wagner L2, which also searches a constant for the smallest perturbation, stands beside it.
"""

import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # SciPy's vectors of 784 gain nothing from threads

import foolbox
import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import fmin_l_bfgs_b
from torch import Tensor, nn

from claimwise.adversarial import box_lbfgs
from claimwise.data import load
from timing import Row, write_table

IMAGES = 256
TOLERANCE = 1e-6
BISECTIONS = 8
LONGER = 1e-4
"""Share by which our mean distortion may exceed SciPy's before the two count as different."""
ROUNDING = 1e-6 * math.sqrt(784)


def data(split: str) -> tuple[Tensor, Tensor]:
    arrays = load("mnist")[split]
    return torch.tensor(arrays["x"], dtype=torch.float32).flatten(1) / 255, torch.tensor(arrays["y"])


def networks(x: Tensor, y: Tensor) -> dict[str, nn.Module]:
    """Two of the paper's: softmax regression and FC100-100-10 (sigmoid), after three passes of Adam."""
    torch.manual_seed(0)
    made: dict[str, nn.Module] = {
        "FC10": nn.Sequential(nn.Linear(784, 10)),
        "FC100-100-10": nn.Sequential(
            nn.Linear(784, 100), nn.Sigmoid(), nn.Linear(100, 100), nn.Sigmoid(), nn.Linear(100, 10)
        ),
    }
    for model in made.values():
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(3):
            for rows in torch.randperm(len(x)).split(100):
                optimizer.zero_grad()
                F.cross_entropy(model(x[rows]), y[rows]).backward()
                optimizer.step()
        model.eval()
    return made


def scipy_one(model: nn.Module, x: Tensor, target: Tensor, favoured: bool) -> float:
    """Norm of the smallest perturbation of one image that SciPy's L-BFGS-B sees; infinite for none.

    Favoured, it starts where the last success ended and stops as early as ours; else it runs at its defaults.
    """
    early = {"m": 5, "factr": TOLERANCE / np.finfo(float).eps, "pgtol": 0.0, "maxfun": 100} if favoured else {}
    origin = x.numpy().astype(np.float64)
    nearest = math.inf
    box = [(0.0, 1.0)] * len(origin)

    def ask(z: np.ndarray) -> tuple[float, np.ndarray, bool]:
        nonlocal nearest
        point = torch.from_numpy(z.astype(np.float32)).unsqueeze(0).requires_grad_()
        logits = model(point)
        loss = F.cross_entropy(logits, target)
        (gradient,) = torch.autograd.grad(loss, point)
        reached = int(logits.argmax()) == int(target)
        if reached:
            nearest = min(nearest, float(np.linalg.norm(z - origin)))
        return loss.item(), gradient[0].numpy().astype(np.float64), reached

    _, slope, reached = ask(origin)
    if reached:
        return 0.0
    free = ((origin > 0) | (slope < 0)) & ((origin < 1) | (slope > 0))
    c = float(np.linalg.norm(slope[free])) / 4
    low, high, start, tried = 0.0, math.inf, origin, 0
    while True:

        def objective(z: np.ndarray, c: float = c) -> tuple[float, np.ndarray]:
            loss, slope, _ = ask(z)
            r = z - origin
            rounded = math.sqrt(r @ r + ROUNDING**2)
            return c * rounded + loss, slope + c * r / rounded

        z, _, _ = fmin_l_bfgs_b(objective, start if favoured else origin, bounds=box, **early)
        bracketed_before = low > 0 and high < math.inf
        reached = ask(z)[2]
        if reached:
            low, start = c, z
        else:
            high = c
        bracketed = low > 0 and high < math.inf
        tried = 0 if bracketed and not bracketed_before else tried + 1
        if tried >= (BISECTIONS if bracketed else 12):
            return nearest
        c = math.sqrt(low * high) if bracketed else (c * 2 if reached else c / 2)


def in_turn(
    name: str, ours: Callable[[], Any], theirs: Callable[[], Any], *, peer: str, scaled: float = 1.0, repeats: int = 3
) -> tuple[Row, Any, Any]:
    """As ``timing.compare``, for programs of a minute: no warming up but ours; one thread, the processor's clock."""
    ours()
    seconds: list[list[float]] = [[], []]
    results: list[Any] = [None, None]
    for repeat in range(repeats):
        for side in (0, 1) if repeat % 2 == 0 else (1, 0):
            start = time.process_time()
            results[side] = (ours, theirs)[side]()
            seconds[side].append(time.process_time() - start)
    seconds[1] = [each * scaled for each in seconds[1]]
    ratios = [b / a for a, b in zip(*seconds, strict=True)]
    low, median, high = (
        statistics.quantiles(ratios * 2, n=4, method="inclusive")
        if repeats == 1
        else (statistics.quantiles(ratios, n=4, method="inclusive"))
    )
    row = Row(
        name=name,
        peer=peer,
        ours_seconds=statistics.median(seconds[0]),
        peer_seconds=statistics.median(seconds[1]),
        ratio=median,
        ratio_low=low,
        ratio_high=high,
        repeats=repeats,
        calls=1,
        difference=None,
        tolerance=None,
        threads=1,
        clock="processor",
        note="",
    )
    return row, *results


def against_scipy(name: str, model: nn.Module, x: Tensor, y: Tensor, favoured: bool = True) -> Row:
    target = box_lbfgs(model, x, y, bisections=0).target
    shown = len(x) if favoured else 32

    def ours() -> Tensor:
        found = box_lbfgs(model, x, y, target=target, bisections=BISECTIONS, tolerance=TOLERANCE)
        return torch.where(found.success, found.perturbation.norm(dim=1), math.inf).double()

    def theirs() -> Tensor:
        each = [scipy_one(model, x[i], target[i : i + 1], favoured) for i in range(shown)]
        return torch.tensor(each, dtype=torch.float64)

    row, a, b = in_turn(
        f"box L-BFGS, {name}, {len(x)} MNIST images",
        ours,
        theirs,
        peer="SciPy L-BFGS-B, image by image, " + ("our starts and stops" if favoured else "its defaults"),
        scaled=len(x) / shown,
        repeats=3 if favoured else 1,
    )
    a = a[:shown]
    # Not equal numbers but equal quality is what this attack owes: the same images reached, none of them at more cost.
    longer = float(a.sum() / b.sum() - 1)
    if not (bool(a.isfinite().all() and b.isfinite().all()) and longer <= LONGER):
        raise AssertionError(f"{name}: our perturbations are {longer:.2e} longer than SciPy's")
    worst = float((a / b)[b > 0].max())
    note = f"mean distortion {a.mean() / 28:.5f} against {b.mean() / 28:.5f}; worst image {worst:.4f} times SciPy's"
    if not favoured:
        note += f"; SciPy timed on {shown} images, its time times {len(x) // shown}"
    return replace(row, note=note)


def against_foolbox(name: str, model: nn.Module, x: Tensor, y: Tensor) -> Row:
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=9, steps=500, stepsize=1e-2)
    right = (model(x).argmax(1) == y).nonzero().squeeze(1)[:64]
    x, y = x[right], y[right]
    row, a, b = in_turn(
        f"smallest perturbation to any wrong class, {name}, {len(x)} MNIST images",
        lambda: box_lbfgs(model, x, y, target="nearest").distortion,
        lambda: (attack.run(wrapped, x, foolbox.criteria.Misclassification(y)) - x).square().mean(1).sqrt(),
        peer="foolbox L2CarliniWagnerAttack, 9 × 500 steps",
    )
    note = f"another attack; ours tries all 9 classes; mean distortion {a.mean():.5f} against {b.mean():.5f}"
    return replace(row, note=note)


def main() -> None:
    torch.set_num_threads(1)
    x, y = data("train")
    models = networks(x, y)
    x, y = x[:IMAGES], y[:IMAGES]
    programs = (partial(against_scipy, favoured=False), against_scipy, against_foolbox)
    rows = [program(name, model, x, y) for name, model in models.items() for program in programs]
    print(write_table("box_lbfgs", rows, peers=["scipy", "foolbox"]).with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
