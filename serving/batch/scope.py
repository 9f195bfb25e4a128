"""Which rows a run is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement

from serving.batch.tables import Item, Status

Policy = Literal["retry-failed", "retry-all", "leave"]
"""What becomes of rows that were scored before: failed ones again, all again, or none."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Rows by time of insertion (`since` ≤ t < `until`), by id (both ends belong to it) and by model."""

    since: datetime | None = None
    until: datetime | None = None
    first_id: int | None = None
    last_id: int | None = None
    model: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        if self.since is not None:
            found.append(Item.created_at >= self.since)
        if self.until is not None:
            found.append(Item.created_at < self.until)
        if self.first_id is not None:
            found.append(Item.id >= self.first_id)
        if self.last_id is not None:
            found.append(Item.id <= self.last_id)
        if self.model is not None:
            found.append(Item.model == self.model)
        return found

    def as_json(self) -> dict[str, Any]:
        """What is set, for `runs.scope`."""
        return {name: _plain(value) for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Pass:
    """One walk over a scope in the order of the ids: the rows of one state and of the models that are scored alike.

    `model` of `None` is every model that is not in `known`.
    """

    scope: Scope
    statuses: tuple[Status, ...]
    model: str | None
    known: Sequence[str]
    fewer_attempts_than: int | None = None
    untouched_since: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        found = self.scope.conditions()
        found.append(Item.status == self.statuses[0] if len(self.statuses) == 1 else Item.status.in_(self.statuses))
        found.append(Item.model == self.model if self.model is not None else Item.model.not_in(self.known))
        if self.fewer_attempts_than is not None:
            found.append(Item.attempts < self.fewer_attempts_than)
        if self.untouched_since is not None:
            found.append(Item.updated_at < self.untouched_since)
        return found


def passes(scope: Scope, policy: Policy, *, known: Sequence[str], max_attempts: int, began: datetime) -> list[Pass]:
    """The walks of a run, failed rows first: those that fail in this run are not tried again in it."""
    wanted = [name for name in known if scope.model in (None, name)]
    models: list[str | None] = [*wanted, *([None] if scope.model is None or scope.model not in known else [])]
    found: list[Pass] = []
    for model in models:
        if policy == "retry-all":
            found.append(Pass(scope, tuple(Status), model, known))
            continue
        if policy == "retry-failed":
            found.append(Pass(scope, (Status.FAILED,), model, known, max_attempts, began))
        found.append(Pass(scope, (Status.UNPREDICTED,), model, known))
    return found


def _plain(value: Any) -> Any:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
