"""`serving predict`: ask a running server for predictions, by any of its protocols."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from serving.commands import exits

if TYPE_CHECKING:
    from serving.client import Prediction

_SHOWN_CLASSES = 5


class _Row(click.ParamType[list[float]]):
    """Numbers between commas."""

    name = "row"

    def convert(
        self, value: str | list[float], param: click.Parameter | None, ctx: click.Context | None
    ) -> list[float]:
        if isinstance(value, list):
            return value
        try:
            return [float(number) for number in value.split(",")]
        except ValueError:
            self.fail("numbers between commas are required, such as 5.1,3.5,1.4,0.2", param, ctx)


@click.command()
@click.argument("model")
@click.option(
    "--row", "rows", type=_Row(), multiple=True, metavar="A,B,…", help="A row of measurements; may be repeated."
)
@click.option(
    "--image",
    "images",
    multiple=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An image file; may be repeated.",
)
@click.option(
    "--protocol",
    type=click.Choice(["native", "tfserving", "v2"]),
    help="What to speak; native over REST and v2 over gRPC unless given.",
)
@click.option("--transport", type=click.Choice(["rest", "grpc"]), default="rest", help="How; rest unless given.")
@click.option(
    "--target",
    metavar="HOST:PORT",
    help="The server, for REST also a URL. Unless given, 127.0.0.1:8500 for gRPC, for REST $SERVING_URL or port 3000.",
)
@click.option("--url", envvar="SERVING_URL", hidden=True)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=5.0,
    metavar="SECONDS",
    help="Give up after so long, and let the server do so; 5 unless given.",
)
@click.option("--top-k", type=click.IntRange(1), metavar="N", help=f"Classes to name; {_SHOWN_CLASSES} unless given.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object on a line for each row or image.")
@click.option("--metadata", is_flag=True, help="Print what the protocol says of the model instead.")
def predict(
    model: str,
    *,
    rows: tuple[list[float], ...],
    images: tuple[Path, ...],
    protocol: str | None,
    transport: str,
    target: str | None,
    url: str | None,
    timeout: float,
    top_k: int | None,
    as_json: bool,
    metadata: bool,
) -> int:
    """Predict rows or images with MODEL on a running server.

    Prints the most probable classes, best first, with an empty line between two rows or images.
    """
    if metadata == bool(rows or images) or (rows and images):
        raise click.UsageError("one of --row, --image and --metadata is required")
    from serving.client import ClientError, Predictor

    try:
        with Predictor(
            target or (url if transport == "rest" else None),
            protocol=protocol or ("v2" if transport == "grpc" else "native"),  # type: ignore[arg-type]
            transport=transport,  # type: ignore[arg-type]
            timeout=timeout,
        ) as predictor:
            if metadata:
                click.echo(json.dumps(predictor.metadata(model), indent=2, ensure_ascii=False))
                return exits.DONE
            files = [path.read_bytes() for path in images]
            predictions = predictor.predict(model, rows=list(rows), images=files, top_k=top_k or _SHOWN_CLASSES)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except (ClientError, OSError) as error:
        raise exits.Failure(exits.SERVER, str(error)) from error
    for line in _json_lines(predictions) if as_json else _lines(predictions):
        click.echo(line)
    return exits.DONE


def _json_lines(predictions: list[Prediction]) -> list[str]:
    return [
        json.dumps({"candidates": [asdict(each) for each in prediction.candidates]}, ensure_ascii=False)
        for prediction in predictions
    ]


def _lines(predictions: list[Prediction]) -> list[str]:
    lines: list[str] = []
    for prediction in predictions:
        width = max(len(each.label) for each in prediction.candidates)
        if lines:
            lines.append("")
        lines += [f"{exits.one_line(each.label):<{width}}  {each.probability:.4f}" for each in prediction.candidates]
    return lines
