"""What scores the rows of one model: from the JSON of rows to the JSON of predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from serving.settings import Settings
from serving.store.models import check_versions, open_model
from serving.store.source import prepare_models


@dataclass(frozen=True, slots=True)
class Predictions:
    """Of a chunk, in its order and each list as long as it. A row with an `error` has nothing else."""

    texts: Sequence[str | None]
    """JSON."""
    labels: Sequence[str | None]
    """The most probable class."""
    errors: Sequence[str | None]
    """Why the row cannot be scored, in a sentence."""


class Predictor(Protocol):
    """One loaded model."""

    tag: str
    most_rows: int
    """Of a chunk: what may be held in memory, and is done well within a lease."""

    def predict(self, values: Sequence[str]) -> Predictions:
        """Score rows, given as the JSON of their `values`, in one engine call. A bad row fails alone."""


def _iris(settings: Settings) -> Predictor:
    from serving.batch.iris import IrisPredictor

    prepare_models(settings)
    model = open_model(settings.iris.tag)
    check_versions(model, strict=settings.serving.strict_versions)
    return IrisPredictor(model, threads=settings.iris.threads)


def _inception_v3(settings: Settings) -> Predictor:
    from serving.batch.images import ImagePredictor
    from serving.codecs.image_files import ImageFiles
    from serving.engines import open_inception_v3

    section = settings.inception_v3
    prepare_models(settings)
    model = open_model(section.tag)
    check_versions(model, strict=settings.serving.strict_versions)
    engine = open_inception_v3(
        model,
        engine=section.engine,
        threads=section.threads,
        providers=section.providers,
        openvino_precision=section.openvino_precision,
    )
    # an image in a file may be as large as one that is sent
    files = ImageFiles(settings.batch.image_root, max_bytes=settings.api.max_request_bytes)
    return ImagePredictor(engine, files, batch_rows=section.batching.max_batch_rows, image=section.image)


OpenPredictor = Callable[[], Predictor]
_OPEN: dict[str, Callable[[Settings], Predictor]] = {"iris": _iris, "inception_v3": _inception_v3}


def predictors(settings: Settings) -> Mapping[str, OpenPredictor]:
    """How to load the models whose rows can be scored, by the name that stands in `items.model`.

    Nothing is loaded before there is a row of it.
    """
    return {name: partial(make, settings) for name, make in _OPEN.items() if getattr(settings, name).enabled}
