"""Claiming rows and writing what came of them, in sets. Each kind of database has its own way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, Select, String, Text, cast, select, type_coerce

from serving.batch.database import Kind
from serving.batch.scope import Pass
from serving.batch.tables import Item
from serving.codecs.base import RowAnswers


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows that are scored together, in the order of their ids. `claim` is what holds them where locks do not."""

    ids: tuple[int, ...]
    values: tuple[str, ...]
    claim: str | None = None

    @property
    def last_id(self) -> int:
        return self.ids[-1]


class Written(NamedTuple):
    """How many rows of a chunk got what. The others had been given to another scorer."""

    succeeded: int
    failed: int


class Chunks(Protocol):
    """The rows of one kind of database."""

    leases: bool
    """Whether claims are committed by themselves and end after a time; else they are locks, and a chunk is one
    transaction from the claim to the predictions."""

    def claim(self, connection: Connection, walk: Pass, *, after: int, rows: int) -> Chunk | None:
        """At most `rows` rows of `walk` with ids above `after`, that nobody else has; `None` when there are none."""

    def take(self, connection: Connection, walk: Pass, *, after: int, rows: int) -> Chunk | None:
        """As `claim`, but who has rows is waited for, and claims of others are void."""

    def write(self, connection: Connection, chunk: Chunk, predictions: RowAnswers, *, tag: str | None) -> Written:
        """Write what came of the rows of `chunk`, as far as it is still theirs."""


def selection(kind: Kind, walk: Pass, *, after: int, rows: int) -> Select[tuple[int, str]]:
    """Ids of the next rows, and their values as the text that they are."""
    # PostgreSQL's driver would decode JSON; that is the predictor's work.
    values: Any = cast(Item.values, Text) if kind == "postgresql" else type_coerce(Item.values, String)
    return select(Item.id, values).where(*walk.conditions(), Item.id > after).order_by(Item.id).limit(rows)


def fetch(connection: Connection, statement: Select[tuple[int, str]], claim: str | None = None) -> Chunk | None:
    found = connection.execute(statement).all()
    if not found:
        return None
    ids, values = zip(*found, strict=True)
    return Chunk(ids, values, claim)


def chunks_of(kind: Kind, *, lease_seconds: float) -> Chunks:
    """How to claim and write rows of a database of this kind."""
    if kind == "postgresql":
        from serving.batch.postgresql import PostgresChunks

        return PostgresChunks()
    if kind == "mysql":
        from serving.batch.mysql import MysqlChunks

        return MysqlChunks()
    from serving.batch.sqlite import SqliteChunks

    return SqliteChunks(lease_seconds)
