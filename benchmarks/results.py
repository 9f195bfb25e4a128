"""The committed results: one Markdown file in which every benchmark owns the section between its markers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.table import Table

HEADER = """\
# Benchmark results

Written by `python -m benchmarks` (`make bench`), which replaces the section of each benchmark that it runs.
Memory is in MB (10⁶ bytes), latencies are in milliseconds, throughput and latencies are medians over the rounds.
"""


class ResultsError(Exception):
    """The results file is not as this module left it."""


@dataclass(frozen=True, slots=True)
class Section:
    """What one benchmark found."""

    name: str
    title: str
    tables: Sequence[Table]
    notes: Sequence[str] = ()
    failures: Sequence[str] = field(default_factory=list)

    def markdown(self, circumstances: Sequence[str]) -> str:
        parts = [f"## {self.title}", "\n".join(f"- {line}" for line in [*circumstances, *self.notes])]
        if self.failures:
            lines = [failure.splitlines()[0] for failure in self.failures]
            parts.append("**Failed:**\n\n" + "\n".join(f"- {line}" for line in lines))
        parts += [table.markdown() for table in self.tables]
        return "\n\n".join(parts)


def replace_section(text: str, name: str, body: str) -> str:
    """`text` with the section `name` replaced, or added at the end; all else stays as it is.

    Raises:
        ResultsError: a marker of the section is missing, twice there or out of order.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    section = f"{begin}\n{body.strip()}\n{end}"
    counts = (text.count(begin), text.count(end))
    if counts == (0, 0):
        return f"{text.rstrip()}\n\n{section}\n" if text.strip() else f"{section}\n"
    start, stop = text.find(begin), text.find(end)
    if counts != (1, 1) or stop < start:
        raise ResultsError(f"the markers of section {name!r} are not one pair; repair or delete the file")
    return text[:start] + section + text[stop + len(end) :]


def write_section(path: Path, section: Section, circumstances: Sequence[str]) -> None:
    """Replace the section in the file, which is made when missing and never left half-written.

    Raises:
        ResultsError: as `replace_section`.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else HEADER
    text = replace_section(text, section.name, section.markdown(circumstances))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
