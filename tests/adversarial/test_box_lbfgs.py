import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import fmin_l_bfgs_b
from torch import nn

from claimwise.adversarial import box_lbfgs

EXACTLY = {"bisections": 30, "tolerance": 1e-12}


def linear_case(examples=6, pixels=12, double=True):
    """Two classes, logits x @ w: example i needs w . r >= margin_i."""
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(pixels, 2, generator=generator, dtype=torch.float64 if double else torch.float32)
    x = 0.1 + 0.8 * torch.rand(examples, pixels, generator=generator, dtype=w.dtype)
    return (lambda x: x @ w), w, x, (x @ w).argmax(1)


def network(classes=4, pixels=20, double=True):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(pixels, 16), nn.Sigmoid(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, classes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model.double() if double else model


def images(count=10, pixels=20):
    """Uniform pixels of which half are black or white, so that bounds matter."""
    generator = torch.Generator().manual_seed(2)
    return (2 * torch.rand(count, pixels, generator=generator, dtype=torch.float64) - 0.5).clamp(0, 1)


# exact solutions


@pytest.mark.parametrize("penalty", ["norm", "squared"])
def test_linear_model_without_a_box_is_solved_by_projection(penalty):
    model, w, x, y = linear_case()
    found = box_lbfgs(model, x, y, bounds=None, penalty=penalty, **EXACTLY)
    logits = model(x)
    for i in range(len(x)):
        towards = w[:, 1 - y[i]] - w[:, y[i]]
        margin = (logits[i, y[i]] - logits[i, 1 - y[i]]).item()
        expected = margin * towards / towards.square().sum()
        assert (found.perturbation[i] - expected).abs().max() < 1e-5 * expected.abs().max()
        assert found.distortion[i].item() == pytest.approx(margin / towards.norm().item() / math.sqrt(12), rel=1e-5)


def test_c_is_the_largest_that_succeeds_and_not_the_smallest():
    """At the boundary of two classes the gradient of the cross-entropy is half the difference of their weights."""
    model, w, x, y = linear_case()
    found = box_lbfgs(model, x, y, bounds=None, **EXACTLY)
    assert torch.allclose(found.c, (w[:, 0] - w[:, 1]).norm().expand(6) / 2, rtol=1e-4)


@pytest.mark.parametrize("penalty", ["norm", "squared"])
def test_linear_model_with_active_bounds_is_solved_by_clipping_a_ray(penalty):
    """min ‖r‖ with w . r >= margin in a box: r = clamp(k w) for the k that reaches the margin (here by bisection)."""
    model, w, x, y = linear_case(pixels=12)
    x = ((x - 0.5) * 1.25).clamp(-0.25, 0.25) + 0.5
    x[:, ::3] = 0.0  # pixels with one way to go
    x[:, 1::3] = 1.0
    y = model(x).argmax(1)
    found = box_lbfgs(model, x, y, penalty=penalty, **EXACTLY)
    reachable = 0
    for i in range(len(x)):
        towards = w[:, 1 - y[i]] - w[:, y[i]]
        margin = -(x[i] @ towards).item()
        low, high = 0.0, 1e6
        for _ in range(200):
            k = (low + high) / 2
            r = (x[i] + k * towards).clamp(0, 1) - x[i]
            low, high = (k, high) if (r @ towards).item() < margin else (low, k)
        if (r @ towards).item() < margin - 1e-9:
            assert not found.success[i]
            continue
        reachable += 1
        assert found.success[i]
        assert (found.perturbation[i] - r).abs().max() < 1e-4 * r.abs().max()
        assert ((found.x_adv[i] == 0) | (found.x_adv[i] == 1)).any()  # else this tests no bounds
    assert reachable >= 3


# the slow twin


def one_by_one(model, x, target, penalty, bisections=8, growth=2.0, tolerance=1e-6, scale=1e-6):
    """SciPy's L-BFGS-B for one image with the same search on c; the smallest perturbation seen, and c."""
    origin = x.numpy()
    nearest = [math.inf]

    def ask(z):
        point = torch.tensor(z).unsqueeze(0).requires_grad_()
        logits = model(point)
        loss = F.cross_entropy(logits, target.unsqueeze(0))
        (gradient,) = torch.autograd.grad(loss, point)
        reached = logits.argmax().item() == target.item()
        if reached:
            nearest[0] = min(nearest[0], float(np.linalg.norm(z - origin)))
        return loss.item(), gradient[0].numpy(), reached

    loss, slope, reached = ask(origin)
    if reached:
        return 0.0, math.inf
    free = ((origin > 0) | (slope < 0)) & ((origin < 1) | (slope > 0))
    steepness = np.linalg.norm(slope[free])
    c = steepness / 4 if penalty == "norm" else steepness**2 / (8 * loss)
    low, high, start, tried = 0.0, math.inf, origin, 0
    while True:

        def objective(z, c=c):
            loss, slope, _ = ask(z)
            r = z - origin
            if penalty == "squared":
                return c * r @ r + loss, slope + 2 * c * r
            rounded = math.sqrt(r @ r + (scale**2) * len(r))
            return c * rounded + loss, slope + c * r / rounded

        z, _, _ = fmin_l_bfgs_b(objective, start, bounds=[(0, 1)] * len(origin), m=5, factr=tolerance / 2.2e-16)
        bracketed_before = low > 0 and high < math.inf
        if ask(z)[2]:
            low, start = c, z
        else:
            high = c
        bracketed = low > 0 and high < math.inf
        tried = 0 if bracketed and not bracketed_before else tried + 1
        if tried >= (bisections if bracketed else 12):
            return nearest[0], low
        c = math.sqrt(low * high) if bracketed else (c * growth if low else c / growth)


@pytest.mark.parametrize("penalty", ["norm", "squared"])
def test_is_as_near_as_scipy_run_example_by_example(penalty):
    model, x = network(), images()
    y = model(x).argmax(1)
    found = box_lbfgs(model, x, y, penalty=penalty)
    target = found.target
    expected = [one_by_one(model, x[i], target[i], penalty) for i in range(len(x))]
    norms = found.perturbation.norm(dim=1)
    assert found.success.tolist() == [math.isfinite(norm) for norm, _ in expected]
    reached = found.success.nonzero().flatten().tolist()
    assert len(reached) >= 8
    for i in reached:
        assert norms[i] <= expected[i][0] * 1.005  # searches that end by a relative decrease of 1e-6
    assert norms[reached].sum() <= 1.0005 * sum(expected[i][0] for i in reached)


def test_an_examples_search_does_not_depend_on_its_neighbours():
    model, x = network(), images(6)
    y = model(x).argmax(1)
    together = box_lbfgs(model, x, y)
    for i in range(len(x)):
        alone = box_lbfgs(model, x[i : i + 1], y[i : i + 1])
        assert alone.success[0] == together.success[i]
        # In double precision a batch adds up in another order, which searches of a hundred steps magnify a little.
        assert alone.distortion[0].item() == pytest.approx(together.distortion[i].item(), rel=1e-6)
        assert alone.c[0].item() == pytest.approx(together.c[i].item(), rel=1e-6, nan_ok=True)
        assert abs(int(alone.evaluations[0]) - int(together.evaluations[i])) <= 3
    assert len(set(together.evaluations.tolist())) > 1


# what is returned


def test_fields_belong_together():
    model, x = network(), images()
    y = model(x).argmax(1)
    found = box_lbfgs(model, x, y)
    assert torch.equal(found.x_adv - x, found.perturbation)
    assert torch.allclose(found.distortion, found.perturbation.square().mean(1).sqrt())
    assert found.success.all()
    assert (found.target != y).all()
    assert torch.equal(model(found.x_adv).argmax(1), found.target)
    assert found.x_adv.min() >= 0
    assert found.x_adv.max() <= 1


def test_keeps_the_shape_of_images():
    model = nn.Sequential(nn.Flatten(), network())
    x = images().reshape(10, 1, 4, 5)
    found = box_lbfgs(model, x, model(x).argmax(1))
    assert found.x_adv.shape == found.perturbation.shape == x.shape
    flat = box_lbfgs(model[1], x.flatten(1), model(x).argmax(1))
    assert torch.equal(found.x_adv.flatten(1), flat.x_adv)


def test_evaluations_are_counted_an_example():
    model, x = network(), images()
    rows = []

    def counted(inputs):
        rows.append(len(inputs))
        return model(inputs)

    found = box_lbfgs(counted, x, model(x).argmax(1))
    asked = sum(rows[1:])  # the first call asks for the classes alone
    assert 0.85 * asked < found.evaluations.sum().item() <= asked  # a tenth of the rows may be finished ones
    assert min(rows) < rows[1] == 10  # examples leave the batch


def test_is_pulled_back_to_the_boundary():
    """A little of the way back to x, and the class is another."""
    model, x = network(), images()
    found = box_lbfgs(model, x, model(x).argmax(1))
    assert (model(found.x_adv - 0.0002 * found.perturbation).argmax(1) != found.target).all()


def test_a_class_that_cannot_be_reached_is_a_failure_and_the_image_stays():
    def model(x):
        return torch.cat([x[:, :2], x[:, :1] * 0.01 - 100], 1)

    x = torch.tensor([[0.2, 0.9], [0.8, 0.3]])
    found = box_lbfgs(model, x, torch.tensor([1, 0]), target=torch.tensor([2, 1]))
    assert found.success.tolist() == [False, True]
    assert torch.equal(found.x_adv[0], x[0])
    assert found.distortion[0].isnan()
    assert found.c[0].isnan()


def test_an_image_already_of_the_class_needs_no_perturbation():
    x = torch.tensor([[0.2, 0.9], [0.8, 0.3]])
    found = box_lbfgs(lambda x: x, x, torch.tensor([0, 0]))
    assert found.target.tolist() == [1, 1]
    assert found.success.all()
    assert found.distortion[0] == 0
    assert found.c[0].isinf()
    assert found.evaluations[0] == 1
    assert torch.allclose(found.x_adv[1], torch.tensor([0.55, 0.55]), atol=1e-3)


def test_rules_for_the_target():
    model, x = network(), images(6)
    y = model(x).argmax(1)
    likeliest = box_lbfgs(model, x, y, iterations=40)
    assert torch.equal(likeliest.target, model(x).topk(2).indices[:, 1])
    draws = [
        box_lbfgs(model, x, y, target="random", bisections=0, generator=torch.Generator().manual_seed(k))
        for k in (0, 0, 1)
    ]
    assert torch.equal(draws[0].target, draws[1].target)
    assert not torch.equal(draws[0].target, draws[2].target)
    assert all((draw.target != y).all() for draw in draws)
    nearest = box_lbfgs(model, x, y, target="nearest", iterations=40)
    each = torch.stack(
        [box_lbfgs(model, x, y, target=torch.full_like(y, k), iterations=40).distortion for k in range(4)], 1
    )
    others = each.masked_fill(F.one_hot(y, 4).bool(), math.inf).nan_to_num(math.inf)
    assert torch.allclose(nearest.distortion, others.min(1).values, rtol=1e-4)
    assert (nearest.distortion <= likeliest.distortion * (1 + 1e-6)).all()
    assert nearest.evaluations.min() > likeliest.evaluations.min()


def test_random_targets_are_even():
    x = torch.rand(600, 3, generator=torch.Generator().manual_seed(0))
    y = torch.full((600,), 1)
    found = box_lbfgs(lambda x: x, x, y, target="random", bisections=0, generator=torch.Generator().manual_seed(0))
    counts = found.target.bincount(minlength=3).tolist()
    assert counts[1] == 0
    assert abs(counts[0] - 300) < 60  # five standard deviations


def test_a_loss_of_ones_own():
    model, x = network(), images()
    y = model(x).argmax(1)
    expected = box_lbfgs(model, x, y)
    found = box_lbfgs(model, x, y, loss=lambda z, t: F.cross_entropy(z, t, reduction="none"))
    assert torch.equal(found.x_adv, expected.x_adv)
    other = box_lbfgs(model, x, y, loss=lambda z, t: F.multi_margin_loss(z, t, reduction="none"))
    assert other.success.float().mean() >= 0.9
    assert not torch.equal(other.x_adv, expected.x_adv)


def test_more_bisections_come_nearer():
    model, x = network(), images()
    y = model(x).argmax(1)
    means = [box_lbfgs(model, x, y, bisections=k).distortion.mean().item() for k in (0, 3, 10)]
    assert means[0] > means[1] > means[2]


# state


class Fails(nn.Module):
    def forward(self, x):
        raise RuntimeError("on purpose")


@pytest.mark.parametrize("fails", [False, True])
def test_leaves_the_model_as_it_was(digits_like, fails):
    model, x, y = digits_like
    model[1].eval()  # modes differ among the modules
    if fails:
        model.append(Fails())
    F.cross_entropy(model[:6](x), y).backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model[0].weight.requires_grad_(False)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    generator_state, kept = torch.random.get_rng_state(), x.clone()
    if fails:
        with pytest.raises(RuntimeError, match="on purpose"):
            box_lbfgs(model, x, y)
    else:
        assert not box_lbfgs(model, x, y).x_adv.requires_grad
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert [p.requires_grad for p in model.parameters()] == [False] + [True] * 5
    assert torch.equal(torch.random.get_rng_state(), generator_state)
    assert torch.equal(x, kept)


def test_as_is_attacks_the_model_in_its_training_mode(digits_like):
    model, x, y = digits_like
    before = model[1].running_mean.clone()
    box_lbfgs(model, x, y, mode="as-is", bisections=0, iterations=5)
    assert not torch.equal(model[1].running_mean, before)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(context):
    model, x = network(), images()
    y = model(x).argmax(1)
    target = box_lbfgs(model, x, y, bisections=0).target
    expected = box_lbfgs(model, x, y, target=target)
    with context():
        found = box_lbfgs(model, x.clone(), y.clone(), target=target.clone())
    assert torch.equal(found.x_adv, expected.x_adv)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_keeps_the_dtype(dtype):
    model, x = network().to(dtype), images().to(dtype)
    found = box_lbfgs(model, x, model(x).argmax(1))
    assert found.x_adv.dtype == found.distortion.dtype == found.c.dtype == dtype
    assert torch.equal(model(found.x_adv).argmax(1) == found.target, found.success)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda():
    model, x = network(), images()
    y = model(x).argmax(1)
    expected = box_lbfgs(model, x, y)
    found = box_lbfgs(model.cuda(), x.cuda(), y.cuda())
    assert torch.allclose(found.distortion.cpu(), expected.distortion, rtol=1e-4)


def test_compiled_model():
    model, x = network(), images(4)
    y = model(x).argmax(1)
    compiled = torch.compile(model, backend="aot_eager", dynamic=True)
    expected = box_lbfgs(model, x, y, bisections=0)
    assert torch.allclose(box_lbfgs(compiled, x, y, bisections=0).distortion, expected.distortion, rtol=1e-6)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["norm", "squared"]), st.sampled_from(["likeliest", "nearest"]))
