"""A shallow radial-basis classifier: confident only near what it has seen.

I. Goodfellow, J. Shlens, C. Szegedy, *Explaining and Harnessing Adversarial Examples*, ICLR 2015, section 7,
https://arxiv.org/abs/1412.6572
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from claimwise.doors import check_labels


class RBFClassifier(nn.Module):
    r"""One Gaussian bump a class, each an answer of its own to "is it this class?".

    .. math:: \log p(y_k = 1 \mid x) = (x - \mu_k)^\top \beta_k (x - \mu_k), \qquad \beta_k \prec 0

    with :math:`\mu_k` the centre and :math:`\beta_k` the (negative definite) matrix of class :math:`k`. A probability
    is 1 at the centre and falls to 0 far away, for every class: the model can say "none of them". The probabilities
    of the classes do not add up to 1.

    :math:`\beta` must not drift positive, so it is parametrised: ``"scalar"`` :math:`-\operatorname{softplus}(r_k) I`,
    ``"diagonal"`` :math:`-\operatorname{diag}\operatorname{softplus}(r_k)`, ``"full"`` :math:`-L_k L_k^\top` with
    :math:`L_k` lower triangular and a softplus diagonal.

    Args:
        in_features: Size of a flattened example.
        classes: Bumps.
        precision: Shape of :math:`\beta`.
        centres: Where the bumps start, for instance the class means; N(0, 1) draws by default.
        init_precision: :math:`-\beta` at the start (times the identity). By default 1 / in_features, so that a unit
            displacement of every feature costs one nat.

    Shape:
        Input (batch, \*), flattened to (batch, in_features); output (batch, classes), log-probabilities in (-inf, 0].

    Raises:
        ValueError: Sizes or ``init_precision`` not positive, centres of another shape; on calling, an input of another
            size.

    Differences from the paper:
        The paper gives the formula for one class, leaves :math:`\beta` free and does not say how it was trained.
        Train with :func:`rbf_loss`.

    Example:
        >>> import torch
        >>> model = RBFClassifier(2, 1, centres=torch.zeros(1, 2), init_precision=0.5)
        >>> model(torch.tensor([[0.0, 0.0], [1.0, 1.0]])).exp()
        tensor([[1.0000],
                [0.3679]], grad_fn=<ExpBackward0>)
    """

    def __init__(
        self,
        in_features: int,
        classes: int,
        *,
        precision: Literal["scalar", "diagonal", "full"] = "diagonal",
        centres: Tensor | None = None,
        init_precision: float | None = None,
    ) -> None:
        super().__init__()
        if in_features < 1 or classes < 1:
            raise ValueError(f"RBFClassifier: sizes must be at least 1, got {in_features} features, {classes} classes")
        if precision not in ("scalar", "diagonal", "full"):
            raise ValueError(f"RBFClassifier: precision must be 'scalar', 'diagonal' or 'full', got {precision!r}")
        if centres is not None and centres.shape != (classes, in_features):
            raise ValueError(
                f"RBFClassifier: centres must have shape ({classes}, {in_features}), got {tuple(centres.shape)}"
            )
        start = 1 / in_features if init_precision is None else init_precision
        if not (math.isfinite(start) and start > 0):
            raise ValueError(f"RBFClassifier: init_precision must be > 0, got {init_precision}")
        self.in_features, self.precision = in_features, precision
        self.centre = nn.Parameter(torch.randn(classes, in_features) if centres is None else centres.detach().clone())
        if precision == "full":
            raw = torch.zeros(classes, in_features, in_features)
            raw.diagonal(dim1=1, dim2=2).fill_(_inverse_softplus(math.sqrt(start)))
        else:
            raw = torch.full((classes, 1 if precision == "scalar" else in_features), _inverse_softplus(start))
        self.raw_precision = nn.Parameter(raw.to(self.centre.dtype))

    def beta(self) -> Float[Tensor, "classes features features"]:
        """The matrices of the formula, written out."""
        if self.precision == "full":
            factor = self._factor()
            return -factor @ factor.mT
        return -torch.diag_embed(F.softplus(self.raw_precision).expand_as(self.centre))

    def forward(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch classes"]:
        x = x.flatten(1)
        if x.shape[1] != self.in_features:
            raise ValueError(f"RBFClassifier: input must have {self.in_features} features, got {x.shape[1]}")
        if self.precision == "full":
            # |L^T (x - mu)|^2: one product for x, one for mu, then the difference.
            factor = self._factor()  # (classes, features, features)
            moved = torch.einsum("bf,kfg->bkg", x, factor)  # (batch, classes, features)
            return -(moved - torch.einsum("kf,kfg->kg", self.centre, factor)).square().sum(-1)
        # Expanded, so that it is two matrix products rather than a (batch, classes, features) array; taken about the
        # mean of the centres, which keeps the terms that cancel small.
        middle = self.centre.detach().mean(0)
        x, centre = x - middle, self.centre - middle
        precision = F.softplus(self.raw_precision).expand_as(centre)
        squares = x.square() @ precision.T - 2 * (x @ (precision * centre).T) + (precision * centre.square()).sum(1)
        return -squares.clamp(min=0)

    def _factor(self) -> Tensor:
        return self.raw_precision.tril(-1) + torch.diag_embed(F.softplus(self.raw_precision.diagonal(dim1=1, dim2=2)))

    def extra_repr(self) -> str:
        return f"{self.in_features}, {len(self.centre)}, precision={self.precision!r}"


def rbf_loss(log_probability: Float[Tensor, "batch classes"], y: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
    r"""Negative log-likelihood of independent yes-or-no answers, one a class, from their log-probabilities.

    .. math:: -\frac1n \sum_{i} \Big( \log p_{i y_i} + \sum_{k \ne y_i} \log(1 - p_{ik}) \Big)

    with :math:`p_{ik}` the probability that example :math:`i` is of class :math:`k`, and :math:`n` the batch. The
    second logarithm is computed from :math:`\log p` in the form that keeps its digits, ``log1p(-exp(log p))`` for small
    p and ``log(-expm1(log p))`` for large.

    Args:
        log_probability: What :class:`RBFClassifier` returns; values above -1e-6 count as -1e-6, where a rival's answer
            would otherwise cost an infinite loss.
        y: Class numbers.

    Shape:
        ``log_probability`` (batch, classes), ``y`` (batch,), result ().

    Raises:
        TypeError: Labels not integer.
        ValueError: Labels out of range.

    Differences from the paper:
        The paper does not give a loss for many classes.

    Example:
        >>> import torch
        >>> round(rbf_loss(torch.tensor([[0.5, 0.25]]).log(), torch.tensor([0])).item(), 4)  # -log(.5) - log(.75)
        0.9808
    """
    check_labels("rbf_loss", y, len(log_probability), log_probability.shape[1])
    bounded = log_probability.clamp(max=-1e-6)
    absent = torch.where(bounded < -0.7, torch.log1p(-bounded.exp()), torch.log(-torch.expm1(bounded)))  # log(1 - p)
    own = y.long().unsqueeze(1)
    return -absent.scatter(1, own, log_probability.gather(1, own)).sum(1).mean()


def _inverse_softplus(value: float) -> float:
    return value + math.log(-math.expm1(-value))
