from types import SimpleNamespace

import pytest

from benchmarks import overload
from benchmarks.load import LoadError, LoadResult
from benchmarks.memory import PeakMemory
from benchmarks.overload_report import Case, Overload, tables, targets
from benchmarks.results import Section
from tests.benchmarks.test_open_loop import offered

CASE = Case("service_overload", "/iris/predict/batched", bound_rows=100, sustained=50.0, factor=10)
# 100 rows at 50 a second are 2 s of work
GOOD = {
    "offered": offered(seconds=2.0, sent=1000, statuses={200: 100, 429: 890, 504: 10}, polite=890, accepted_p99_ms=4e3),
    **{"lone_before_ms": 10.0, "lone_after_ms": 11.0, "rss_before_mb": 100.0, "rss_peak_mb": 300.0},
    "rss_after_mb": 110.0,
}


def met(**changes) -> list[bool | None]:
    return [target.met for target in targets([Overload(CASE, **{**GOOD, **changes})])]


def test_every_target_is_met_at_its_bound():
    assert met() == [True] * 5


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"offered": offered(seconds=2.0, sent=990, statuses={200: 990})}, 0),
        ({"offered": offered(seconds=2.0, sent=1000, statuses={200: 999, 503: 1})}, 1),
        ({"offered": offered(seconds=2.0, sent=1000, statuses={200: 999, 429: 1})}, 1),
        ({"offered": offered(seconds=2.0, sent=1000, accepted_p99_ms=4001.0)}, 2),
        ({"rss_after_mb": 111.0}, 3),
        ({"lone_after_ms": 11.1}, 4),
    ],
)
def test_each_target_can_be_missed(changes, missed):
    assert met(**changes) == [number != missed for number in range(5)]


def test_no_accepted_answer_is_not_a_met_latency():
    nothing = offered(seconds=2.0, sent=1000, statuses={429: 1000}, polite=1000, accepted_p99_ms=float("nan"))
    assert met(offered=nothing)[2] is None


def test_every_status_is_in_the_report():
    statuses = {200: 11, 418: 22, 429: 33}
    found = Overload(CASE, **{**GOOD, "offered": offered(statuses=statuses, polite=30, broken=4, unanswered=5)})
    text = Section("overload", "x", tables([found])).markdown([])
    assert "11 × 200, 22 × 418, 33 × 429, 4 broken, 5 unanswered" in text
    assert "| 30 (45.5%) |" in text
    assert "2,000" in text  # a full queue in milliseconds


@pytest.mark.usefixtures("model_store")
def test_the_bounds_are_those_of_the_entries():
    assert [scene.bound_rows for scene in overload.scenes()] == [64, 4096]


class Up:
    server = SimpleNamespace(name="x", title="x")

    def url(self) -> str:
        return "http://127.0.0.1:9/"


@pytest.mark.parametrize("result", [LoadResult(0, 1, 1, 0, 0), LoadResult(9, 1, 1, 1, 0), LoadResult(9, 1, 1, 0, 1)])
def test_a_load_that_fails_already_is_not_sustainable(result):
    question = SimpleNamespace(method="POST", headers={}, body=b"")
    scene = SimpleNamespace(question=question, connections=4)
    options = SimpleNamespace(generator=SimpleNamespace(run=lambda _: result), progress=lambda _: None)
    with pytest.raises(LoadError, match="no sustainable load"):
        overload._sustain(Up(), scene, options)


def test_there_are_more_connections_than_the_queue_has_places():
    question = SimpleNamespace(method="POST", headers={}, body=b"")
    load = overload._open_load(Up(), SimpleNamespace(question=question, bound_rows=1000), rate=5.0, seconds=1.0)
    assert load.connections > 2000


def test_the_peak_is_kept():
    values = iter([5.0, 9.0, 7.0])
    with PeakMemory(lambda: next(values, 1.0), interval=0.001) as memory:
        memory._ended.wait(0.05)
    assert memory.peak == 9.0


def test_the_peak_is_looked_at_before_and_after_too():
    values = iter([5.0, 6.0])
    with PeakMemory(lambda: next(values), interval=60) as memory:
        assert memory.peak == 5.0
    assert memory.peak == 6.0
