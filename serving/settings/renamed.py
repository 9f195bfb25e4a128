"""Keys of earlier versions: each ends in an error that names the new one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SECTIONS = {
    "serving": "server",
    "iris": "models.iris",
    "inception_v3": "models.inception_v3",
}
_KEYS = {
    ("models", "source"): "model_source.source",
    ("models", "max_bytes"): "model_source.max_bytes",
}
_GONE = {
    ("api", "data_plane"): "there is one implementation of each route now",
}


def refuse_renamed(values: Any) -> None:
    """Refuse keys that have another name by now.

    Args:
        values: settings as they were read, of the file and of variables.

    Raises:
        ValueError: names the old key and the new one, as a key and as a variable.
    """
    if not isinstance(values, Mapping):
        return
    for old, new in _SECTIONS.items():
        if old in values:
            raise ValueError(f"{old} is called {new} now ({_variable(old)}… is {_variable(new)}…)")
    for (section, key), new in _KEYS.items():
        if _has(values, section, key):
            raise ValueError(f"{section}.{key} is called {new} now ({_variable(section, key)} is {_variable(new)})")
    for (section, key), why in _GONE.items():
        if _has(values, section, key):
            raise ValueError(f"{section}.{key} is no setting any more: {why}; leave it out")


def _has(values: Mapping[str, Any], section: str, key: str) -> bool:
    inner = values.get(section)
    return isinstance(inner, Mapping) and key in inner and not isinstance(inner[key], Mapping)


def _variable(*path: str) -> str:
    names = [part for name in path for part in name.split(".")]
    return "SERVING__" + "__".join(names).upper()
