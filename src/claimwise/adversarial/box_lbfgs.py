r"""The box-constrained L-BFGS attack: smallest perturbations that make a classifier say a given class.

C. Szegedy, W. Zaremba, I. Sutskever, J. Bruna, D. Erhan, I. Goodfellow, R. Fergus, *Intriguing properties of neural
networks*, ICLR 2014, section 4.1, https://arxiv.org/abs/1312.6199

The two-loop recursion and its memory: D. Liu, J. Nocedal, *On the limited memory BFGS method for large scale
optimization*, Mathematical Programming 45, 1989. Bounds by projection on an active set: D. Bertsekas, *Projected
Newton methods for optimization problems with simple constraints*, SIAM J. Control and Optimization 20, 1982.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from claimwise.doors import Bounds, check_batch, check_labels, check_logits
from claimwise.undisturbed import Mode, undisturbed

Loss = Callable[[Tensor, Tensor], Tensor]
TargetRule = Literal["likeliest", "random", "nearest"]
Penalty = Literal["norm", "squared"]

ENOUGH_DECREASE = 1e-4
"""Armijo's constant: a step is taken when it gains this share of what the gradient promises (SciPy's too)."""
CURVATURE = 1e-10
"""Pairs with less curvature than this, relative to the squared change of gradient, teach nothing and are left out."""
PULLS = 14
"""Bisections of the line from x to what was found."""
MOST_HALVINGS = 12
"""Steps tried along one direction before the search at this c ends where it is."""
GEOMETRIC_STEPS = 12
"""Values of c tried before the search for a bracket is given up: a factor of 4096 either way by default."""


@dataclass(frozen=True, eq=False)
class BoxLBFGS:
    """What :func:`box_lbfgs` returns; a failed example has ``x_adv = x``, and NaN for distortion and c."""

    x_adv: Float[Tensor, "batch *shape"]
    perturbation: Float[Tensor, "batch *shape"]
    """``x_adv - x``."""
    distortion: Float[Tensor, " batch"]
    r"""Root mean square of the perturbation, :math:`\sqrt{\sum_i r_i^2 / n}`, as the paper reports it.
    NaN where the attack failed, so that no mean counts a failure as a small perturbation."""
    success: Bool[Tensor, " batch"]
    """Whether the model says ``target`` of ``x_adv``."""
    target: Int[Tensor, " batch"]
    """The class aimed at."""
    c: Float[Tensor, " batch"]
    """The largest c whose minimiser the model takes for ``target``; infinite where it does so without a
    perturbation."""
    evaluations: Int[Tensor, " batch"]
    """How often the model was asked about the example, nearly always for a gradient too."""


def box_lbfgs(
    model: Callable[[Tensor], Tensor],
    x: Float[Tensor, "batch *shape"],
    y: Tensor,
    *,
    target: Tensor | TargetRule = "likeliest",
    bounds: Bounds = (0.0, 1.0),
    loss: Loss | None = None,
    penalty: Penalty = "norm",
    bisections: int = 8,
    growth: float = 2.0,
    memory: int = 5,
    iterations: int = 100,
    tolerance: float = 1e-6,
    generator: torch.Generator | None = None,
    mode: Mode = "eval",
) -> BoxLBFGS:
    r"""The smallest perturbations that turn each image into a given class, all images of the batch at once.

    .. math:: \min_r \; c\,\lVert r \rVert_2 + \operatorname{loss}_f(x + r, l)
              \quad\text{subject to}\quad x + r \in [\text{low}, \text{high}]^m

    with :math:`x` an image of :math:`m` pixels, :math:`r` the perturbation, :math:`f` the model, :math:`l` the class
    aimed at and :math:`c > 0` the price of a perturbation. The larger :math:`c`, the smaller :math:`r`; the search on
    :math:`c` finds the *largest* whose minimiser the model still takes for :math:`l`: a geometric search for one that
    succeeds and one that fails, then bisection of their logarithms. For a convex loss that separates two classes the
    result is the smallest perturbation there is.

    The examples advance together, one evaluation of the model for all, and yet each has its own L-BFGS history, its
    own active bounds, step length and c, and leaves the batch when its search ends. A search at a new c starts from
    the last minimiser that succeeded.

    Args:
        model: Any module or callable that returns logits, of each example by itself. It is run in eval mode and left
            as it was, also after an exception.
        x: Inputs, floating point, on any device; not changed.
        y: True labels. Used by the rules for ``target`` alone.
        target: The class to reach: one label an example, or a rule. ``"likeliest"``: the class other than ``y`` with
            the largest logit at ``x``. ``"random"``: any class other than ``y``, drawn from ``generator``.
            ``"nearest"``: all classes other than ``y`` are tried and the smallest perturbation is kept (classes - 1
            times the work and memory); no minimal perturbation that merely errs is larger.
        bounds: The box, which ``x`` must lie in; None for none.
        loss: ``loss(model(x), target)``, one value an example; by default cross-entropy. It must fall as the target
            gets likelier.
        penalty: ``"norm"`` for the paper's :math:`c\lVert r\rVert_2`; ``"squared"`` for :math:`c\lVert r\rVert_2^2`,
            which is what much code minimises. Where the loss is convex both lead to the same perturbation by
            different c; elsewhere the square may find smaller or larger ones.
        bisections: Halvings of the bracket of log c.
        growth: Factor of the geometric search, above 1.
        memory: Pairs of steps and gradient changes that L-BFGS remembers.
        iterations: Most evaluations at one c.
        tolerance: A search at one c ends when a step lowers the objective by less than this share of it (of 1 if the
            objective is smaller).
        generator: Where ``"random"`` draws from.
        mode: ``"as-is"`` runs the model in the modes it has, and restores nothing.

    Shape:
        ``x``, ``x_adv`` and ``perturbation`` (batch, \*), all else (batch,); the model's output (batch, classes).

    Raises:
        TypeError: ``x`` not floating point, labels not integer.
        ValueError: A box with low >= high, ``x`` outside it or not finite, labels or targets out of range, an unknown
            rule or penalty, ``"random"`` without a generator, an output that is not (batch, classes), not finite at
            ``x`` or does not depend on ``x``, a loss that is not one value an example, settings out of range.

    Differences from the paper:
        The paper asks for the *minimum* c > 0 for which the minimiser is misclassified. That is a slip: a smaller c
        makes larger perturbations, so this takes the largest. Of all images that are evaluated on the way and reach
        the target the nearest is kept, and pulled straight back towards x as far as the target allows (by bisection,
        to a ten-thousandth), so it is never farther than the last minimiser: where the loss is not convex the minimiser
        can jump, as c grows, from beyond the boundary to r = 0. The paper does not say how it searches c: this starts
        at a quarter of the c beyond which standing still is a minimum. At r = 0, where the norm has no gradient, it
        is rounded off within a millionth of the image's scale.

    Example:
        >>> model = torch.nn.Linear(2, 2).requires_grad_(False)
        >>> model.weight.copy_(torch.eye(2)), model.bias.zero_()  # doctest: +ELLIPSIS
        (...)
        >>> found = box_lbfgs(model, torch.tensor([[0.75, 0.25]]), torch.tensor([0]))
        >>> found.success.tolist(), found.target.tolist(), round(found.distortion.item(), 3)
        ([True], [1], 0.25)
    """
    name = "box_lbfgs"
    check_batch(name, x, bounds)
    check_labels(name, y, len(x))
    _check_settings(target, penalty, bisections, growth, memory, iterations, tolerance, generator)
    if len(x) == 0:
        none = x.new_zeros(0)
        return BoxLBFGS(x.clone(), x.clone(), none, none.bool(), y.long(), none, none.long())
    x, y = x.detach(), y.detach().long()
    with undisturbed(model, mode), torch.inference_mode(False):
        x, y = (t.clone() if t.is_inference() else t for t in (x, y))
        with torch.no_grad():
            logits = model(x)
        check_logits(name, logits, len(x))
        classes = logits.shape[1]
        check_labels(name, y, len(x), classes)
        if not bool(logits.isfinite().all()):
            broken = int((~logits.isfinite()).any(1).sum())
            raise ValueError(f"{name}: the model's logits are not finite for {broken} of {len(x)} examples")
        evaluate = _evaluation(model, loss or _cross_entropy, x)
        search = _Settings(bounds, penalty, bisections, growth, memory, iterations, tolerance)
        if isinstance(target, Tensor):
            check_labels(f"{name}: target", target, len(x), classes)
            aim = target.detach().to(x.device, torch.long, copy=True)
            return _packed(x, aim, _minimised(evaluate, x, aim, search))
        if classes < 2:
            raise ValueError(f"{name}: target={target!r} needs a model with at least 2 classes, got {classes}")
        wrong = _wrong_classes(y, classes)  # (batch, classes - 1)
        if target == "nearest":
            return _nearest(evaluate, x, wrong, search)
        if target == "random":
            pick = torch.randint(classes - 1, (len(x), 1), generator=generator, device=_device_of(generator))
            pick = pick.to(x.device)
        else:
            pick = logits.gather(1, wrong).argmax(1, keepdim=True)
        chosen = wrong.gather(1, pick).squeeze(1)
        return _packed(x, chosen, _minimised(evaluate, x, chosen, search))


# The problem ---------------------------------------------------------------------------------------------------------

Evaluation = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""(points, targets) -> loss (batch,), its gradient (batch, m), whether the target is reached (batch,)."""


