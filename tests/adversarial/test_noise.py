import pytest
import torch

from claimwise.adversarial import sign_noise, uniform_noise


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_sign_noise_is_a_fair_coin_of_exact_size():
    x = torch.rand(50, 400)
    moved = sign_noise(x, epsilon=0.25, bounds=None, generator=seeded()) - x
    assert torch.allclose(moved.abs(), torch.full_like(x, 0.25), atol=1e-6)
    assert abs((moved > 0).float().mean().item() - 0.5) < 4 * 0.5 / 20_000**0.5  # four standard errors


def test_uniform_noise_has_the_moments_of_its_law():
    x = torch.zeros(50, 400)
    moved = uniform_noise(x, epsilon=0.3, bounds=None, generator=seeded())
    assert moved.abs().max() <= 0.3
    assert abs(moved.mean().item()) < 4 * 0.3 / 3**0.5 / 20_000**0.5
    assert moved.var().item() == pytest.approx(0.3**2 / 3, rel=0.03)


@pytest.mark.parametrize("noise", [sign_noise, uniform_noise])
def test_draws_only_from_the_generator(noise):
    x, state = torch.rand(3, 4), torch.random.get_rng_state()
    first, again, other = (noise(x, epsilon=0.1, generator=seeded(s)) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("noise", [sign_noise, uniform_noise])
def test_clips_takes_one_epsilon_an_example_and_keeps_the_dtype(noise):
    x = torch.rand(3, 40, dtype=torch.float64)
    moved = noise(x, epsilon=[0.0, 0.5, 2.0], generator=seeded())
    assert moved.dtype == torch.float64
    assert torch.equal(moved[0], x[0])
    assert 0 <= moved.min() <= moved.max() <= 1
    assert noise(x, epsilon=[0.0, 0.5, 2.0], bounds=None, generator=seeded())[2].abs().max() > 1


@pytest.mark.parametrize("noise", [sign_noise, uniform_noise])
@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused_by_name(noise):
    for x, epsilon, message in [
        (torch.zeros(2, 2), -1, "epsilon must be >= 0"),
        (torch.full((2, 2), 2.0), 0.1, "x must lie within bounds"),
        (torch.full((2, 2), float("nan")), 0.1, "x must be finite"),
    ]:
        with pytest.raises(ValueError, match=f"{noise.__name__}: {message}"):
            noise(x, epsilon=epsilon)
