import pytest
import torch
from torch import nn

from claimwise.adversarial import fooling_ascent


def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 9), nn.Tanh(), nn.Dropout(0.4), nn.Linear(9, 3)).double()
    with torch.no_grad():
        model[4].weight.mul_(4)
    return model


def ascent_by_loops(model, label, x, steps, step_size, decay, centre, bounds, objective):
    """One image, gradient by central differences, double precision; all images on the way and their probabilities."""
    model.eval()

    def value(x):
        logits = model(x[None])[0]
        if objective == "logit":
            return logits[label].item()
        p = logits.softmax(0)[label]
        return p.item() if objective == "probability" else p.log().item()

    def probability(x):
        return model(x[None])[0].softmax(0)[label].item()

    path, confidence = [x.clone()], [probability(x)]
    for _ in range(steps):
        gradient = torch.zeros_like(x)
        for pixel in range(x.numel()):
            up, down = x.clone(), x.clone()
            up.view(-1)[pixel] += 1e-5
            down.view(-1)[pixel] -= 1e-5
            gradient.view(-1)[pixel] = (value(up) - value(down)) / 2e-5
        if step_size == "progress":
            alpha = min(1e12, min(0.03, 0.1 * (1 - confidence[-1])) / (gradient**2).sum().item())
        else:
            alpha = step_size
        x = x + alpha * gradient
        x = centre + (1 - decay) * (x - centre)
        if bounds is not None:
            x = x.clamp(*bounds)
        path.append(x.clone())
        confidence.append(probability(x))
    return path, confidence


@torch.no_grad()
@pytest.mark.parametrize("objective", ["probability", "log-probability", "logit"])
@pytest.mark.parametrize(("decay", "centre", "bounds"), [(0.0, 0.0, (0.0, 1.0)), (0.05, 0.4, None)])
def test_is_the_loop(objective, decay, centre, bounds):
    model = network()
    x0 = torch.rand(3, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for step_size in (0.2, "progress") if objective == "probability" else (0.2,):
        found = fooling_ascent(
            model,
            [2, 0, 1],
            x0,
            steps=6,
            step_size=step_size,
            decay=decay,
            centre=centre,
            bounds=bounds,
            objective=objective,
        )
        for row, label in enumerate([2, 0, 1]):
            path, confidence = ascent_by_loops(model, label, x0[row], 6, step_size, decay, centre, bounds, objective)
            assert found.history[:, row].tolist() == pytest.approx(confidence, abs=1e-6)
            best = max(range(7), key=confidence.__getitem__)
            torch.testing.assert_close(found.images[row], path[best], rtol=0, atol=1e-6)
            assert found.confidence[row].item() == pytest.approx(confidence[best], abs=1e-6)


def test_reaches_every_class_from_one_image():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    nn.init.normal_(model[1].weight, std=0.5)
    found = fooling_ascent(model, torch.arange(10), torch.full((1, 8, 8), 0.5), steps=300, step_size=1.0)
    assert found.images.shape == (10, 8, 8)
    assert (found.images >= 0).all()
    assert (found.images <= 1).all()
    assert (found.confidence > 0.9).all()
    torch.testing.assert_close(model(found.images).softmax(1).diagonal().detach(), found.confidence)
    assert torch.equal(found.history.amax(0).float(), found.confidence)


def test_returns_the_best_image_on_the_way():
    # a step this long overshoots the summit at one half
    found = fooling_ascent(
        lambda x: torch.cat([-20 * (x - 0.5) ** 2, 0 * x], 1),
        [0],
        torch.tensor([[0.45]]),
        steps=1,
        step_size=1.0,
        bounds=None,
    )
    assert found.history[1, 0] < found.history[0, 0]
    assert found.images.item() == pytest.approx(0.45)
    assert found.confidence.item() == pytest.approx(found.history[0, 0].item())


def test_decay_alone_pulls_to_the_centre():
    model = lambda x: 0 * x.flatten(1)[:, :2]  # noqa: E731
    centre = torch.full((2, 2), 0.25, dtype=torch.float64)
    x0 = torch.rand(1, 2, 2, dtype=torch.float64)
    seen = []
    fooling_ascent(
        lambda x: seen.append(x.detach()) or model(x), [0], x0, steps=4, step_size=1.0, decay=0.5, centre=centre
    )
    torch.testing.assert_close(seen[-1] - centre, (x0 - centre) / 16)


def test_no_steps_evaluates_the_start():
    found = fooling_ascent(lambda x: x, [1, 0], torch.tensor([[0.0, 0.0], [0.5, 0.1]]), steps=0, step_size=1.0)
    assert found.history.shape == (1, 2)
    assert found.confidence[0].item() == 0.5


def test_leaves_the_model_and_the_start_alone(digits_like):
    model, x, y = digits_like
    before, start = {name: value.clone() for name, value in model.state_dict().items()}, x.clone()
    fooling_ascent(model, y, x, steps=3, step_size=0.1)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(x, start)


X = torch.full((2, 3), 0.5)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fooling_ascent(lambda x: x, [0], X[:1], steps=-1, step_size=1.0), "steps must be .* got -1"),
        (lambda: fooling_ascent(lambda x: x, [0], X[:1], steps=1, step_size=0.0), "step_size must be finite and > 0"),
        (lambda: fooling_ascent(lambda x: x, [0], X[:1], steps=1, step_size="fast"), "step_size must be .* 'fast'"),
        (lambda: fooling_ascent(lambda x: x, [0], X[:1], steps=1, step_size=1.0, decay=2.0), "decay must be a prob"),
        (lambda: fooling_ascent(lambda x: x, [3], X[:1], steps=1, step_size=1.0), r"labels must be in 0\.\.2"),
        (lambda: fooling_ascent(lambda x: x, [], X, steps=1, step_size=1.0), "classes must be one class number"),
        (lambda: fooling_ascent(lambda x: x, [0, 1, 2], X, steps=1, step_size=1.0), "got 2 images and 3 classes"),
        (lambda: fooling_ascent(lambda x: x, [0, 1], X, steps=1, step_size=1.0, bounds=(1, 0)), "low < high"),
        (lambda: fooling_ascent(lambda x: x, [0, 1], X + 1, steps=1, step_size=1.0), "must lie within bounds"),
        (lambda: fooling_ascent(lambda x: x, [0, 1], X * torch.nan, steps=1, step_size=1.0), "must be finite"),
        (lambda: fooling_ascent(lambda x: x * torch.nan, [0, 1], X, steps=1, step_size=1.0), "probabilities are NaN"),
        (lambda: fooling_ascent(lambda x: x.detach(), [0, 1], X, steps=1, step_size=1.0), "does not depend on x0"),
        (lambda: fooling_ascent(lambda x: x, [0], X, steps=1, step_size=1.0, objective="p"), "objective must be"),
        (
            lambda: fooling_ascent(lambda x: x, [0], X[:1], steps=1, step_size="progress", objective="logit"),
            "'progress' is for objective 'probability', got 'logit'",
        ),
        (lambda: fooling_ascent(lambda x: x, [0], X[:1], steps=1, step_size=1.0, centre=torch.nan), "centre must be"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=f"fooling_ascent: .*{message}"):
        call()
