"""Values that are written as text, on a command line or in a file.

A number is what JSON calls a number, as in the requests of every protocol: what Python or a spreadsheet takes for one
as well, such as `5_1`, `+5` or digits of other scripts, is refused.
"""

from __future__ import annotations

import re

import numpy as np

from serving.core.columns import FLOAT_MAX
from serving.core.tensors import DTYPES

NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
"""JSON's grammar of a number, for any library of regular expressions; it has to match the whole text."""
BLANKS = " \t"
"""What may stand before and after a value that is not text."""
BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
"""In small letters."""
MISSING = frozenset({"", "na", "n/a", "#n/a", "<na>", "nan", "null", "none"})
"""What other programs write for a value that is missing, in small letters. In a column of text it is text."""
_INFINITE = frozenset({"inf", "infinity"})
_LONGEST_SHOWN = 40
_is_number = re.compile(NUMBER).fullmatch


def read_value(text: str, dtype: str) -> str | bool | int | float | None:
    """The value of a column of `dtype` that `text` means; `None` where a number or a boolean is missing.

    A whole number may be written as 5.0 or 5e0, as in JSON.

    Raises:
        ValueError: it is no such value. The message shows the text and says why, without a name of a column.
    """
    known = DTYPES[dtype]
    if known.is_text:
        return text
    text = text.strip(BLANKS)
    is_number = _is_number(text)
    if not is_number and text.lower() in MISSING:
        return None
    if known.numpy.kind == "b":
        if (truth := BOOLEANS.get(text.lower())) is None:
            raise ValueError(f"{_shown(text)} is neither true nor false")
        return truth
    if not is_number:
        raise ValueError(f"{_shown(text)} is not a number: {_why(text)}")
    value = float(text)
    if known.is_float:
        if abs(value) > FLOAT_MAX[dtype]:
            raise ValueError(f"{_shown(text)} is too large for {dtype}")
        return value
    if not value.is_integer() and abs(value) <= FLOAT_MAX["float64"]:
        raise ValueError(f"{_shown(text)} is not a whole number")
    bounds = np.iinfo(known.numpy)
    # A float has not all digits, and Python reads no number of any length.
    if abs(value) <= 2.0**64:
        whole = int(text) if text.lstrip("-").isdigit() else int(value)
        if bounds.min <= whole <= bounds.max:
            return whole
    raise ValueError(f"{_shown(text)} is not within {bounds.min} to {bounds.max}, as {dtype} is")


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…")


def _why(text: str) -> str:
    """What to change in a text that is no number."""
    if text in ("-", "?", "."):
        return "a missing value is an empty one, or NA"
    if text.lower().lstrip("+-") in _INFINITE:
        return "numbers have to be finite"
    if any(letter.isdigit() and not letter.isascii() for letter in text):
        return "its digits have to be 0 to 9"
    return "write it as JSON does, such as 5.1, -3 or 1e-7"
