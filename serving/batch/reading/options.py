"""How files are written, where the caller says it."""

from __future__ import annotations

import codecs
import csv
from dataclasses import dataclass

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_NAMES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What the options of both commands say; what they do not say is told by the file, or as CSV usually is.

    Attributes:
        columns: those with the values, in the order of the model; numbers from 1 where there is no header.
        delimiter: between the values of CSV.
        decimal: of numbers in CSV, `.` or `,`.
        encoding: of text; UTF-8, or what a byte order mark says, unless given.
        header: whether the first line of CSV names the columns; `None` where the file has to tell.
    """

    columns: tuple[str, ...] = ()
    delimiter: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    header: bool | None = None

    @classmethod
    def parse(
        cls,
        columns: str | None = None,
        delimiter: str | None = None,
        decimal: str | None = None,
        encoding: str | None = None,
        *,
        no_header: bool = False,
    ) -> ReadOptions:
        """The options of a command line. Raises ValueError, which names the option and says what to give."""
        names = tuple(name.strip() for name in next(csv.reader([columns]))) if columns else ()
        if len(set(names)) < len(names):
            raise ValueError("--columns names a column twice")
        if delimiter is not None:
            delimiter = _NAMES.get(delimiter.lower(), delimiter)
            if len(delimiter) != 1 or delimiter in '"\r\n\0':
                raise ValueError(f"--delimiter: {delimiter!r} is not one sign such as ';', or tab")
            if delimiter == (decimal or "."):
                raise ValueError(f"--delimiter and --decimal are both {delimiter!r}: give one of them")
        if encoding is not None:
            try:
                encoding = codecs.lookup(encoding).name
                "".encode(encoding)
            except (LookupError, ValueError):
                raise ValueError(f"--encoding: {encoding!r} is no encoding such as cp1252 or utf-16") from None
        # A file whose columns are named has a header, even where its names are numbers.
        header = False if no_header else True if names else None
        return cls(names, delimiter, decimal, encoding, header)

    @property
    def swaps(self) -> bool:
        """Whether numbers have a decimal comma."""
        return self.decimal == ","
