"""Do perturbations made for one model disturb another, more than noise of the same size does?

C. Szegedy, W. Zaremba, I. Sutskever, J. Bruna, D. Erhan, I. Goodfellow, R. Fergus, *Intriguing properties of neural
networks*, ICLR 2014, section 4.2 (tables 2 and 4), https://arxiv.org/abs/1312.6199
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from claimwise.adversarial.mistakes import mistakes
from claimwise.adversarial.transfer import Attack, Model
from claimwise.doors import Bounds, check_batch, check_labels
from claimwise.undisturbed import Mode, undisturbed


@dataclass(frozen=True, eq=False)
class TransferStudy:
    """What :func:`transfer_study` returns: a row a source, a column a target, in the order of the names."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    error: Float[Tensor, "sources targets"]
    """Share of all examples that the column's model gets wrong on the row's adversarial examples."""
    noise_error: Float[Tensor, "sources targets"]
    """The same on noise of the size of the row's perturbations."""
    clean_error: Float[Tensor, " targets"]
    distortion: Float[Tensor, " sources"]
    """Mean over examples of the root mean square of the perturbations shown (after rescaling and clipping)."""
    noise_distortion: Float[Tensor, " sources"]
    """The same of the noise shown; smaller than ``distortion`` only where clipping took something away."""
    prediction: Int[Tensor, "sources targets batch"]
    """Class that the column's model gives to each of the row's adversarial examples."""


