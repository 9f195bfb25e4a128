"""The micro-batcher with engines that can be held, watched and broken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.core.batcher import MicroBatcher, Observer
from serving.core.errors import DeadlineExceededError, InvalidInputError, OverloadedError, UnavailableError
from serving.core.tensors import Tensors, strings
from tests.codecs.models import same
from tests.held_engine import HeldEngine


class Log(Observer):
    """An observer that remembers."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.waits: list[float] = []
        self.rows = 0
        self.drops: list[str] = []

    def batch(self, rows: int) -> None:
        self.batches.append(rows)

    def waited(self, seconds: float) -> None:
        self.waits.append(seconds)

    def depth(self, rows: int) -> None:
        self.rows = rows

    def dropped(self, reason: str) -> None:
        self.drops.append(reason)


def column(*values: float) -> np.ndarray[Any, Any]:
    return np.array(values, np.float32)[:, np.newaxis]


def doubling(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if np.isnan(rows).any():
        raise ValueError("NaN")
    return rows * 2


def of_tensors(predict: Callable[[np.ndarray[Any, Any]], Any]) -> Callable[[Tensors], Tensors]:
    """A function of the input `x` that gives the output `y`."""
    return lambda tensors: {"y": predict(tensors["x"])}


class Columns(MicroBatcher):
    """A batcher of one input and one output."""

    async def submit(self, rows: Any, **options: Any) -> Any:  # type: ignore[override]
        return (await super().submit({"x": rows}, **options))["y"]


def make(predict: Callable[..., Any] = doubling, **options: Any) -> tuple[Columns, Log]:
    options = {"max_batch_rows": 8, "max_queue_rows": 64} | options
    batcher = Columns(predict if isinstance(predict, HeldEngine) else of_tensors(predict), **options)
    log = batcher.observer = Log()
    return batcher, log


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(bounded())


async def queued(log: Log, rows: int) -> None:
    while log.rows != rows:  # noqa: ASYNC110 - the batcher tells an observer, not an event
        await asyncio.sleep(0)


def test_a_lone_request_is_dispatched_at_once() -> None:
    async def scenario() -> None:
        batcher, log = make()
        assert (await batcher.submit(column(1, 2))).ravel().tolist() == [2, 4]
        assert log.batches == [2]

    run(scenario)


def test_what_arrives_while_the_engine_is_busy_goes_in_one_call() -> None:
    async def scenario() -> None:
        engine = HeldEngine(of_tensors(doubling))
        batcher, log = make(engine, executor=ThreadPoolExecutor(1))
        first = asyncio.create_task(batcher.submit(column(0)))
        await engine.entered()
        rest = [asyncio.create_task(batcher.submit(column(number))) for number in range(1, 6)]
        await queued(log, 5)
        engine.release(2)
        answers = await asyncio.gather(first, *rest)
        assert [answer.item() for answer in answers] == [0, 2, 4, 6, 8, 10]
        assert engine.calls == [[0], [1, 2, 3, 4, 5]]

    run(scenario)


def test_requests_of_one_moment_share_a_call_in_the_event_loop() -> None:
    async def scenario() -> None:
        batcher, log = make()
        await asyncio.gather(*(batcher.submit(column(number)) for number in range(6)))
        assert log.batches == [6]

    run(scenario)


def test_a_large_request_is_split_and_starves_nobody() -> None:
    async def scenario() -> None:
        engine = HeldEngine(of_tensors(doubling))
        batcher, log = make(engine, max_batch_rows=4, executor=ThreadPoolExecutor(1))
        large = asyncio.create_task(batcher.submit(column(*range(10, 30))))
        await engine.entered()
        small = asyncio.create_task(batcher.submit(column(1)))
        await queued(log, 17)
        engine.release(3)
        assert (await small).item() == 2
        assert not large.done()
        engine.release(9)
        assert (await large).ravel().tolist() == [2 * value for value in range(10, 30)]
        assert engine.calls[:3] == [[10, 11, 12, 13], [14, 15, 16, 17], [1, 18, 19, 20]]

    run(scenario)


def test_alone_means_alone_and_keeps_the_order() -> None:
    async def scenario() -> None:
        engine = HeldEngine(of_tensors(doubling))
        batcher, log = make(engine, executor=ThreadPoolExecutor(1))
        tasks = [asyncio.create_task(batcher.submit(column(0)))]
        await engine.entered()
        tasks += [asyncio.create_task(batcher.submit(column(number), alone=number == 3)) for number in (1, 2, 3, 4, 5)]
        await queued(log, 5)
        engine.release(9)
        await asyncio.gather(*tasks)
        assert engine.calls == [[0], [1, 2], [3], [4, 5]]

    run(scenario)


def test_a_full_queue_says_when_to_come_back() -> None:
    now = 0.0

    async def scenario() -> None:
        nonlocal now
        engine = HeldEngine(of_tensors(doubling))
        batcher, log = make(engine, max_queue_rows=8, executor=ThreadPoolExecutor(1), clock=lambda: now)
        running = asyncio.create_task(batcher.submit(column(0)))
        await engine.entered()
        now += 10  # one row in ten seconds: the measured rate
        engine.release()
        await running
        running = asyncio.create_task(batcher.submit(column(0)))
        await engine.entered()
        waiting = asyncio.create_task(batcher.submit(column(*range(8))))
        await queued(log, 8)
        with pytest.raises(OverloadedError) as refused:
            await batcher.submit(column(1))
        assert refused.value.retry_after == 16  # 8 rows, and a fifth of ten seconds each after one measurement
        assert log.drops == ["queue_full"]
        engine.release(2)
        await asyncio.gather(running, waiting)

    run(scenario)


def test_an_empty_queue_takes_a_request_larger_than_its_bound() -> None:
    async def scenario() -> None:
        batcher, _ = make(max_batch_rows=2, max_queue_rows=2)
        assert (await batcher.submit(column(1, 2, 3, 4, 5))).ravel().tolist() == [2, 4, 6, 8, 10]

    run(scenario)


def test_what_has_expired_never_reaches_the_engine() -> None:
    now = 0.0

    async def scenario() -> None:
        nonlocal now
        engine = HeldEngine(of_tensors(doubling))
        batcher, log = make(engine, executor=ThreadPoolExecutor(1), clock=lambda: now)
        first = asyncio.create_task(batcher.submit(column(0)))
        await engine.entered()
        late = asyncio.create_task(batcher.submit(column(1), expires_in=5))
        patient = asyncio.create_task(batcher.submit(column(2), expires_in=50))
        await queued(log, 2)
        now += 6
        engine.release(2)
        with pytest.raises(DeadlineExceededError):
            await late
        await asyncio.gather(first, patient)
        assert engine.calls == [[0], [2]]
        assert (log.drops, log.rows) == (["expired"], 0)

    run(scenario)


def test_a_cancelled_caller_takes_its_rows_along() -> None:
    async def scenario() -> None:
        engine = HeldEngine(of_tensors(doubling))
        batcher, log = make(engine, executor=ThreadPoolExecutor(1))
        first = asyncio.create_task(batcher.submit(column(0)))
        await engine.entered()
        gone, stays = (asyncio.create_task(batcher.submit(column(number))) for number in (1, 2))
        await queued(log, 2)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert (log.drops, log.rows) == (["cancelled"], 1)
        engine.release(2)
        await asyncio.gather(first, stays)
        assert engine.calls == [[0], [2]]

    run(scenario)


def test_a_bad_row_fails_alone() -> None:
    async def scenario() -> None:
        batcher, log = make()
        answers = await asyncio.gather(
            *(batcher.submit(column(value)) for value in (1, 2, float("nan"), 4, 5)), return_exceptions=True
        )
        assert [answer.item() for index, answer in enumerate(answers) if index != 2] == [2, 4, 8, 10]  # type: ignore[union-attr]
        assert isinstance(answers[2], ValueError)
        assert log.batches == [5, 2, 3, 1, 2]  # all, then halves of what failed

    run(scenario)


@pytest.mark.parametrize("alone", [False, True])
def test_no_rows_are_refused_and_not_waited_for(alone: bool) -> None:
    async def scenario() -> None:
        batcher, log = make()
        with pytest.raises(InvalidInputError):
            await batcher.submit(column(), alone=alone)
        assert (log.batches, log.rows) == ([], 0)
        assert (await batcher.submit(column(1))).item() == 2

    run(scenario)


@pytest.mark.parametrize("change", [1, -1])
def test_a_wrong_number_of_rows_is_nobody_elses_answer(change: int, caplog: pytest.LogCaptureFixture) -> None:
    """An engine that drops or repeats a row when it meets a negative one."""

    def careless(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        answer = rows * 2
        if not (rows < 0).any():
            return answer
        return answer[1:] if change < 0 else np.concatenate([answer[:1], answer])

    async def scenario() -> None:
        batcher, log = make(careless)
        answers = await asyncio.gather(
            *(batcher.submit(column(value)) for value in (1, 2, -3, 4)), return_exceptions=True
        )
        assert [answer.item() for index, answer in enumerate(answers) if index != 2] == [2, 4, 8]  # type: ignore[union-attr]
        assert isinstance(answers[2], RuntimeError)
        assert log.rows == 0

    run(scenario)
    assert f"the engine answered 4 rows with {{'y': {4 + change}}}" in caplog.text


def test_an_observer_need_not_look() -> None:
    async def scenario() -> None:
        batcher = Columns(of_tensors(doubling), max_batch_rows=8, max_queue_rows=8)
        assert (await batcher.submit(column(1))).item() == 2

    run(scenario)


def test_a_closed_batcher_finishes_and_accepts_nothing() -> None:
    async def scenario() -> None:
        batcher, _ = make()
        accepted = asyncio.create_task(batcher.submit(column(1)))
        await asyncio.sleep(0)
        batcher.close()
        assert (await accepted).item() == 2
        with pytest.raises(UnavailableError):
            await batcher.submit(column(1))

    run(scenario)


def test_lingering_waits_for_company_unless_the_batch_is_full() -> None:
    async def scenario() -> None:
        batcher, log = make(linger_seconds=0.5)

        async def later() -> np.ndarray[Any, Any]:
            await asyncio.sleep(0.01)
            return await batcher.submit(column(2))

        await asyncio.gather(batcher.submit(column(1)), later())
        assert log.batches == [2]
        await batcher.submit(column(*range(8)))
        assert log.batches == [2, 8]

    run(scenario)


def test_lingering_ends_when_the_batch_is_full() -> None:
    async def scenario() -> None:
        batcher, log = make(linger_seconds=60)
        first = asyncio.create_task(batcher.submit(column(1)))
        await queued(log, 1)
        await asyncio.sleep(0.01)
        assert not first.done()
        await asyncio.gather(first, batcher.submit(column(*range(7))))
        assert log.batches == [8]
        scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        assert len([handle for handle in scheduled if not handle.cancelled()]) == 1, "the time limit of this test"

    run(scenario)


def test_who_wants_no_company_does_not_linger() -> None:
    async def scenario() -> None:
        batcher, log = make(linger_seconds=60)
        assert (await batcher.submit(column(1), alone=True)).item() == 2
        assert log.batches == [1]

    run(scenario)


def test_a_request_waits_once_even_if_it_is_split() -> None:
    async def scenario() -> None:
        batcher, log = make(max_batch_rows=4)
        await batcher.submit(column(*range(10)))
        assert log.batches == [4, 4, 2]
        assert len(log.waits) == 1

    run(scenario)


@pytest.mark.parametrize(("passed", "reason"), [(4.0, "cancelled"), (4.99, "expired"), (5.5, "expired")])
def test_a_caller_that_gives_up_at_its_time_limit_has_expired(passed: float, reason: str) -> None:
    now = 0.0

    async def scenario() -> None:
        nonlocal now
        engine = HeldEngine(of_tensors(doubling))
        batcher, log = make(engine, executor=ThreadPoolExecutor(1), clock=lambda: now)
        first = asyncio.create_task(batcher.submit(column(0)))
        await engine.entered()
        late = asyncio.create_task(batcher.submit(column(1), expires_in=5))
        await queued(log, 1)
        now += passed
        late.cancel()
        with pytest.raises(asyncio.CancelledError):
            await late
        assert (log.drops, log.rows) == ([reason], 0)
        engine.release()
        await first

    run(scenario)


def test_callers_keep_their_own_context() -> None:
    """The engine runs in no caller's context: not in the first one's for ever, as BentoML's dispatcher does."""
    import contextvars

    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nobody")
    seen: list[str] = []

    def predict(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        seen.append(variable.get())
        return rows

    async def caller(batcher: MicroBatcher, name: str) -> str:
        variable.set(name)
        await batcher.submit(column(1))
        return variable.get()

    async def scenario() -> None:
        batcher, _ = make(predict)
        for name in ("first", "second"):
            assert await asyncio.create_task(caller(batcher, name)) == name

    run(scenario)
    assert "first" not in seen[1:]


@settings(max_examples=150, deadline=None)
@given(
    requests=st.lists(
        st.tuples(
            st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=30),
            st.booleans(),  # alone
            st.sampled_from(["stay", "stay", "stay", "cancel", "nan"]),
            st.integers(0, 3),  # loop turns before it is sent
        ),
        min_size=1,
        max_size=25,
    ),
    max_batch_rows=st.integers(1, 16),
    in_thread=st.booleans(),
)
def test_everybody_gets_what_they_would_get_alone(
    requests: list[tuple[list[float], bool, str, int]], max_batch_rows: int, in_thread: bool
) -> None:
    """Whatever comes together, is split, is cancelled or breaks: the others' answers are exactly their own."""

    async def scenario() -> None:
        executor = ThreadPoolExecutor(1) if in_thread else None
        batcher, log = make(doubling, max_batch_rows=max_batch_rows, max_queue_rows=10_000, executor=executor)

        async def ask(values: list[float], alone: bool, turns: int) -> np.ndarray[Any, Any]:
            for _ in range(turns):
                await asyncio.sleep(0)
            return await batcher.submit(column(*values), alone=alone)

        tasks = []
        for values, alone, fate, turns in requests:
            sent = [*values, float("nan")] if fate == "nan" else values
            tasks.append(asyncio.create_task(ask(sent, alone, turns)))
        await asyncio.sleep(0)
        for task, (_, _, fate, _) in zip(tasks, requests, strict=True):
            if fate == "cancel":
                task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for answer, (values, _, fate, _) in zip(answers, requests, strict=True):
            if fate == "stay":
                np.testing.assert_array_equal(answer, column(*values) * 2)  # type: ignore[arg-type]
            elif fate == "nan":
                assert isinstance(answer, ValueError)
        assert log.rows == 0
        assert max(log.batches, default=0) <= max_batch_rows
        if executor is not None:
            executor.shutdown()

    run(scenario)


# Several tensors


def several(tensors: Tensors) -> Tensors:
    """The sum of numbers and the number of letters of each row."""
    letters = [sum(len(word) for word in row) for row in tensors["words"].tolist()]
    return {"sum": tensors["numbers"].sum(axis=1), "letters": np.array(letters, np.int64)}


def mixed(*rows: tuple[list[float], list[str]]) -> Tensors:
    return {
        "numbers": np.array([numbers for numbers, _ in rows], np.float32),
        "words": strings([word for _, words in rows for word in words], (len(rows), len(rows[0][1]))),
    }


def tensors_batcher(predict: Callable[[Tensors], Tensors], **options: Any) -> tuple[MicroBatcher, Log]:
    batcher = MicroBatcher(predict, **({"max_batch_rows": 8, "max_queue_rows": 64} | options))
    log = batcher.observer = Log()
    return batcher, log


def test_rows_of_several_tensors_are_joined_and_split() -> None:
    async def scenario() -> None:
        batcher, log = tensors_batcher(several)
        requests = [
            mixed(([1, 2], ["a", "bc"]), ([3, 4], ["", "x"])),
            mixed(([5, 6], ["Zürich", ""])),
            mixed(*[([0.0, float(n)], ["a" * n, "b"]) for n in range(9)]),
        ]
        answers = await asyncio.gather(*(batcher.submit(request) for request in requests))
        for request, answer in zip(requests, answers, strict=True):
            assert same(answer, several(request))
        assert log.batches == [8, 4]

    run(scenario)


def test_rows_of_other_shapes_do_not_share_a_call_and_keep_their_order() -> None:
    async def scenario() -> None:
        calls: list[tuple[int, ...]] = []

        def mean(tensors: Tensors) -> Tensors:
            calls.append(tensors["x"].shape)
            return {"y": tensors["x"].mean(axis=1)}

        batcher, log = tensors_batcher(mean, varies=True)
        lengths = [2, 2, 3, 3, 3, 2, 5]
        rows = [np.full((1, length), number, np.float32) for number, length in enumerate(lengths)]
        answers = await asyncio.gather(*(batcher.submit({"x": row}) for row in rows))
        assert [answer["y"].item() for answer in answers] == list(range(7))
        assert calls == [(2, 2), (3, 3), (1, 2), (1, 5)]
        assert log.batches == [2, 3, 1, 1]
        assert log.rows == 0

    run(scenario)


def test_shapes_of_every_tensor_count_whatever_their_order() -> None:
    async def scenario() -> None:
        batcher, log = tensors_batcher(lambda tensors: {"y": tensors["a"].sum(axis=1)}, varies=True)
        first = {"a": np.ones((1, 2)), "b": np.ones((1, 3))}
        swapped = {"b": np.ones((1, 3)), "a": np.ones((1, 2))}
        other = {"a": np.ones((1, 2)), "b": np.ones((1, 4))}
        answers = await asyncio.gather(*(batcher.submit(each) for each in (first, swapped, other)))
        assert [answer["y"].tolist() for answer in answers] == [[2]] * 3
        assert log.batches == [2, 1]

    run(scenario)


def test_tensors_without_rows_are_a_call_each() -> None:
    async def scenario() -> None:
        batcher, log = tensors_batcher(
            lambda tensors: {"state": tensors["state"] + tensors["step"], "level": tensors["step"]}, has_rows=False
        )
        requests = [{"state": np.zeros((2, 1, 3)) + n, "step": np.array(0.5)} for n in range(3)]
        answers = await asyncio.gather(*(batcher.submit(request) for request in requests))
        for number, answer in enumerate(answers):
            assert answer["state"].tolist() == (np.zeros((2, 1, 3)) + number + 0.5).tolist()
            assert answer["level"].shape == ()
        assert log.batches == [1, 1, 1]
        assert log.rows == 0

    run(scenario)


def test_the_queue_of_tensors_without_rows_is_bounded_by_requests() -> None:
    async def scenario() -> None:
        engine = HeldEngine(lambda tensors: tensors)
        with ThreadPoolExecutor(1) as threads:
            batcher, log = tensors_batcher(engine, has_rows=False, max_queue_rows=2, executor=threads)
            request = {"x": np.zeros((7, 2))}
            tasks = [asyncio.create_task(batcher.submit(request))]
            await engine.entered()
            tasks += [asyncio.create_task(batcher.submit(request)) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(OverloadedError, match="2 rows are waiting"):
                await batcher.submit(request)
            engine.release(3)
            assert [answer["x"].shape for answer in await asyncio.gather(*tasks)] == [(7, 2)] * 3
            assert log.drops == ["queue_full"]

    run(scenario)


@pytest.mark.parametrize("outputs", [{"a": 2, "b": 1}, {"a": 1, "b": 1}, {"a": 0}])
def test_an_answer_of_a_wrong_length_in_any_tensor_is_nobodys(outputs: dict[str, int]) -> None:
    async def scenario() -> None:
        batcher, _ = tensors_batcher(lambda _: {name: np.zeros(length) for name, length in outputs.items()})
        answers = await asyncio.gather(
            *(batcher.submit({"x": np.zeros((2, 1))}) for _ in range(2)), return_exceptions=True
        )
        assert all(isinstance(answer, RuntimeError) for answer in answers)

    run(scenario)