@dataclass(frozen=True)
class _Settings:
    bounds: Bounds
    penalty: Penalty
    bisections: int
    growth: float
    memory: int
    iterations: int
    tolerance: float


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits, target, reduction="none")


def _evaluation(model: Callable[[Tensor], Tensor], loss: Loss, x: Tensor) -> Evaluation:
    def evaluate(points: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            # A tensor of its own: a model may write on its input.
            inputs = points.detach().to(x.dtype, copy=True).reshape(-1, *x.shape[1:]).requires_grad_()
            logits = model(inputs)
            losses = loss(logits, target)
            if not isinstance(losses, Tensor) or losses.shape != target.shape:
                got = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
                raise ValueError(
                    f"box_lbfgs: loss must give one value an example, shape {tuple(target.shape)}, got {got}; "
                    "use reduction='none'"
                )
            gradient = None
            if losses.requires_grad:
                (gradient,) = torch.autograd.grad(losses.sum(), inputs, allow_unused=True)
        if gradient is None:
            raise ValueError(
                "box_lbfgs: the loss does not depend on x; does the model detach its input or run under no_grad()?"
            )
        reached = logits.detach().argmax(1) == target
        return losses.detach().to(points.dtype), gradient.flatten(1).to(points.dtype), reached

    return evaluate


def _penalty(settings: _Settings, scale: float, squares: Tensor) -> tuple[Tensor, Tensor]:
    """The penalty of r, and the factor of r in its gradient, from r's squared norm."""
    if settings.penalty == "squared":
        return squares, torch.full_like(squares, 2.0)
    rounded = (squares + scale**2).sqrt()
    return rounded - scale, 1 / rounded


# The search ----------------------------------------------------------------------------------------------------------


@dataclass
class _Rows:
    """What belongs to the examples still searched, a row each; (rows, m) where a comment says so."""

    index: Tensor
    """Place in the batch."""
    alive: Tensor
    """Whether the search goes on; a dead row is evaluated, to no effect, until rows are sorted out again."""
    target: Tensor
    x: Tensor  # (rows, m)
    point: Tensor  # (rows, m), the iterate x + r
    gradient: Tensor  # (rows, m), of the objective there
    loss: Tensor
    squares: Tensor
    """Squared norm of r."""
    reached: Tensor
    start_point: Tensor  # (rows, m), where a search at a new c starts: the last minimiser that succeeded, at first x
    start_slope: Tensor  # (rows, m), gradient of the loss there
    start_loss: Tensor
    start_squares: Tensor
    direction: Tensor  # (rows, m)
    step: Tensor
    """Multiple of the direction that is tried."""
    curvature: Tensor
    """Scale of the inverse Hessian before any pair of the history."""
    c: Tensor
    c_low: Tensor
    """Largest c that succeeded; 0 for none."""
    c_high: Tensor
    """Smallest c that failed; infinite for none."""
    tried: Tensor
    """Values of c."""
    asked: Tensor
    """Evaluations at this c."""
    halvings: Tensor
    """Rejected steps in a row."""

    def keep(self, rows: Tensor) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[rows])


