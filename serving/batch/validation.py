"""What rows have to be like, as far as it can be told without their model."""

from __future__ import annotations

from collections.abc import Callable

from serving.batch.iris import check_row
from serving.codecs.image_files import check_image_row

Check = Callable[[str], str | None]

_CHECKS: dict[str, Check] = {"iris": check_row, "inception_v3": check_image_row}


def check_values(model: str, text: str) -> str | None:
    """What is wrong with the JSON of a row's values; `None` when `model` can score it."""
    check = _CHECKS.get(model)
    return f"there is no model {model[:100]!a}" if check is None else check(text)
