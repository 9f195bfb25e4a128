"""`serving inventory`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from serving.commands.exits import DIFFERENT, DONE, FAILED, SERVER, USAGE, Failure, one_line

if TYPE_CHECKING:
    from serving.inventory import Inventory
    from serving.inventory.diff import Difference


@click.command()
@click.option(
    "--diff",
    "sides",
    nargs=2,
    metavar="A B",
    help="Compare two inventories instead: files, directories of Bentos, or URLs of running services.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inventory(sides: tuple[str, str] | None, as_json: bool) -> int:
    """Print what is here: system, CPU, Python, libraries, engines and models."""
    from serving.core.errors import ConfigurationError, ModelError, UnavailableError

    try:
        return _compare(*sides, as_json=as_json) if sides else _print(as_json=as_json)
    except UnavailableError as error:
        raise Failure(SERVER, str(error)) from error
    except ConfigurationError as error:
        raise Failure(USAGE if sides else FAILED, str(error)) from error
    except ModelError as error:
        raise Failure(FAILED, str(error)) from error


def _print(*, as_json: bool) -> int:
    from serving.inventory import take_inventory
    from serving.settings.reading import read_settings
    from serving.store.source import prepare_models

    settings = read_settings()
    prepare_models(settings)
    taken = take_inventory(settings)
    click.echo(taken.model_dump_json(indent=2) if as_json else "\n".join(_lines(taken)))
    return DONE


def _compare(first: str, second: str, *, as_json: bool) -> int:
    from serving.inventory.diff import differences, read_inventory

    found = list(differences(read_inventory(first), read_inventory(second)))
    if as_json:
        click.echo(json.dumps({item.path: [item.first, item.second] for item in found}, indent=2))
    else:
        for item in found:
            click.echo(one_line(_line(item)))
    return DIFFERENT if found else DONE


def _line(difference: Difference) -> str:
    if difference.first is None:
        return f"+ {difference.path} {_text(difference.second)}"
    if difference.second is None:
        return f"- {difference.path} {_text(difference.first)}"
    return f"~ {difference.path} {_text(difference.first)} -> {_text(difference.second)}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _lines(taken: Inventory) -> Iterator[str]:
    service = taken.service
    yield f"{'service':<10} {service.name} {service.version or 'outside a Bento'}, code {service.code}"
    if service.revision:
        yield f"{'revision':<10} {service.revision}"
    if taken.system:
        yield f"{'system':<10} {taken.system.os}, {taken.system.kernel}, {taken.system.machine}"
    if taken.cpu:
        yield f"{'cpu':<10} {taken.cpu.model}, {taken.cpu.cores} cores: {' '.join(taken.cpu.features)}"
    yield f"{'python':<10} {taken.python}"
    for name, engine in (taken.engines or {}).items():
        yield f"{'engine':<10} {' '.join([name, engine.version, *engine.providers])}"
    for name, model in taken.models.items():
        weights = f", weights: {model.weights.origin}" if model.weights else ""
        yield f"{'model':<10} {name}: {model.tag}, made {model.created_at}, {model.kind}, {model.task}{weights}"
        for file, digest in model.files.items():
            yield f"{'':<10} {file} {digest}"
    for library, version in taken.libraries.items():
        yield f"{'library':<10} {library} {version}"
