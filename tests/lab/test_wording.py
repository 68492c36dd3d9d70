"""Numbers as people read them, and what a scoreboard counts."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claimwise.lab.records import CONFIRMED, REDUCED, STAND_IN, UNDECIDED, ClaimOutcome, Estimate, PaperRecord
from claimwise.lab.wording import (
    broken_under,
    duration,
    estimate_texts,
    interval_text,
    measured_text,
    number,
    quantities,
    reported_text,
    verdict_text,
)


def outcome(**fields):
    given_fields = {
        "paper": "p", "claim": "c", "sheet": ("S1",), "statement": "s", "where": "w", "reported": {}, "measured": {},
        "figures": {}, "parts": (), "verdict": CONFIRMED, "reason": "", "fidelity": REDUCED, "differences": "",
        **fields,
    }  # fmt: skip
    return ClaimOutcome(**given_fields)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.894, "0.894"), (0, "0"), (-0.5, "−0.5"), (16, "16"), (16.0, "16"), (1600, "1600"),
        (60000, "60\u202f000"), (138357544, "138\u202f357\u202f544"), (-12345.5, "−12\u202f345.5"),
        (1e-7, "1e-7"), (2.5e20, "2.5e20"), (math.inf, "∞"), (-math.inf, "−∞"), (math.nan, "nan"),
    ],
)  # fmt: skip
def test_number(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("given_values", "texts"),
    [
        ((0.96731, 0.96118, 0.97342), ("0.967", "0.961", "0.973")),
        ((0.99994, 0.99981, 0.99998), ("0.99994", "0.99981", "0.99998")),
        ((0.0211, 0.0199, 0.0223), ("0.0211", "0.0199", "0.0223")),
        ((1.305, 1.22, 1.4), ("1.30", "1.22", "1.40")),
        ((-0.12, -0.31, 0.07), ("−0.120", "−0.310", "0.070")),
        ((12.34567, 12.1, 12.6), ("12.35", "12.10", "12.60")),
        ((1234.5, 1200, 1270), ("1234", "1200", "1270")),
        ((3.21e-5, 3.01e-5, 3.41e-5), ("3.21e-5", "3.01e-5", "3.41e-5")),
        ((0.3, -math.inf, math.inf), ("0.300", "−∞", "∞")),
        ((138357544, 138357544, 138357544), ("138\u202f357\u202f544",) * 3),
        ((0.0, 0.0, 0.0), ("0", "0", "0")),
        ((math.nan, -math.inf, math.inf), ("nan", "−∞", "∞")),
        ((0.25, 0.25, 0.25), ("0.250",) * 3),
        ((0.0, 0.0, 0.00192), ("0", "0", "0.00192")),
    ],
)
def test_estimate_texts(given_values, texts):
    assert estimate_texts(*given_values) == texts


finite = st.floats(-1e12, 1e12).filter(lambda v: v == 0 or abs(v) > 1e-12)


@given(finite, finite, finite)
def test_texts_keep_the_order_and_two_digits_of_the_width(a, b, c):
    low, value, high = sorted((a, b, c))
    read = [float(t.replace("−", "-").replace("\u202f", "")) for t in estimate_texts(value, low, high)]
    size, width = max(abs(v) for v in (low, value, high)), high - low
    assert read[1] <= read[0] <= read[2]
    # Half a unit of the last digit shown: the third digit of the largest, or less where the interval is narrow.
    slack = max(min(0.005 * size, 0.05 * width if width else math.inf), 1e-8 * size)
    for shown, true in zip(read, (value, low, high), strict=True):
        assert abs(shown - true) <= slack * 1.001 + 1e-300


def test_measured_text_never_hides_n():
    assert measured_text(Estimate(0.96731, 0.96118, 0.97342, 5)) == "0.967 [0.961, 0.973], n = 5"
    assert measured_text(Estimate(16, 16, 16, 1, "layers", "exact")) == "16 layers exact, n = 1"
    assert measured_text(Estimate(0.3, -math.inf, math.inf, 1, "", "no interval")) == "0.300 no interval, n = 1"
    assert measured_text(Estimate(0.5, 0.4, 0.6, 5, "fraction")) == "0.500 [0.400, 0.600], n = 5"
    assert interval_text(Estimate(0.3, 0.3, 0.3, 5, "", "t over 5 seeds")) == "no spread"
    assert interval_text(Estimate(0.3, -math.inf, 0.4, 5)) == "[−∞, 0.400]"


def test_words():
    assert verdict_text(outcome()) == "confirmed"
    assert verdict_text(outcome(fidelity=STAND_IN)) == "on stand-in data: holds"
    assert verdict_text(outcome(fidelity=STAND_IN, verdict=UNDECIDED)) == "on stand-in data: undecided"
    assert reported_text({"value": 0.894, "sure": "seen"}) == "0.894 (seen)"
    assert reported_text({"value": 3}) == "3"
    assert quantities(outcome(reported={"b": {}, "a": {}}, measured={"c": None, "a": None})) == ["b", "a", "c"]
    assert [duration(s) for s in (0, 7.31, 59.99, 83, 3600, 7300)] == [
        "0.0 s", "7.3 s", "1 min 0 s", "1 min 23 s", "1 h 0 min", "2 h 1 min",
    ]  # fmt: skip


def test_broken_experiments_under_a_claim():
    record = PaperRecord(
        "p", "t", "", "", 0, "", "", "", "quick", 0, (), broken={"net": "x", "large_net": "y", "n": "z"}
    )
    assert broken_under(outcome(criterion="net.error < 0.5"), record) == {"net": "x"}
    assert broken_under(outcome(reported={"|large_net.a - net.b|": {"value": 1}}), record) == {
        "net": "x",
        "large_net": "y",
    }
    assert broken_under(outcome(criterion="other.n > 1"), record) == {}
