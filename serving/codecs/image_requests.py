"""Requests with an image: a form, the file as the body, or JSON."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.requests import Request

from serving.codecs.forms import read_form
from serving.codecs.image_decoding import image_file
from serving.codecs.json_body import is_json, media_type, says_nothing
from serving.core.base64_text import decode_base64
from serving.core.errors import ErrorDetail, InvalidInputError, MalformedRequestError, UnsupportedMediaTypeError
from serving.core.json_text import as_utf8
from serving.core.validation import from_validation, shortened

IMAGE, TOP_K = "image", "top_k"
_MEDIA_TYPES = "multipart/form-data with a file `image`, image/* with the file as body, or application/json"
_TopK = Annotated[int, Field(ge=1)]
_top_k = TypeAdapter(_TopK)
_LONGEST_NUMBER = 64


class ImageBody(BaseModel):
    """The JSON form of a request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: str = Field(min_length=1)


class RankedImageBody(ImageBody):
    """The JSON form of a request that says how many classes to name."""

    top_k: _TopK = Field(None, validate_default=False)  # type: ignore[assignment]


class Given(NamedTuple):
    """The image file in a request, and how many classes to name where it says so."""

    content: bytes
    top_k: int | None


async def read_image(request: Request, *, ranked: bool) -> Given:
    """The image in a request, with `top_k` from the form, the JSON object or the query if it is `ranked`.

    Raises:
        UnsupportedMediaTypeError: none of the three forms.
        MalformedRequestError: the form, the JSON or the base64 is broken.
        InvalidInputError: a field is missing, unknown or wrong.
    """
    kind = media_type(request)
    if not (kind == "multipart/form-data" or kind.startswith("image/") or is_json(kind) or says_nothing(kind)):
        raise UnsupportedMediaTypeError(f"content type {shortened(kind)} is not supported; send {_MEDIA_TYPES}")
    body = await request.body()
    if kind == "multipart/form-data":
        found = _from_form(request.headers["content-type"], body, {IMAGE, TOP_K} if ranked else {IMAGE})
    elif is_json(kind, body):
        utf8 = as_utf8(body, request.headers.get("content-type", ""))
        found = _from_json(utf8, RankedImageBody if ranked else ImageBody)
    else:
        found = Given(image_file(body) if body else b"", None)
    if not found.content:
        raise MalformedRequestError("there is no image: the body is empty")
    if ranked and (text := request.query_params.get(TOP_K)) is not None:
        if found.top_k is not None:
            raise InvalidInputError("top_k is in the query and in the body; give it once")
        return Given(found.content, _parse_top_k(text))
    return found


def _parse_top_k(text: str) -> int:
    try:
        return _top_k.validate_strings(text[:_LONGEST_NUMBER])
    except ValidationError as error:
        message = error.errors(include_url=False, include_context=False, include_input=False)[0]["msg"]
        raise InvalidInputError(f"top_k: {message}", details=[ErrorDetail(TOP_K, message)]) from error


def _from_form(content_type: str, body: bytes, fields: set[str]) -> Given:
    found: dict[str, bytes] = {}
    for name, content in read_form(content_type, body):
        if name not in fields:
            message = f"unknown field; the form has {' and '.join(sorted(fields))}"
            raise InvalidInputError(f"{shortened(name)}: {message}", details=[ErrorDetail(shortened(name), message)])
        if name in found:
            message = "given twice; send each in a request of its own"
            raise InvalidInputError(f"{name}: {message}", details=[ErrorDetail(name, message)])
        found[name] = content
    if IMAGE not in found:
        raise InvalidInputError("image: a file is required", details=[ErrorDetail(IMAGE, "a file is required")])
    content, top_k = found[IMAGE], found.get(TOP_K)
    return Given(
        image_file(content) if content else b"", None if top_k is None else _parse_top_k(top_k.decode(errors="replace"))
    )


def _from_json(body: bytes, body_type: type[ImageBody]) -> Given:
    if not body:
        raise MalformedRequestError('the body is empty; send {"image": "<base64>"}')
    try:
        fields = body_type.model_validate_json(body)
    except ValidationError as error:
        raise from_validation(error) from error
    try:
        return Given(decode_base64(fields.image), getattr(fields, TOP_K, None))
    except ValueError as error:
        raise MalformedRequestError(f"image: {error}") from error
