"""Finding the columns of a model in a file by their names, whatever their order."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from serving.batch.reading import FilesError
from serving.batch.reading.judge import Table
from serving.core.tensors import STRING

_UNIT = re.compile(r"\(.*?\)|\[.*?\]")
_NUMBERED = ("f", "x", "feature", "column")
"""What other libraries call the columns of a matrix, before a number from 0."""
_SHOWN = 20


def _plain(name: str) -> str:
    """Without case, blanks and signs; numbers stay apart."""
    return re.sub(r"[^\w·]|_", "", re.sub(r"(?<=\d)[\W_]+(?=\d)", "·", name.casefold()))


def _unitless(name: str) -> str:
    return _plain(_UNIT.sub("", name)) or _plain(name)


_FORMS: tuple[Callable[[str], str], ...] = (str.strip, _plain, _unitless)


def match_columns(available: Sequence[str], wanted: Sequence[str]) -> list[int | None]:
    """For each wanted column its place in the file, or `None`.

    `sepal length (cm)` is also found as `sepal_length`, `Sepal.Length`, `SepalLength` or `Sepal Length`, but a column
    with another unit is another column. A name that is the same is taken before one that is alike.

    Raises:
        FilesError: several columns of the file may be meant, or one may be meant twice.
    """
    indices: list[dict[str, list[int]]] = [{} for _ in _FORMS]
    for place, name in enumerate(available):
        for form, index in zip(_FORMS, indices, strict=True):
            index.setdefault(form(name), []).append(place)
    found: list[int | None] = []
    owners: dict[int, str] = {}
    for name in wanted:
        places: list[int] = []
        for form, index in zip(_FORMS, indices, strict=True):
            places = index.get(form(name), [])
            if form is _unitless and _UNIT.search(name):
                places = [place for place in places if not _UNIT.search(available[place])]
            if places:
                break
        if len(places) > 1:
            candidates = ", ".join(available[place] for place in places)
            raise FilesError(f"several columns may be {name}: {candidates}; name the right ones with --columns")
        for place in places:
            if owners.setdefault(place, name) != name:
                raise FilesError(f"the column {available[place]} may be {owners[place]} or {name}; use --columns")
        found.append(places[0] if places else None)
    return found


def find_columns(available: Sequence[str], table: Table, named: Sequence[str] = ()) -> list[int]:
    """The places of a model's columns in a file.

    Args:
        named: the columns that the caller names, in the order of the model.

    Raises:
        FilesError: a column is missing or ambiguous, or the wrong number of them is named.
    """
    wanted = [column.name for column in table.columns]
    if named and len(named) != len(wanted):
        raise FilesError(f"--columns names {len(named)} columns, and the model takes {len(wanted)}: {_shown(wanted)}")
    found = match_columns(available, named or wanted)
    if None in found and not named and not table.named:
        for prefix in _NUMBERED:
            numbered = match_columns(available, [f"{prefix}{number}" for number in range(len(wanted))])
            if None not in numbered:
                found = numbered
                break
    missing = [name for name, place in zip(named or wanted, found, strict=True) if place is None]
    if missing:
        raise FilesError(
            f"there is no column {_shown(missing)}; the file has {_shown(available)}. Name those with the values with "
            "--columns, in the order of the model, or give --no-header where the first line is a row"
        )
    return [place for place in found if place is not None]


def _shown(names: Sequence[str]) -> str:
    more = [f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return ", ".join([name[:64] if name == name.strip() != "" else repr(name[:64]) for name in names[:_SHOWN]] + more)


def is_row(fields: Sequence[str], table: Table | None) -> bool:
    """Whether the first line of a file plainly is a row: no column of numbers has a letter in it.

    Raises:
        FilesError: it has as many values as the model takes, which are the numbers of columns and may be either.
    """
    if table is not None and len(fields) != len(table.columns):
        return False
    dtypes = ["float64"] * len(fields) if table is None else [column.dtype for column in table.columns]
    numbers = [field.strip() for field, dtype in zip(fields, dtypes, strict=True) if dtype != STRING]
    if not any(numbers) or any(re.search(r"[^\W\d_]", re.sub(r"(?<=\d)[eE](?=[+-]?\d)", "", each)) for each in numbers):
        return False
    if len(fields) > 1 and [field.strip() for field in fields] == [str(number) for number in range(len(fields))]:
        names = ",".join(field.strip() for field in fields)
        raise FilesError(
            f"the first line is {names}: give --no-header where it is a row, --columns {names} where it names columns"
        )
    return True
