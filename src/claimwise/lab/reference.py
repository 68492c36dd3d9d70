"""Reference results: what was measured once, committed under ``results/``, and whether it still holds."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claimwise.lab.paper import Claim, Paper
from claimwise.lab.records import NOT_TESTED, ClaimOutcome, PaperRecord
from claimwise.lab.storage import CorruptFile, read_json, write_atomic, write_json
from claimwise.lab.stored import Stored

CHANGED = "criterion changed after the run"


@dataclass(frozen=True)
class Reference:
    """The reference results of one paper at one scale."""

    path: Path
    claims: Mapping[str, ClaimOutcome]
    stamp: Mapping[str, Any]
    scale: str
    seconds: float

    @classmethod
    def read(cls, folder: Path, key: str, scale: str) -> "Reference | None":
        """Read ``<key>.<scale>.json``; None where there is none."""
        path = folder / f"{key}.{scale}.json"
        if not path.is_file():
            return None
        content = read_json(path)
        try:
            claims = {claim["claim"]: ClaimOutcome.from_json(claim) for claim in content["claims"]}
            return cls(path, claims, content["stamp"], scale, content["seconds"])
        except (KeyError, TypeError) as error:
            raise CorruptFile(f"{path}: no reference results of this version: {error!r}; record them anew") from error

    def seeds_of(self, experiment: str) -> list[int]:
        """The seeds of an experiment that the results were made from."""
        found = [re.fullmatch(rf"{re.escape(experiment)}-seed(\d+)", run) for run in self.stamp.get("runs", {})]
        return sorted(int(match[1]) for match in found if match)

    def used(self, paper: Paper, scale: str) -> int:
        """One more than the last seed that was used for a criterion that has been edited since; 0 without one."""
        edited = [self.claims[id] for id, claim in paper.claims.items() if self._edited(claim, scale)]
        return max((max(before.seeds) + 1 for before in edited if before.seeds), default=0)

    def _edited(self, claim: Claim, scale: str) -> bool:
        before, criterion = self.claims.get(claim.id), claim.criteria.get(scale)
        if before is None or criterion is None or not before.criterion_digest or scale != self.scale:
            return False
        return before.criterion_digest != criterion.digest

    def warning(self, claim: Claim, scale: str, results: Mapping[str, Stored]) -> str:
        """Whether the criterion was edited after the reference run, and no fresh seeds have answered for it since."""
        if not self._edited(claim, scale):
            return ""
        before = self.claims[claim.id]
        used = [results[name].seeds for name in claim.experiments(scale) if name in results]
        if used and before.seeds and all(min(seeds) > max(before.seeds) for seeds in used):
            return ""
        return f"{CHANGED}: run it on fresh seeds (--fresh)"


def find_results(given: Path | None = None) -> Path | None:
    """The folder of reference results: the given one, ./results, the checkout's, or the one that was installed."""
    if given is not None:
        return given
    package = Path(__file__).parents[1]
    for folder in (Path("results"), package.parents[1] / "results", package / "results"):
        if any(folder.glob("*.*.json")):
            return folder
    return None


def keep_reference(
    record: PaperRecord, folder: Path, before: Reference | None, figures: Sequence[tuple[str, str]]
) -> Path:
    """Write a record as reference results, with the figures given: those whose data may be published.

    A claim whose criterion was edited after the run keeps the old criterion's digest, so that the warning stays until
    fresh seeds have answered.
    """
    folder.mkdir(parents=True, exist_ok=True)
    claims = []
    for outcome in record.claims:
        claim = outcome.to_json()
        if outcome.warning and before is not None and outcome.claim in before.claims:
            claim["criterion_digest"] = before.claims[outcome.claim].criterion_digest
        claims.append(claim)
    path = folder / f"{record.key}.{record.scale}.json"
    content = {"paper": record.key, "scale": record.scale, "seconds": record.seconds, "stamp": record.stamp}
    write_json(path, {**content, "claims": claims})
    kept = dict(figures)
    pictures = folder / f"{record.key}.{record.scale}"
    for picture in pictures.glob("*.svg"):  # of figures that are gone, or that may no longer be shown
        if picture.stem not in kept:
            picture.unlink()
    for name, svg in kept.items():
        pictures.mkdir(exist_ok=True)
        write_atomic(pictures / f"{name}.svg", svg)
    return path


def drift(record: PaperRecord, reference: Reference) -> list[str]:
    """What has changed against the reference: a verdict, or a figure that left the reference interval."""
    changes = []
    now = {outcome.claim: outcome for outcome in record.claims}
    for name, before in reference.claims.items():
        after = now.get(name)
        if after is None:
            if before.verdict != NOT_TESTED:
                changes.append(f"{name}: the claim is gone; it was {before.verdict}")
            continue
        if after.verdict != before.verdict:
            changes.append(f"{name}: was {before.verdict}, is {after.verdict} ({after.reason})")
        for quantity, estimate in before.measured.items():
            measured = after.measured.get(quantity)
            if measured is None:
                changes.append(f"{name}: {quantity} is no longer measured")
                continue
            slack = 1e-9 * max(1.0, abs(estimate.value))
            if not estimate.low - slack <= measured.value <= estimate.high + slack:
                changes.append(
                    f"{name}: {quantity} is {measured.value:.6g}, outside the reference interval "
                    f"[{estimate.low:.6g}, {estimate.high:.6g}]"
                )
    return changes