@dataclass
class _History:
    """The last pairs of step and gradient change, a ring over slots common to all rows.

    A row that takes no step in a round writes a pair of weight 0 there, which the recursion passes over.
    """

    steps: Tensor  # (memory, rows, m)
    changes: Tensor  # (memory, rows, m)
    weights: Tensor  # (memory, rows): 1 / (step . change), or 0
    newest: int = -1

    def next_pair(self) -> tuple[Tensor, Tensor, Tensor]:
        """Step, change and weight of the oldest pair, to be overwritten as the newest."""
        self.newest = (self.newest + 1) % len(self.steps)
        return self.steps[self.newest], self.changes[self.newest], self.weights[self.newest]

    def keep(self, rows: Tensor) -> None:
        self.steps, self.changes = self.steps[:, rows], self.changes[:, rows]
        self.weights = self.weights[:, rows]

    def inverse_hessian_times(self, vector: Tensor, curvature: Tensor, free: Tensor) -> Tensor:
        """The two-loop recursion, restricted to the coordinates that are free.

        Steps do not move along active bounds, so their products with changes need no restriction; masking in the
        middle and at the end keeps the operator symmetric and positive.
        """
        memory = len(self.steps)
        order = [(self.newest - k) % memory for k in range(memory)]  # newest first
        q = vector.clone()
        shares = {}
        for k in order:
            shares[k] = self.weights[k] * _dot(self.steps[k], q)
            q.addcmul_(self.changes[k], shares[k].unsqueeze(1), value=-1)
        q.mul_(curvature.unsqueeze(1)).mul_(free)
        for k in reversed(order):
            share = shares[k] - self.weights[k] * _dot(self.changes[k], q)
            q.addcmul_(self.steps[k], share.unsqueeze(1))
        return q.mul_(free)


