"""Runs on every kind of database: scopes, policies, what fails, and what several scorers do at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, select, text, update
from sqlalchemy.exc import OperationalError

from serving.batch.chunk import chunks_of
from serving.batch.database import Database
from serving.batch.run_limits import Stopper
from serving.batch.runs import Outcome
from serving.batch.scope import Scan, Scope
from serving.batch.scorer import Plan
from serving.batch.state import items_by_model, latest_runs, retry
from serving.batch.tables import Item, Run, Status
from serving.core.errors import ModelError
from tests.batch.rows import TAG, Silent, Sums, fill, rows, score


def _of_kind(database: Database, copies: int) -> list[Database]:
    url = database.url.render_as_string(hide_password=False)
    return [Database(url) for _ in range(copies)]


def test_every_row_is_scored_in_chunks_of_one_call(database: Database) -> None:
    fill(database, 25)
    model, progress = Sums(), Silent()
    summary = score(database, Plan(chunk_rows=10), models={"sums": model}, progress=progress)
    assert (summary.outcome, summary.claimed, summary.succeeded, summary.failed) == (Outcome.DONE, 25, 25, 0)
    assert summary.remaining == 0
    assert model.calls == [10, 10, 5]
    assert (progress.total, progress.succeeded, progress.failed) == (25, 25, 0)
    columns = (Item.prediction, Item.label, Item.model_tag, Item.status, Item.attempts, Item.error)
    assert rows(database, *columns) == [
        ({"sum": number}, "a\\b'c\t%", TAG, "predicted", 1, None) for number in range(25)
    ]
    assert all(updated > created for created, updated in rows(database, Item.created_at, Item.updated_at))
    assert score(database).claimed == 0, "and once only"


def test_a_run_is_noted_with_its_scope_and_counts(database: Database) -> None:
    fill(database, 3)
    fill(database, 1, values={"no": "list"})
    summary = score(database, Plan(limit=4, scope=Scope(first_id=1)))
    (run,) = latest_runs(database, 5)
    assert run["id"] == summary.run
    assert (run["claimed"], run["succeeded"], run["failed"], run["outcome"]) == (4, 3, 1, "done")
    assert run["scope"] == {"first_id": 1, "limit": 4, "on_failure": "retry-failed"}
    assert run["started_at"] <= run["finished_at"]


def test_bad_rows_fail_alone_and_say_why(database: Database) -> None:
    fill(database, 3)
    fill(database, 1, values="it's 100% \\ \t\n bad")
    fill(database, 1, model="wine")
    summary = score(database)
    assert (summary.succeeded, summary.failed, summary.outcome) == (3, 2, Outcome.DONE)
    states = rows(database, Item.status, Item.error, Item.prediction)
    assert [state for state, _, _ in states] == ["predicted"] * 3 + ["failed"] * 2
    assert states[3][1] == 'not a list: "it\'s 100% \\\\ \\t\\n bad"'
    assert "no such model" in states[4][1]
    assert states[3][2] is None


def test_failed_rows_are_tried_again_once_in_a_run_up_to_a_limit(database: Database) -> None:
    fill(database, 1, values="bad")
    claimed = [score(database, Plan(max_attempts=3)).claimed for _ in range(5)]
    assert claimed == [1, 1, 1, 0, 0]
    assert rows(database, Item.attempts) == [3]
    assert retry(database, Scope()) == 1
    assert rows(database, Item.status, Item.attempts, Item.error) == [("unpredicted", 0, None)]


def test_leave_leaves_failed_rows(database: Database) -> None:
    fill(database, 1, values="bad")
    score(database)
    assert score(database, Plan(policy="leave")).claimed == 0


def test_retry_all_replaces_predictions(database: Database) -> None:
    fill(database, 12)
    fill(database, 1, values="bad")
    score(database)
    newer = Sums()
    newer.tag = "sums:2"
    summary = score(database, Plan(policy="retry-all", chunk_rows=5), models={"sums": newer})
    assert (summary.succeeded, summary.failed) == (12, 1)
    assert rows(database, Item.model_tag, Item.attempts) == [("sums:2", 2)] * 13


def test_retry_all_is_seen_as_a_whole_or_not_at_all(database: Database) -> None:
    fill(database, 12)
    score(database)
    (other,) = _of_kind(database, 1)
    seen = []

    def crash_at_last() -> None:
        seen.append(set(rows(other, Item.model_tag)))
        if len(seen) == 3:
            raise RuntimeError("crash")

    newer = Sums(crash_at_last)
    newer.tag = "sums:2"
    with pytest.raises(RuntimeError, match="crash"):
        score(database, Plan(policy="retry-all", chunk_rows=5), models={"sums": newer})
    assert seen == [{TAG}] * 3
    assert set(rows(database, Item.model_tag, Item.attempts)) == {(TAG, 1)}
    other.close()


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (Scope(first_id=3, last_id=5), [3, 4, 5]),
        (Scope(first_id=9), [9, 10]),
        (Scope(last_id=2), [1, 2]),
        (Scope(model="other"), [10]),
        (Scope(model="unheard-of"), []),
        (Scope(until=datetime(2020, 1, 2, tzinfo=UTC)), [1]),
        (Scope(since=datetime(2020, 1, 2, tzinfo=UTC), last_id=4), [2, 3, 4]),
    ],
    ids=["ids", "from", "to", "model", "unknown-model", "until", "since"],
)
def test_only_the_scope_is_scored(database: Database, scope: Scope, expected: list[int]) -> None:
    fill(database, 9)
    fill(database, 1, model="other")
    with database.write() as connection:
        # an hour east of Greenwich, still the first of January
        long_ago = datetime(2020, 1, 2, 0, 30, tzinfo=datetime.strptime("+0100", "%z").tzinfo)
        connection.execute(update(Item).where(Item.id == 1).values(created_at=long_ago))
    score(database, Plan(scope=scope), models={"sums": Sums(), "other": Sums()})
    with database.read() as connection:
        scored = select(Item.id).where(Item.status == Status.PREDICTED).order_by(Item.id)
        assert list(connection.execute(scored).scalars()) == expected


def test_a_limit_ends_a_run(database: Database) -> None:
    fill(database, 9)
    summary = score(database, Plan(limit=5, chunk_rows=3))
    assert (summary.claimed, summary.remaining, summary.outcome) == (5, 4, Outcome.DONE)


def test_rows_that_come_during_a_run_are_for_the_next(database: Database) -> None:
    fill(database, 2)
    (other,) = _of_kind(database, 1)
    summary = score(
        database, models={"sums": Sums(lambda: fill(other, 1, model="sums") if database.kind != "x" else 0)}
    )
    assert summary.claimed == 2
    assert items_by_model(database)["sums"]["unpredicted"] == 1
    other.close()


def test_a_deadline_ends_a_run_between_chunks(database: Database) -> None:
    fill(database, 9)
    model = Sums()
    assert score(database, Plan(deadline=datetime(2020, 1, 1, tzinfo=UTC)), models={"sums": model}).claimed == 0
    assert model.calls == []
    slow = Sums(lambda: time.sleep(0.4))
    summary = score(database, Plan(deadline=timedelta(seconds=0.6), chunk_rows=3), models={"sums": slow})
    assert summary.outcome is Outcome.DEADLINE
    assert summary.claimed in (0, 3), "a second chunk would have been too late"
    assert summary.remaining == 9 - summary.claimed


def test_stop_ends_a_run_after_its_chunk(database: Database) -> None:
    fill(database, 9)
    stopper = Stopper()
    summary = score(database, Plan(chunk_rows=3), models={"sums": Sums(stopper.stop)}, stopper=stopper)
    assert (summary.outcome, summary.claimed, summary.remaining) == (Outcome.INTERRUPTED, 3, 6)
    assert latest_runs(database, 1)[0]["outcome"] == "interrupted"


def test_a_model_has_its_own_limit_of_rows(database: Database) -> None:
    fill(database, 5)
    model = Sums()
    model.most_rows = 2
    score(database, models={"sums": model})
    assert model.calls == [2, 2, 1]


def test_a_model_that_cannot_be_loaded_fails_the_run_and_no_row(sqlite_database: Database) -> None:
    fill(sqlite_database, 2)
    from serving.batch.scorer import Scorer

    def broken() -> Any:
        raise ModelError("gone")

    scorer = Scorer(sqlite_database, {"sums": broken}, progress=Silent(), stopper=Stopper())
    with pytest.raises(ModelError):
        scorer.run(Plan())
    assert items_by_model(sqlite_database)["sums"]["unpredicted"] == 2
    assert latest_runs(sqlite_database, 1)[0]["outcome"] == "failed"
    assert latest_runs(sqlite_database, 1)[0]["error"] == "gone"


def test_several_scorers_share_the_rows(database: Database) -> None:
    fill(database, 200)
    plan = Plan(chunk_rows=10, retry_seconds=30)
    copies = _of_kind(database, 3)
    with ThreadPoolExecutor(3) as threads:
        summaries = list(threads.map(lambda copy: score(copy, plan), copies))
    assert sum(summary.succeeded for summary in summaries) == 200
    assert {summary.outcome for summary in summaries} == {Outcome.DONE}
    assert rows(database, Item.attempts) == [1] * 200
    for copy in copies:
        copy.close()


def test_a_second_schedule_waits_for_what_the_first_has_claimed(database: Database) -> None:
    """It ends when all is done, and has scored nothing twice."""
    fill(database, 5)
    (other,) = _of_kind(database, 1)
    found: list[int] = []
    with ThreadPoolExecutor(1) as threads:
        second = []

        def begin_second() -> None:
            if not second:
                second.append(threads.submit(score, other))
                deadline = time.monotonic() + 30
                while len(latest_runs(database, 5)) < 2 and time.monotonic() < deadline:
                    time.sleep(0.01)

        found.append(score(database, models={"sums": Sums(begin_second)}).succeeded)
        found.append(second[0].result().succeeded)
    assert found == [5, 0]
    other.close()


def test_rows_that_nobody_gives_back_end_the_wait(sqlite_database: Database) -> None:
    fill(sqlite_database, 5)
    holder = chunks_of("sqlite", lease_seconds=3600)
    with sqlite_database.write() as connection:
        scan = Scan(Scope(), (Status.UNPREDICTED,), "sums", ["sums"])
        assert holder.claim(connection, scan, after=0, rows=2) is not None
    summary = score(sqlite_database, Plan(lease_seconds=0.2))
    assert (summary.outcome, summary.succeeded, summary.remaining) == (Outcome.BLOCKED, 3, 2)


def test_who_has_lost_its_lease_writes_nothing(sqlite_database: Database) -> None:
    """The first one is as slow as a machine that sleeps; the second takes over, and the first one's result is void."""
    fill(sqlite_database, 4)
    (other,) = _of_kind(sqlite_database, 1)
    taken: list[int] = []

    def oversleep() -> None:
        if not taken:
            taken.append(0)
            taken.append(score(other, Plan(lease_seconds=0.3)).succeeded)

    first = score(sqlite_database, Plan(lease_seconds=0.3), models={"sums": Sums(oversleep)})
    assert taken == [0, 4]
    assert (first.claimed, first.succeeded, first.failed) == (4, 0, 0)
    assert rows(sqlite_database, Item.attempts) == [1] * 4
    other.close()


