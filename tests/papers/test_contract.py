"""What every paper of the reading list must be, tested by existing.

The quick suite runs once, in one process pool; `.ci/run` makes it beforehand and names it in the environment.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from claimwise.lab.paper import Paper
from claimwise.lab.records import FIDELITIES, SCALES, VERDICTS
from claimwise.papers import catalogue, load

KEYS = sorted(catalogue())
QUICK_SECONDS = 12.0
"""A paper's quick experiments over all seeds, on two cores, imports excluded."""
SHEETS = Path(__file__).parents[2].parent / "shared" / "papers"

pytestmark = pytest.mark.xdist_group("quick")


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    """The quick suite's JSON and its run folder."""
    if "CLAIMWISE_QUICK_JSON" in os.environ:
        return json.loads(Path(os.environ["CLAIMWISE_QUICK_JSON"]).read_text()), Path(
            os.environ["CLAIMWISE_QUICK_RUNS"]
        )
    runs = tmp_path_factory.mktemp("quick") / "runs"
    command = [sys.executable, "-m", "claimwise.cli", "run", "--all", "--json", "--runs", str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), runs


@pytest.mark.parametrize("key", KEYS)
class TestPaper:
    """Declarations, without running anything."""

    def test_note_and_entry(self, key: str) -> None:
        paper = load(key)
        assert isinstance(paper, Paper)
        assert paper.key == key
        entry = paper.entry
        assert entry.title
        assert entry.authors
        assert entry.year > 1900
        assert entry.url.startswith("http")
        for heading in ("What", "How", "Why", "mislead"):
            assert re.search(rf"^#+ .*{heading}", paper.note, re.MULTILINE | re.IGNORECASE), f"the note lacks {heading}"

    def test_claims_are_whole(self, key: str) -> None:
        paper = load(key)
        assert paper.claims
        for claim in paper.claims.values():
            assert claim.sheet
            assert claim.says
            assert claim.where
            if claim.not_tested is None:
                assert claim.because
                assert set(claim.fidelity) == set(claim.criteria)
                assert set(claim.fidelity.values()) <= set(FIDELITIES)
                for scale, fidelity in claim.fidelity.items():
                    assert fidelity == "exact" or claim.differences[scale] or fidelity == "paper", (
                        f"{claim.id} at {scale} is {fidelity}: say what differs from the paper"
                    )

    def test_every_row_of_the_sheet_is_covered(self, key: str) -> None:
        sheet = SHEETS / f"{key}.md"
        if not sheet.is_file():
            pytest.skip("the sheets are not at hand")
        rows = set(re.findall(r"^\| *([A-Z]+\d+[a-z]?|\d+[a-z]?\.\d+) *\|", sheet.read_text("utf-8"), re.MULTILINE))
        covered = {row for claim in load(key).claims.values() for row in claim.sheet}
        assert rows
        assert covered == rows

    def test_setups_document_every_field(self, key: str) -> None:
        import ast
        import inspect
        import textwrap

        for experiment in load(key).experiments.values():
            for plan in experiment.plans.values():
                (definition,) = ast.parse(textwrap.dedent(inspect.getsource(type(plan.setup)))).body
                body = definition.body  # type: ignore[attr-defined]
                for field, after in zip(body, [*body[1:], None], strict=True):
                    if isinstance(field, ast.AnnAssign):
                        documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                        assert documented, f"{type(plan.setup).__name__}.{field.target.id} has no docstring"  # type: ignore[union-attr]

    def test_seeds_are_planned(self, key: str) -> None:
        for experiment in load(key).experiments.values():
            for scale, plan in experiment.plans.items():
                assert scale in SCALES
                assert plan.seeds >= 1
                if scale == "paper" and plan.seeds > 1:
                    assert plan.cost, f"{experiment.address}: say what the paper's own protocol costs"


@pytest.mark.parametrize("key", KEYS)
class TestQuick:
    """The quick scale, run once for all papers."""

    def test_every_claim_has_an_outcome(self, key: str, quick: tuple[dict, Path]) -> None:
        outcomes = {c["claim"]: c for c in quick[0]["claims"] if c["paper"] == key}
        paper = load(key)
        assert set(outcomes) == set(paper.claims)
        for name, outcome in outcomes.items():
            assert outcome["verdict"] in VERDICTS
            assert outcome["reason"]
            tested = "quick" in paper.claims[name].fidelity
            assert (outcome["verdict"] == "not tested") == (not tested)
            if tested:
                assert outcome["fidelity"]
                assert outcome["parts"], outcome["reason"]
                assert outcome["measured"] or all(part["estimate"] is not None for part in outcome["parts"])

    def test_within_its_budget(self, key: str, quick: tuple[dict, Path]) -> None:
        results = list((quick[1] / key).glob("*/*/measurements.json"))
        assert results
        seconds = sum(json.loads(path.read_text())["cpu_seconds"] for path in results)
        assert seconds / 2 <= QUICK_SECONDS, f"{seconds:.1f} s of processor time, on two cores {seconds / 2:.1f} s"


@pytest.mark.parametrize(("key", "least"), [("fgsm", 8), ("vgg", 5), ("mediation", 7)])
def test_quick_already_has_something_to_say(key: str, least: int, quick: tuple[dict, Path]) -> None:
    given = [c for c in quick[0]["claims"] if c["paper"] == key and c["verdict"] in ("confirmed", "refuted")]
    assert len(given) >= least
