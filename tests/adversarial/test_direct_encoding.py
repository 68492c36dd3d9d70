import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from claimwise.adversarial import DirectEncoding, hsv_to_rgb
from claimwise.adversarial.direct_encoding import simulated_binary_crossover
from claimwise.adversarial.genomes import polynomial_step


def polynomial_twin(r, eta):
    """Deb's formula, as Sferes2 writes it."""
    if r < 0.5:
        return math.pow(2.0 * r, 1.0 / (eta + 1.0)) - 1.0
    return 1.0 - math.pow(2.0 * (1.0 - r), 1.0 / (eta + 1.0))


def crossover_twin(first, second, u, eta):
    """Deb's bounded crossover of one gene, step by step."""
    a, b = min(first, second), max(first, second)
    if b - a <= torch.finfo(torch.float64).eps:
        return first, second
    children = []
    for beta, sign in ((1.0 + 2.0 * a / (b - a), -1.0), (1.0 + 2.0 * (1.0 - b) / (b - a), 1.0)):
        alpha = 2.0 - math.pow(beta, -(eta + 1.0))
        if u <= 1.0 / alpha:
            spread = math.pow(u * alpha, 1.0 / (eta + 1.0))
        else:
            spread = math.pow(1.0 / (2.0 - u * alpha), 1.0 / (eta + 1.0))
        children.append(min(max(0.5 * ((a + b) + sign * spread * (b - a)), 0.0), 1.0))
    return children[0], children[1]


@pytest.mark.parametrize("eta", [0.0, 2.0, 15.0])
def test_polynomial_step_is_debs(eta):
    r = torch.rand(500, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.tensor([polynomial_twin(value, eta) for value in r.tolist()], dtype=torch.float64)
    torch.testing.assert_close(polynomial_step(r, eta), expected, rtol=0, atol=1e-14)


def test_mean_step_is_one_over_eta_plus_two():
    # E|delta| = 1 - (eta + 1) / (eta + 2), from integrating the formula
    r = torch.rand(200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert polynomial_step(r, 15.0).abs().mean().item() == pytest.approx(1 / 17, rel=0.02)
    assert abs(polynomial_step(r, 15.0).mean().item()) < 1e-3


@pytest.mark.parametrize("eta", [1.0, 10.0])
def test_crossover_is_debs(eta):
    generator = torch.Generator().manual_seed(0)
    first, second, u = torch.rand(3, 400, dtype=torch.float64, generator=generator)
    second[:20] = first[:20]
    first[20:30], second[30:40] = 0.0, 1.0
    low, high = simulated_binary_crossover(first, second, u, eta)
    expected = [crossover_twin(*genes, eta) for genes in zip(*(v.tolist() for v in (first, second, u)), strict=True)]
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(torch.stack([low, high], 1), expected, rtol=0, atol=1e-13)


def test_mutation_changes_the_share_of_genes_that_the_rate_names():
    encoding = DirectEncoding((100, 100), mutation_rate=0.1, halve_every=3)
    generator = torch.Generator().manual_seed(0)
    genomes = 0.25 + 0.5 * encoding.initial(20, generator=generator)
    for generation, rate in ((0, 0.1), (2, 0.1), (3, 0.05), (7, 0.025)):
        assert encoding.rate(generation) == rate
        changed = (encoding.mutate(genomes.clone(), generation=generation, generator=generator) != genomes).double()
        assert changed.mean().item() == pytest.approx(rate, rel=0.05)


def test_pairs_are_crossed_or_copied():
    encoding = DirectEncoding((50,), crossover=0.5, mutation_rate=0.0)
    generator = torch.Generator().manual_seed(0)
    parents = encoding.initial(2000, generator=generator)
    first, second = parents[:1000], parents[1000:]
    children = encoding.offspring(first, second, generation=0, generator=generator)
    copied = (children[:1000] == first).all(1) & (children[1000:] == second).all(1)
    assert copied.double().mean().item() == pytest.approx(0.5, abs=0.06)
    # away from the box's ends a crossed pair keeps its mean
    inner = (first > 0.3) & (first < 0.7) & (second > 0.3) & (second < 0.7)
    torch.testing.assert_close((children[:1000] + children[1000:])[inner], (first + second)[inner], rtol=0, atol=1e-3)
    # which child is the lower is a coin's choice, gene by gene
    lower = ((children[:1000] < children[1000:]) == (first < second))[~copied].double().mean().item()
    assert lower == pytest.approx(0.5, abs=0.02)


def test_papers_text_has_no_crossover_and_halves_the_rate():
    encoding = DirectEncoding((4, 4), halve_every=1000, crossover=0.0)
    parents = encoding.initial(6, generator=torch.Generator().manual_seed(0))
    children = encoding.cross(parents, parents.flip(0), generator=torch.Generator().manual_seed(1))
    assert torch.equal(children, torch.cat([parents, parents.flip(0)]))
    assert (encoding.rate(999), encoding.rate(1000), encoding.rate(2500)) == (0.1, 0.05, 0.025)


def test_parents_are_not_changed():
    encoding = DirectEncoding((30,), mutation_rate=1.0)
    parents = encoding.initial(10, generator=torch.Generator().manual_seed(0))
    before = parents.clone()
    encoding.offspring(parents, parents.flip(0), generation=0, generator=torch.Generator().manual_seed(0))
    assert torch.equal(parents, before)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 1000),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 100),
    st.floats(0, 100),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_genes_stay_in_the_box(seed, rate, crossover, eta_mutation, eta_crossover, spread):
    encoding = DirectEncoding(
        (3, 5), mutation_rate=rate, crossover=crossover, eta_mutation=eta_mutation, eta_crossover=eta_crossover
    )
    generator = torch.Generator().manual_seed(seed)
    genomes = (encoding.initial(6, generator=generator) * spread).round(decimals=1)
    for generation in range(3):
        genomes = encoding.offspring(genomes[:3], genomes[3:6], generation=generation, generator=generator)
        assert ((genomes >= 0) & (genomes <= 1)).all()


