"""oha as load generator."""

from __future__ import annotations

import json
import math
import shutil
import subprocess

from benchmarks.load import REQUEST_TIMEOUT, Load, LoadError, LoadResult
from benchmarks.program import body_file, run_program

DEADLINE = "aborted due to deadline"
"""oha's word for what was under way when the time was up."""


class Oha:
    """oha with JSON output; which option asks for it depends on the version."""

    name = "oha"

    def __init__(self, program: str, *, json_option: tuple[str, ...]) -> None:
        self._program = program
        self._json_option = json_option

    @classmethod
    def find(cls) -> Oha | None:
        program = shutil.which("oha")
        if program is None:
            return None
        said = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=10, check=False).stdout
        return cls(program, json_option=("--output-format", "json") if "--output-format" in said else ("--json",))

    def run(self, load: Load) -> LoadResult:
        with body_file(load) as body:
            command = [self._program, "--no-tui", *self._json_option, "--redirect", "0", "-m", load.method]
            command += [
                "-c",
                str(load.connections),
                "-z",
                f"{load.seconds * 1e3:.0f}ms",
                "-t",
                f"{REQUEST_TIMEOUT:.0f}s",
            ]
            for name, value in load.headers.items():
                command += ["-H", f"{name}: {value}"]
            if load.body:
                command += ["-D", str(body)]
            return parse(run_program([*command, load.url], load))


def parse(output: str) -> LoadResult:
    """oha's JSON document; its times are in seconds.

    Raises:
        LoadError: it is not one.
    """
    try:
        said = json.loads(output)
        statuses = {int(status): int(count) for status, count in said["statusCodeDistribution"].items()}
        failures = {kind: int(count) for kind, count in said["errorDistribution"].items()}
        seconds = float(said["summary"]["total"])
        answered = sum(statuses.values())
        percentiles = said["latencyPercentiles"]
        return LoadResult(
            # not summary.requestsPerSec, which counts requests without an answer too
            requests_per_second=answered / seconds,
            p50_ms=float(percentiles["p50"]) * 1e3 if answered else math.nan,
            p99_ms=float(percentiles["p99"]) * 1e3 if answered else math.nan,
            non_2xx=sum(count for status, count in statuses.items() if not 200 <= status < 300),
            errors=sum(count for kind, count in failures.items() if DEADLINE not in kind),
        )
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise LoadError(f"oha's result cannot be read: {output.strip()[:500]!r}") from error
