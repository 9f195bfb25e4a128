"""InceptionV3 predictions: from image files to answers."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from serving.bento.tensor_link import Submit
from serving.codecs.image_decoding import (
    LoadedImage,
    check_image,
    has_good_header,
    image_file,
    load_image,
    sample_image,
)
from serving.core.admission import Admission
from serving.core.errors import InvalidImageError
from serving.core.ranking import Probabilities, check_top_k, rank
from serving.engines.session import available_cores
from serving.http.description import ModelDescription, describe
from serving.http.disconnect import while_connected
from serving.http.request import current_request
from serving.http.schemas import DEFAULT_TOP_K, Candidate, Classification, ImageLabel
from serving.protocols.served_models import Call, Measured
from serving.settings.models import ImageSettings
from serving.store.models import StoredModel


class InceptionV3Handler:
    """Decodes in threads of this process; the runner predicts.

    Pillow releases the interpreter lock while it decodes and resizes, so the event loop goes on meanwhile.
    """

    def __init__(
        self,
        model: StoredModel,
        *,
        submit: Submit,
        admission: Admission,
        settings: ImageSettings,
    ) -> None:
        self.model = model
        self.labels = model.metadata.labels
        self.sample = sample_image()
        self._description: ModelDescription | None = None
        self._submit = submit
        self._admission = admission
        formats, max_pixels = frozenset(settings.allowed_formats), settings.max_image_pixels
        self._load = partial(load_image, formats=formats, max_pixels=max_pixels)
        self._check = partial(check_image, formats=formats, max_pixels=max_pixels)
        self._has_good_header = partial(has_good_header, formats=formats, max_pixels=max_pixels)
        self._threads = ThreadPoolExecutor(settings.decode_threads or available_cores(), "decode")

    async def describe(self) -> ModelDescription:
        """The sample answer is a real one, asked of the runner once."""
        if self._description is None:
            answer = await self.classify(self.sample)
            self._description = describe(
                self.model,
                sample_request={"image": base64.b64encode(self.sample).decode("ascii")},
                sample_response=answer.model_dump(),
            )
        return self._description

    async def classify(self, content: bytes, top_k: int = DEFAULT_TOP_K) -> Classification:
        return self._rank(await self._probabilities(content, top_k), top_k)

    async def classify_batched(self, content: bytes, top_k: int) -> Classification:
        return self._rank(await self._probabilities(content, top_k, batched=True), top_k)

    async def label(self, content: bytes) -> ImageLabel:
        probabilities = await self._probabilities(content, 1)
        return ImageLabel.model_construct(prediction=self.labels[int(probabilities.argmax())])

    async def infer_files(self, files: Sequence[bytes], call: Call, *, batched: bool) -> Measured:
        """Image files, or their base64, as elements of one tensor; for whoever watches client and time limit himself.

        Raises:
            InvalidImageError: names the element.
            OverloadedError: there are not as many places as images.
        """
        with self._admission.admit(len(files)):
            started = perf_counter()
            loop = asyncio.get_running_loop()
            decoding = [loop.run_in_executor(self._threads, self._load_element, *each) for each in enumerate(files)]
            try:
                images = await asyncio.gather(*decoding)
            finally:
                for each in decoding:
                    each.cancel()
            call.size = f"pixels={sum(image.pixels for image in images)}"
            pixels = np.stack([image.array for image in images])
            return await self._measured(pixels, call, batched=batched, input_seconds=perf_counter() - started)

    async def infer_pixels(self, pixels: NDArray[np.uint8], call: Call, *, batched: bool) -> Measured:
        """uint8 `[N, 299, 299, 3]`, RGB; else as `infer_files`."""
        with self._admission.admit(len(pixels)):
            call.size = f"pixels={pixels.size // 3}"
            return await self._measured(pixels, call, batched=batched)

    async def _measured(
        self, pixels: NDArray[np.uint8], call: Call, *, batched: bool, input_seconds: float = 0.0
    ) -> Measured:
        started = perf_counter()
        probabilities = await self._submit(pixels, expires_in=call.expires_in(), alone=not batched)
        return Measured(probabilities, perf_counter() - started, input_seconds)

    def _load_element(self, index: int, value: bytes) -> LoadedImage:
        try:
            return self._load(image_file(value))
        except InvalidImageError as error:
            raise InvalidImageError(f"image[{index}]: {error.message}") from error

    async def check(self, content: bytes, top_k: int) -> None:
        """Refuse from its header what `classify` would refuse; in a thread, unless the header is short.

        Raises:
            InvalidInputError: as `classify`.
            InvalidImageError: as `classify`, but for damaged pixels.
        """
        check_top_k(top_k, self.labels)
        if not self._has_good_header(content):
            await asyncio.get_running_loop().run_in_executor(self._threads, self._check, content)

    async def _probabilities(self, content: bytes, top_k: int, *, batched: bool = False) -> Probabilities:
        check_top_k(top_k, self.labels)
        request = current_request.get()
        with self._admission.admit():
            async with while_connected(request.receive):
                image = await asyncio.get_running_loop().run_in_executor(self._threads, self._load, content)
                request.size = f"pixels={image.pixels}"
                rows = await self._submit(image.array[np.newaxis], expires_in=request.expires_in(), alone=not batched)
        return rows[0]

    def _rank(self, probabilities: Probabilities, top_k: int) -> Classification:
        return Classification.model_construct(
            predictions=[
                Candidate.model_construct(label=found.label, class_id=found.class_id, probability=found.probability)
                for found in rank(probabilities, self.labels, top_k)
            ]
        )
