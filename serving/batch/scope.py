"""The rows that a run is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement

from serving.batch.tables import Item, Status

Policy = Literal["retry-failed", "retry-all", "leave"]
"""What a run does with rows that were scored before: score failed ones again, score all again, or leave them."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Rows by time of insertion (`since` ≤ t < `until`), by id (both ends included) and by model."""

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
        """What is set, for the column `scope` of a run."""
        return {name: _plain(value) for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Scan:
    """One scan over a scope in the order of the ids: the rows of some states and of one model.

    A `model` of `None` means every model that is not in `known`.
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


def scans_of(scope: Scope, policy: Policy, *, known: Sequence[str], max_attempts: int, began: datetime) -> list[Scan]:
    """The scans of a run. Failed rows come first, so that rows that fail in this run are not tried again in it."""
    wanted = [name for name in known if scope.model in (None, name)]
    models: list[str | None] = [*wanted, *([None] if scope.model is None or scope.model not in known else [])]
    found: list[Scan] = []
    for model in models:
        if policy == "retry-all":
            found.append(Scan(scope, tuple(Status), model, known))
            continue
        if policy == "retry-failed":
            found.append(Scan(scope, (Status.FAILED,), model, known, max_attempts, began))
        found.append(Scan(scope, (Status.UNPREDICTED,), model, known))
    return found


def _plain(value: Any) -> Any:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
