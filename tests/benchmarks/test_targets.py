import pytest

from benchmarks import inception_v3, iris
from benchmarks.measurement import Measurement, Outcome, Point
from benchmarks.raw_engine import EngineResult
from benchmarks.server import Server
from benchmarks.targets import Target, at_least, targets_table


def point(rate: float, connections: int = 32, p50: float = 1.0, p99: float = 2.0) -> Point:
    return Point(connections, rate, rate, rate, p50, p99, 0, 0)


def outcome(rates: dict[str, float], **service: float) -> Outcome:
    measurements = {}
    for name, rate in rates.items():
        tail = service.get("p99", 2.0) if name == "service" else 2.0
        measurements[name] = Measurement(
            server=Server(name, name, lambda _: [], "/"),
            points={32: point(rate, p99=tail)},
            start_seconds=service.get("start", 2.9),
            worker_rss_mb=service.get("rss", 199.0),
            total_rss_mb=500.0,
        )
    return Outcome(measurements)


GOOD = {"raw_asgi": 2000.0, "fastapi_async": 600.0, "service": 1000.0, "service_log": 600.0}


def met(found: Outcome) -> list[bool | None]:
    return [target.met for target in iris.targets(found)]


def test_a_bound_that_is_reached_exactly_is_met():
    assert at_least("x", 0.5, 1, 2, ("a", "b")).met is True
    assert Target("x", 3, 3.0, at_least=False).met is True
    assert Target("x", 3, 3.001, at_least=False).met is False


def test_all_targets_of_iris_met():
    assert met(outcome(GOOD)) == [True] * 6


@pytest.mark.parametrize(
    ("change", "service", "missed"),
    [
        ({"service": 899.0}, {}, [0, 1]),
        ({"raw_asgi": 2001.0}, {}, [1]),
        ({"service_log": 599.0}, {}, [2]),
        ({}, {"p99": 3.1}, [3]),
        ({}, {"rss": 201.0}, [4]),
        ({}, {"start": 3.1}, [5]),
    ],
)
def test_each_target_can_be_missed(change, service, missed):
    assert met(outcome(GOOD | change, **service)) == [number not in missed for number in range(6)]


def test_what_was_not_measured_is_neither_met_nor_missed():
    assert met(outcome({"fastapi_async": 600.0})) == [None] * 6
    rows = targets_table(iris.targets(outcome({}))).rows
    assert {row[3] for row in rows} == {"not measured"}


def test_the_image_target_is_about_the_best_number_of_connections():
    found = inception_v3.Found(engine={1: EngineResult(40, 25, 30), 8: EngineResult(44, 200, 210)}, start_seconds=2)
    found.points[inception_v3.PATH] = {1: point(20, 1), 4: point(34, 4), 8: point(33, 8)}
    best, start = inception_v3.targets(found)
    assert "c4" in best.what
    assert (best.measured, best.met, start.met) == (0.85, True, True)
    found.engine[1] = EngineResult(40.1, 25, 30)
    assert inception_v3.targets(found)[0].met is False
