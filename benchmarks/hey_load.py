"""hey as load generator."""

from __future__ import annotations

import math
import re
import shutil

from benchmarks.load import REQUEST_TIMEOUT, Load, LoadError, LoadResult
from benchmarks.program import body_file, run_program

TOTAL = re.compile(r"^\s*Total:\s+([\d.]+) secs", re.MULTILINE)
PERCENTILE = re.compile(r"^\s*(\d+)%+ in ([\d.]+) secs", re.MULTILINE)
STATUS = re.compile(r"^\s*\[(\d{3})\]\s+(\d+) responses", re.MULTILINE)
FAILURE = re.compile(r"^\s*\[(\d+)\]\s+(?!\d+ responses)\S", re.MULTILINE)


class Hey:
    """hey with its text output, whose times have four decimals of a second: coarse for fast servers."""

    name = "hey"

    def __init__(self, program: str) -> None:
        self._program = program

    @classmethod
    def find(cls) -> Hey | None:
        program = shutil.which("hey")
        return cls(program) if program else None

    def run(self, load: Load) -> LoadResult:
        with body_file(load) as body:
            command = [self._program, "-disable-redirects", "-m", load.method, "-c", str(load.connections)]
            command += ["-z", f"{load.seconds * 1e3:.0f}ms", "-t", f"{REQUEST_TIMEOUT:.0f}"]
            for name, value in load.headers.items():
                # -H does not replace hey's own content type, -T does
                command += ["-T", value] if name.lower() == "content-type" else ["-H", f"{name}: {value}"]
            if load.body:
                command += ["-D", str(body)]
            return parse(run_program([*command, load.url], load))


def parse(output: str) -> LoadResult:
    """hey's summary.

    Raises:
        LoadError: it is not one.
    """
    total = TOTAL.search(output)
    if total is None or float(total[1]) == 0:
        raise LoadError(f"hey's result cannot be read: {output.strip()[:500]!r}")
    statuses = {int(status): int(count) for status, count in STATUS.findall(output)}
    percentiles = {int(percent): float(seconds) * 1e3 for percent, seconds in PERCENTILE.findall(output)}
    return LoadResult(
        requests_per_second=sum(statuses.values()) / float(total[1]),
        p50_ms=percentiles.get(50, math.nan),
        p99_ms=percentiles.get(99, math.nan),
        non_2xx=sum(count for status, count in statuses.items() if not 200 <= status < 300),
        errors=sum(int(count) for count in FAILURE.findall(output)),
    )
