"""From the body of a request to what the engines take."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from serving.core.errors import ErrorDetail, InvalidInputError, MalformedRequestError, UnsupportedMediaTypeError
from serving.http.errors import from_validation

FEATURES = 4
FLOAT32_MAX = 3.4028234663852886e38
"""Largest finite float32; a larger number would become infinity on its way into the engine."""

Measurement = Annotated[float, Field(ge=-FLOAT32_MAX, le=FLOAT32_MAX, allow_inf_nan=False)]
Row = Annotated[list[Measurement], Field(min_length=FEATURES, max_length=FEATURES)]
_LARGE_BYTES = 65_536
"""Above it a body's lists and commas are counted before it is decoded: pydantic reads all of it and collects every
fault, which of 16 MB of nothing but faults takes seconds, in a thread as well, since it keeps the lock."""
TopK = Annotated[int, Field(ge=1)]

_top_k = TypeAdapter(TopK)
_IMAGE_TYPES = "multipart/form-data with a file `image`, image/* with the file as body, or application/json"


class RowsDecoder:
    """Rows of measurements from JSON, `{"data": [[…], …]}`.

    `explain` is the contract: pydantic decides what is accepted and says what is wrong. `fast` accepts a subset
    of it several times quicker and leaves the rest to `explain`.
    """

    def __init__(self, max_rows: int) -> None:
        class Rows(BaseModel):
            model_config = ConfigDict(extra="forbid", strict=True)
            data: Annotated[list[Row], Field(min_length=1, max_length=max_rows)]

        measurement = Annotated[float, msgspec.Meta(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]
        row = tuple[measurement, measurement, measurement, measurement]
        body = msgspec.defstruct(
            "body",
            [("data", Annotated[list[row], msgspec.Meta(min_length=1, max_length=max_rows)])],
            forbid_unknown_fields=True,
        )
        self._max_rows = max_rows
        self._model = Rows
        self._decode = msgspec.json.Decoder(body).decode

    def fast(self, body: bytes) -> NDArray[np.float32] | None:
        """float32 `[N, 4]`, or `None` for anything that `explain` has to judge."""
        if self._has_too_much(body):
            return None
        try:
            return np.array(self._decode(body).data, np.float32)  # type: ignore[attr-defined]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def explain(self, body: bytes) -> NDArray[np.float32]:
        """float32 `[N, 4]`.

        Raises:
            MalformedRequestError: the body is empty or not JSON.
            InvalidInputError: names the rows and values that are wrong.
        """
        if not body:
            raise MalformedRequestError('the body is empty; send {"data": [[5.1, 3.5, 1.4, 0.2]]}')
        if self._has_too_much(body):
            message = f"more lists or values than {self._max_rows} rows of {FEATURES} numbers have"
            raise InvalidInputError(f"data: {message}", details=[ErrorDetail("data", message)])
        try:
            return np.array(self._model.model_validate_json(body).data, np.float32)
        except ValidationError as error:
            raise from_validation(error) from error

    def _has_too_much(self, body: bytes) -> bool:
        """Whether a large body can only be wrong, told within milliseconds: neither sign stands anywhere else in it."""
        return len(body) > _LARGE_BYTES and (
            body.count(b"[") > self._max_rows + 1 or body.count(b",") > self._max_rows * FEATURES
        )


class ImageBody(BaseModel):
    """The JSON form of an image request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: str = Field(
        min_length=1,
        description="the image file in base64 or base64url, with or without padding",
        json_schema_extra={"contentEncoding": "base64"},
    )


class RankedImageBody(ImageBody):
    """The JSON form of an image request that says how many classes to name."""

    top_k: TopK = Field(None, description="how many classes to name", validate_default=False)  # type: ignore[assignment]


def media_type(request: Request) -> str:
    """The media type without parameters, in lower case; empty when there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def require_json(request: Request) -> None:
    """Raises UnsupportedMediaTypeError unless the body is declared as JSON or not declared at all."""
    kind = media_type(request)
    if kind not in ("application/json", ""):
        raise UnsupportedMediaTypeError(f"content type {kind} is not supported; send application/json")


async def read_image(request: Request, body_type: type[ImageBody]) -> tuple[bytes, int | None]:
    """The image file in a request, and `top_k` from the form, the JSON object or the query.

    `body_type` says which fields there may be; only a RankedImageBody has `top_k`.

    Raises:
        UnsupportedMediaTypeError: none of the three forms.
        MalformedRequestError: the form, the JSON or the base64 is broken.
        InvalidInputError: a field is missing, unknown or wrong.
    """
    kind = media_type(request)
    if kind == "multipart/form-data":
        content, top_k = await _from_form(request, set(body_type.model_fields))
    elif kind.startswith("image/"):
        content, top_k = await request.body(), None
    elif kind == "application/json":
        content, top_k = _from_json(await request.body(), body_type)
    else:
        raise UnsupportedMediaTypeError(f"content type {kind or '(none)'} is not supported; send {_IMAGE_TYPES}")
    if not content:
        raise MalformedRequestError("there is no image: the body is empty")
    if issubclass(body_type, RankedImageBody) and (text := request.query_params.get("top_k")) is not None:
        if top_k is not None:
            raise InvalidInputError("top_k is in the query and in the body; give it once")
        top_k = _parse_top_k(text)
    return content, top_k


def _parse_top_k(text: str) -> int:
    try:
        return _top_k.validate_strings(text)
    except ValidationError as error:
        message = error.errors(include_url=False, include_context=False, include_input=False)[0]["msg"]
        raise InvalidInputError(f"top_k: {message}", details=[ErrorDetail("top_k", message)]) from error


async def _from_form(request: Request, fields: set[str]) -> tuple[bytes, int | None]:
    try:
        form = await request.form(max_files=1, max_fields=1, max_part_size=64)
    except HTTPException as error:
        raise MalformedRequestError(f"the form cannot be read: {error.detail}") from error
    try:
        image = form.get("image")
        unknown = sorted(set(form) - fields)
        if unknown:
            raise InvalidInputError(f"{unknown[0]}: unknown field", details=[ErrorDetail(unknown[0], "unknown field")])
        if not isinstance(image, UploadFile):
            raise InvalidInputError("image: a file is required", details=[ErrorDetail("image", "a file is required")])
        top_k = form.get("top_k")
        return await image.read(), _parse_top_k(top_k) if isinstance(top_k, str) else None
    finally:
        await form.close()


def _from_json(body: bytes, body_type: type[ImageBody]) -> tuple[bytes, int | None]:
    if not body:
        raise MalformedRequestError('the body is empty; send {"image": "<base64>"}')
    try:
        fields = body_type.model_validate_json(body)
    except ValidationError as error:
        raise from_validation(error) from error
    # base64url differs in two characters, and its padding is often left out.
    text = fields.image.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True), getattr(fields, "top_k", None)
    except (binascii.Error, ValueError) as error:
        raise MalformedRequestError("image: not base64 or base64url") from error
