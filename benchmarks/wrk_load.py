"""wrk as load generator."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

from benchmarks.load import REQUEST_TIMEOUT, Load, LoadError, LoadResult
from benchmarks.program import body_file, run_program

SCRIPT = Path(__file__).with_name("load.lua")


class Wrk:
    """One wrk thread: it shares the cores with the server, and one is enough for what these servers answer.

    wrk counts as a bad status what is 400 or more, and corrects its latencies for coordinated omission by
    adding the requests that a pause kept from being sent, so a long pause weighs more than with the others.
    """

    name = "wrk"

    def __init__(self, program: str) -> None:
        self._program = program

    @classmethod
    def find(cls) -> Wrk | None:
        program = shutil.which("wrk")
        return cls(program) if program else None

    def run(self, load: Load) -> LoadResult:
        with body_file(load) as body:
            command = [self._program, "-t1", f"-c{load.connections}", f"-d{max(1, round(load.seconds))}s"]
            command += ["--timeout", f"{REQUEST_TIMEOUT:.0f}s", "-s", str(SCRIPT)]
            for name, value in load.headers.items():
                command += ["-H", f"{name}: {value}"]
            environment = {"LOAD_METHOD": load.method, "LOAD_BODY": str(body)}
            return parse(run_program([*command, load.url], load, environment))


def parse(output: str) -> LoadResult:
    """The line of JSON that `load.lua` writes after wrk's own summary.

    Raises:
        LoadError: it is not there.
    """
    for line in reversed(output.splitlines()):
        if line.startswith('{"requests"'):
            break
    else:
        raise LoadError(f"no result in what wrk wrote: {output.strip()[-500:]!r}")
    try:
        said = json.loads(line)
        requests = said["requests"]
        return LoadResult(
            requests_per_second=requests / (said["duration_us"] / 1e6),
            p50_ms=said["p50_us"] / 1e3 if requests else math.nan,
            p99_ms=said["p99_us"] / 1e3 if requests else math.nan,
            non_2xx=said["status"],
            errors=said["connect"] + said["read"] + said["write"] + said["timeout"],
        )
    except (ValueError, KeyError, ZeroDivisionError) as error:
        raise LoadError(f"wrk's result cannot be read: {line!r}") from error
