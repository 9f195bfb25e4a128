"""What every store does: the same tests for each of them."""

from __future__ import annotations

import asyncio
import time

import pytest

from serving.core.errors import ConflictError, InvalidInputError, NotFoundError, OverloadedError
from serving.jobs.job import Claimed, Job, JobError, Lease, Status, new_job_id
from serving.jobs.store import JobStore
from tests.jobs.conftest import OpenStore
from tests.jobs.factory import BROKEN, LONG_SECONDS, MODEL, claim_one, new_job, next_claim, submit, until

pytestmark = pytest.mark.anyio

# What callers are told is the same whichever store they ask.
NO_SUCH_JOB = r"^there is no such job; it may have been deleted at the end of its retention$"
DIED = JobError("worker_died", "the worker that ran the job ended before the job did")


def ids(claimed: list[Claimed]) -> list[str]:
    return [one.lease.job_id for one in claimed]


async def die(store: JobStore) -> None:
    """The leases of all workers run out."""

    async def gone() -> bool:
        await store.maintain()
        return (await store.stats())[MODEL].counts[Status.RUNNING] == 0

    await until(gone)


# --- submitting ---


async def test_a_submitted_job_is_there_for_every_store(store: JobStore, second_store: JobStore) -> None:
    before = time.time()
    accepted = await store.submit(new_job(id="one", ttl_seconds=100))
    assert not accepted.existing
    job = await second_store.get("one")
    assert (job.id, job.model, job.status, job.attempts, job.max_retries) == ("one", MODEL, Status.QUEUED, 0, 2)
    assert (job.started_at, job.finished_at, job.due_at, job.error, job.result) == (None, None, None, None, None)
    assert job.position == 0
    assert job.created_at == pytest.approx(before, abs=LONG_SECONDS)
    assert job.expires_at - job.created_at == pytest.approx(100, abs=0.01)
    assert accepted.job.status is Status.QUEUED
    assert accepted.job.created_at == job.created_at


async def test_submitting_the_same_id_again_changes_nothing(store: JobStore) -> None:
    """A caller that does not know whether the first call arrived calls again."""
    await submit(store, id="one")
    again = await store.submit(new_job(id="one"))
    assert (again.job.id, again.existing) == ("one", False)
    assert ids(await store.claim(MODEL, "worker", limit=9)) == ["one"]
    assert (await store.submit(new_job(id="one"))).job.status is Status.RUNNING
    assert await store.claim(MODEL, "worker", limit=9) == []


async def test_the_same_id_again_is_not_turned_away_by_the_queue_that_it_filled(opened: OpenStore) -> None:
    store = await opened(max_queue_jobs=1)
    await submit(store, id="one", idempotency_key="key", fingerprint="print")
    assert (await submit(store, id="one", idempotency_key="key", fingerprint="print")).id == "one"
    assert (await store.submit(new_job(idempotency_key="key", fingerprint="print"))).existing


