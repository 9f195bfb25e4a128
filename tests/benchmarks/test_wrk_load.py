import math
import stat
from pathlib import Path

import pytest

from benchmarks.load import Load, LoadError
from benchmarks.wrk_load import Wrk, parse

SUMMARY = """\
Running 5s test @ http://127.0.0.1:5001/predict
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     4.11ms    1.35ms  34.94ms   80.71%
    Req/Sec     7.82k   471.64     8.14k    92.00%
  38967 requests in 5.01s, 6.65MB read
Requests/sec:   7775.95
Transfer/sec:      1.33MB
"""
LINE = (
    '{"requests": 38967, "duration_us": 5011221, "p50_us": 4140, "p99_us": 8177, '
    '"status": 3, "connect": 1, "read": 20, "write": 300, "timeout": 4000}\n'
)


def test_reads_rate_percentiles_and_the_kinds_of_errors():
    result = parse(SUMMARY + LINE)
    assert result.requests_per_second == pytest.approx(38967 / 5.011221)
    assert (result.p50_ms, result.p99_ms) == (4.14, 8.177)
    assert (result.non_2xx, result.errors) == (3, 4321)


def test_no_answer_has_no_latency():
    line = LINE.replace("38967", "0").replace("4140", "0").replace("8177", "0")
    result = parse(SUMMARY + line)
    assert result.requests_per_second == 0
    assert math.isnan(result.p50_ms)
    assert math.isnan(result.p99_ms)


@pytest.mark.parametrize("output", ["", SUMMARY, SUMMARY + LINE[:40], LINE.replace("5011221", "0")])
def test_output_without_a_result_is_an_error(output):
    with pytest.raises(LoadError):
        parse(output)


def test_the_command_carries_the_whole_load(tmp_path: Path):
    program = tmp_path / "wrk"
    record = tmp_path / "record"
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {record}\necho "$LOAD_METHOD" >> {record}\n'
        f"cat \"$LOAD_BODY\" >> {record}\nprintf '%s' '{LINE}'\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    load = Load("http://127.0.0.1:1/x", 8, 2.4, method="POST", headers={"A": "b c"}, body=b"\x00body")
    assert Wrk(str(program)).run(load).errors == 4321
    said = record.read_bytes()
    assert said.endswith(b"\nhttp://127.0.0.1:1/x\nPOST\n\x00body")
    assert b"-c8\n-d2s\n" in said
    assert b"\n-H\nA: b c\n" in said


def test_a_program_that_fails_is_an_error_with_its_words(tmp_path: Path):
    program = tmp_path / "wrk"
    program.write_text("#!/bin/sh\necho 'unable to connect' >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(LoadError, match="unable to connect"):
        Wrk(str(program)).run(Load("http://127.0.0.1:1/", 1, 1))