@pytest.mark.parametrize("kind", ["mariadb", "postgres"])
def test_a_transaction_that_stands_still_loses_its_rows(clean_url: Callable[[str], str], kind: str) -> None:
    url = clean_url(kind)
    database, other = Database(url, idle_seconds=1), Database(url, idle_seconds=1)
    fill(database, 4)
    taken: list[int] = []

    def oversleep() -> None:
        if not taken:
            taken.append(0)
            taken.append(score(other, Plan(retry_seconds=30)).succeeded)

    progress = Silent()
    first = score(database, Plan(retry_seconds=30), models={"sums": Sums(oversleep)}, progress=progress)
    assert taken == [0, 4]
    assert (first.outcome, first.claimed, first.succeeded) == (Outcome.DONE, 0, 0)
    assert any("away" in trouble for trouble in progress.troubles)
    assert rows(database, Item.attempts) == [1] * 4
    database.close()
    other.close()


def test_clocks_of_hosts_do_not_matter(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """One host is a day ahead and in another time zone; a run's times are the database's, and no lease ends early."""
    real = time.time
    fill(database, 6)
    (other,) = _of_kind(database, 1)
    with database.read() as connection:
        from serving.batch.clock import utc_now

        before = connection.execute(select(utc_now())).scalar_one()

    def on_another_host() -> None:
        monkeypatch.setattr(time, "time", lambda: real() + 86_400)
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        found.append(score(other, Plan(limit=1)).succeeded if other.kind != "sqlite" else 0)

    found: list[int] = []
    try:
        score(database, Plan(chunk_rows=3), models={"sums": Sums(lambda: found or on_another_host())})
        score(other)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert rows(database, Item.attempts) == [1] * 6
    with database.read() as connection:
        times = connection.execute(select(Run.started_at, Run.finished_at)).all()
    assert all(before <= started <= ended < before + timedelta(hours=1) for started, ended in times)
    other.close()


def test_a_full_disk_is_said_and_what_was_scored_stays(sqlite_database: Database) -> None:
    fill(sqlite_database, 3000)
    with sqlite_database.read() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()

    @event.listens_for(sqlite_database.engine, "connect")
    def limit(connection: Any, _entry: Any) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages + 20}")

    with pytest.raises(OperationalError, match="full"):
        score(sqlite_database, Plan(chunk_rows=100))
    event.remove(sqlite_database.engine, "connect", limit)
    counts = items_by_model(sqlite_database)["sums"]
    assert counts["predicted"] > 0
    assert counts["predicted"] + counts["unpredicted"] == 3000
    summary = score(sqlite_database, Plan(lease_seconds=0.5))
    assert summary.succeeded + counts["predicted"] == 3000
    assert rows(sqlite_database, Item.attempts) == [1] * 3000
