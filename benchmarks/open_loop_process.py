"""`python -m benchmarks.open_loop_process`: the open-loop generator in a process of its own, result as JSON.

So that neither the parent's measurements delay it nor its own memory counts as the server's.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from benchmarks.load import LoadError
from benchmarks.offered import Offered, OpenLoad
from benchmarks.open_loop import offer
from benchmarks.server import ROOT


def offer_in_process(load: OpenLoad) -> Offered:
    """As `offer`, in another process.

    Raises:
        LoadError: the process failed.
    """
    with tempfile.TemporaryDirectory(prefix="open-loop-") as directory:
        body = Path(directory) / "body"
        body.write_bytes(load.body)
        command = [sys.executable, "-m", "benchmarks.open_loop_process", load.url, "--body", str(body)]
        command += ["--method", load.method, "--rate", str(load.rate), "--seconds", str(load.seconds)]
        command += ["--connections", str(load.connections), "--patience", str(load.patience)]
        for name, value in load.headers.items():
            command += ["--header", f"{name}: {value}"]
        limit = load.seconds + load.patience + 60
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False)
        except subprocess.TimeoutExpired as error:
            raise LoadError(f"the open-loop generator was still running after {limit:.0f} s") from error
    if done.returncode != 0:
        raise LoadError(f"the open-loop generator ended with {done.returncode}: {done.stderr.strip()[-1000:]}")
    return parse_offered(done.stdout)


def parse_offered(text: str) -> Offered:
    """The line of JSON that the process writes.

    Raises:
        LoadError: it is not there.
    """
    try:
        said = json.loads(text)
        return Offered(**{**said, "statuses": {int(status): count for status, count in said["statuses"].items()}})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoadError(f"the open-loop generator's result cannot be read: {text[-500:]!r}") from error


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.open_loop_process", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--body", type=Path, required=True)
    parser.add_argument("--method", default="POST")
    parser.add_argument("--rate", type=float, required=True, help="requests per second")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--patience", type=float, default=60.0, help="seconds to wait for the last answers")
    parser.add_argument("--header", action="append", default=[])
    given = parser.parse_args()
    load = OpenLoad(
        url=given.url,
        rate=given.rate,
        seconds=given.seconds,
        connections=given.connections,
        body=given.body.read_bytes(),
        headers=dict(header.split(": ", 1) for header in given.header),
        method=given.method,
        patience=given.patience,
    )
    gc.disable()  # a minute's garbage is small, and a collection would make requests late
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        print(json.dumps(asdict(runner.run(offer(load)))))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed: about twice the requests per second."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    main()
