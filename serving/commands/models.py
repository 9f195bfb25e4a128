"""`serving models`: bring a model, and see what the model store has."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serving.commands.exits import DONE, FAILED, Failure, one_line

if TYPE_CHECKING:
    from serving.add.add import Added
    from serving.settings.models import ModelSettings
    from serving.store.models import ModelMetadata, StoredModel

_LONGEST_BODY = 400
_BYTES = 1024.0
_WIDEST = 4096


class _Size(click.ParamType[tuple[int, int]]):
    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        width, _, height = value.lower().partition("x")
        if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
            self.fail("WIDTHxHEIGHT in pixels is required, such as 224x224", param, ctx)
        return int(width), int(height)


class _Number(click.ParamType[float]):
    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from serving.add.options import read_number

        if isinstance(value, float):
            return value
        try:
            return read_number(value)
        except ValueError:
            self.fail("a number is required, such as 0.5 or 1/255", param, ctx)


class _Numbers(click.ParamType[list[float]]):
    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        return value if isinstance(value, list) else [_Number().convert(part, param, ctx) for part in value.split(",")]


@click.group()
def models() -> None:
    """Add models to the model store, list, show, check and remove them."""


_IMAGE_OPTIONS: list[Callable[[Any], Any]] = [
    click.option("--image-size", type=_Size(), metavar="WxH", help="Image: size, where the graph takes any."),
    click.option("--layout", type=click.Choice(["NHWC", "NCHW"]), help="Image: order of dimensions."),
    click.option("--channels", type=click.Choice(["RGB", "BGR", "L"]), help="Image: order of colours; L is grey."),
    click.option("--scale", type=_Number(), metavar="F", help="Image: factor of pixels from 0 to 255, as 1/255."),
    click.option("--mean", type=_Numbers(), metavar="A,B,C", help="Image: subtracted from each channel after scaling."),
    click.option("--deviation", type=_Numbers(), metavar="A,B,C", help="Image: what each channel is divided by then."),
    click.option(
        "--resize",
        type=click.Choice(["stretch", "crop"]),
        help="Image: stretch to the size, as Keras does, or resize the shortest side and crop the centre, as "
        "torchvision does.",
    ),
    click.option("--shortest", type=click.IntRange(1), metavar="N", help="Image: shortest side before the crop."),
    click.option(
        "--interpolation",
        type=click.Choice(["nearest", "bilinear", "bicubic", "lanczos"]),
        help="Image: filter of the resizing; bilinear by default.",
    ),
]


def _image_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_IMAGE_OPTIONS):
        command = option(command)
    return command


@models.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", default="", metavar="NAME", help="Name in routes; the file's by default.")
@click.option("--version", default="", metavar="TEXT", help="Version in the store; made up by default.")
@click.option("--labels", metavar="FILE|A,B,C", help="Class names in the order of class ids.")
@click.option("--features", metavar="FILE|A,B,C", help="Names of the columns.")
@click.option("--kind", type=click.Choice(["rows", "image", "tensors"]), help="What a request is.")
@click.option("--task", type=click.Choice(["classification", "regression", "raw"]), help="What comes out.")
@click.option("--scores", metavar="OUTPUT", help="Output with the scores of classes, or with the predictions.")
@click.option(
    "--activation", type=click.Choice(["none", "softmax", "sigmoid"]), help="What makes probabilities of the scores."
)
@click.option("--multilabel/--no-multilabel", default=None, help="Several classes may be right at once.")
@click.option("--batching", type=click.Choice(["free", "one", "none"]), help="How rows share a call of the graph.")
@click.option("--allow-nan/--no-allow-nan", default=None, help="Take missing values: null or NaN.")
@click.option(
    "--sample",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help='Inputs to try the model with, {"data": …} or {"inputs": …} as in a request, or an image file.',
)
@_image_options
def add(file: Path, **options: Any) -> int:
    """Add the ONNX model FILE to the model store.

    Reads the graph, says what it takes the model for and why, runs a sample, and saves it. What is told wrongly is
    overridden by an option.
    """
    from serving.add.add import add_model
    from serving.core.errors import ModelError

    try:
        added = add_model(file, _add_options(options))
    except ModelError as error:
        raise Failure(FAILED, str(error)) from error
    except OSError as error:
        raise Failure(FAILED, f"the model cannot be saved: {error}") from error
    _print_added(added)
    return DONE


def _add_options(given: dict[str, Any]) -> Any:
    from serving.add.options import AddOptions, ImageOptions, read_names

    names = ("layout", "channels", "scale", "mean", "deviation", "resize", "shortest", "interpolation")
    image = ImageOptions(size=given.pop("image_size"), **{name: given.pop(name) for name in names})
    for name in ("labels", "features"):
        if given[name] is not None:
            given[name] = read_names(given[name], f"--{name}")
    return AddOptions(image=image, **given)


def _print_added(added: Added) -> None:
    for reason in added.reasons:
        why = f"  ({reason.why})" if reason.why else ""
        click.echo(f"{reason.subject:<10} {one_line(reason.decided + why)}")
    click.echo(f"{'saved':<10} {added.tag}")
    click.echo("\nServe it: put these two lines into configuration.yaml, and start the server (again).\n")
    click.echo(f"models:\n  {added.name}: {{}}\n")
    click.echo(f"Ask it:\n\n{ask(added)}")


def ask(added: Added) -> str:
    """A curl that the model answers."""
    url = f"http://localhost:3000/{added.name}/predict"
    if added.metadata.kind == "image":
        return f"curl -F image=@picture.jpg {url}"
    body = json.dumps(added.sample, ensure_ascii=False)
    if len(body) > _LONGEST_BODY:
        return f"curl {url}/test"
    quoted = body.replace("'", "'\\''")
    return f"curl -H 'Content-Type: application/json' -d '{quoted}' {url}"


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each model, a line each.")
def list_models(as_json: bool) -> int:
    """List the models in the model store, the newest of each name first."""
    from pydantic import ValidationError

    from serving.store import bentoml_store
    from serving.store.models import ModelMetadata

    served = _served_tags()
    lines = []
    for entry in bentoml_store.entries():
        try:
            metadata: ModelMetadata | None = ModelMetadata.model_validate(entry.metadata)
        except ValidationError:
            metadata = None
        if as_json:
            click.echo(json.dumps(_summary(entry.tag, metadata, served), ensure_ascii=False))
            continue
        row = _summary(entry.tag, metadata, served)
        lines.append(
            [
                row["tag"],
                row["kind"] or "not of this service",
                row["task"] or "",
                str(row["classes"] or ""),
                entry.created_at.strftime("%Y-%m-%d %H:%M"),
                _size(entry.path),
                ", ".join(row["served_as"]),
            ]
        )
    if not as_json:
        if not lines:
            click.echo("no models; `serving models add FILE` adds one")
        else:
            _print_table(["TAG", "KIND", "TASK", "CLASSES", "MADE", "SIZE", "SERVED AS"], lines)
    return DONE


def _summary(tag: str, metadata: ModelMetadata | None, served: dict[str, list[str]]) -> dict[str, Any]:
    onnx = metadata is not None and metadata.format == "onnx"
    return {
        "tag": tag,
        "kind": None if metadata is None else metadata.kind if onnx else metadata.format,
        "task": metadata.task if metadata is not None and onnx else None,
        "classes": len(metadata.labels) if metadata is not None else 0,
        "served_as": served.get(tag, []),
    }


def _served_tags() -> dict[str, list[str]]:
    """Names of the entries that serve each tag; none where the configuration cannot be read."""
    from serving.core.errors import ConfigurationError, ModelError
    from serving.settings.reading import read_settings
    from serving.store.models import open_model

    found: dict[str, list[str]] = {}
    try:
        settings = read_settings()
    except ConfigurationError as error:
        click.echo(f"serving: {one_line(str(error))}", err=True)
        return found
    for name, entry in settings.served.items():
        try:
            found.setdefault(open_model(entry.tag).tag, []).append(name)
        except ModelError:
            continue  # `check` says what is wrong with it
    return found


@models.command()
@click.argument("tag")
@click.option("--json", "as_json", is_flag=True, help="Print the metadata as one JSON object.")
def show(tag: str, as_json: bool) -> int:
    """Show what the model store says of TAG: a name, for its newest version, or name:version."""
    stored = _open(tag)
    metadata = stored.metadata
    if as_json:
        click.echo(metadata.model_dump_json(indent=2))
        return DONE
    for subject, text in _description(stored, metadata):
        click.echo(f"{subject:<12} {one_line(text)}")
    return DONE


def _description(stored: StoredModel, metadata: ModelMetadata) -> Iterable[tuple[str, str]]:
    from serving.add.add import describe_image

    yield "model", f"{stored.tag}, made {stored.created_at}"
    yield (
        "format",
        metadata.format
        + (f", IR {metadata.onnx_ir_version}, opset {metadata.onnx_opset}" if metadata.format == "onnx" else ""),
    )
    yield "kind", metadata.kind
    yield "task", metadata.task + (f", of {metadata.scores} ({metadata.activation})" if metadata.scores else "")
    for kind, specs in (("input", metadata.inputs), ("output", metadata.outputs)):
        for spec in specs:
            yield kind, f"{spec.name} {spec.dtype} {spec.describe_shape()}"
    yield "batching", metadata.batching
    yield "missing", "NaN allowed" if metadata.allow_nan else "refused"
    if metadata.labels:
        yield "labels", ", ".join(metadata.labels)
    if metadata.feature_names:
        yield "features", ", ".join(metadata.feature_names)
    if metadata.image:
        yield "image", describe_image(metadata.image)
    if metadata.weights:
        yield "weights", f"{metadata.weights.origin}: {metadata.weights.description}"
    for name, value in metadata.metrics.items():
        yield "metric", f"{name} {value:.6g}"
    if metadata.verification:
        yield (
            "verified",
            f"largest difference {metadata.verification.max_abs_difference:.1e} on "
            f"{metadata.verification.inputs} inputs",
        )
    for name, digest in metadata.files.items():
        yield "file", f"{name} {digest}"
    yield "made with", ", ".join(f"{library} {version}" for library, version in metadata.versions.items())


@models.command()
@click.argument("tag")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(tag: str, *, yes: bool) -> int:
    """Remove TAG from the model store: a name, for its newest version, or name:version."""
    from serving.store import bentoml_store

    name = tag.removesuffix(":latest")
    found = [entry for entry in bentoml_store.entries() if name in (entry.tag, entry.tag.partition(":")[0])]
    if not found:
        raise Failure(FAILED, f"model {tag} is not in the model store; `serving models list` shows what is")
    entry = found[0]
    names = _served_tags().get(entry.tag, [])
    served = f", which {', '.join(names)} in configuration.yaml serves" if names else ""
    if not yes:
        click.confirm(f"Remove {entry.tag} ({_size(entry.path)}){served}?", abort=True)
    bentoml_store.delete(entry.tag)
    click.echo(f"removed {entry.tag}")
    return DONE


@models.command()
@click.argument("names", nargs=-1, metavar="[NAME]…")
def check(names: Sequence[str]) -> int:
    """Check models as a server would at its start, those that are served unless NAMEs are given.

    NAME is a name in configuration.yaml, or a tag in the model store. Compares files with their hashes and libraries
    with those that made the model, loads the graph, and answers its sample.
    """
    from serving.core.errors import ConfigurationError, ModelError
    from serving.settings.models import ModelSettings
    from serving.settings.reading import read_settings

    try:
        served = read_settings().served
    except ConfigurationError as error:
        raise Failure(FAILED, str(error)) from error
    wanted = {name: served.get(name, ModelSettings(tag=name)) for name in names} if names else dict(served)
    failed = False
    lines = []
    for name, entry in wanted.items():
        try:
            tag, text = _check(entry)
        except ModelError as error:
            failed = True
            lines.append([name, entry.tag, one_line(f"failed: {error}")])
        else:
            lines.append([name, tag, text])
    if lines:
        _print_table(["MODEL", "TAG", "RESULT"], lines)
    else:
        click.echo("no models are served")
    return FAILED if failed else DONE


def _check(entry: ModelSettings) -> tuple[str, str]:
    from serving.add.check import check_files, check_model
    from serving.core.errors import ModelError
    from serving.store.models import check_versions, open_model

    stored = open_model(entry.tag)
    check_files(stored)
    checked = check_model(stored, entry)
    try:
        check_versions(stored, strict=True)
        text = "ok"
    except ModelError as error:
        text = f"ok, but {str(error).partition(': ')[2].removesuffix(' (server.strict_versions is on)')}"
    return stored.tag, one_line(f"{text}, {checked.engine.description}")


def _open(tag: str) -> StoredModel:
    from serving.core.errors import ModelError
    from serving.store.models import open_model

    try:
        return open_model(tag)
    except ModelError as error:
        raise Failure(FAILED, str(error)) from error


def _print_table(header: list[str], lines: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:  # lines that programs read are not folded
        console = Console(highlight=False, width=_WIDEST)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in header:
        table.add_column(name, overflow="fold")
    for line in lines:
        table.add_row(*(Text(one_line(cell)) for cell in line))
    console.print(table)


def _size(directory: Path) -> str:
    size = float(sum(file.stat().st_size for file in directory.rglob("*") if file.is_file()))
    for unit in ("B", "kB", "MB"):
        if size < _BYTES:
            return f"{size:.0f} {unit}"
        size /= _BYTES
    return f"{size:.1f} GB"
