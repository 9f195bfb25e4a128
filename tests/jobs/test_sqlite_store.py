"""What is particular to the SQLite store: its file, its queries, what a crash leaves."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from serving.core.errors import ConfigurationError, UnavailableError
from serving.jobs import sqlite_schema
from serving.jobs.job import Lease, Status
from serving.jobs.sqlite_queue import MOST_AT_ONCE, SqliteQueue
from serving.jobs.sqlite_schema import connect
from serving.jobs.sqlite_store import SqliteJobStore
from serving.settings.jobs import JobsSettings
from tests.jobs.conftest import OpenStore
from tests.jobs.factory import BROKEN, LONG_SECONDS, MODEL, claim_one, new_job, next_claim, submit

pytestmark = pytest.mark.anyio


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def broken_file(file: Path) -> Path:
    file.write_bytes(b"this is not a database" * 100)
    return file


@pytest.fixture
def store_url(file: Path) -> str:
    return f"sqlite:///{file}"


# --- the file ---


async def test_the_file_belongs_to_its_user_alone(opened: OpenStore, file: Path) -> None:
    await submit(await opened())
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()}
    assert modes == {"jobs.db": 0o600, "jobs.db-wal": 0o600, "jobs.db-shm": 0o600}


async def test_three_slashes_are_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = SqliteJobStore(JobsSettings(url="sqlite:///here.db"))
    await store.open()
    await store.close()
    await store.close()
    assert (tmp_path / "here.db").exists()


@pytest.mark.parametrize("url", ["sqlite:", "sqlite://jobs.db", "sqlite:///", "sqlite:///:memory:", "sqlite:///a?b"])
async def test_a_url_without_a_file_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        SqliteJobStore(JobsSettings(url=url))


async def test_a_missing_directory_is_said_at_once(opened: OpenStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no directory"):
        await opened(url=f"sqlite:///{tmp_path / 'none' / 'jobs.db'}")


@pytest.mark.parametrize("statement", ["PRAGMA user_version = 2", "PRAGMA user_version = 0"])
async def test_tables_of_another_version_are_refused(opened: OpenStore, file: Path, statement: str) -> None:
    await (await opened()).close()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(statement)
    with pytest.raises(ConfigurationError, match="version"):
        await opened()


def remove(file: Path) -> None:
    file.unlink()


async def test_a_file_that_cannot_be_read_is_an_outage_until_it_can(broken_file: Path) -> None:
    store = SqliteJobStore(JobsSettings(url=f"sqlite:///{broken_file}"))
    with pytest.raises(UnavailableError) as outage:
        await store.open()
    assert outage.value.retry_after == 1
    with pytest.raises(UnavailableError):
        await submit(store)
    remove(broken_file)
    await submit(store, id="one")
    assert (await store.get("one")).status is Status.QUEUED
    await store.close()
    with pytest.raises(UnavailableError):
        await store.get("one")


async def test_a_file_that_stays_locked_is_an_outage(
    opened: OpenStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sqlite_schema.BUSY_SECONDS >= 5
    monkeypatch.setattr(sqlite_schema, "BUSY_SECONDS", 0.1)
    store = await opened()
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError) as outage:
            await submit(store, id="one")
        assert outage.value.retry_after == 1
        await (await opened()).stats()
        other.execute("ROLLBACK")
    await submit(store, id="one")
    assert (await store.get("one")).position == 0


async def test_a_file_that_is_locked_for_a_moment_is_waited_for_beside_the_event_loop(
    opened: OpenStore, file: Path
) -> None:
    store = await opened()
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        accepting = asyncio.create_task(submit(store, id="one"))
        await asyncio.sleep(0.1)  # with the lock held by this very loop: a blocked one would never come back
        assert not accepting.done()
        other.execute("ROLLBACK")
    assert (await accepting).id == "one"


async def test_a_full_disk_is_an_outage_and_what_was_accepted_stays(opened: OpenStore) -> None:
    store = await opened()
    assert isinstance(store, SqliteJobStore)
    await submit(store, id="one")

    def limit(pages: int) -> Callable[[], object]:
        return lambda: store._connected().execute(f"PRAGMA max_page_count = {pages}").fetchone()

    await store._in_thread(limit(1))  # SQLite takes the present size when that is larger
    with pytest.raises(UnavailableError):
        await submit(store, id="two", payload=b"x" * 100_000)
    await store._in_thread(limit(1_000_000))
    assert [job.id for job in (await store.page()).jobs] == ["one"]
    await submit(store, id="two", payload=b"x" * 100_000)


async def test_mistakes_in_the_program_are_no_outage(opened: OpenStore) -> None:
    store = await opened()
    assert isinstance(store, SqliteJobStore)
    await store._in_thread(lambda: store._connected().execute("DROP TABLE payloads"))
    with pytest.raises(sqlite3.OperationalError):
        await submit(store, id="one")
    assert (await store.page()).jobs == []


# --- several processes, crashes ---

SUBMIT = """
import asyncio, sys
from serving.jobs.job import NewJob, new_job_id
from serving.jobs.store import open_store
from serving.settings.jobs import JobsSettings
async def main(url, count):
    print("ready", flush=True)
    sys.stdin.readline()
    store = open_store(JobsSettings(url=url))
    await store.open()
    for _ in range(count):
        new = NewJob(new_job_id(), "model", b"x" * 20_000, "{}", 3, 300.0)
        print((await store.submit(new)).job.id, flush=True)
    await store.close()
asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def submitting(url: str, count: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SUBMIT, url, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process


def begin(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """Ended and closed with the test."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


async def test_processes_may_make_the_file_at_the_same_moment(
    opened: OpenStore, store_url: str, processes: list[subprocess.Popen[str]]
) -> None:
    processes += [submitting(store_url, 5) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        begin(process)
    accepted = [line for process in processes for line in process.communicate(timeout=LONG_SECONDS)[0].split()]
    assert [process.returncode for process in processes] == [0] * 3
    store = await opened()
    assert {job.id for job in (await store.page()).jobs} == set(accepted)
    assert len(accepted) == 15


async def test_what_a_killed_process_was_told_is_accepted_is_there(
    opened: OpenStore, store_url: str, file: Path, processes: list[subprocess.Popen[str]]
) -> None:
    accepted: list[str] = []
    for after in (1, 7, 20):
        process = submitting(store_url, 100_000)
        processes.append(process)
        begin(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        accepted += [process.stdout.readline().strip() for _ in range(after)]
        process.send_signal(signal.SIGKILL)
        # The last line may have been cut off in the middle.
        accepted += [line.strip() for line in process.stdout.readlines() if line.endswith("\n")]
        process.wait()
    store = await opened()
    for job_id in accepted:
        assert (await store.get(job_id)).status is Status.QUEUED
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (jobs,) = connection.execute("SELECT count(*) FROM jobs").fetchone()
        (payloads,) = connection.execute("SELECT count(*) FROM payloads").fetchone()
    assert len(accepted) <= jobs == payloads <= len(accepted) + 3


async def test_commits_are_on_the_disk(file: Path) -> None:
    with closing(connect(file)) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert connection.execute("PRAGMA busy_timeout").fetchone()[0] >= 5000


async def test_payloads_and_results_are_deleted_with_their_use(opened: OpenStore, file: Path) -> None:
    store = await opened(result_retention_seconds=0.05, failure_retention_seconds=0.05, backoff_seconds=[0])
    for name in ("done", "cancelled", "failed", "queued"):
        await submit(store, id=name)
    done, cancelled, failed = (one.lease for one in await store.claim(MODEL, "worker", limit=3))
    await store.succeed(done, b"1")
    await store.cancel(cancelled.job_id)
    await store.fail(failed, BROKEN, retryable=False)
    with closing(sqlite3.connect(file)) as connection:
        rows = "SELECT id FROM jobs WHERE number IN (SELECT number FROM {}) ORDER BY id"
        assert connection.execute(rows.format("payloads")).fetchall() == [("failed",), ("queued",)]
        assert connection.execute(rows.format("results")).fetchall() == [("done",)]
        await asyncio.sleep(0.06)
        await store.maintain()
        assert connection.execute("SELECT number FROM payloads").fetchall() == [(4,)]
        assert connection.execute("SELECT number FROM results").fetchall() == []
        assert connection.execute("SELECT id FROM jobs").fetchall() == [("queued",)]


# --- waiting ---


async def test_waiting_holds_no_thread(opened: OpenStore) -> None:
    store = await opened()
    await submit(store, id="one")
    lease = (await claim_one(store)).lease
    # Not their number: threads that an earlier test started may end meanwhile.
    threads = set(threading.enumerate())
    waiters = [asyncio.create_task(store.wait("one", 1000)) for _ in range(200)]
    idle = [asyncio.create_task(store.wait_for_work(MODEL, 0.2)) for _ in range(200)]
    await asyncio.sleep(0.1)
    assert set(threading.enumerate()) <= threads
    await store.succeed(lease, b"1")
    assert {job.status for job in await asyncio.gather(*waiters)} == {Status.SUCCEEDED}
    await asyncio.gather(*idle)


async def test_an_idle_store_does_not_look_again_and_again(opened: OpenStore) -> None:
    store = await opened()
    assert isinstance(store, SqliteJobStore)
    statements: list[str] = []
    await store._in_thread(lambda: store._connected().set_trace_callback(statements.append))
    await store.wait_for_work(MODEL, 0.5)
    looks = statements.count("BEGIN")
    await store._in_thread(lambda: store._connected().set_trace_callback(None))
    assert 1 <= looks <= 2


async def test_without_sockets_work_is_found_all_the_same(opened: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.jobs.notify.Notifier._bind", _refuse)
    store, other = await opened(), await opened()
    delays = []
    for number in range(5):
        idle = asyncio.create_task(next_claim(store))
        await asyncio.sleep(0.02)
        await submit(other, id=str(number))
        (claimed,) = await idle
        waiting = asyncio.create_task(other.wait(str(number), 1000))
        await asyncio.sleep(0.02)
        started = time.monotonic()
        await store.succeed(claimed.lease, b"1")
        assert (await waiting).result == b"1"
        delays.append(time.monotonic() - started)
    assert min(delays) < 0.9, "it looks as seldom as with sockets"


def _refuse(*_: object) -> None:
    raise PermissionError("read-only file system")


# --- queries ---


def _all_steps(connection: sqlite3.Connection) -> None:
    """Every step of the store, those for rare cases too."""

    def queue(**changes: float) -> SqliteQueue:
        return SqliteQueue(connection, JobsSettings(backoff_seconds=[0], **changes))  # type: ignore[arg-type]

    for number in range(12):
        queue().submit(new_job(id=str(number), idempotency_key=f"key-{number}", ttl_seconds=0 if number > 9 else 99))
    queue().submit(new_job(idempotency_key="key-0"))
    leases = [one.lease for one in queue(lease_seconds=0.5).claim(MODEL, "worker", 6)]
    assert len(leases) == 6
    queue().renew(leases)
    assert queue().succeed(leases[0], b"1")
    assert queue().succeed(leases[0], b"1")
    assert queue().fail(leases[1], BROKEN, retryable=False)
    assert queue().fail(leases[2], BROKEN, retryable=True)
    assert queue().release(leases[3])
    assert queue().abandon("worker") == 2
    assert queue().retry("1", 99).status is Status.QUEUED
    assert queue().cancel("6").status is Status.CANCELLED
    assert queue().current("10").status is Status.EXPIRED
    assert not queue().fail(Lease("7", MODEL, "worker", 1), BROKEN, retryable=True)
    queue().stats()
    queue().seconds_to_work(MODEL)
    queue().seconds_to_work("none")
    queue().maintain()
    for status in (None, Status.QUEUED):
        for model in (None, MODEL):
            assert queue().page(status, model, 2, "9999").jobs
    with pytest.raises(Exception, match="queued already"):
        queue(max_queue_jobs=1).submit(new_job())


async def test_no_query_searches_a_whole_table(file: Path) -> None:
    statements: list[str] = []
    with closing(connect(file)) as connection:
        connection.set_trace_callback(statements.append)
        _all_steps(connection)
        connection.set_trace_callback(None)
        plans = {
            (step["detail"], statement)
            for statement in statements
            if not statement.startswith("--")  # of a trigger
            for step in connection.execute(f"EXPLAIN QUERY PLAN {statement}")
        }
    assert len(plans) > 30
    # One row for a model and status, one row in all.
    slow = {plan for plan in plans if "SCAN" in plan[0] and plan[0] not in ("SCAN counts", "SCAN places")}
    assert slow == set()
    assert {plan for plan in plans if "TEMP B-TREE" in plan[0]} == set()


FILL = """
WITH RECURSIVE numbers (n) AS (SELECT ? UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)
INSERT INTO jobs (id, model, status, place, payload_bytes, parameters, fingerprint, max_retries, created_at,
    queued_at, expires_at, due_at)
SELECT 'job-' || n, 'model', 'queued', n, 1, '', '', 3, n, n, 9e9, CASE WHEN n % 2 THEN NULL ELSE 8e9 END FROM numbers
"""


async def test_the_work_of_a_step_does_not_grow_with_the_queue(file: Path) -> None:
    """Counted in instructions of SQLite's machine, which a busy computer does not change. Half of the jobs wait."""
    with closing(connect(file)) as connection:
        costs = []
        for first, last in ((1_000, 1_999), (2_000, 50_000)):
            connection.execute(FILL, (first, last))
            connection.execute("INSERT INTO payloads SELECT number, x'00' FROM jobs WHERE true ON CONFLICT DO NOTHING")
            costs.append([_instructions(connection, step) for step in STEPS])
    for step, small, large in zip(STEPS, *costs, strict=True):
        assert large <= small * 1.2 + 20, f"{step.__name__}: {small} → {large}"


def _claim(queue: SqliteQueue) -> None:
    assert len(queue.claim(MODEL, "worker", 8)) == 8


def _submit(queue: SqliteQueue) -> None:
    queue.submit(new_job())


def _stats(queue: SqliteQueue) -> None:
    queue.stats()


def _look_for_work(queue: SqliteQueue) -> None:
    assert queue.seconds_to_work(MODEL) == 0


def _maintain(queue: SqliteQueue) -> None:
    queue.maintain()


STEPS = [_claim, _submit, _stats, _look_for_work, _maintain]


def _instructions(connection: sqlite3.Connection, step: Callable[[SqliteQueue], None]) -> int:
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1

    queue = SqliteQueue(connection, JobsSettings(max_queue_jobs=1_000_000))
    connection.set_progress_handler(tick, 1)
    try:
        step(queue)
    finally:
        connection.set_progress_handler(None, 0)
    return count


async def test_more_expired_jobs_than_one_step_ends_are_not_given_either(file: Path) -> None:
    with closing(connect(file)) as connection:
        for number in range(MOST_AT_ONCE + 10):
            SqliteQueue(connection, JobsSettings()).submit(new_job(id=str(number), ttl_seconds=0))
        SqliteQueue(connection, JobsSettings()).submit(new_job(id="good"))
        (claimed,) = SqliteQueue(connection, JobsSettings()).claim(MODEL, "worker", 5)
        assert claimed.lease.job_id == "good"


async def test_one_call_of_maintenance_ends_many_jobs(opened: OpenStore) -> None:
    store = await opened(failure_retention_seconds=0.2)
    for _ in range(450):
        await submit(store, ttl_seconds=0.001)
    await asyncio.sleep(0.01)
    await store.maintain()
    left = (await store.stats()).get(MODEL)
    assert left is None or left.counts[Status.QUEUED] == 0
    await asyncio.sleep(0.25)
    await store.maintain()
    assert await store.stats() == {}


LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


def lock_and_die(file: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LOCK, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        process.kill()


async def test_a_killed_process_does_not_keep_the_file_locked(opened: OpenStore, file: Path) -> None:
    store = await opened()
    lock_and_die(file)
    await submit(store)
