"""`python -m benchmarks [BENCHMARK ...]`: measure, print, save.

Ends with 0 when everything answered, missed targets or not; 1 when a server failed to start or answered
anything but it should; 2 when nothing could be measured.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console

from benchmarks import against, batch, batching, inception_v3, iris, jobs, overload, protocols
from benchmarks.environments import directories
from benchmarks.generators import KNOWN, find_generator
from benchmarks.load import LoadError
from benchmarks.machine import describe
from benchmarks.options import Options
from benchmarks.results import ResultsError, Section, write_section
from benchmarks.server import ROOT, ServerError
from serving.core.errors import ServingError

BENCHMARKS = {module.NAME: module for module in (iris, inception_v3, batching, overload, jobs, batch, protocols)}
ON_REQUEST = frozenset({overload.NAME, jobs.NAME, batch.NAME, protocols.NAME})
"""What runs only when it is named: `make bench-overload`, `make bench-jobs`, `make bench-batch`,
`make bench-protocols`."""
RESULTS = ROOT / "benchmarks" / "RESULTS.md"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    given = parser.parse_args(arguments)
    names = given.benchmarks or list(BENCHMARKS)
    if given.against and names != [iris.NAME]:
        parser.error("--against is for the benchmark iris alone: python -m benchmarks iris --against DIR")
    if given.only:
        names = [name for name in names if given.only & set(BENCHMARKS[name].SERVERS)]
    elif not given.benchmarks:
        names = [name for name in names if name not in ON_REQUEST]
    signal.signal(signal.SIGTERM, _interrupt)
    console, errors = Console(), Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    command = shlex.join(["python", "-m", "benchmarks", *(sys.argv[1:] if arguments is None else arguments)])
    failed = False
    try:
        generator = find_generator(given.generator)
        for name in names:
            circumstances = describe(command, generator.name, directories())
            errors.print(f"{name}: {generator.name}, {given.rounds} rounds")
            options = Options(
                generator=generator,
                progress=errors.print,
                rounds=given.rounds,
                seconds=given.seconds,
                only=given.only,
                rows=given.rows,
            )
            section = against.run(options, given.against) if given.against else BENCHMARKS[name].run(options)
            failed |= bool(section.failures)
            _show(console, section, circumstances)
            output = given.output or (None if given.only or given.rows or given.against else RESULTS)
            if output is not None:
                write_section(output, section, circumstances)
                errors.print(f"saved in {output}")
            else:
                errors.print("not saved: a part does not replace the results of all; see --output")
    except (ServerError, ServingError, LoadError, ResultsError) as error:
        errors.print(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        errors.print("interrupted; every server that was started has been ended")
        return 130
    return 1 if failed else 0


def _show(console: Console, section: Section, circumstances: Sequence[str]) -> None:
    if not console.is_terminal:
        console.print(section.markdown(circumstances), markup=False, highlight=False, soft_wrap=True)
        return
    console.rule(section.title)
    for table in section.tables:
        console.print(table.rich())
    for failure in section.failures:
        console.print(f"failed: {failure}", style="red", markup=False)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM takes the way of Ctrl-C, on which the servers are ended."""
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure this service and its peers.")
    parser.add_argument(
        "benchmarks",
        nargs="*",
        metavar="BENCHMARK",
        choices=[[], *BENCHMARKS],
        help=f"{', '.join(BENCHMARKS)}; default: all but {', '.join(ON_REQUEST)}",
    )
    parser.add_argument("--rounds", type=_positive(int), default=3, help="rounds to take the median of (3)")
    parser.add_argument("--seconds", type=_positive(float), help="seconds of each load (the benchmark's own)")
    parser.add_argument(
        "--rows", type=_rows, metavar="N", help="rows of batch in a database (1,000,000); ten times in files"
    )
    parser.add_argument("--only", type=_names, default=frozenset(), metavar="NAME,...", help="these servers only")
    parser.add_argument(
        "--against", type=Path, metavar="DIR", help="iris only: measure another checkout side by side; it needs a .venv"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="results file (benchmarks/RESULTS.md)")
    parser.add_argument("--generator", choices=list(KNOWN), help="load generator (the first that is installed)")
    return parser


def _positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = kind(text)
        if not 0 < value < 3600:
            raise argparse.ArgumentTypeError("must be more than 0 and less than 3600")
        return value

    return number


def _rows(text: str) -> int:
    if not 10 <= (value := int(text)) <= 100_000_000:
        raise argparse.ArgumentTypeError("must be 10 or more")
    return value


def _names(text: str) -> frozenset[str]:
    known = {name for module in BENCHMARKS.values() for name in module.SERVERS}
    names = frozenset(text.split(","))
    if unknown := names - known:
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: choose from {', '.join(sorted(known))}")
    return names


if __name__ == "__main__":
    sys.exit(main())