@pytest.mark.parametrize("size", [0, 1, 1_048_576])
async def test_payload_and_result_are_kept_exactly(store: JobStore, size: int) -> None:
    payload = (bytes(range(256)) * (size // 256 + 1))[:size]
    await submit(store, id="one", payload=payload, parameters='{"top": "\\u0000 é \U0001f600"}')
    claimed = await claim_one(store)
    assert claimed.payload == payload
    assert claimed.parameters == '{"top": "\\u0000 é \U0001f600"}'
    assert await store.succeed(claimed.lease, b"[" + payload)
    assert (await store.get("one")).result == b"[" + payload


@pytest.mark.parametrize("job_id", ["none", "", "a\x00b", "\ud800", "é", "one:payload", "x" * 5000, "*", "{one}"])
async def test_unknown_ids_are_not_found(store: JobStore, job_id: str) -> None:
    await submit(store, id="one")
    with pytest.raises(NotFoundError, match=NO_SUCH_JOB):
        await store.get(job_id)
    with pytest.raises(NotFoundError, match=NO_SUCH_JOB):
        await store.wait(job_id, 0)
    with pytest.raises(NotFoundError, match=NO_SUCH_JOB):
        await store.cancel(job_id)
    with pytest.raises(NotFoundError, match=NO_SUCH_JOB):
        await store.retry(job_id, ttl_seconds=1)


async def test_an_idempotency_key_gives_the_first_job(store: JobStore, second_store: JobStore) -> None:
    first = await submit(store, idempotency_key="key", fingerprint="print")
    again = await second_store.submit(new_job(idempotency_key="key", fingerprint="print"))
    assert (again.existing, again.job.id) == (True, first.id)
    claimed = await claim_one(store)
    await store.succeed(claimed.lease, b"1")
    finished = await store.submit(new_job(idempotency_key="key", fingerprint="print"))
    assert (finished.existing, finished.job.id, finished.job.status) == (True, first.id, Status.SUCCEEDED)
    with pytest.raises(ConflictError, match=r"^the idempotency key was used for another request$"):
        await store.submit(new_job(idempotency_key="key", fingerprint="another"))
    assert not (await store.submit(new_job(idempotency_key="other", fingerprint="another"))).existing


async def test_a_full_queue_turns_away_by_count(opened: OpenStore) -> None:
    store = await opened(max_queue_jobs=2)
    await submit(store)
    await submit(store)
    with pytest.raises(OverloadedError, match=r"^2 jobs are queued already; try again later$") as full:
        await submit(store, id="late")
    assert full.value.retry_after is not None
    assert 1 <= full.value.retry_after <= 60
    with pytest.raises(NotFoundError, match=NO_SUCH_JOB):
        await store.get("late")
    await submit(store, model="another")
    await claim_one(store)
    await submit(store, id="late")


async def test_a_full_queue_turns_away_by_bytes(opened: OpenStore) -> None:
    store = await opened(max_queue_bytes=1024)
    await submit(store, payload=b"x" * 1000)
    with pytest.raises(OverloadedError) as full:
        await submit(store, payload=b"x" * 25)
    assert full.value.retry_after
    await submit(store, payload=b"x" * 24)
    await store.cancel((await store.page()).jobs[-1].id)
    await submit(store, payload=b"x" * 1000)


# --- order ---


async def test_first_in_first_out_for_each_model(store: JobStore, second_store: JobStore) -> None:
    for number in range(6):
        await submit((store, second_store)[number % 2], id=str(number), model=f"model-{number % 3 == 0}")
    assert [(await store.get(str(number))).position for number in range(6)] == [0, 0, 1, 1, 2, 3]
    assert ids(await second_store.claim("model-False", "worker", limit=3)) == ["1", "2", "4"]
    assert ids(await store.claim("model-False", "worker", limit=3)) == ["5"]
    assert ids(await store.claim("model-True", "worker", limit=3)) == ["0", "3"]
    assert ids(await store.claim("model-None", "worker", limit=3)) == []


async def test_a_claimed_job_is_running_and_no_longer_queued(store: JobStore) -> None:
    await submit(store, id="one")
    await submit(store, id="two")
    claimed = await claim_one(store)
    assert claimed.lease == Lease("one", MODEL, "worker", 1)
    job = await store.get("one")
    assert (job.status, job.attempts, job.position, job.created_at) == (Status.RUNNING, 1, None, claimed.created_at)
    assert job.started_at is not None
    assert job.created_at <= job.started_at
    assert (await store.get("two")).position == 0


async def test_workers_never_get_the_same_job(store: JobStore, second_store: JobStore) -> None:
    jobs = {(await submit(store)).id for _ in range(40)}
    claims = await asyncio.gather(
        *((store, second_store)[turn % 2].claim(MODEL, f"worker-{turn}", limit=3) for turn in range(20))
    )
    got = [job_id for claim in claims for job_id in ids(claim)]
    assert len(got) == len(set(got)) == 40
    assert set(got) == jobs


async def test_a_job_that_is_retried_keeps_its_place(store: JobStore) -> None:
    for name in ("a", "b", "c"):
        await submit(store, id=name)
    first = await claim_one(store)
    assert await store.fail(first.lease, BROKEN, retryable=True)
    due = (await store.get("a")).due_at
    assert due is not None
    assert (await store.get("b")).position == 1
    await until(lambda: _is_past(due))
    assert ids(await store.claim(MODEL, "worker", limit=3)) == ["a", "b", "c"]


async def _is_past(moment: float) -> bool:
    return time.time() > moment + 0.01


async def test_a_job_that_waits_for_its_backoff_holds_up_nobody(opened: OpenStore) -> None:
    store = await opened(backoff_seconds=[60])
    await submit(store, id="a")
    await submit(store, id="b")
    await store.fail((await claim_one(store)).lease, BROKEN, retryable=True)
    assert ids(await store.claim(MODEL, "worker", limit=2)) == ["b"]


async def test_a_released_job_keeps_its_place_and_its_attempts(store: JobStore) -> None:
    for name in ("a", "b"):
        await submit(store, id=name)
    claimed = await claim_one(store)
    assert await store.release(claimed.lease)
    assert not await store.release(claimed.lease)
    job = await store.get("a")
    assert (job.status, job.attempts, job.position, job.due_at) == (Status.QUEUED, 0, 0, None)
    again = await store.claim(MODEL, "worker-2", limit=2)
    assert [(one.lease.job_id, one.lease.attempt, one.suspected) for one in again] == [("a", 1, False), ("b", 1, False)]
    assert not await store.succeed(claimed.lease, b"1")


# --- ends ---


async def test_success(store: JobStore, second_store: JobStore) -> None:
    await submit(store, id="one")
    lease = (await claim_one(store)).lease
    assert await store.succeed(lease, b'{"class": 1}')
    job = await second_store.get("one")
    assert (job.status, job.result, job.error, job.attempts) == (Status.SUCCEEDED, b'{"class": 1}', None, 1)
    assert job.started_at is not None
    assert job.finished_at is not None
    assert job.started_at <= job.finished_at
    assert await store.claim(MODEL, "worker", limit=1) == []


async def test_the_same_success_again_is_true_and_changes_nothing(store: JobStore) -> None:
    """A worker that does not know whether the first call arrived calls again."""
    await submit(store, id="one")
    lease = (await claim_one(store)).lease
    assert await store.succeed(lease, b"1")
    assert await store.succeed(lease, b"2")
    assert not await store.succeed(Lease("one", MODEL, "another", 1), b"3")
    assert not await store.succeed(Lease("one", MODEL, "worker", 2), b"4")
    assert not await store.fail(lease, BROKEN, retryable=True)
    assert not await store.release(lease)
    assert (await store.get("one")).result == b"1"


@pytest.mark.parametrize(
    "lease",
    [
        Lease("one", MODEL, "another", 1),
        Lease("one", MODEL, "worker", 0),
        Lease("one", MODEL, "worker", 2),
        Lease("none", MODEL, "worker", 1),
    ],
    ids=str,
)
async def test_only_the_owner_and_the_attempt_of_the_lease_may_end_a_job(store: JobStore, lease: Lease) -> None:
    await submit(store, id="one")
    right = (await claim_one(store)).lease
    assert not await store.succeed(lease, b"1")
    assert not await store.fail(lease, BROKEN, retryable=False)
    assert not await store.release(lease)
    assert await store.renew([lease]) == set()
    assert (await store.get("one")).status is Status.RUNNING
    assert await store.renew([lease, right]) == {"one"}
    assert await store.succeed(right, b"2")
    assert await store.renew([right]) == set()


async def test_a_failed_attempt_waits_for_its_backoff_each_time_longer(opened: OpenStore) -> None:
    store = await opened(backoff_seconds=[0.05, 0.3])
    await submit(store, id="one", max_retries=3)
    pauses = []
    for attempt in (1, 2, 3):
        (claimed,) = await next_claim(store)
        assert claimed.lease.attempt == attempt
        error = JobError("internal_error", f"attempt {attempt}")
        before = time.time()
        assert await store.fail(claimed.lease, error, retryable=True)
        job = await store.get("one")
        assert (job.status, job.attempts, job.error) == (Status.QUEUED, attempt, error)
        assert job.due_at is not None
        pauses.append(job.due_at - before)
        # Early enough only when the machine is not asleep in between; the claim itself is what must not be early.
        if time.time() < job.due_at - 0.02:
            assert await store.claim(MODEL, "worker", limit=1) == []
    assert 0.04 <= pauses[0] < pauses[1]
    assert pauses[1] >= 0.29
    assert pauses[2] >= 0.29
    (claimed,) = await next_claim(store)
    assert await store.fail(claimed.lease, BROKEN, retryable=True)
    job = await store.get("one")
    assert (job.status, job.attempts, job.error, job.due_at) == (Status.FAILED, 4, BROKEN, None)
    assert job.finished_at is not None


async def test_what_cannot_succeed_is_not_tried_again(store: JobStore) -> None:
    await submit(store, id="one")
    await store.fail((await claim_one(store)).lease, BROKEN, retryable=False)
    job = await store.get("one")
    assert (job.status, job.attempts, job.error) == (Status.FAILED, 1, BROKEN)


async def test_success_after_a_failed_attempt_has_no_error(store: JobStore) -> None:
    await submit(store, id="one")
    await store.fail((await claim_one(store)).lease, BROKEN, retryable=True)
    (claimed,) = await next_claim(store)
    assert not claimed.suspected
    assert await store.succeed(claimed.lease, b"1")
    job = await store.get("one")
    assert (job.status, job.error, job.attempts) == (Status.SUCCEEDED, None, 2)


@pytest.mark.parametrize("message", ["", "a\x00b", "\ud800 half", "é ß \U0001f600", '"\\\n\r', "x" * 100_000])
async def test_odd_error_messages_do_no_harm(store: JobStore, message: str) -> None:
    await submit(store, id="one")
    await store.fail((await claim_one(store)).lease, JobError("invalid_input", message), retryable=False)
    error = (await store.get("one")).error
    assert error is not None
    assert error.code == "invalid_input"
    if message.isprintable() and message.isascii():
        assert error.message == message
    assert len((await store.page(status=Status.FAILED)).jobs) == 1


# --- leases ---


async def test_a_lease_that_is_renewed_holds(hasty_store: JobStore, second_store: JobStore) -> None:
    await submit(hasty_store, id="one")
    lease = (await claim_one(hasty_store)).lease
    # With the other store's long lease, so that this cannot fail because the machine is busy.
    assert await second_store.renew([lease]) == {"one"}
    await asyncio.sleep(0.7)
    await second_store.maintain()
    assert await second_store.claim(MODEL, "another", limit=1) == []
    assert await hasty_store.succeed(lease, b"1")


async def test_a_lease_that_ran_out_goes_back_to_the_head(hasty_store: JobStore, second_store: JobStore) -> None:
    await submit(hasty_store, id="a")
    await submit(hasty_store, id="b")
    stale = (await claim_one(hasty_store, "dead")).lease
    await die(second_store)
    job = await second_store.get("a")
    assert (job.status, job.attempts, job.position) == (Status.QUEUED, 1, 0)
    assert job.error == DIED
    assert not await hasty_store.succeed(stale, b"1")
    (claimed,) = await second_store.claim(MODEL, "alive", limit=2)
    assert (claimed.lease.job_id, claimed.lease.attempt, claimed.suspected) == ("a", 2, True)
    assert not await hasty_store.succeed(stale, b"2")
    assert not await hasty_store.fail(stale, BROKEN, retryable=False)
    assert not await hasty_store.release(stale)
    assert await hasty_store.renew([stale]) == set()
    assert await second_store.succeed(claimed.lease, b"3")
    assert not await hasty_store.succeed(stale, b"4")
    assert (await second_store.get("a")).result == b"3"


async def test_a_waiting_worker_gets_the_job_of_a_dead_one_without_maintenance(
    hasty_store: JobStore, second_store: JobStore
) -> None:
    """Also on an idle system: nobody submits anything."""
    await submit(hasty_store, id="one")
    await claim_one(hasty_store, "dead")
    (claimed,) = await next_claim(second_store, "alive")
    assert (claimed.lease.job_id, claimed.lease.attempt, claimed.suspected) == ("one", 2, True)


async def test_a_job_that_kills_its_workers_fails_after_its_attempts(hasty_store: JobStore) -> None:
    await submit(hasty_store, id="poison", max_retries=2)
    for attempt in (1, 2, 3):
        (claimed,) = await next_claim(hasty_store, f"worker-{attempt}")
        assert (claimed.lease.attempt, claimed.suspected) == (attempt, attempt > 1)
    await die(hasty_store)
    job = await hasty_store.get("poison")
    assert (job.status, job.attempts) == (Status.FAILED, 3)
    assert job.error == DIED
    assert await hasty_store.claim(MODEL, "worker-4", limit=1) == []


async def test_a_known_death_ends_the_leases_of_that_worker_only(opened: OpenStore) -> None:
    store = await opened(backoff_seconds=[0.2])
    for name, retries in (("a", 1), ("b", 0), ("c", 1)):
        await submit(store, id=name, max_retries=retries)
    dead = await store.claim(MODEL, "dead", limit=2)
    alive = await claim_one(store, "alive")
    before = time.time()
    assert await store.abandon("dead") == 2
    assert await store.abandon("dead") == 0
    waiting, failed = await store.get("a"), await store.get("b")
    assert (waiting.status, waiting.attempts, failed.status) == (Status.QUEUED, 1, Status.FAILED)
    assert waiting.due_at is not None
    assert waiting.due_at - before >= 0.19
    for job in (waiting, failed):
        assert job.error is not None
        assert job.error == DIED
    assert not await store.succeed(dead[0].lease, b"1")
    assert await store.succeed(alive.lease, b"1")
    (again,) = await next_claim(store, limit=2)
    assert (again.lease.job_id, again.suspected) == ("a", True)


async def test_what_killed_a_worker_is_claimed_alone(opened: OpenStore) -> None:
    store = await opened(backoff_seconds=[0])
    for name in ("a", "b", "c", "d"):
        await submit(store, id=name)
    await store.claim(MODEL, "first", limit=1)
    await store.claim(MODEL, "second", limit=1)
    await store.claim(MODEL, "third", limit=1)
    assert await store.abandon("second") == 1
    assert await store.release(Lease("a", MODEL, "first", 1))
    assert await store.release(Lease("c", MODEL, "third", 1))
    claims = [await next_claim(store, limit=9) for _ in range(3)]
    assert [[(one.lease.job_id, one.suspected) for one in claim] for claim in claims] == [
        [("a", False)],
        [("b", True)],
        [("c", False), ("d", False)],
    ]
    # An attempt that ends otherwise takes the mark away again.
    await store.fail(claims[1][0].lease, BROKEN, retryable=True)
    (again,) = await next_claim(store)
    assert (again.lease.job_id, again.suspected) == ("b", False)


# --- time to live, retention ---


async def _maintained(store: JobStore, job_id: str, status: Status) -> Job:
    async def reached() -> bool:
        await store.maintain()
        return (await store.get(job_id)).status is status

    await until(reached)
    return await store.get(job_id)


async def test_a_job_that_nobody_began_in_time_expires(store: JobStore) -> None:
    await submit(store, id="late", ttl_seconds=0.2)
    await submit(store, id="good")
    job = await _maintained(store, "late", Status.EXPIRED)
    assert (job.attempts, job.position, job.result) == (0, None, None)
    assert job.finished_at is not None
    assert job.finished_at >= job.expires_at
    assert (await store.get("good")).position == 0
    assert ids(await store.claim(MODEL, "worker", limit=2)) == ["good"]


async def test_an_expired_job_is_never_given_also_without_maintenance(store: JobStore) -> None:
    job = await submit(store, id="late", ttl_seconds=0.2)
    await submit(store, id="good")
    await until(lambda: _is_past(job.expires_at))
    assert ids(await store.claim(MODEL, "worker", limit=2)) == ["good"]


async def test_a_job_that_waits_for_its_backoff_expires_too(opened: OpenStore) -> None:
    store = await opened(backoff_seconds=[60])
    await submit(store, id="one", ttl_seconds=1.5)
    await store.fail((await claim_one(store)).lease, BROKEN, retryable=True)
    job = await _maintained(store, "one", Status.EXPIRED)
    assert (job.attempts, job.due_at) == (1, None)


async def test_a_job_that_has_begun_does_not_expire(store: JobStore) -> None:
    job = await submit(store, id="one", ttl_seconds=1.5)
    lease = (await claim_one(store)).lease
    await until(lambda: _is_past(job.expires_at))
    await store.maintain()
    assert await store.succeed(lease, b"1")


async def test_expired_jobs_leave_room_in_the_queue(opened: OpenStore) -> None:
    store = await opened(max_queue_jobs=1)
    await submit(store, id="late", ttl_seconds=0.2)
    await _maintained(store, "late", Status.EXPIRED)
    await submit(store)


async def test_succeeded_and_cancelled_jobs_are_forgotten_after_their_retention(opened: OpenStore) -> None:
    store = await opened(result_retention_seconds=0.2)
    await submit(store, id="done", idempotency_key="key", fingerprint="print")
    await store.succeed((await claim_one(store)).lease, b"1")
    await submit(store, id="cancelled")
    await store.cancel("cancelled")
    await submit(store, id="failed")
    await store.fail((await claim_one(store)).lease, BROKEN, retryable=False)
    for name in ("done", "cancelled"):
        await until(lambda name=name: _is_forgotten(store, name))  # type: ignore[misc]
    assert (await store.get("failed")).status is Status.FAILED
    assert [job.id for job in (await store.page()).jobs] == ["failed"]
    assert (await store.stats())[MODEL].counts[Status.SUCCEEDED] == 0
    # The key is free again with its job.
    assert not (await store.submit(new_job(idempotency_key="key", fingerprint="other"))).existing


async def test_failed_and_expired_jobs_are_forgotten_after_theirs(opened: OpenStore) -> None:
    store = await opened(failure_retention_seconds=0.2)
    await submit(store, id="failed")
    await store.fail((await claim_one(store)).lease, BROKEN, retryable=False)
    await submit(store, id="expired", ttl_seconds=0.1)
    await submit(store, id="waiting")
    for name in ("failed", "expired"):
        await until(lambda name=name: _is_forgotten(store, name))  # type: ignore[misc]
    assert [job.id for job in (await store.page()).jobs] == ["waiting"]


async def _is_forgotten(store: JobStore, job_id: str) -> bool:
    await store.maintain()
    try:
        await store.get(job_id)
    except NotFoundError:
        return True
    return False


# --- cancelling, retrying by hand ---


async def test_a_cancelled_job_in_the_queue_never_runs(store: JobStore) -> None:
    await submit(store, id="a")
    await submit(store, id="b")
    job = await store.cancel("a")
    assert (job.status, job.result, job.position) == (Status.CANCELLED, None, None)
    assert job.finished_at is not None
    assert (await store.get("b")).position == 0
    assert ids(await store.claim(MODEL, "worker", limit=2)) == ["b"]
    with pytest.raises(ConflictError, match=r"^only a queued or running job can be cancelled; this one is cancelled$"):
        await store.cancel("a")


async def test_the_result_of_a_cancelled_job_is_refused(hasty_store: JobStore, second_store: JobStore) -> None:
    await submit(hasty_store, id="one")
    lease = (await claim_one(hasty_store)).lease
    assert (await second_store.cancel("one")).status is Status.CANCELLED
    assert not await hasty_store.succeed(lease, b"1")
    assert not await hasty_store.fail(lease, BROKEN, retryable=True)
    assert not await hasty_store.release(lease)
    assert await hasty_store.renew([lease]) == set()
    assert await hasty_store.abandon("worker") == 0
    await asyncio.sleep(0.6)
    await hasty_store.maintain()
    job = await second_store.get("one")
    assert (job.status, job.result) == (Status.CANCELLED, None)


async def test_a_job_that_waits_for_its_backoff_can_be_cancelled(store: JobStore) -> None:
    await submit(store, id="one")
    await store.fail((await claim_one(store)).lease, BROKEN, retryable=True)
    assert (await store.cancel("one")).due_at is None
    await asyncio.sleep(0.1)
    assert await store.claim(MODEL, "worker", limit=1) == []


async def test_finished_jobs_cannot_be_cancelled(store: JobStore) -> None:
    await submit(store, id="done")
    await store.succeed((await claim_one(store)).lease, b"1")
    await submit(store, id="failed")
    await store.fail((await claim_one(store)).lease, BROKEN, retryable=False)
    for name, status in (("done", "succeeded"), ("failed", "failed")):
        message = f"^only a queued or running job can be cancelled; this one is {status}$"
        with pytest.raises(ConflictError, match=message):
            await store.cancel(name)


async def test_a_failed_job_can_be_retried_with_its_input(store: JobStore) -> None:
    await submit(store, id="a", payload=b"input", parameters="{}", max_retries=0)
    stale = (await claim_one(store)).lease
    await store.fail(stale, BROKEN, retryable=True)
    await submit(store, id="b")
    before = time.time()
    job = await store.retry("a", ttl_seconds=50)
    assert (job.status, job.attempts, job.finished_at, job.position) == (Status.QUEUED, 0, None, 1)
    assert job.expires_at - before == pytest.approx(50, abs=LONG_SECONDS)
    claimed = await store.claim(MODEL, "another", limit=2)
    assert ids(claimed) == ["b", "a"]
    assert (claimed[1].payload, claimed[1].parameters, claimed[1].lease.attempt) == (b"input", "{}", 1)
    assert not await store.succeed(stale, b"1")
    assert await store.succeed(claimed[1].lease, b"2")


async def test_an_expired_job_can_be_retried_with_its_input(store: JobStore) -> None:
    await submit(store, id="one", payload=b"input", ttl_seconds=0.1)
    await _maintained(store, "one", Status.EXPIRED)
    assert (await store.retry("one", ttl_seconds=50)).status is Status.QUEUED
    assert (await claim_one(store)).payload == b"input"


async def test_only_failed_and_expired_jobs_can_be_retried(store: JobStore) -> None:
    await submit(store, id="queued")
    await submit(store, id="cancelled")
    await store.cancel("cancelled")
    refused = "^only a failed or expired job can be retried; this one is "
    with pytest.raises(ConflictError, match=f"{refused}queued$"):
        await store.retry("queued", ttl_seconds=1)
    lease = (await claim_one(store)).lease
    with pytest.raises(ConflictError, match=f"{refused}running$"):
        await store.retry("queued", ttl_seconds=1)
    await store.succeed(lease, b"1")
    for name, status in (("queued", "succeeded"), ("cancelled", "cancelled")):
        with pytest.raises(ConflictError, match=f"{refused}{status}$"):
            await store.retry(name, ttl_seconds=1)


async def test_a_retry_by_hand_needs_room_in_the_queue(opened: OpenStore) -> None:
    store = await opened(max_queue_jobs=1)
    await submit(store, id="one")
    await store.fail((await claim_one(store)).lease, BROKEN, retryable=False)
    await submit(store)
    with pytest.raises(OverloadedError):
        await store.retry("one", ttl_seconds=1)
    assert (await store.get("one")).status is Status.FAILED


# --- lists and numbers ---


async def _all_pages(
    store: JobStore, *, limit: int, status: Status | None = None, model: str | None = None
) -> list[str]:
    seen: list[str] = []
    after: str | None = None
    while True:
        page = await store.page(status=status, model=model, limit=limit, after=after)
        assert len(page.jobs) <= limit
        seen += [job.id for job in page.jobs]
        if page.next is None:
            return seen
        after = page.next


async def test_pages_are_newest_first_and_filtered(store: JobStore) -> None:
    for number in range(7):
        await submit(store, id=str(number), model=("even", "odd")[number % 2])
    for model, count in (("even", 2), ("odd", 1)):
        for claimed in await store.claim(model, "worker", limit=count):
            await store.succeed(claimed.lease, b"1")
    assert await _all_pages(store, limit=50) == list("6543210")
    assert await _all_pages(store, limit=3) == list("6543210")
    assert await _all_pages(store, limit=7) == list("6543210")
    assert await _all_pages(store, limit=2, model="odd") == list("531")
    assert await _all_pages(store, limit=2, status=Status.SUCCEEDED) == list("210")
    assert await _all_pages(store, limit=1, status=Status.QUEUED, model="even") == list("64")
    assert await _all_pages(store, limit=2, status=Status.FAILED) == []
    assert await _all_pages(store, limit=2, model="none") == []
    page = await store.page(status=Status.SUCCEEDED)
    assert [(job.result, job.position) for job in page.jobs] == [(None, None)] * 3


async def test_pages_are_stable_while_jobs_arrive_and_go(store: JobStore) -> None:
    for number in range(6):
        await submit(store, id=str(number))
    first = await store.page(limit=2)
    for name in ("new", "newer"):
        await submit(store, id=name)
    await store.cancel("4")
    second = await store.page(limit=2, after=first.next)
    third = await store.page(limit=2, after=second.next)
    assert [job.id for page in (first, second, third) for job in page.jobs] == list("543210")
    assert third.next is None


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1e3", "\x00", "é", "٣", "9" * 50, "[]", "AAAA", "\ud800"])
async def test_what_is_no_cursor_is_the_callers_error(store: JobStore, cursor: str) -> None:
    await submit(store)
    with pytest.raises(InvalidInputError, match=r"^after: this is not the `next` of a page$"):
        await store.page(after=cursor)


async def test_stats(store: JobStore, second_store: JobStore) -> None:
    assert await store.stats() == {}
    for number in range(4):
        await submit(store, id=str(number), payload=b"x" * 10)
    await submit(store, model="another", payload=b"")
    done, failed = (one.lease for one in await store.claim(MODEL, "worker", limit=2))
    await store.succeed(done, b"1")
    await store.fail(failed, BROKEN, retryable=False)
    await store.cancel("2")
    stats = await second_store.stats()
    assert set(stats) == {MODEL, "another"}
    one = stats[MODEL]
    assert one.counts == {
        Status.QUEUED: 1,
        Status.RUNNING: 0,
        Status.SUCCEEDED: 1,
        Status.FAILED: 1,
        Status.EXPIRED: 0,
        Status.CANCELLED: 1,
    }
    assert one.queued_bytes == 10
    assert 0 < one.oldest_queued_seconds < LONG_SECONDS
    assert one.finished_per_second == pytest.approx(2 / 60)
    assert (stats["another"].counts[Status.QUEUED], stats["another"].finished_per_second) == (1, 0)
    await claim_one(store)
    stats = await store.stats()
    assert (stats[MODEL].queued_bytes, stats[MODEL].oldest_queued_seconds) == (0, 0)
    assert stats[MODEL].counts[Status.RUNNING] == 1


async def test_retry_after_comes_from_the_measured_rate(opened: OpenStore) -> None:
    store = await opened(max_queue_jobs=60)
    for _ in range(60):
        await submit(store)
    for claimed in await store.claim(MODEL, "worker", limit=60):
        await store.succeed(claimed.lease, b"1")
    for _ in range(60):  # one job a second over the last minute: 60 of them take a minute
        await submit(store)
    with pytest.raises(OverloadedError) as full:
        await submit(store)
    assert full.value.retry_after is not None
    assert 50 <= full.value.retry_after <= 60
    small = await opened(max_queue_jobs=10)
    await store.claim(MODEL, "worker", limit=50)
    with pytest.raises(OverloadedError) as full:
        await submit(small)
    assert full.value.retry_after == pytest.approx(10, abs=2)


# --- waiting ---


async def test_waiting_for_a_finished_job_returns_at_once(store: JobStore) -> None:
    await submit(store, id="one")
    await store.succeed((await claim_one(store)).lease, b"1")
    async with asyncio.timeout(LONG_SECONDS):
        assert (await store.wait("one", 1000)).result == b"1"


async def test_waiting_ends_with_the_unfinished_job(store: JobStore) -> None:
    await submit(store, id="one")
    started = time.monotonic()
    job = await store.wait("one", 0.1)
    assert time.monotonic() - started >= 0.09
    assert (job.status, job.position) == (Status.QUEUED, 0)
    assert (await store.wait("one", 0)).status is Status.QUEUED


@pytest.mark.parametrize("end", ["succeed", "fail", "cancel"])
async def test_waiting_ends_when_another_store_ends_the_job(store: JobStore, second_store: JobStore, end: str) -> None:
    await submit(store, id="one")
    lease = (await claim_one(second_store)).lease
    waiters = [asyncio.create_task(store.wait("one", 1000)) for _ in range(50)]
    await asyncio.sleep(0.05)
    started = time.monotonic()
    if end == "succeed":
        await second_store.succeed(lease, b"1")
    elif end == "fail":
        await second_store.fail(lease, BROKEN, retryable=False)
    else:
        await second_store.cancel("one")
    async with asyncio.timeout(LONG_SECONDS):
        jobs = await asyncio.gather(*waiters)
    assert {job.status for job in jobs} == {(await store.get("one")).status}
    assert jobs[0].status.finished
    assert time.monotonic() - started < LONG_SECONDS


def often(delays: list[float]) -> float:
    """What one in four is below, for a machine that has often much else to do."""
    return sorted(delays)[len(delays) // 4]


async def test_waiting_for_a_job_ends_soon_after_its_end(store: JobStore, second_store: JobStore) -> None:
    """Sooner than a store that only looks once a second, from when it begins to wait."""
    delays = []
    for number in range(9):
        await submit(store, id=str(number))
        lease = (await claim_one(second_store)).lease
        waiting = asyncio.create_task(store.wait(str(number), 1000))
        await asyncio.sleep(0.01)
        started = time.monotonic()
        await second_store.succeed(lease, b"1")
        await waiting
        delays.append(time.monotonic() - started)
    assert often(delays) < 0.5


async def test_waiting_for_work_ends_soon_after_a_backoff(store: JobStore) -> None:
    delays = []
    for number in range(5):
        await submit(store, id=str(number))
        await store.fail((await claim_one(store)).lease, BROKEN, retryable=True)
        started = time.monotonic()
        (claimed,) = await next_claim(store)
        delays.append(time.monotonic() - started)
        await store.succeed(claimed.lease, b"1")
    assert often(delays) < 0.5


async def test_closing_wakes_who_waits(opened: OpenStore) -> None:
    store = await opened()
    await submit(store, id="one")
    await claim_one(store)
    waiting = asyncio.create_task(store.wait("one", 1000))
    idle = asyncio.create_task(store.wait_for_work(MODEL, 1000))
    await asyncio.sleep(0.05)
    await store.close()
    async with asyncio.timeout(LONG_SECONDS):
        await asyncio.wait([waiting, idle])
    await asyncio.gather(waiting, idle, return_exceptions=True)


async def test_waiting_for_work_ends_when_another_store_submits(store: JobStore, second_store: JobStore) -> None:
    """Twenty times, and often sooner than a store that only looks now and then."""
    delays = []
    for _ in range(20):
        idle = asyncio.create_task(next_claim(store))
        await asyncio.sleep(0.01)
        started = time.monotonic()
        job = await submit(second_store)
        async with asyncio.timeout(LONG_SECONDS):
            (claimed,) = await idle
        delays.append(time.monotonic() - started)
        assert claimed.lease.job_id == job.id
        await store.succeed(claimed.lease, b"1")
    assert often(delays) < 0.5


async def test_waiting_for_work_returns_at_once_when_there_is_some_and_late_when_there_is_none(
    store: JobStore,
) -> None:
    started = time.monotonic()
    await submit(store, model="another")
    await store.wait_for_work(MODEL, 0.1)
    assert time.monotonic() - started < LONG_SECONDS
    await submit(store)
    async with asyncio.timeout(LONG_SECONDS):
        await store.wait_for_work(MODEL, 1000)


@pytest.mark.parametrize("how", ["released", "retried", "failed"])
async def test_waiting_for_work_ends_when_a_job_comes_back(store: JobStore, second_store: JobStore, how: str) -> None:
    await submit(store, id="one")
    lease = (await claim_one(second_store)).lease
    idle = asyncio.create_task(next_claim(store, "another"))
    await asyncio.sleep(0.02)
    if how == "released":
        await second_store.release(lease)
    elif how == "retried":
        await second_store.fail(lease, BROKEN, retryable=False)
        await second_store.retry("one", ttl_seconds=50)
    else:
        await second_store.fail(lease, BROKEN, retryable=True)
    async with asyncio.timeout(LONG_SECONDS):
        assert ids(await idle) == ["one"]


async def test_ids_are_unguessable() -> None:
    made = {new_job_id() for _ in range(100)}
    assert len(made) == 100
    assert min(map(len, made)) >= 22
