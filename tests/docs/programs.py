"""What the programs and the Makefile of this repository offer."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from collections.abc import Iterator

import click

from serving.cli import serving
from tests.docs.readme import ROOT

PROGRAMS = {
    "train": "train.__main__",
    "train.iris": "train.iris",
    "train.inception_v3": "train.inception_v3",
    "benchmarks": "benchmarks.__main__",
}


def options(program: str) -> set[str]:
    """The options that `python -m program --help` names, but for `--help`."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        importlib.import_module(PROGRAMS[program]).main(["--help"])
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", output.getvalue())) - {"--help"}


def makefile() -> str:
    return (ROOT / "Makefile").read_text(encoding="utf-8")


def targets() -> dict[str, str]:
    """What `make help` lists: targets and what they do."""
    return dict(re.findall(r"^([a-z-]+):.*## (.*)$", makefile(), re.MULTILINE))


def serving_commands() -> dict[str, click.Command]:
    """What can be run of the `serving` command, by name, such as `serving jobs submit`."""
    return dict(_commands("serving", serving))


def _commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield from _commands(f"{name} {below.name}", below)
    else:
        yield name, command


def serving_options(command: click.Command) -> dict[str, str]:
    """The options of a `serving` command, as one writes them, and what they are for."""
    context = click.Context(command)
    described = {}
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            value = "" if parameter.is_flag else f" {parameter.make_metavar(context)}"
            described[f"{parameter.opts[0]}{value}"] = parameter.help or ""
    return described
