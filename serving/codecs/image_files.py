"""Reading the image files that rows name, and nothing else: whoever may insert a row must not read the disk with it.

Only regular files below one directory are opened, by names without `..`, and no symbolic link is followed on the way
from that directory on: each directory is opened from the one before, so that nothing can be exchanged meanwhile.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack
from pathlib import PurePosixPath
from urllib.parse import unquote_to_bytes, urlsplit

import msgspec

from serving.core.errors import InvalidInputError
from serving.core.validation import msgspec_text

_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
# A FIFO would wait for a writer; it is refused once it is open.
_FILE = _OPEN | os.O_NONBLOCK | os.O_NOCTTY
_DIRECTORY = _OPEN | os.O_DIRECTORY
_LONGEST_NAME = 4096


class _Values(msgspec.Struct, forbid_unknown_fields=True):
    image_path: str | None = None
    image_url: str | None = None


_decode = msgspec.json.Decoder(_Values).decode
_FORM = 'values: {"image_path": "cat.jpg"} or {"image_url": "file:///images/cat.jpg"} is required'


def check_image_row(text: str | bytes) -> str | None:
    """What is wrong with the JSON of a row; `None` when it names a file, be it there or not."""
    try:
        _named(text)
    except InvalidInputError as error:
        return error.message
    return None


class ImageFiles:
    """The files below a directory.

    Args:
        root: the directory; empty allows no file at all.
        max_bytes: a larger file is refused without reading it.
    """

    def __init__(self, root: str, *, max_bytes: int) -> None:
        self._root = PurePosixPath(os.path.abspath(root)) if root else None  # noqa: PTH100 - without following links
        self._max_bytes = max_bytes

    def read(self, text: str) -> bytes:
        """The content of the file that the JSON of a row names. Called in several threads at once.

        Raises:
            InvalidInputError: says what is wrong with the row or its file.
        """
        parts = self._below(*_named(text))
        with ExitStack() as opened:
            try:
                return self._content(parts, opened)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise InvalidInputError("the image is not there") from error
            except UnicodeError as error:
                raise InvalidInputError("the image is not there: its name is not text") from error
            except OSError as error:
                # ELOOP: a symbolic link
                raise InvalidInputError(f"the image cannot be read: {os.strerror(error.errno or 0)}") from error

    def _below(self, field: str, path: PurePosixPath) -> tuple[str, ...]:
        """The names on the way from the root."""
        if self._root is None:
            raise InvalidInputError("images of rows need batch.image_root, the directory that they are in")
        if path.is_absolute():
            if not path.is_relative_to(self._root):
                raise InvalidInputError(f"{field}: not below batch.image_root")
            path = path.relative_to(self._root)
        if not path.parts or ".." in path.parts:
            raise InvalidInputError(f"{field}: not below batch.image_root")
        return path.parts

    def _content(self, parts: tuple[str, ...], opened: ExitStack) -> bytes:
        def keep(descriptor: int) -> int:
            opened.callback(os.close, descriptor)
            return descriptor

        # the root itself may be a link: who runs the scorer has chosen it
        place = keep(os.open(str(self._root), os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY))
        for name in parts[:-1]:
            place = keep(os.open(name, _DIRECTORY, dir_fd=place))
        file = keep(os.open(parts[-1], _FILE, dir_fd=place))
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidInputError("the image is not a regular file")
        if found.st_size > self._max_bytes:
            raise InvalidInputError(f"the image has {found.st_size} bytes; at most {self._max_bytes} are allowed")
        with open(file, "rb", closefd=False) as reader:
            content = reader.read(self._max_bytes + 1)
        if len(content) > self._max_bytes:  # it has grown meanwhile
            raise InvalidInputError(f"the image has more than {self._max_bytes} bytes")
        return content


def _named(text: str | bytes) -> tuple[str, PurePosixPath]:
    """The field of the row that names its file, and the path."""
    try:
        values = _decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidInputError(f"{_FORM}: {msgspec_text(error)}") from error
    if (values.image_path is None) == (values.image_url is None):
        raise InvalidInputError(_FORM)
    field, path = ("image_path", values.image_path) if values.image_url is None else _of_url(values.image_url)
    if not path or "\0" in path or len(path) > _LONGEST_NAME:
        raise InvalidInputError(f"{field}: not a path")
    return field, PurePosixPath(path)


def _of_url(url: str) -> tuple[str, str]:
    try:
        read = urlsplit(url)
    except ValueError as error:
        raise InvalidInputError("image_url: not a URL") from error
    if read.scheme != "file" or read.netloc not in ("", "localhost") or read.query or read.fragment:
        raise InvalidInputError("image_url: only file:///… is read")
    path = os.fsdecode(unquote_to_bytes(read.path))
    if not path.startswith("/"):
        raise InvalidInputError("image_url: only file:///… is read")
    return "image_url", path
