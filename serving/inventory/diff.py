"""Two inventories side by side: of files, of Bentos, or of running services."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from serving.core.errors import ConfigurationError, UnavailableError
from serving.settings.recorded import FILE

_MOST_BYTES = 16 * 1024 * 1024
_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Difference:
    """`path` such as `libraries.numpy`; a side that does not have it is `None`."""

    path: str
    first: Any
    second: Any


def differences(first: Any, second: Any, path: str = "") -> Iterator[Difference]:
    """Where two inventories differ, in the order of the paths.

    A part that one side does not know, such as the CPU before a Bento runs, is no difference.
    """
    if isinstance(first, dict) and isinstance(second, dict):
        for key in sorted(first.keys() | second.keys()):
            below = f"{path}.{key}" if path else key
            # Only at the top: below it, what is missing is missing.
            if path or (first.get(key) is not None and second.get(key) is not None):
                yield from differences(first.get(key), second.get(key), below)
    elif first != second:
        yield Difference(path, first, second)


def read_inventory(place: str) -> dict[str, Any]:
    """The inventory at a URL, in a file, or in the directory of a Bento.

    Args:
        place: `http(s)://host[:port]`, whose `/inventory` is asked, or a path.

    Raises:
        ConfigurationError: there is none.
        UnavailableError: the server does not answer with one.
    """
    content = _ask(place) if place.startswith(("http://", "https://")) else _read(Path(place))
    try:
        inventory = json.loads(content)
    except ValueError as error:
        raise ConfigurationError(f"{place}: not JSON: {error}") from error
    if not isinstance(inventory, dict) or not {"service", "libraries", "models"} <= inventory.keys():
        raise ConfigurationError(f"{place}: not an inventory")
    return inventory


def _read(path: Path) -> bytes:
    if path.is_dir():
        found = [file for file in (path / "src" / FILE, path / FILE) if file.is_file()]
        if not found:
            raise ConfigurationError(f"{path}: no {FILE} in this directory; `make bento` writes one into a Bento")
        path = found[0]
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigurationError(f"{path}: too large for an inventory")
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error


def _ask(url: str) -> bytes:
    import httpx  # files are compared without

    if urlsplit(url).path in ("", "/"):
        url = url.rstrip("/") + "/inventory"
    content = bytearray()
    try:
        with httpx.stream("GET", url, timeout=_SECONDS) as answer:
            if answer.status_code != 200:
                raise UnavailableError(f"{url}: answered with {answer.status_code}")
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > _MOST_BYTES:
                    raise UnavailableError(f"{url}: too large for an inventory")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnavailableError(f"{url}: {error or type(error).__name__}") from error
    return bytes(content)
