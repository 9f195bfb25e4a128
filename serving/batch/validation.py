"""What rows have to be like, as far as it can be told without their model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec

from serving.batch.iris import check_row

Check = Callable[[str], str | None]


class _ImagePath(msgspec.Struct, forbid_unknown_fields=True):
    image_path: Annotated[str, msgspec.Meta(min_length=1)]


class _ImageUrl(msgspec.Struct, forbid_unknown_fields=True):
    image_url: Annotated[str, msgspec.Meta(pattern="^file://")]


def _check_image(text: str) -> str | None:
    for kind in (_ImagePath, _ImageUrl):
        try:
            msgspec.json.decode(text, type=kind)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            continue
        return None
    return 'values: {"image_path": "…"} or {"image_url": "file://…"} is required'


_CHECKS: dict[str, Check] = {"iris": check_row, "inception_v3": _check_image}


def check_values(model: str, text: str) -> str | None:
    """What is wrong with the JSON of a row's values; `None` when `model` can score it."""
    check = _CHECKS.get(model)
    return f"there is no model {model[:100]!a}" if check is None else check(text)
