"""The reading list as BibTeX: read without any package, so that `claimwise list` answers at once."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """One entry of a .bib file."""

    key: str
    kind: str
    fields: Mapping[str, str]
    source: str
    """The entry as it stands in the file."""

    @property
    def title(self) -> str:
        return self.fields.get("title", self.key)

    @property
    def authors(self) -> str:
        """Names as read aloud: "A. Author, B. Author"; BibTeX's "Last, First" turned round."""
        names = re.split(r"\s+and\s+", self.fields.get("author", ""))
        return ", ".join(" ".join(reversed([part.strip() for part in name.split(",", 1)])) for name in names if name)

    @property
    def venue(self) -> str:
        return next((self.fields[f] for f in ("booktitle", "journal", "howpublished") if f in self.fields), "")

    @property
    def year(self) -> int:
        """0 where the entry has none ("to appear")."""
        found = re.search(r"\d{4}", self.fields.get("year", ""))
        return int(found[0]) if found else 0

    @property
    def url(self) -> str:
        return self.fields.get("url", "")

    @property
    def topic(self) -> str:
        return self.fields.get("topic", "other")


_ENTRY = re.compile(r"^@(\w+)\s*\{\s*([^,\s]+)\s*,", re.MULTILINE)
_FIELD = re.compile(r"(\w+)\s*=\s*(?=[{\"\d])")


def _value(text: str, start: int) -> tuple[str, int]:
    """The braced, quoted or bare value at `start`, and where it ends."""
    if text[start] == '"':
        end = text.index('"', start + 1)
        return text[start + 1 : end], end + 1
    if text[start] != "{":
        bare = re.compile(r"[^\s,}]+").match(text, start)
        assert bare is not None
        return bare[0], bare.end()
    depth = 0
    for i in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return text[start + 1 : i], i + 1
    raise ValueError(f"unbalanced braces in a BibTeX field: {text[start : start + 40]!r}...")


def parse_bibliography(text: str, *, name: str = "bibliography") -> dict[str, Entry]:
    """Read BibTeX entries by key, in file order.

    Raises:
        ValueError: on unbalanced braces or a key given twice, naming where.
    """
    entries: dict[str, Entry] = {}
    for match in _ENTRY.finditer(text):
        try:
            body, end = _value(text, text.index("{", match.start()))
            fields: dict[str, str] = {}
            position = body.index(",") + 1
            while field := _FIELD.search(body, position):
                value, position = _value(body, field.end())
                fields[field[1].lower()] = " ".join(value.replace("{", "").replace("}", "").split())
        except ValueError as error:
            raise ValueError(f"{name}: entry {match[2]!r}: {error}") from None
        if match[2] in entries:
            raise ValueError(f"{name}: the key {match[2]!r} stands twice; give each entry its own key")
        entries[match[2]] = Entry(match[2], match[1].lower(), fields, text[match.start() : end].strip())
    return entries


def read_bibliography(path: Path) -> dict[str, Entry]:
    """Read a .bib file; a missing file is an empty bibliography."""
    return parse_bibliography(path.read_text("utf-8"), name=str(path)) if path.is_file() else {}
