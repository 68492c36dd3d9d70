import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from claimwise.adversarial import CPPNEncoding, DirectEncoding, Encoding, MapElites, class_probabilities, fool
from claimwise.lab.state import load_state, restore, save_state


def linear_model(classes=4, pixels=36, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes))


def evolution(encoding=None, seed=0, **settings):
    settings = {"classes": 4, "population": 12, "initial": 10} | settings
    encoding = encoding or DirectEncoding((6, 6))
    generator = torch.Generator().manual_seed(seed)
    return MapElites(class_probabilities(linear_model()), encoding, generator=generator, **settings)


def champions_by_loops(champions, offspring, scores):
    """The authors' loop: offspring one after the other, each tried in every class; strictly better replaces."""
    for individual, row in zip(offspring, scores, strict=True):
        for label, score in enumerate(row):
            if champions[label] is None or score > champions[label][0]:
                champions[label] = (score, individual)
    return champions


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_champions_are_those_of_the_loop(data):
    classes, population = data.draw(st.integers(1, 5)), 2 * data.draw(st.integers(1, 6))
    # few different scores, so that equal ones are common
    table = st.lists(
        st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=classes, max_size=classes),
        min_size=population,
        max_size=population,
    )
    seen, given_scores = [], []

    def score(images):
        given_scores.append(data.draw(table))
        seen.append(images[:, 0].tolist())
        return torch.tensor(given_scores[-1])

    found = MapElites(
        score,
        DirectEncoding((1,), mutation_rate=1.0),
        classes=classes,
        population=population,
        initial=population,
        generator=torch.Generator().manual_seed(0),
    )
    for _ in range(4):
        found.step()
    champions = [None] * classes
    for images, scores in zip(seen, given_scores, strict=True):
        champions = champions_by_loops(champions, images, scores)
    assert found.confidence.tolist() == [score for score, _ in champions]
    assert found.genomes[:, 0].tolist() == [individual for _, individual in champions]


@pytest.mark.parametrize("encoding", [DirectEncoding((6, 6)), CPPNEncoding((6, 6))], ids=["direct", "cppn"])
@pytest.mark.parametrize("goal_switching", [True, False])
def test_confidence_never_falls_and_is_the_models_own(encoding, goal_switching):
    found = evolution(encoding, goal_switching=goal_switching)
    before = found.confidence
    for generation in range(15):
        progress = found.step()
        assert (found.confidence >= before).all()
        before = found.confidence
        assert (found.generation, found.evaluations) == (generation + 1, 10 + 12 * (generation + 1))
        assert progress["median"] == pytest.approx(found.confidence.quantile(0.5).item())
        assert progress["min"] == pytest.approx(found.confidence.min().item())
    elites = found.elites
    torch.testing.assert_close(
        linear_model()(elites.images).softmax(1).diagonal(), elites.confidence, rtol=1e-5, atol=1e-6
    )
    assert elites.history.shape == (16, 4)
    assert torch.equal(elites.history[-1], elites.confidence.double())
    assert (elites.history[-1] > elites.history[0]).all()


def test_parents_are_champions_drawn_uniformly():
    drawn = []

    class Recording(DirectEncoding):
        def offspring(self, first, second, *, generation, generator):
            drawn.extend([*first[:, 0].tolist(), *second[:, 0].tolist()])
            assert generation == len(drawn) // 1000 - 1
            return torch.cat([first, second])

    encoding = Recording((1,))
    assert isinstance(encoding, Encoding)
    found = MapElites(
        lambda x: torch.cat([x, 1 - x, (x - 0.5).abs(), -(x - 0.5).abs()], 1),
        encoding,
        classes=4,
        population=1000,
        initial=50,
        generator=torch.Generator().manual_seed(0),
    )
    champions = found.genomes[:, 0].tolist()
    for _ in range(4):
        found.step()
    for champion in set(champions):
        share = champions.count(champion) / 4
        # 4 standard deviations
        assert drawn.count(champion) / 4000 == pytest.approx(share, abs=4 * (share * (1 - share) / 4000) ** 0.5)
    assert set(drawn) == set(champions)


def test_without_goal_switching_a_lineage_stays_in_its_class():
    class Labelled(DirectEncoding):
        """Genomes that carry the number of their first ancestor."""

        def initial(self, count, *, generator, device=None):
            return torch.arange(count, dtype=torch.float32)[:, None]

        def offspring(self, first, second, *, generation, generator):
            assert torch.equal(first, second)
            return torch.cat([first, second])

    noise = torch.Generator().manual_seed(1)
    found = MapElites(
        lambda x: torch.rand(len(x), 3, generator=noise),
        Labelled((1,)),
        classes=3,
        population=20,
        initial=9,
        generator=torch.Generator().manual_seed(0),
        goal_switching=False,
    )
    for _ in range(10):
        found.step()
        assert (found.genomes[:, 0] % 3).tolist() == [0, 1, 2]
    assert found.evaluations == 9 + 200


@pytest.mark.parametrize("encoding", [DirectEncoding((6, 6), halve_every=3), CPPNEncoding((6, 6))])
@pytest.mark.parametrize("at", [0, 1, 7])
def test_resumes_to_the_same_bits(tmp_path, encoding, at):
    whole = evolution(encoding)
    for _ in range(12):
        whole.step()
    state = {"evolution": evolution(encoding)}
    for _ in range(at):
        state["evolution"].step()
    save_state(tmp_path / "state", state)
    del state
    resumed = restore({"evolution": evolution(encoding, seed=99)}, load_state(tmp_path / "state"))["evolution"]
    for _ in range(12 - at):
        resumed.step()
    for one, other in zip(
        [whole.genomes] if isinstance(whole.genomes, torch.Tensor) else whole.genomes,
        [resumed.genomes] if isinstance(resumed.genomes, torch.Tensor) else resumed.genomes,
        strict=True,
    ):
        assert torch.equal(one, other)
    assert type(whole.genomes) is type(resumed.genomes)
    assert torch.equal(whole.elites.history, resumed.elites.history)
    assert torch.equal(whole.elites.images, resumed.elites.images)
    assert (whole.generation, whole.evaluations) == (resumed.generation, resumed.evaluations)
    assert torch.equal(whole.generator.get_state(), resumed.generator.get_state())


