"""Finding the columns of a model in a file, whatever their order."""

from __future__ import annotations

import re
from collections.abc import Sequence


def match_columns(available: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """For each wanted column the name that the file has for it, or the wanted name where the file has none.

    A column `sepal length (cm)` is also found as `sepal_length`, `Sepal.Length` or `sepal length`.
    """
    simple = {_simple(name): name for name in reversed(available)}
    return [name if name in available else simple.get(_simple(name), name) for name in wanted]


def _simple(name: str) -> str:
    """Without the unit, and with one sign between the words."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"\(.*?\)|\[.*?\]", "", name.lower())).strip("_")
