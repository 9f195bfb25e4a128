"""What the command lines of the training scripts have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from serving.core.errors import ModelError
from train.errors import TrainingError
from train.progress import Reporter


def make_parser(program: str, description: str) -> argparse.ArgumentParser:
    """A parser with the options that every script has."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser


def add_model_options(parser: argparse.ArgumentParser, *, tag: str, tolerance: float) -> None:
    """Add the options of a script that makes one model."""
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (%(default)s)")
    parser.add_argument("--store-tag", default=tag, metavar="TAG", help="name in the BentoML model store (%(default)s)")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=tolerance,
        metavar="P",
        help="largest difference of a probability between the original and the export; "
        "over it nothing is saved (%(default)s)",
    )


def run(
    parser: argparse.ArgumentParser,
    main: Callable[[argparse.Namespace, Reporter], None],
    argv: Sequence[str] | None = None,
) -> int:
    """Parse, run, and turn what the user can mend into one line. Returns the exit code."""
    arguments = parser.parse_args(argv)
    reporter = Reporter(quiet=arguments.quiet)
    try:
        main(arguments, reporter)
    except (TrainingError, ModelError) as error:
        reporter.error(str(error))
        return 1
    except KeyboardInterrupt:
        reporter.error("interrupted; the model that was being made has not been saved")
        return 130
    return 0
