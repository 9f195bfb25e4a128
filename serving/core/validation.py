"""What pydantic and msgspec find wrong with a request, as errors for the caller.

Never repeats the input, but for the names of unknown fields.
"""

from __future__ import annotations

import re

import msgspec
from pydantic import ValidationError

from serving.core.errors import ErrorDetail, InvalidInputError, MalformedRequestError, ServingError

_LONGEST_NAME = 64
_MOST_FINDINGS = 10_000
_PATH = re.compile(r"(.*) - at `(?:key in )?\$\.?(.*)`", re.DOTALL)
_BYTE = re.compile(r"\(byte (\d+)\)")
_UNKNOWN = re.compile(r"(?<=unknown field `).*?(?=` - at `\$|`\Z)", re.DOTALL)


def from_validation(error: ValidationError) -> ServingError:
    """Pydantic's findings in our shape. Never repeats the input, but for the names of unknown fields."""
    if error.error_count() > _MOST_FINDINGS:
        # A million unknown fields fit in a body, and listing them would hold up the event loop for seconds.
        return InvalidInputError(f"{error.error_count()} fields or values are wrong")
    found = error.errors(include_url=False, include_context=False, include_input=False)
    if found[0]["type"] == "json_invalid":
        return MalformedRequestError(f"the body is not valid JSON: {found[0]['msg'].removeprefix('Invalid JSON: ')}")
    details = [ErrorDetail(_path(item["loc"]), item["msg"]) for item in found]
    first = details[0]
    message = f"{first.field}: {first.message}" if first.field else first.message
    if len(details) > 1:
        message += f" (and {len(details) - 1} more)"
    return InvalidInputError(message, details=details)


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{shortened(part)}" if path else shortened(part)
    return path


def shortened(name: str) -> str:
    """A name of the caller's choosing as a message repeats it."""
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"


def msgspec_text(error: Exception) -> str:
    """What msgspec says, with the name of an unknown field shortened: it is of the caller's choosing."""
    return _UNKNOWN.sub(lambda found: shortened(found[0]), str(error))


def not_json(error: Exception, text: bytes | str) -> str:
    """Why msgspec does not take `text` for JSON: its own words, but for what Python and JavaScript write as numbers."""
    found = _BYTE.search(str(error))
    place = int(found[1]) if found else 0
    if found and text[place : place + 3] in (b"NaN", b"Inf", "NaN", "Inf"):
        return "not valid JSON: it has no NaN and no Infinity; send null where the model takes missing values"
    return f"not valid JSON: {error}"


def from_msgspec(error: Exception, text: bytes | str, *, prefix: str = "") -> ServingError:
    """What msgspec has found first.

    Args:
        error: a DecodeError of msgspec, or what it raises beside for text that is not UTF-8 or nested too deeply.
        text: that was decoded.
        prefix: path of what was decoded, as `values`.
    """
    if isinstance(error, RecursionError):
        return MalformedRequestError("the body is nested too deeply")
    if not isinstance(error, msgspec.ValidationError):
        return MalformedRequestError(f"the body is {not_json(error, text)}")
    said = msgspec_text(error)
    found = _PATH.fullmatch(said)
    message, path = (found[1], found[2]) if found else (said, "")
    field = f"{prefix}.{path}" if prefix and path and not path.startswith("[") else prefix + path
    return InvalidInputError(f"{field}: {message}" if field else message, details=[ErrorDetail(field, message)])
