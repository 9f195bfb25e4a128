"""Models of images: a file in, its most probable classes (or what else the model gives) out."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from starlette.requests import Request

from serving.codecs.answers import Answers, row_answers, tensor_rows
from serving.codecs.base import Codec, Files, Operation, RowAnswers, encode
from serving.codecs.image_decoding import (
    check_image,
    has_good_header,
    image_file,
    load_image,
    prepare_formats,
    sample_image,
    to_input,
)
from serving.codecs.image_files import check_image_row
from serving.codecs.image_requests import IMAGE, read_image
from serving.codecs.schemas import array_of, object_of
from serving.core.errors import (
    InvalidImageError,
    InvalidInputError,
    ModelError,
    ServingError,
)
from serving.core.ranking import DEFAULT_TOP_K, choose_top_k, rank
from serving.core.signature import TensorSpec
from serving.core.tensors import BYTES, Tensors
from serving.settings.models import ModelSettings
from serving.store.models import StoredModel

PIXELS = "pixels"
_PATH = {"type": "string", "minLength": 1, "maxLength": 4096, "description": "of a file below `batch.image_root`"}


class ImageRequest(NamedTuple):
    """An image file, and how many classes to name."""

    content: bytes
    top_k: int


class ImageCodec(Codec[ImageRequest]):
    """A file as multipart form, as the body itself, or in base64 as JSON.

    Pillow releases the interpreter lock while it decodes and resizes, so that the event loop goes on meanwhile.
    """

    slow = True

    def __init__(self, stored: StoredModel, settings: ModelSettings) -> None:
        super().__init__(stored, settings)
        if self.metadata.image is None:
            raise ModelError(f"model {stored.tag} has no metadata of its images")
        self._preprocessing = self.metadata.image
        self._input = self.metadata.inputs[0]
        self._answers = Answers(self.metadata)
        formats, max_pixels = frozenset(settings.image.allowed_formats), settings.image.max_image_pixels
        prepare_formats(formats)
        self._load = partial(
            load_image,
            preprocessing=self._preprocessing,
            formats=formats,
            max_pixels=max_pixels,
            background=tuple(settings.image.background),
        )
        self._check = partial(check_image, formats=formats, max_pixels=max_pixels)
        self._has_good_header = partial(has_good_header, formats=formats, max_pixels=max_pixels)

    # Requests over HTTP

    def read_fast(self, body: bytes) -> ImageRequest | None:  # noqa: ARG002
        return None

    async def read(self, request: Request, *, label: bool = False) -> ImageRequest:
        content, top_k = await read_image(request, ranked=self.has_labels and not label)
        return ImageRequest(content, self._choose(top_k))

    def from_fields(self, fields: Mapping[str, Any]) -> ImageRequest:
        """`image` is the bytes of a file, or a path to one."""
        if not {"image"} <= set(fields) <= {"image", "top_k"}:
            raise InvalidInputError("the fields are image and top_k")
        image = fields["image"]
        return ImageRequest(
            image if isinstance(image, bytes) else Path(image).read_bytes(), self._choose(fields.get("top_k"))
        )

    def _choose(self, top_k: int | None) -> int:
        return choose_top_k(top_k, self.metadata.labels) if self.has_labels else 0

    def judge(self, request: ImageRequest) -> None:
        self._check(request.content)

    def judge_fast(self, request: ImageRequest) -> bool:
        return self._has_good_header(request.content)

    def tensors(self, request: ImageRequest) -> tuple[Tensors, str]:
        tensors, pixels = self._decode(request.content)
        return tensors, f"pixels={pixels}"

    def _decode(self, content: bytes) -> tuple[Tensors, int]:
        """The input of one image, and the pixels of its file."""
        loaded = self._load(content)
        pixels = to_input(loaded.array[np.newaxis], self._preprocessing, self._input.dtype)
        return {self._input.name: pixels}, loaded.pixels

    # Answers

    def answer(self, outputs: Tensors, request: ImageRequest) -> bytes:
        self.check_outputs(outputs, IMAGE)
        if self.metadata.task == "classification":
            return encode({"predictions": self._rank(outputs, request.top_k)})
        if self.metadata.task == "regression":
            return encode({"prediction": self._answers.values(outputs)[0]})
        return encode({"outputs": tensor_rows(outputs, self.signature)[0]})

    def _rank(self, outputs: Tensors, top_k: int) -> list[Any]:
        return rank(self._answers.probabilities(outputs)[0], self.metadata.labels, top_k)

    def label(self, outputs: Tensors, request: ImageRequest) -> bytes:  # noqa: ARG002
        self.check_outputs(outputs, IMAGE)
        return encode({"prediction": self._answers.labels(outputs)[0]})

    def most_probable(self, outputs: Tensors) -> list[str]:
        return self._answers.most_probable(outputs)

    def sample(self) -> ImageRequest:
        return ImageRequest(self._sample, self._choose(None))

    def sample_json(self) -> dict[str, Any]:
        return {"image": base64.b64encode(self._sample).decode("ascii")}

    @cached_property
    def _sample(self) -> bytes:
        """A PNG unless the settings forbid it: what is shown has to be right when it is sent."""
        formats = self.settings.image.allowed_formats
        form = "PNG" if "PNG" in formats else formats[0]
        return sample_image(form, max_pixels=self.settings.image.max_image_pixels)

    # Jobs

    def dump(self, request: ImageRequest) -> tuple[bytes, dict[str, Any]]:
        return request.content, {"top_k": request.top_k, "v": 1} if self.has_labels else {"v": 1}

    def load(self, payload: bytes, parameters: Mapping[str, Any]) -> ImageRequest:
        if not self.has_labels:
            return ImageRequest(payload, 0)
        top_k = parameters.get("top_k")
        if type(top_k) is not int or top_k < 1:
            raise InvalidInputError("top_k: a whole number of at least 1 is required")
        return ImageRequest(payload, self._choose(top_k))

    # Batch

    def read_row(self, text: str, files: Files) -> ImageRequest:
        return ImageRequest(files.read(text), self._choose(None))

    def check_row(self, text: str) -> ServingError | None:
        fault = check_image_row(text)
        return None if fault is None else InvalidInputError(fault)

    def row_answers(self, outputs: Tensors) -> RowAnswers:
        predictions: list[Any]
        if self.metadata.task == "classification":
            top_k = self._choose(None)
            probabilities = self._answers.probabilities(outputs)
            predictions = [rank(row, self.metadata.labels, top_k) for row in probabilities]
        elif self.metadata.task == "regression":
            predictions = self._answers.values(outputs)
        else:
            predictions = tensor_rows(outputs, self.signature)
        labels = self._answers.labels(outputs) if self.has_labels else []
        return row_answers(outputs, predictions, labels, allow_nan=self.metadata.allow_nan)

    # The standard protocols

    def offered(self) -> tuple[tuple[TensorSpec, ...], ...]:
        """Files, or the input of the graph under the name `pixels`, or under its own."""
        image = TensorSpec(name=IMAGE, dtype=BYTES, shape=[None])
        pixels = self._input.model_copy(update={"name": PIXELS})
        return ((image,), (pixels,)) if self._input.name == PIXELS else ((image,), (pixels,), (self._input,))

    def from_offered(self, tensors: Tensors, *, first_row: int = 0) -> tuple[Tensors, str]:
        ((name, array),) = tensors.items()
        if array.dtype != object:
            given = {self._input.name: array}
            self.signature.check(given, allow_nan=False)
            return given, f"pixels={len(array) * self._preprocessing.width * self._preprocessing.height}"
        decoded: list[Tensors] = []
        pixels = 0
        for row, value in enumerate(array.ravel().tolist(), first_row):
            try:
                found, size = self._decode(image_file(value))
            except InvalidImageError as error:
                raise InvalidImageError(f"{name}[{row}]: {error.message}") from error
            decoded.append(found)
            pixels += size
        return {self._input.name: np.concatenate([each[self._input.name] for each in decoded])}, f"pixels={pixels}"

    # Documentation

    def operation(self) -> Operation:
        file = {"type": "string", "format": "binary", "description": "The image file."}
        text = {
            "type": "string",
            "minLength": 1,
            "contentEncoding": "base64",
            "description": "the image file in base64 or base64url, with or without padding",
        }
        classes = len(self.metadata.labels)
        limits = {"type": "integer", "minimum": 1, "maximum": classes}
        ranked: dict[str, Any] = {}
        if self.has_labels:
            # In words: generated clients take a field with a default for one that is required.
            usual = min(DEFAULT_TOP_K, classes)
            ranked = {"top_k": {**limits, "description": f"classes to name, {usual} where it is left out"}}
        Image.init()
        content: dict[str, Any] = {
            "multipart/form-data": {"schema": object_of({"image": file, **ranked}, required=["image"])},
            **{
                Image.MIME[name]: {"schema": {"type": "string", "format": "binary"}}
                for name in self.settings.image.allowed_formats
            },
            "application/json": {"schema": object_of({"image": text, **ranked}, required=["image"])},
        }
        parameter = {
            "name": "top_k",
            "in": "query",
            "required": False,
            "description": "How many classes to name; in the query or in the body, not in both.",
            # No default here: a client that sends the defaults of everything would say it twice.
            "schema": limits,
        }
        return Operation(
            content=content,
            parameters=[parameter] if self.has_labels else [],
            answer=self._answer_schema(),
            label=object_of({"prediction": {"type": "string"}}) if self.has_labels else None,
            row={"oneOf": [object_of({"image_path": _PATH}), object_of({"image_url": _PATH})]},
        )

    def _answer_schema(self) -> dict[str, Any]:
        number = {"type": "number"}
        if self.metadata.task == "classification":
            candidate = object_of({"label": {"type": "string"}, "class_id": {"type": "integer"}, "probability": number})
            return object_of({"predictions": array_of(candidate)})
        if self.metadata.task == "regression":
            return object_of({"prediction": {"anyOf": [number, array_of(number)]}})
        return object_of({"outputs": object_of({spec.name: {} for spec in self.metadata.outputs})})
