"""Rows of images: `values` names a file, and the prediction is the list that `/inception_v3/predict` answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.batch.predictor import Predictions
from serving.codecs.image_decoding import load_image
from serving.codecs.image_files import ImageFiles
from serving.core.errors import InvalidInputError
from serving.core.ranking import rank
from serving.engines import ImageEngine
from serving.engines.session import available_cores
from serving.settings.models import ImageSettings

TOP_K = 5
_encode = msgspec.json.encode
Decoded = NDArray[np.uint8] | str
"""An image, uint8 `[299, 299, 3]`, or why there is none."""


class ImagePredictor:
    """Decodes in threads while the engine scores what has been decoded.

    Args:
        batch_rows: images in an engine call.
        image: which images are decoded, and how many at a time.
    """

    # Half a minute on two cores. Decoded images are never held all at once.
    most_rows = 1_000

    def __init__(self, engine: ImageEngine, files: ImageFiles, *, batch_rows: int, image: ImageSettings) -> None:
        self.tag = engine.model.tag
        self._engine = engine
        self._labels = engine.model.metadata.labels
        self._files = files
        self._batch_rows = batch_rows
        self._image = image
        self._threads = image.decode_threads or available_cores()

    def predict(self, values: Sequence[str]) -> Predictions:
        """Score rows, given as the JSON of their `values`. A bad row fails alone."""
        texts: list[str | None] = [None] * len(values)
        labels: list[str | None] = [None] * len(values)
        errors: list[str | None] = [None] * len(values)
        with ThreadPoolExecutor(self._threads, thread_name_prefix="batch-images") as pool:
            decoded = self._decoded(values, pool)
            while batch := list(islice(decoded, self._batch_rows)):
                good = [(index, image) for index, image in batch if not isinstance(image, str)]
                errors_here = {index: image for index, image in batch if isinstance(image, str)}
                for index, error in errors_here.items():
                    errors[index] = error
                if good:
                    probabilities = self._engine.predict(np.stack([image for _, image in good]))
                    for (index, _), row in zip(good, probabilities, strict=True):
                        best = rank(row, self._labels, min(TOP_K, len(self._labels)))
                        texts[index] = _encode(best).decode()
                        labels[index] = best[0].label
        return Predictions(texts, labels, errors)

    def _decoded(self, values: Sequence[str], pool: ThreadPoolExecutor) -> Iterator[tuple[int, Decoded]]:
        """The rows in order; so many are decoded ahead as the engine takes at a time, and one for each thread."""
        waiting: deque[tuple[int, Future[Decoded]]] = deque()
        rows = enumerate(values)
        ahead = self._batch_rows + self._threads
        while True:
            for index, text in islice(rows, ahead - len(waiting)):
                waiting.append((index, pool.submit(self._decode, text)))
            if not waiting:
                return
            index, future = waiting.popleft()
            yield index, future.result()

    def _decode(self, text: str) -> Decoded:
        try:
            content = self._files.read(text)
            return load_image(
                content, formats=self._image.allowed_formats, max_pixels=self._image.max_image_pixels
            ).array
        except InvalidInputError as error:
            return error.message