@dataclass
class _Found:
    """What the search has found so far, a row for every example of the batch."""

    x_adv: Tensor
    """(batch, m), the nearest image seen that reaches the target."""
    squares: Tensor
    """Its squared distance; infinite where there is none."""
    c: Tensor
    evaluations: Tensor


def _minimised(evaluate: Evaluation, x: Tensor, target: Tensor, settings: _Settings) -> _Found:
    """The search for all examples: one evaluation of the model a round, for the rows that are left."""
    flat = x.flatten(1).to(torch.promote_types(x.dtype, torch.float32))
    # The norm is rounded off where perturbations are a millionth of the image's scale.
    extent = 1.0 if settings.bounds is None else settings.bounds[1] - settings.bounds[0]
    scale = 1e-6 * extent * math.sqrt(flat.shape[1])
    loss, slope, reached = evaluate(flat, target)
    if not bool(loss.isfinite().all() and slope.isfinite().all()):
        raise ValueError("box_lbfgs: the loss or its gradient is not finite at x; does the model return finite logits?")
    found = _Found(
        flat.clone(),
        torch.where(reached, 0.0, torch.inf).to(flat.dtype),
        torch.where(reached, torch.inf, torch.nan).to(flat.dtype),
        torch.ones_like(target),
    )
    c = _first_c(settings, flat, loss, slope)
    searched = (~reached & (c > 0)).nonzero().squeeze(1)
    if len(searched) == 0:
        return found
    zeros = torch.zeros_like(c)
    rows = _Rows(
        index=torch.arange(len(flat), device=x.device),
        alive=torch.ones_like(reached),
        target=target,
        x=flat,
        point=flat,
        gradient=slope,
        loss=loss,
        squares=zeros,
        reached=reached,
        start_point=flat,
        start_slope=slope,
        start_loss=loss,
        start_squares=zeros,
        direction=torch.zeros_like(flat),
        step=torch.ones_like(c),
        curvature=loss.abs() / _dot(slope, slope),
        c=c,
        c_low=zeros,
        c_high=torch.full_like(c, torch.inf),
        tried=torch.zeros_like(target),
        asked=torch.zeros_like(target),
        halvings=torch.zeros_like(target),
    )
    rows.keep(searched)
    empty = flat.new_zeros(settings.memory, len(searched), flat.shape[1])
    history = _History(empty, empty.clone(), empty.new_zeros(settings.memory, len(searched)))
    still = rows.index[:0]  # rows that keep their direction: their last step was rejected
    while len(rows.index):
        _turn(rows, history, settings, still)
        took, settled = _advance(evaluate, rows, history, settings, scale, found)
        stays = ~(took | settled)
        if bool(settled.any()):
            _next_c(rows, settled.nonzero().squeeze(1), settings, scale, found)
            left = rows.alive.nonzero().squeeze(1)
            # To copy what is left each time that a row ends would cost more than to carry a few dead ones along.
            if len(left) <= 0.9 * len(stays):
                rows.keep(left)
                history.keep(left)
                stays = stays[left]
        still = stays.nonzero().squeeze(1)
    _pull_back(evaluate, flat, target, found)
    return found


