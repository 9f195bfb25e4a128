"""What `serving batch status` prints for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from serving.batch.tables import Status


def status_text(items: Mapping[str, Mapping[str, int]], runs: Sequence[Mapping[str, Any]]) -> str:
    """Rows by model and state, and runs, each with a line."""
    rows = [["model", *(state.value for state in Status)]]
    rows += [[model, *(f"{counts[state]:,}" for state in Status)] for model, counts in items.items()]
    text = _columns(rows)
    if runs:
        header = ["run", "started", "outcome", "claimed", "succeeded", "failed", "error"]
        text += "\n\n" + _columns([header, *(_run(run) for run in runs)])
    return text


def _run(run: Mapping[str, Any]) -> list[str]:
    started: datetime = run["started_at"]
    counts = [f"{run[name]:,}" for name in ("claimed", "succeeded", "failed")]
    error = " ".join((run["error"] or "").split())[:60]
    shown = "".join(letter if letter.isprintable() else "?" for letter in error)
    return [str(run["id"]), started.isoformat(" ", "seconds"), run["outcome"] or "not ended", *counts, shown]


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
