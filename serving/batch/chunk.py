"""Claiming rows in chunks and writing their predictions. Each kind of database has its own statements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from sqlalchemy import Connection, Select, select

from serving.batch.database_url import Kind
from serving.batch.scope import Scan
from serving.batch.tables import Item, json_text
from serving.codecs.base import RowAnswers


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows that are scored together, in the order of their ids. `claim` holds them where there are no row locks."""

    ids: tuple[int, ...]
    values: tuple[str, ...]
    claim: str | None = None

    @property
    def last_id(self) -> int:
        return self.ids[-1]


class ChunkResult(NamedTuple):
    """How many rows of a chunk were written. The others belonged to another scorer by then."""

    succeeded: int
    failed: int


class Chunks(Protocol):
    """The rows of one kind of database."""

    leases: bool
    """Whether a claim is a transaction of its own and ends after a time. Otherwise claims are locks, and a chunk is one
    transaction from the claim to the predictions."""

    def claim(self, connection: Connection, scan: Scan, *, after: int, rows: int) -> Chunk | None:
        """At most `rows` unclaimed rows of `scan` with ids above `after`; `None` when there are none."""

    def take(self, connection: Connection, scan: Scan, *, after: int, rows: int) -> Chunk | None:
        """As `claim`, but waits for row locks of other scorers and ignores their claims."""

    def write(self, connection: Connection, chunk: Chunk, predictions: RowAnswers, *, tag: str | None) -> ChunkResult:
        """Write the predictions of the rows of `chunk` that this scorer still holds."""


def selection(kind: Kind, scan: Scan, *, after: int, rows: int) -> Select[tuple[int, str]]:
    """Ids of the next rows, and their values as JSON text."""
    return (
        select(Item.id, json_text(Item.values, kind))
        .where(*scan.conditions(), Item.id > after)
        .order_by(Item.id)
        .limit(rows)
    )


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