def _pull_back(evaluate: Evaluation, x: Tensor, target: Tensor, found: _Found) -> None:
    """Shorten what was found along its own direction, to a ten-thousandth, where the target allows."""
    rows = (found.squares.isfinite() & (found.squares > 0)).nonzero().squeeze(1)
    if len(rows) == 0:
        return
    start, r = x[rows], found.x_adv[rows] - x[rows]
    short, enough = torch.zeros_like(r[:, 0]), torch.ones_like(r[:, 0])
    for _ in range(PULLS):
        middle = (short + enough) / 2
        _, _, reached = evaluate(torch.addcmul(start, r, middle.unsqueeze(1)), target[rows])
        short, enough = torch.where(reached, short, middle), torch.where(reached, middle, enough)
    found.evaluations[rows] += PULLS
    shorter = enough < 1
    rows = rows[shorter]
    found.x_adv[rows] = torch.addcmul(start, r, enough.unsqueeze(1))[shorter]
    found.squares[rows] = _dot(found.x_adv[rows] - x[rows], found.x_adv[rows] - x[rows])


def _first_c(settings: _Settings, x: Tensor, loss: Tensor, slope: Tensor) -> Tensor:
    """A quarter of the c beyond which r = 0 is a minimum: the norm of the slope along which x can move.

    For the squared norm, which always lets go of r = 0, the c that prices a straight way down to loss 0 alike.
    """
    steepness = (slope * _free(settings, x, slope)).norm(dim=1)
    if settings.penalty == "norm":
        return steepness / 4
    return steepness.square() / (8 * loss.abs().clamp_min(torch.finfo(loss.dtype).tiny))


def _free(settings: _Settings, point: Tensor, gradient: Tensor) -> Tensor:
    """Coordinates that are not at a bound which the descent would cross."""
    if settings.bounds is None:
        return torch.ones_like(point, dtype=torch.bool)
    # A long step down the gradient, clipped: what it does not move is held by a bound.
    return torch.sub(point, gradient, alpha=1e6).clamp_(*settings.bounds) != point


def _turn(rows: _Rows, history: _History, settings: _Settings, still: Tensor) -> None:
    """New directions, except for the rows that stand still."""
    free = _free(settings, rows.point, rows.gradient).to(rows.point.dtype)
    direction = history.inverse_hessian_times(rows.gradient, rows.curvature, free).neg_()
    # Rows by index: torch.where with one condition a row costs three times a product.
    direction[still] = rows.direction[still]
    rows.step, tried = torch.ones_like(rows.step), rows.step
    rows.step[still] = tried[still]
    rows.direction = direction


