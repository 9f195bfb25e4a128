"""Which files can be read, told by their names and first bytes, and what helps with those that cannot."""

from __future__ import annotations

from typing import Literal, NamedTuple

Format = Literal["csv", "jsonl", "parquet"]
SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


class _Other(NamedTuple):
    name: str
    suffixes: tuple[str, ...]
    magic: tuple[bytes, ...]
    advice: str


_SAVE = "save its sheet as CSV UTF-8"
_OTHERS = (
    _Other("an Excel workbook", (".xlsx", ".xlsm", ".xlsb", ".xls"), (b"\xd0\xcf\x11\xe0",), _SAVE),
    _Other("an OpenDocument spreadsheet", (".ods",), (), _SAVE),
    _Other("an Arrow file", (".arrow", ".feather", ".ipc"), (b"ARROW1", b"FEA1"), "write it as Parquet with pyarrow"),
    _Other("an ORC file", (".orc",), (b"ORC",), "write it as Parquet with pyarrow"),
    _Other("an Avro file", (".avro",), (b"Obj\x01",), "write it as Parquet"),
    _Other(
        "an SPSS file", (".sav", ".zsav", ".por"), (b"$FL2", b"$FL3"), "export it as CSV from SPSS or with pyreadstat"
    ),
    _Other("a SAS file", (".sas7bdat", ".xpt"), (), "export it as CSV from SAS or with pandas"),
    _Other("a Stata file", (".dta",), (b"<stata_dta>",), "export it as CSV from Stata or with pandas"),
    _Other("an R file", (".rds", ".rda", ".rdata"), (), "export it as CSV with write.csv"),
    _Other(
        "a pickle",
        (".pkl", ".pickle", ".joblib"),
        (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
        "opening one runs code that is in it, so none is opened; write it as Parquet with DataFrame.to_parquet",
    ),
    _Other("a NumPy file", (".npy", ".npz"), (b"\x93NUMPY",), "write it as CSV or Parquet"),
    _Other("an HDF5 file", (".h5", ".hdf5"), (b"\x89HDF",), "write it as Parquet with DataFrame.to_parquet"),
    _Other("a database of SQLite", (".db", ".sqlite", ".sqlite3"), (b"SQLite format 3",), "export its rows as CSV"),
    _Other("an archive", (".zip", ".tar", ".tgz", ".7z", ".rar"), (b"PK\x03\x04", b"7z\xbc\xaf"), "unpack it"),
    _Other("XML", (".xml", ".html", ".htm"), (), "write it as CSV or JSON lines"),
)


def suffix_of(name: str) -> str:
    """The suffix that says the format: `.csv` of `rows.CSV.gz`."""
    lower = name.lower().rpartition("/")[2]
    for packed in COMPRESSED:
        lower = lower.removesuffix(packed)
    return f".{lower.rpartition('.')[2]}" if "." in lower else ""


def format_of(name: str) -> Format | None:
    """The format that a file's name says; `None` where it says none that can be read."""
    return SUFFIXES.get(suffix_of(name))


def refusal(name: str, head: bytes = b"") -> str | None:
    """The sentence for a file that cannot be read whatever the options are.

    Args:
        head: its first bytes; without them its name is judged.
    """
    suffix = suffix_of(name)
    for other in _OTHERS:
        if suffix in other.suffixes if not head else head.startswith(other.magic) and other.magic:
            # A workbook is a zip archive inside.
            return f"{name} is {other.name}, which is not read here: {other.advice}"
    if not head and suffix in (".parquet", ".pq") and name.lower().endswith(COMPRESSED):
        return f"{name} is compressed Parquet: decompress it, since Parquet compresses its columns itself"
    if head.startswith(b"PAR1") and format_of(name) != "parquet":
        return f"{name} is Parquet: let its name end in .parquet, or give its format"
    return None