def transfer_study(
    sources: Mapping[str, Model],
    targets: Mapping[str, Model],
    x: Float[Tensor, "batch *shape"],
    y: Int[Tensor, " batch"],
    *,
    attack: Attack | Mapping[str, Attack | Tensor],
    generator: torch.Generator,
    rms: float | None = None,
    bounds: Bounds = None,
    draws: int = 1,
    mode: Mode = "eval",
) -> TransferStudy:
    r"""Perturb the examples for each source model, show them to each target model, and noise of equal size beside them.

    .. math:: E_{st} = \frac1n \sum_i [f_t(x_i + r_{si}) \ne y_i], \qquad
              N_{st} = \frac1n \sum_i [f_t(x_i + \rho_{si} z_i) \ne y_i], \qquad
              \rho_{si} = \frac{\lVert r_{si} \rVert_2}{\lVert z_i \rVert_2}

    with :math:`r_{si}` the perturbation of example :math:`i` made for source :math:`s`, :math:`f_t` the target's
    class and :math:`z_i` standard normal: each example's noise has exactly the root mean square of its own
    perturbation. ``rms`` rescales every perturbation to that root mean square first, the paper's amplification.

    Args:
        sources: Models that the perturbations are made for, by name: architectures, training sets, hyper-parameters.
        targets: Models that they are shown to, by name; may be the same.
        x: Inputs.
        y: Class numbers.
        attack: ``attack(model, x, y) -> x_adv``; one for all sources, or one each by name, or the adversarial
            examples themselves by name (made once, shown at several amplifications).
        generator: Where the noise is drawn from.
        rms: Root mean square that every perturbation is rescaled to, in the units of ``x``; None leaves them. An
            example with no perturbation stays as it is.
        bounds: Range that examples and noise are clipped to after rescaling; None for no clipping, as the paper does.
            Clipping takes more from noise than from perturbations that were made within the range:
            compare ``noise_distortion`` with ``distortion``.
        draws: Noise images an example; ``noise_error`` is over all.
        mode: Mode in which the targets predict; the attack has its own.

    Shape:
        ``x`` (batch, \*), ``y`` (batch,), models' outputs (batch, classes).

    Raises:
        TypeError: ``x`` not floating point, labels not integer.
        ValueError: No sources, targets or examples, an attack missing for a name or changing the shape, examples that
            are not finite, ``rms`` not above 0, ``draws`` below 1.

    Differences from the paper:
        The paper's noise has one standard deviation a table; here each example's matches its own perturbation. Its
        formula for amplification, x + 0.1 (x' - x) / ‖x' - x‖, would leave a root mean square of 0.1 / sqrt(m); its
        table says 0.1, and so does ``rms=0.1``.

    Example:
        >>> from functools import partial
        >>> from claimwise.adversarial import fgsm
        >>> models = {"a": lambda x: x, "b": lambda x: 3 * x - 1}
        >>> x, y = torch.tensor([[0.6, 0.4], [0.1, 0.9]]), torch.tensor([0, 1])
        >>> found = transfer_study(models, models, x, y, attack=partial(fgsm, epsilon=0.2),
        ...                        generator=torch.Generator().manual_seed(0))
        >>> found.error.tolist(), round(found.distortion[0].item(), 3)
        ([[0.5, 0.5], [0.5, 0.5]], 0.2)
    """
    name = "transfer_study"
    check_batch(name, x, bounds)
    check_labels(name, y, len(x))
    if not sources or not targets or len(x) == 0:
        raise ValueError(
            f"{name}: needs sources, targets and examples, got {len(sources)}, {len(targets)} and {len(x)}"
        )
    if rms is not None and not (math.isfinite(rms) and rms > 0):
        raise ValueError(f"{name}: rms must be above 0, or None for no rescaling, got {rms}")
    if isinstance(draws, bool) or not isinstance(draws, int) or draws < 1:
        raise ValueError(f"{name}: draws must be a whole number >= 1, got {draws!r}")
    if isinstance(attack, Mapping):
        missing = [source for source in sources if source not in attack]
        if missing:
            raise ValueError(f"{name}: attack missing for {', '.join(missing)}; give one for every source")

    def predicted(target: str, inputs: Tensor) -> Tensor:
        with undisturbed(targets[target], mode), torch.no_grad():
            return mistakes(targets[target](inputs), y).prediction

    def clipped(inputs: Tensor) -> Tensor:
        return inputs if bounds is None else inputs.clamp(*bounds)

    x = x.detach()
    size = (len(sources), len(targets))
    prediction = torch.empty(*size, len(x), dtype=torch.long, device=x.device)
    noise_error = torch.zeros(size, dtype=torch.float64)
    distortion, noise_distortion = torch.empty(len(sources)), torch.zeros(len(sources))
    for s, (source, model) in enumerate(sources.items()):
        made = attack[source] if isinstance(attack, Mapping) else attack
        x_adv = _checked(source, made if isinstance(made, Tensor) else made(model, x, y), x)
        r = x_adv - x
        if rms is not None:
            r = r * (rms / _rms(r).clamp_min(torch.finfo(r.dtype).tiny))
        shown = clipped(x + r)
        distortion[s] = _rms(shown - x).mean()
        for t, target in enumerate(targets):
            prediction[s, t] = predicted(target, shown)
        for _ in range(draws):
            z = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=generator.device).to(x.device)
            shown = clipped(x + z * (_rms(r) / _rms(z)))
            noise_distortion[s] += _rms(shown - x).mean().cpu() / draws
            for t, target in enumerate(targets):
                noise_error[s, t] += float((predicted(target, shown) != y).double().mean()) / draws
    return TransferStudy(
        sources=tuple(sources),
        targets=tuple(targets),
        error=(prediction != y).double().mean(2).float().cpu(),
        noise_error=noise_error.float(),
        clean_error=torch.tensor([float((predicted(t, x) != y).double().mean()) for t in targets]),
        distortion=distortion,
        noise_distortion=noise_distortion,
        prediction=prediction,
    )


def _rms(r: Tensor) -> Tensor:
    """Root mean square of each example, (batch, 1, ...)."""
    return r.flatten(1).square().mean(1).sqrt().reshape(-1, *[1] * (r.ndim - 1))


def _checked(source: str, x_adv: Tensor, x: Tensor) -> Tensor:
    if not isinstance(x_adv, Tensor) or x_adv.shape != x.shape:
        got = tuple(x_adv.shape) if isinstance(x_adv, Tensor) else type(x_adv).__name__
        raise ValueError(
            f"transfer_study: the adversarial examples for {source!r} must be a tensor of the inputs' shape "
            f"{tuple(x.shape)}, got {got}"
        )
    if not bool(x_adv.isfinite().all()):
        raise ValueError(f"transfer_study: the adversarial examples for {source!r} are not finite")
    return x_adv.detach()