def _advance(
    evaluate: Evaluation, rows: _Rows, history: _History, settings: _Settings, scale: float, found: _Found
) -> tuple[Tensor, Tensor]:
    """Try a step for every row; which of them took it, and which have ended their search at this c."""
    trial = torch.addcmul(rows.point, rows.direction, rows.step.unsqueeze(1))
    if settings.bounds is not None:
        trial.clamp_(*settings.bounds)
    loss, slope, reached = evaluate(trial, rows.target)
    found.evaluations[rows.index] += rows.alive
    r = trial - rows.x
    squares = _dot(r, r)
    before, _ = _penalty(settings, scale, rows.squares)
    after, factor = _penalty(settings, scale, squares)
    objective, objective_trial = rows.c * before + rows.loss, rows.c * after + loss
    gradient = slope.addcmul_(r, (rows.c * factor).unsqueeze(1))

    step, change, weight = history.next_pair()
    torch.sub(trial, rows.point, out=step)
    torch.sub(gradient, rows.gradient, out=change)
    promised, along, squared_change = _dot(rows.gradient, step), _dot(step, change), _dot(change, change)
    finite = loss.isfinite() & squared_change.isfinite()
    gained = objective - objective_trial
    took = finite & (gained >= -ENOUGH_DECREASE * promised) & (gained >= 0) & (promised < 0)
    teaches = took & (along > CURVATURE * squared_change)
    weight.copy_(torch.where(teaches, 1 / along, 0.0))
    rows.curvature = torch.where(teaches, along / squared_change, rows.curvature)
    if not bool(finite.all()):
        change[~finite] = 0.0  # a weight of 0 does not silence NaN

    nearer = (rows.alive & reached & finite & (squares < found.squares[rows.index])).nonzero().squeeze(1)
    found.x_adv[rows.index[nearer]] = trial[nearer]
    found.squares[rows.index[nearer]] = squares[nearer]

    stays = (~took).nonzero().squeeze(1)
    trial[stays], gradient[stays] = rows.point[stays], rows.gradient[stays]
    rows.point, rows.gradient = trial, gradient
    rows.loss = torch.where(took, loss, rows.loss)
    rows.squares = torch.where(took, squares, rows.squares)
    rows.reached = torch.where(took, reached, rows.reached)
    # Along the direction: the minimum of the parabola through value, slope and the value tried, within [0.1, 0.5].
    shrink = (promised / (2 * (promised + gained))).nan_to_num(0.5, 0.5, 0.5).clamp(0.1, 0.5)
    rows.step = torch.where(took, rows.step, rows.step * shrink)
    rows.halvings = torch.where(took, 0, rows.halvings + 1)
    rows.asked += 1
    size = torch.maximum(objective.abs(), objective_trial.abs()).clamp_min(1.0)
    flat = took & (gained <= settings.tolerance * size)
    ended = flat | (rows.halvings > MOST_HALVINGS) | (rows.asked >= settings.iterations)
    return took, ended & rows.alive


