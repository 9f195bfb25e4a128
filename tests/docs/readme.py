"""README.md and the pages of docs/ in parts: what they tell to run, what they say comes out, and their tables."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))
"""What README.md has no room for."""
HOST = "localhost:3000"
OWN_MODEL = ROOT / "docs" / "own_model.md"
"""The page whose blocks belong to a changed copy of the repository."""

_HEADING = re.compile(r"^(#{1,4}) (.+)$")
_FENCE = re.compile(r"^```(\w*)$")
_FILE = re.compile(r"`([\w/.-]+)`:$")
_NOT_RUN = re.compile(r"^<!-- not run: (\S.*) -->$")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. A `json` or `text` block right after a `bash` block is what that one prints."""

    kind: str
    text: str
    line: int
    """Of the page, where it starts."""
    section: str
    """The `##` heading above it."""
    before: str
    """The last line of text above it; empty when another block is there."""
    output: str | None = None

    @property
    def name(self) -> str:
        return f"line {self.line}: {self.text.splitlines()[0][:60]}"

    @property
    def not_run(self) -> str | None:
        """Why a block of docs/ is not run: a comment right before it, `<!-- not run: … -->`, says so."""
        reason = _NOT_RUN.match(self.before)
        return reason[1] if reason else None

    @property
    def file(self) -> str | None:
        """The file that it is the content of: the text before it ends in its path and a colon."""
        named = _FILE.search(self.before)
        return named[1] if named else None


def text(page: Path = README) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path = README) -> list[Block]:
    """All fenced blocks in order; outputs are part of the block that prints them."""
    found: list[Block] = []
    for block in _fenced(text(page)):
        previous = found[-1] if found else None
        if block.kind in {"json", "text"} and not block.before and previous is not None and previous.kind == "bash":
            found[-1] = Block(*(getattr(previous, name) for name in Block.__slots__[:-1]), output=block.text)
        else:
            found.append(block)
    return found


def _fenced(page: str) -> Iterator[Block]:
    section = before = kind = ""
    start = 0
    content: list[str] | None = None
    for number, line in enumerate(page.splitlines(), 1):
        fence = _FENCE.match(line)
        if content is not None:
            if line == "```":
                yield Block(kind, "\n".join(content), start, section, before)
                content, before = None, ""
            else:
                content.append(line)
        elif fence:
            content, kind, start = [], fence[1], number
        elif line.strip():
            before = line.strip()
            if (heading := _HEADING.match(line)) and len(heading[1]) == 2:
                section = heading[2]


def prose(page: Path = README) -> str:
    """The text without fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text(page), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What a link may have after `#`."""
    headings = re.findall(r"^#{1,4} (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def section(title: str) -> str:
    """The text below a `##` heading."""
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", text(), re.MULTILINE | re.DOTALL)
    assert found, f"README has no section {title}"
    return found[1]


def rows(header: str, page: Path = README) -> list[list[str]]:
    """The cells of all tables whose header row is `header`."""
    lines = text(page).splitlines()
    found = []
    for start in (number for number, line in enumerate(lines) if line == header):
        for line in itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :]):
            found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    assert found, f"{page.name} has no table {header}"
    return found


def code(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)
