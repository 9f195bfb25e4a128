"""What the project set out to reach, against what was measured. A missed target is said, never an error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.table import NOTHING, Table


@dataclass(frozen=True, slots=True)
class Target:
    """`measured` is `None` when what it needs was not measured."""

    what: str
    bound: float
    measured: float | None
    at_least: bool
    unit: str = ""
    evidence: str = ""
    """The figures behind `measured`."""

    @property
    def met(self) -> bool | None:
        if self.measured is None or math.isnan(self.measured):
            return None
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    def row(self) -> list[str]:
        verdict = {True: "met", False: "NOT met", None: "not measured"}[self.met]
        sign = "≥" if self.at_least else "≤"
        measured = NOTHING if self.met is None else f"{self.measured:.2f}{self.unit}"
        return [self.what, f"{sign} {self.bound:g}{self.unit}", measured, verdict, self.evidence or NOTHING]


def at_least(what: str, bound: float, value: float | None, base: float | None, names: tuple[str, str]) -> Target:
    """`value / base` must be `bound` or more; `names` say what the two are."""
    if value is None or not base:
        return Target(what, bound, None, at_least=True, unit=" ×")
    evidence = f"{names[0]} {value:,.1f}, {names[1]} {base:,.1f}"
    return Target(what, bound, value / base, at_least=True, unit=" ×", evidence=evidence)


def at_most(what: str, bound: float, value: float | None, unit: str) -> Target:
    """`value` must be `bound` or less, both in `unit`."""
    return Target(what, bound, value, at_least=False, unit=unit)


def targets_table(targets: Sequence[Target]) -> Table:
    return Table(
        title="Targets",
        columns=("target", "wanted", "measured", "verdict", "figures"),
        rows=[target.row() for target in targets],
    )