def _next_c(rows: _Rows, settled: Tensor, settings: _Settings, scale: float, found: _Found) -> None:
    """Give the settled rows their next c and starting point, or end their searches."""
    c, succeeded = rows.c[settled], rows.reached[settled]
    low, high = rows.c_low[settled], rows.c_high[settled]
    open_before = (low == 0) | high.isinf()
    low, high = torch.where(succeeded, c, low), torch.where(succeeded, high, c)
    rows.c_low[settled], rows.c_high[settled] = low, high

    good = settled[succeeded]
    found.c[rows.index[good]] = rows.c[good]
    _, factor = _penalty(settings, scale, rows.squares[good])
    r = rows.point[good] - rows.x[good]
    rows.start_slope[good] = torch.addcmul(rows.gradient[good], r, (rows.c[good] * factor).unsqueeze(1), value=-1)
    rows.start_point[good], rows.start_loss[good] = rows.point[good], rows.loss[good]
    rows.start_squares[good] = rows.squares[good]

    bracketed = (low > 0) & high.isfinite()
    tried = torch.where(bracketed & open_before, 0, rows.tried[settled] + 1)
    rows.tried[settled] = tried
    rows.alive[settled] = tried < torch.where(bracketed, settings.bisections, GEOMETRIC_STEPS)
    geometric = torch.where(succeeded, c * settings.growth, c / settings.growth)
    c = torch.where(bracketed, (low * high).sqrt(), geometric)
    rows.c[settled] = c

    rows.point[settled], rows.loss[settled] = rows.start_point[settled], rows.start_loss[settled]
    rows.squares[settled] = rows.start_squares[settled]
    _, factor = _penalty(settings, scale, rows.squares[settled])
    r = rows.point[settled] - rows.x[settled]
    rows.gradient[settled] = torch.addcmul(rows.start_slope[settled], r, (c * factor).unsqueeze(1))
    rows.reached[settled] = low > 0
    rows.asked[settled] = 0
    rows.halvings[settled] = 0


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner products of rows."""
    return torch.linalg.vecdot(a, b)


# Targets and results -------------------------------------------------------------------------------------------------


def _wrong_classes(y: Tensor, classes: int) -> Tensor:
    """All classes but each example's own, in order; (batch, classes - 1)."""
    others = torch.arange(classes - 1, device=y.device).expand(len(y), -1)
    return others + (others >= y.unsqueeze(1))


def _nearest(evaluate: Evaluation, x: Tensor, wrong: Tensor, settings: _Settings) -> BoxLBFGS:
    """The smallest of the perturbations to every class in ``wrong``."""
    batch, others = wrong.shape
    found = _minimised(evaluate, x.repeat_interleave(others, 0), wrong.flatten(), settings)
    best = found.squares.view(batch, others).argmin(1)
    rows = torch.arange(batch, device=x.device) * others + best
    total = found.evaluations.view(batch, others).sum(1)
    kept = _Found(found.x_adv[rows], found.squares[rows], found.c[rows], total)
    return _packed(x, wrong.flatten()[rows], kept)


def _packed(x: Tensor, target: Tensor, found: _Found) -> BoxLBFGS:
    x_adv = found.x_adv.to(x.dtype).reshape(x.shape)
    perturbation = x_adv - x
    success = found.squares.isfinite()
    distortion = torch.where(success, perturbation.flatten(1).square().mean(1).sqrt(), torch.nan)
    return BoxLBFGS(x_adv, perturbation, distortion, success, target, found.c.to(x.dtype), found.evaluations)


# Doors ---------------------------------------------------------------------------------------------------------------


def _device_of(generator: torch.Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device


def _check_settings(
    target: Tensor | str,
    penalty: str,
    bisections: int,
    growth: float,
    memory: int,
    iterations: int,
    tolerance: float,
    generator: torch.Generator | None,
) -> None:
    if not isinstance(target, Tensor) and target not in ("likeliest", "random", "nearest"):
        raise ValueError(
            "box_lbfgs: target must be one class number an example, or 'likeliest', 'random' or 'nearest', "
            f"got {target!r}"
        )
    if isinstance(target, str) and target == "random" and generator is None:
        raise ValueError("box_lbfgs: target='random' draws from generator=, got None; give a torch.Generator")
    if penalty not in ("norm", "squared"):
        raise ValueError(f"box_lbfgs: penalty must be 'norm' or 'squared', got {penalty!r}")
    for what, value, least in (("bisections", bisections, 0), ("memory", memory, 1), ("iterations", iterations, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"box_lbfgs: {what} must be a whole number >= {least}, got {value!r}")
    if not (math.isfinite(growth) and growth > 1):
        raise ValueError(f"box_lbfgs: growth must be above 1, got {growth}")
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise ValueError(f"box_lbfgs: tolerance must be above 0, got {tolerance}")
