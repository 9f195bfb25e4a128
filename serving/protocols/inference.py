"""The two models as the standard protocols see them, over the handlers of their own routes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from serving.core.errors import InvalidInputError
from serving.engines.inception_v3 import IMAGE_SHAPE
from serving.engines.iris import FEATURES
from serving.http.inception_v3 import InceptionV3Handler
from serving.http.iris import IrisHandler
from serving.metrics.inference import Statistics
from serving.protocols.served_models import (
    CLASSIFY,
    CLASSIFY_SIGNATURE,
    DEFAULT_SIGNATURE,
    LABEL_TENSOR,
    PREDICT,
    PROBABILITIES,
    Call,
    Measured,
    ServedModel,
    Signature,
    Values,
)
from serving.settings.models import InceptionV3Settings, IrisSettings
from serving.store.models import TensorSpec

IMAGE = "image"
PIXELS = "pixels"
# As TensorFlow's exporters name them: serialised `tensorflow.Example`s in, one column for each class out.
_EXAMPLES = TensorSpec(name="inputs", dtype="bytes", shape=[None])
_SCORES = TensorSpec(name="scores", dtype="float32", shape=[None, None])
_CLASSES = TensorSpec(name="classes", dtype="bytes", shape=[None, None])


class ServedIris(ServedModel):
    """Rows float32 `[N, 4]`."""

    def __init__(
        self, handler: IrisHandler, settings: IrisSettings, *, statistics: Statistics, ready: Callable[[], bool]
    ) -> None:
        metadata = handler.model.metadata
        (features,) = metadata.inputs
        super().__init__(
            "iris",
            handler.model,
            inputs=[features],
            signatures={
                DEFAULT_SIGNATURE: Signature(PREDICT, (features,), tuple(metadata.outputs)),
                CLASSIFY_SIGNATURE: Signature(CLASSIFY, (_EXAMPLES,), (_CLASSES, _SCORES)),
            },
            version_labels=settings.version_labels,
            most_rows=settings.max_rows,
            batched=settings.batching.default_for_protocols,
            statistics=statistics,
            ready=ready,
        )
        self._handler = handler

    async def _predict(self, values: Values, call: Call) -> Measured:
        name = self.inputs[0].name
        if not isinstance(values, np.ndarray) or values.dtype != np.float32:
            raise InvalidInputError(f"{name}: float32 numbers are required")
        if values.ndim != 2 or values.shape[1] != FEATURES:
            raise InvalidInputError(f"{name}: the shape {list(values.shape)} is not [N, {FEATURES}]")
        _check_count(name, len(values), self.most_rows)
        call.size = f"rows={len(values)}"
        finite = np.isfinite(values)
        if not finite.all():
            row, column = np.argwhere(~finite)[0].tolist()
            raise InvalidInputError(f"{name}[{row}][{column}]: a finite number is required")
        started = perf_counter()
        probabilities = await self._handler.infer(values, expires_in=call.expires_in(), batched=self.batched)
        return Measured(probabilities, perf_counter() - started)


class ServedInceptionV3(ServedModel):
    """Image files as bytes `[N]`, or pixels uint8 `[N, 299, 299, 3]`."""

    def __init__(
        self,
        handler: InceptionV3Handler,
        settings: InceptionV3Settings,
        *,
        statistics: Statistics,
        ready: Callable[[], bool],
    ) -> None:
        image = TensorSpec(name=IMAGE, dtype="bytes", shape=[None])
        outputs = tuple(handler.model.metadata.outputs)
        super().__init__(
            "inception_v3",
            handler.model,
            inputs=[image, TensorSpec(name=PIXELS, dtype="uint8", shape=[None, *IMAGE_SHAPE])],
            # As the SavedModel has them, so that its clients need not change.
            signatures={
                DEFAULT_SIGNATURE: Signature(PREDICT, (image,), (LABEL_TENSOR,)),
                PROBABILITIES: Signature(PREDICT, (image,), outputs),
                CLASSIFY_SIGNATURE: Signature(CLASSIFY, (_EXAMPLES,), (_CLASSES, _SCORES)),
            },
            version_labels=settings.version_labels,
            most_rows=settings.max_images,
            batched=settings.batching.default_for_protocols,
            statistics=statistics,
            ready=ready,
        )
        self._handler = handler

    async def _predict(self, values: Values, call: Call) -> Measured:
        if not isinstance(values, np.ndarray):
            _check_count(IMAGE, len(values), self.most_rows)
            return await self._handler.infer_files(values, call, batched=self.batched)
        if values.dtype != np.uint8:
            raise InvalidInputError(f"{PIXELS}: uint8 numbers are required")
        if values.shape[1:] != IMAGE_SHAPE:
            expected = ", ".join(str(length) for length in IMAGE_SHAPE)
            raise InvalidInputError(f"{PIXELS}: the shape {list(values.shape)} is not [N, {expected}]")
        _check_count(PIXELS, len(values), self.most_rows)
        return await self._handler.infer_pixels(values, call, batched=self.batched)


def _check_count(name: str, count: int, most: int) -> None:
    if not 1 <= count <= most:
        raise InvalidInputError(f"{name}: 1 to {most} rows are allowed in a request, not {count}")


def serve_models(
    service: Any,
    *,
    iris: IrisSettings,
    inception_v3: InceptionV3Settings,
    statistics: Callable[[str], Statistics],
    ready: Callable[[str], Callable[[], bool]],
) -> Sequence[ServedModel]:
    """What the protocols serve of a started service.

    Args:
        service: has a handler under each enabled model's name.
        statistics, ready: of the model with a name.
    """
    models: list[ServedModel] = []
    if iris.enabled:
        models.append(ServedIris(service.iris, iris, statistics=statistics("iris"), ready=ready("iris")))
    if inception_v3.enabled:
        models.append(
            ServedInceptionV3(
                service.inception_v3,
                inception_v3,
                statistics=statistics("inception_v3"),
                ready=ready("inception_v3"),
            )
        )
    return models