def test_stays_in_the_box_and_tells_success(seed, penalty, target):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.rand(3, 6, generator=generator).round(decimals=0), torch.randint(4, (3,), generator=generator)
    weight = torch.randn(6, 4, generator=generator)
    found = box_lbfgs(
        lambda x: torch.tanh(x @ weight), x, y, target=target, penalty=penalty, bisections=3, iterations=15
    )
    assert 0 <= found.x_adv.min() <= found.x_adv.max() <= 1
    assert torch.equal((torch.tanh(found.x_adv @ weight)).argmax(1) == found.target, found.success)
    assert torch.equal(found.distortion.isnan(), ~found.success)
    assert torch.equal(found.x_adv[~found.success], x[~found.success])
    assert (found.target != y).all()


def test_empty_batch():
    model, x = network(), images()
    found = box_lbfgs(model, x[:0], torch.zeros(0, dtype=torch.long))
    assert found.x_adv.shape == (0, 20)
    assert found.success.shape == found.c.shape == (0,)


@pytest.mark.usefixtures("unchecked")
class TestDoors:
    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"bounds": (1.0, 0.0)}, ValueError, r"box_lbfgs: bounds must be \(low, high\).*got \(1.0, 0.0\)"),
            ({"bounds": (0.0, 0.5)}, ValueError, r"x must lie within bounds \(0.0, 0.5\)"),
            ({"x": torch.full((7, 1, 8, 8), 1.5)}, ValueError, r"x must lie within bounds \(0.0, 1.0\)"),
            ({"x": torch.full((7, 1, 8, 8), float("nan"))}, ValueError, r"x must be finite, got NaN"),
            ({"x": torch.zeros(7, 1, 8, 8, dtype=torch.uint8)}, TypeError, r"x must be floating point"),
            ({"y": torch.tensor([0, 1, 2, 3, 4, 5, 0])}, ValueError, r"labels must be in 0..4 .* from 0 to 5"),
            ({"y": torch.zeros(7)}, TypeError, r"y must hold integer class numbers"),
            ({"target": torch.full((7,), 5)}, ValueError, r"target: labels must be in 0..4 .* from 5 to 5"),
            ({"target": torch.full((7,), -1)}, ValueError, r"target: labels must be in 0..4"),
            ({"target": torch.zeros(6).long()}, ValueError, r"target: .*shape \(7,\), got shape \(6,\)"),
            ({"target": torch.zeros(7)}, TypeError, r"target: y must hold integer"),
            ({"target": "worst"}, ValueError, r"or 'likeliest', 'random' or 'nearest', got 'worst'"),
            ({"target": 3}, ValueError, r"one class number an example, .* got 3"),
            ({"target": "random"}, ValueError, r"target='random' draws from generator="),
            ({"penalty": "l1"}, ValueError, r"penalty must be 'norm' or 'squared', got 'l1'"),
            ({"bisections": -1}, ValueError, r"bisections must be a whole number >= 0, got -1"),
            ({"memory": 0}, ValueError, r"memory must be a whole number >= 1, got 0"),
            ({"iterations": 2.5}, ValueError, r"iterations must be a whole number >= 1, got 2.5"),
            ({"growth": 1.0}, ValueError, r"growth must be above 1, got 1.0"),
            ({"tolerance": float("nan")}, ValueError, r"tolerance must be above 0, got nan"),
            ({"mode": "train"}, ValueError, r"mode must be 'eval' or 'as-is', got 'train'"),
            ({"model": lambda x: x.detach()[:, 0, 0, :5]}, ValueError, r"the loss does not depend on x"),
            ({"model": lambda x: x[:, 0, 0, 0]}, ValueError, r"logits of shape \(batch, classes\).*got \(7,\)"),
            ({"model": lambda x: x[:, 0, 0, :5] / 0}, ValueError, r"logits are not finite for 7 of 7 examples"),
            ({"model": lambda x: x[:, 0, 0, :1], "y": torch.zeros(7).long()}, ValueError, r"at least 2 classes, got 1"),
            ({"loss": F.cross_entropy}, ValueError, r"loss must give one value an example, shape \(7,\), got \(\)"),
            ({"loss": lambda z, t: (z[:, 0] - z[:, 0]).sqrt()}, ValueError, r"its gradient is not finite at x"),
        ],
    )
    def test_bad_input_is_refused_by_name(self, digits_like, change, error, message):
        model, x, y = digits_like
        given = {"model": model, "x": x, "y": y} | change
        with pytest.raises(error, match=message):
            box_lbfgs(given.pop("model"), given.pop("x"), given.pop("y"), **given)

    def test_a_target_is_named_as_such(self, digits_like):
        model, x, y = digits_like
        with pytest.raises(ValueError, match=r"box_lbfgs: target: "):
            box_lbfgs(model, x, y, target=y + 5)
