"""The README says what the committed results say."""

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_claims_tables_are_current() -> None:
    import sys

    sys.path.insert(0, str(ROOT / "docs"))
    try:
        spec = importlib.util.spec_from_file_location("claims_table", ROOT / "docs" / "claims_table.py")
        assert spec is not None
        assert spec.loader is not None
        claims_table = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(claims_table)
    finally:
        sys.path.remove(str(ROOT / "docs"))
    written = claims_table.written((ROOT / "README.md").read_text("utf-8"), ROOT / "results")
    assert len(written) > 1
    for path, text in written.items():
        assert path.read_text("utf-8") == text, f"{path.name} is not current; run: python docs/claims_table.py"


def test_named_files_are_there() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (ROOT / target).exists(), target


def test_commands_are_real() -> None:
    from claimwise.cli import COMMANDS

    readme = (ROOT / "README.md").read_text("utf-8")
    for words in re.findall(r"^claimwise (\w+)", readme, re.MULTILINE):
        assert any(command.split()[0] == words for command in COMMANDS), words
