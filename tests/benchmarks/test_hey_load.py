import math

import pytest

from benchmarks.hey_load import parse
from benchmarks.load import LoadError

# as hey 0.1.4 wrote it
SUMMARY = """
Summary:
  Total:	2.0000 secs
  Slowest:	0.0094 secs
  Fastest:	0.0002 secs
  Average:	0.0013 secs
  Requests/sec:	9999.1527
  
  Total data:	164052 bytes
  Size/request:	54 bytes

Response time histogram:
  0.000 [1]	|
  0.001 [1854]	|■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■

"""  # noqa: W293 - so does hey
LATENCIES = """
Latency distribution:
  10% in 0.0006 secs
  50% in 0.0010 secs
  99% in 0.0070 secs

"""
STATUSES = """\
Status code distribution:
  [200]	3000 responses
  [404]	30 responses
  [503]	8 responses

"""
ERRORS = """\
Error distribution:
  [8192]	Post "http://127.0.0.1:5001/x": dial tcp 127.0.0.1:5001: connect: connection refused
  [1]	Post "http://127.0.0.1:5001/x": read tcp 127.0.0.1:37134->127.0.0.1:5001: read: connection reset by peer
"""


def test_reads_rate_percentiles_statuses_and_errors():
    result = parse(SUMMARY + LATENCIES + STATUSES + ERRORS)
    assert result.requests_per_second == 3038 / 2
    assert (result.p50_ms, result.p99_ms) == (1, 7)
    assert (result.non_2xx, result.errors) == (38, 8193)


def test_nothing_wrong_is_nothing_counted():
    result = parse(SUMMARY + LATENCIES + "Status code distribution:\n  [200]\t3000 responses\n")
    assert (result.non_2xx, result.errors) == (0, 0)


def test_no_answer_has_no_latency():
    result = parse(SUMMARY + ERRORS)
    assert (result.requests_per_second, result.errors) == (0, 8193)
    assert math.isnan(result.p50_ms)


def test_another_output_is_an_error():
    with pytest.raises(LoadError):
        parse("Usage: hey [options...] <url>")