def test_a_state_of_other_settings_is_refused():
    state = evolution().state_dict()
    with pytest.raises(ValueError, match="saved champions have shapes"):
        evolution(CPPNEncoding((6, 6))).load_state_dict(state)
    fewer = MapElites(
        lambda x: x.flatten(1)[:, :3], DirectEncoding((6, 6)), classes=3, generator=torch.Generator().manual_seed(0)
    )
    with pytest.raises(
        ValueError, match=r"have shapes \[\(4, 6, 6\)\], this encoding's with 3 classes \[\(3, 6, 6\)\]"
    ):
        fewer.load_state_dict(state)


def test_a_state_is_not_changed_by_going_on():
    found = evolution()
    state = found.state_dict()
    again = evolution()
    again.load_state_dict(state)
    before = [state["genomes"][0].clone(), state["confidence"].clone(), state["history"].clone()]
    again.step()
    after = [state["genomes"][0], state["confidence"], state["history"]]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_goal_switching_helps_where_one_class_is_a_stepping_stone():
    # Class 1 pays only near the top of class 0's slope: from noise there is nothing to climb to.
    def score(images):
        mean = images.mean(1)
        return torch.stack([mean, (mean > 0.8).float() * mean], 1)

    def best(goal_switching):
        found = MapElites(
            score,
            DirectEncoding((30,)),
            classes=2,
            population=20,
            initial=20,
            generator=torch.Generator().manual_seed(0),
            goal_switching=goal_switching,
        )
        for _ in range(60):
            found.step()
        return found.confidence[1].item()

    assert best(True) > 0.8
    assert best(False) == 0


def test_fool_is_map_elites_and_leaves_the_model_alone(digits_like):
    model, _, _ = digits_like
    before = {name: value.clone() for name, value in model.state_dict().items()}
    elites = fool(
        model,
        DirectEncoding((1, 8, 8)),
        classes=5,
        generations=6,
        population=10,
        initial=10,
        generator=torch.Generator().manual_seed(0),
    )
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    found = MapElites(
        class_probabilities(model),
        DirectEncoding((1, 8, 8)),
        classes=5,
        population=10,
        initial=10,
        generator=torch.Generator().manual_seed(0),
    )
    for _ in range(6):
        found.step()
    assert torch.equal(elites.images, found.elites.images)
    assert torch.equal(elites.history, found.elites.history)


def test_scores_in_batches_are_those_at_once():
    x = torch.rand(10, 6, 6)
    model = linear_model()
    torch.testing.assert_close(class_probabilities(model, batch_size=3)(x), class_probabilities(model)(x))
    torch.testing.assert_close(class_probabilities(model, probabilities=torch.sigmoid)(x), model(x).detach().sigmoid())


GENERATOR = torch.Generator()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"classes": 0}, ValueError, "classes must be a whole number of at least 1, got 0"),
        ({"population": 7}, ValueError, r"population must be even \(two children a pair\), got 7"),
        ({"population": 0}, ValueError, "population must be a whole number of at least 2"),
        ({"initial": 0}, ValueError, "initial must be"),
        ({"goal_switching": False, "population": 6}, ValueError, "population >= 8 and initial >= 4, got 6 and 10"),
        ({"goal_switching": False, "initial": 3}, ValueError, "population >= 8 and initial >= 4, got 12 and 3"),
        ({"classes": 3}, ValueError, r"score must return \(images, classes\) = \(10, 3\), got \(10, 4\)"),
    ],
)
def test_bad_settings_are_refused_by_name(settings, error, message):
    with pytest.raises(error, match=f"MapElites: .*{message}"):
        evolution(**settings)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("score", "error", "message"),
    [
        (lambda x: torch.full((len(x), 2), float("nan")), ValueError, "scores must be finite, got NaN"),
        (lambda x: torch.full((len(x), 2), float("inf")), ValueError, "scores must be finite, got infinite"),
        (lambda x: torch.zeros(len(x)), ValueError, r"got \(4,\)"),
        (lambda x: torch.zeros(len(x), 2).long(), TypeError, "floating-point tensor, got torch.int64"),
        (lambda x: [0.0], TypeError, "floating-point tensor, got list"),
    ],
)
def test_bad_scores_are_refused_by_name(score, error, message):
    with pytest.raises(error, match=f"MapElites: .*{message}"):
        MapElites(score, DirectEncoding((2,)), classes=2, population=4, initial=4, generator=GENERATOR)


@pytest.mark.usefixtures("unchecked")
def test_other_bad_input_is_refused_by_name():
    with pytest.raises(ValueError, match=r"class_probabilities: batch_size .* got 0"):
        class_probabilities(linear_model(), batch_size=0)
    with pytest.raises(ValueError, match="fool: generations must be a whole number of at least 0, got -1"):
        fool(linear_model(), DirectEncoding((6, 6)), classes=4, generations=-1, generator=GENERATOR)
    with pytest.raises(ValueError, match="must return logits of shape"):
        class_probabilities(lambda x: x.sum())(torch.zeros(2, 3))