def test_draws_come_from_the_generator_alone():
    encoding = DirectEncoding((5, 5))
    state = torch.random.get_rng_state()
    runs = []
    for _ in range(2):
        generator = torch.Generator().manual_seed(3)
        parents = encoding.initial(8, generator=generator)
        runs.append(encoding.offspring(parents[:4], parents[4:], generation=0, generator=generator))
    assert torch.equal(*runs)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_hsv_genes_render_as_rgb():
    encoding = DirectEncoding((3, 4, 4), hsv=True)
    genomes = encoding.initial(2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(encoding.render(genomes), hsv_to_rgb(genomes))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DirectEncoding(()), "shape must have at least one dimension"),
        (lambda: DirectEncoding((0, 3)), "sizes of shape must be a whole number of at least 1, got 0"),
        (lambda: DirectEncoding((3,), mutation_rate=1.1), r"mutation_rate must be a probability in \[0, 1\], got 1.1"),
        (lambda: DirectEncoding((3,), crossover=-0.1), r"crossover must be a probability in \[0, 1\], got -0.1"),
        (lambda: DirectEncoding((3,), crossover=float("nan")), "crossover must be a probability"),
        (lambda: DirectEncoding((3,), eta_mutation=-1), "eta_mutation must be finite and >= 0"),
        (lambda: DirectEncoding((3,), halve_every=0), "halve_every .* at least 1, got 0"),
        (lambda: DirectEncoding((1, 4, 4), hsv=True), r"hsv needs shape \(3, height, width\)"),
        (lambda: DirectEncoding((3,)).initial(0, generator=torch.Generator()), "count must be"),
        (lambda: DirectEncoding((3,)).render(torch.zeros(2, 4)), r"genomes must have shape \(n, \*\(3,\)\)"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=f"DirectEncoding: {message}"):
        call()
