"""FGSM against torchattacks, foolbox and ART, on the same models: equal results, then times in turn.

``python benchmarks/adversarial.py`` writes ``results/benchmarks/adversarial.json`` and ``.md``. Needs the three peers
(``benchmarks/oracles.txt``). One thread.
"""

from collections.abc import Callable, Iterator
from functools import partial

import foolbox
import torch
import torch.nn.functional as F
import torchattacks
from art.attacks.evasion import FastGradientMethod
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from claimwise.adversarial import fgsm, fgsm_direction, maxout_network
from timing import Row, compare, max_difference, write_table

EPSILON = 0.25
# An error-against-epsilon curve: as many radii as figure 4 of the paper is drawn over.
RADII = [0.05 * k for k in range(21)]


def models() -> Iterator[tuple[str, nn.Module, Tensor, Tensor]]:
    """Name, model, inputs, labels: from one where an attack's own bookkeeping shows to one where it does not."""
    torch.manual_seed(0)
    softmax = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    yield "softmax regression, 1 image", softmax, torch.rand(1, 1, 28, 28), torch.randint(10, (1,))
    yield "softmax regression, 100 images", softmax, torch.rand(100, 1, 28, 28), torch.randint(10, (100,))
    maxout = maxout_network(784, 10, init_range=None)
    yield "maxout 240x5 twice, 100 images", maxout, torch.rand(100, 1, 28, 28), torch.randint(10, (100,))
    convolutional = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 64, 10),
    )
    yield (
        "small CNN with batch norm, 64 images 32x32",
        convolutional,
        torch.rand(64, 3, 32, 32),
        torch.randint(10, (64,)),
    )


def peers(model: nn.Module, x: Tensor, y: Tensor) -> Iterator[tuple[str, str, Callable[[float], Tensor]]]:
    """Name, note, and ``attack(epsilon)`` of every peer, set up once; only the attack itself is timed."""
    yield "torchattacks", "", lambda epsilon: torchattacks.FGSM(model, eps=epsilon)(x, y)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfFastGradientAttack()
    criterion = foolbox.criteria.Misclassification(y)
    yield (
        "foolbox",
        "its run(): the attack alone, without the clean and adversarial predictions of a call",
        lambda epsilon: attack.run(wrapped, x, criterion, epsilon=epsilon).clamp(0, 1),
    )
    classifier = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), tuple(x.shape[1:]), 10, clip_values=(0.0, 1.0), device_type="cpu"
    )
    images, labels = x.numpy(), F.one_hot(y, 10).numpy()
    yield (
        "adversarial-robustness-toolbox",
        "NumPy in and out",
        lambda epsilon: torch.as_tensor(
            FastGradientMethod(classifier, eps=epsilon, batch_size=len(x)).generate(images, labels)
        ),
    )


def single(name: str, model: nn.Module, x: Tensor, y: Tensor) -> list[Row]:
    ours = partial(fgsm, model, x, y, epsilon=EPSILON)
    return [
        compare(
            f"FGSM: {name}",
            ours,
            partial(attack, EPSILON),
            peer_name=peer,
            difference=max_difference,
            tolerance=1e-6,
            clock="processor",
            note=note,
        )
        for peer, note, attack in peers(model, x, y)
    ]


def sweep(name: str, model: nn.Module, x: Tensor, y: Tensor) -> list[Row]:
    def ours() -> Tensor:
        direction = fgsm_direction(model, x, y)
        return torch.stack([(x + epsilon * direction).clamp_(0, 1) for epsilon in RADII])

    def theirs(attack: Callable[[float], Tensor]) -> Tensor:
        return torch.stack([attack(epsilon) for epsilon in RADII])

    return [
        compare(
            f"FGSM at {len(RADII)} radii: {name}",
            ours,
            partial(theirs, attack),
            repeats=11,
            peer_name=peer,
            difference=max_difference,
            tolerance=1e-6,
            clock="processor",
            note="ours: one gradient for all radii",
        )
        for peer, _, attack in peers(model, x, y)
    ]


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for name, model, x, y in models():
        model.eval()
        rows += single(name, model, x, y)
        if name.startswith("maxout"):
            rows += sweep(name, model, x, y)
    path = write_table("adversarial", rows, peers=["torchattacks", "foolbox", "adversarial-robustness-toolbox"])
    print(path.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
