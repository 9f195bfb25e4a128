"""What the batch routes take and answer: the shapes of the OpenAPI document, and how rows are written as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import RowMapping

from serving.batch.tables import Status

MOST_ITEMS = 1000
"""In a page, and in a request that adds some."""


class NewItem(BaseModel):
    """A row to be scored later."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(examples=["iris"], description="of those that are served")
    values: Any = Field(
        description="what the model takes: a list or an object of values, an object of tensors, or an image file below "
        "`batch.image_root` as `image_path` or `image_url`",
        examples=[[5.1, 3.5, 1.4, 0.2]],
    )


class NewItems(BaseModel):
    """Rows to be scored later."""

    model_config = ConfigDict(extra="forbid")

    items: Annotated[list[NewItem], Field(min_length=1, max_length=MOST_ITEMS)]


class AddedItems(BaseModel):
    """Rows that the database has."""

    ids: list[int] = Field(description="of the rows, in their order", examples=[[1, 2]])


class Item(BaseModel):
    """A row. Times are in UTC, on the clock of the database."""

    id: int = Field(ge=1)
    model: str = Field(examples=["iris"])
    values: Any = Field(description="what the model takes", examples=[[5.1, 3.5, 1.4, 0.2]])
    status: Status
    prediction: Any = Field(
        description="of a predicted row: what `/{model}/predict` answers for it; else null",
        examples=[[0.97, 0.02, 0.01]],
    )
    label: str | None = Field(description="the most probable class", examples=["setosa"])
    model_tag: str | None = Field(description="name and version of the model that scored it")
    attempts: int = Field(description="how often it was scored, whatever came of it", ge=0)
    error: str | None = Field(description="why it failed")
    created_at: datetime
    updated_at: datetime


class ItemPage(BaseModel):
    """Rows in the order of their ids."""

    items: list[Item]
    next: int | None = Field(description="`after` of the page that follows; null on the last")


class Run(BaseModel):
    """A run of `serving batch score`."""

    id: int = Field(ge=1)
    started_at: datetime
    finished_at: datetime | None = Field(description="null while it runs, and of one that was killed")
    scope: dict[str, Any] = Field(description="the options that chose its rows")
    scorer: str = Field(description="host and process")
    claimed: int = Field(ge=0)
    succeeded: int = Field(ge=0)
    failed: int = Field(ge=0)
    outcome: str | None = Field(description="how it ended", examples=["done"])
    error: str | None


class RunPage(BaseModel):
    """Runs, newest first."""

    runs: list[Run]
    next: int | None = Field(description="`after` of the page that follows; null on the last")


def added(ids: Sequence[int]) -> bytes:
    """AddedItems."""
    return msgspec.json.encode({"ids": ids})


def item(row: RowMapping) -> bytes:
    """An Item."""
    return msgspec.json.encode(_item(row))


def items(rows: Sequence[RowMapping], *, more: bool) -> bytes:
    """An ItemPage."""
    return msgspec.json.encode({"items": [_item(row) for row in rows], "next": rows[-1]["id"] if more else None})


def runs(rows: Sequence[RowMapping], *, more: bool) -> bytes:
    """A RunPage."""
    found = [
        dict(row) | {name: _time(row[name]) for name in ("started_at", "finished_at")} | {"scope": _json(row["scope"])}
        for row in rows
    ]
    return msgspec.json.encode({"runs": found, "next": rows[-1]["id"] if more else None})


def _item(row: RowMapping) -> dict[str, Any]:
    return (
        dict(row)
        | {name: _json(row[name]) for name in ("values", "prediction")}
        | {name: _time(row[name]) for name in ("created_at", "updated_at")}
    )


def _json(text: str | None) -> Any:
    """The bytes as they are stored; what is not JSON, possibly written by another program, is shown as text."""
    if text is None:
        return None
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text
    return msgspec.Raw(text.encode())


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="milliseconds")
