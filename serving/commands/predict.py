"""`serving predict`: ask a running server for predictions, by any of its protocols."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from serving.commands import exits, given

if TYPE_CHECKING:
    from serving.client import Prediction

_SHOWN_CLASSES = 5


@click.command()
@click.argument("model", required=False)
@click.option(
    "--row",
    "lines",
    multiple=True,
    metavar="A,B,…",
    help="A row of values in the order of the columns; may be repeated.",
)
@click.option("--rows", metavar="JSON", help="Rows as lists or as objects by column, such as '[[5.1, 3.5, 1.4, 0.2]]'.")
@click.option(
    "--image",
    "images",
    multiple=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An image file; may be repeated.",
)
@click.option("--tensors", metavar="JSON", help="Tensors by name, such as '{\"user\": [[1.0, 0.5]]}'.")
@click.option(
    "--file",
    type=click.File("rb"),
    help="A file with rows or tensors as JSON, or, if its name ends in .csv, with rows below the names of their "
    "columns; `-` is JSON from standard input.",
)
@click.option(
    "--protocol",
    type=click.Choice(["native", "tfserving", "v2"]),
    help="Protocol to use. Default: native over REST, v2 over gRPC.",
)
@click.option(
    "--transport", type=click.Choice(["rest", "grpc"]), default="rest", show_default=True, help="Transport to use."
)
@click.option(
    "--target",
    metavar="HOST:PORT",
    help="The server; `https://` before it is TLS, and for REST a path may follow. Default: 127.0.0.1:8500 for gRPC, "
    "$SERVING_URL or port 3000 for REST.",
)
@click.option("--tls-ca", metavar="FILE", help="PEM file of the authorities to trust in the place of the usual ones.")
@click.option("--tls-cert", metavar="FILE", help="PEM file of a certificate for a server that asks for one.")
@click.option("--tls-key", metavar="FILE", help="PEM file of its key.")
@click.option("--url", envvar="SERVING_URL", hidden=True)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Time limit of the prediction, for the server too.",
)
@click.option("--top-k", type=click.IntRange(1), metavar="N", help=f"Classes to name. Default: {_SHOWN_CLASSES}.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object on a line for each row or image.")
@click.option("--metadata", is_flag=True, help="Print what the protocol says of the model instead.")
def predict(  # noqa: PLR0917 - click passes options by name
    model: str | None,
    lines: tuple[str, ...],
    rows: str | None,
    images: tuple[Path, ...],
    tensors: str | None,
    file: IO[bytes] | None,
    protocol: str | None,
    transport: str,
    target: str | None,
    tls_ca: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    url: str | None,
    timeout: float,
    top_k: int | None,
    as_json: bool,
    metadata: bool,
) -> int:
    """Predict rows, images or tensors with MODEL on a running server; without MODEL, with its default model.

    Prints, for each row or image, the most probable classes with the best first, or the predicted numbers, or the
    outputs by name. There is an empty line between two rows or images.
    """
    if [bool(lines), rows is not None, bool(images), tensors is not None, file is not None, metadata].count(True) != 1:
        raise click.UsageError("one of --row, --rows, --image, --tensors, --file and --metadata is required")
    from serving.client import ClientError, Predictor

    # What is wrong with the JSON is told before the server is asked.
    inputs: dict[str, Any] = {"images": images}
    if rows is not None:
        inputs = given.from_json(given.read_json(rows))
    elif tensors is not None:
        inputs = given.read_tensors(tensors)
    elif file is not None and not given.is_csv(file):
        inputs = given.read_file(file)
    try:
        with Predictor(
            target or (url if transport == "rest" else None),
            protocol=protocol or ("v2" if transport == "grpc" else "native"),  # type: ignore[arg-type]
            transport=transport,  # type: ignore[arg-type]
            timeout=timeout,
            tls_ca=tls_ca,
            tls_cert=tls_cert,
            tls_key=tls_key,
        ) as predictor:
            name = model or predictor.default_model()
            if metadata:
                click.echo(json.dumps(predictor.metadata(name), indent=2, ensure_ascii=False))
                return exits.DONE
            if lines:
                inputs = {"rows": given.read_lines(lines, predictor.describe(name))}
            elif file is not None and given.is_csv(file):
                inputs = {"rows": given.read_csv(file, predictor.describe(name))}
            predictions = predictor.predict(name, **inputs, top_k=top_k or _SHOWN_CLASSES)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except (ClientError, OSError) as error:
        raise exits.Failure(exits.SERVER, exits.one_line(str(error))) from error
    for line in map(_as_json, predictions) if as_json else _lines(predictions):
        click.echo(line)
    return exits.DONE


def _as_json(prediction: Prediction) -> str:
    fields: dict[str, Any] = {"outputs": {name: _plain(array) for name, array in prediction.outputs.items()}}
    if prediction.candidates:
        fields = {"candidates": [asdict(each) for each in prediction.candidates]}
    elif prediction.value is not None:
        fields = {"value": prediction.value}
    return json.dumps(fields, ensure_ascii=False)


def _plain(array: Any) -> Any:
    from serving.client.inputs import plain_array

    return plain_array(array)


def _lines(predictions: list[Prediction]) -> Iterator[str]:
    from serving.commands.text import dumps

    for number, prediction in enumerate(predictions):
        if number:
            yield ""
        if prediction.candidates:
            width = max(len(each.label) for each in prediction.candidates)
            for each in prediction.candidates:
                yield f"{exits.one_line(each.label):<{width}}  {each.probability:.4f}"
        elif prediction.value is not None:
            yield dumps(prediction.value)
        else:
            for name, array in prediction.outputs.items():
                yield f"{exits.one_line(name)}  {exits.one_line(dumps(_plain(array)))}"
