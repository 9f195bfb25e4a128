import json
import math

import pytest

from benchmarks.load import LoadError
from benchmarks.oha_load import parse


def document(statuses: dict[str, int], errors: dict[str, int]) -> str:
    """The parts of oha's document that count, by its published schema."""
    return json.dumps(
        {
            "summary": {"successRate": 1.0, "total": 2.0, "requestsPerSec": 9999.0},
            "latencyPercentiles": {"p50": 0.004, "p90": 0.006, "p99": 0.0085}
            if statuses
            else {"p50": None, "p99": None},
            "statusCodeDistribution": statuses,
            "errorDistribution": errors,
        }
    )


def test_reads_rate_percentiles_statuses_and_errors():
    result = parse(document({"200": 90, "204": 2, "302": 3, "503": 5}, {"connection refused": 7}))
    assert result.requests_per_second == 50
    assert result.p50_ms == pytest.approx(4)
    assert result.p99_ms == pytest.approx(8.5)
    assert (result.non_2xx, result.errors) == (8, 7)


def test_what_was_under_way_at_the_end_is_no_error():
    assert parse(document({"200": 1}, {"aborted due to deadline": 32})).errors == 0


def test_no_answer_has_no_latency():
    result = parse(document({}, {"connection refused": 7}))
    assert (result.requests_per_second, result.errors) == (0, 7)
    assert math.isnan(result.p99_ms)


@pytest.mark.parametrize("output", ["", "no json", "[]", "{}"])
def test_another_document_is_an_error(output):
    with pytest.raises(LoadError):
        parse(output)
