"""The models that a Bento was built with: `inventory.json` beside its `service.py` names their exact tags."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "inventory.json"


def recorded_tags(source: Path) -> dict[str, str]:
    """The tags of the models in the Bento whose code is in `source`, by name of the entry; empty outside a Bento.

    Raises:
        ValueError: the file is not an inventory.
    """
    file = source / FILE
    try:
        recorded = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): str(model["tag"]) for name, model in recorded["models"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is not an inventory: build the Bento again") from error


def pin(values: dict[str, Any], tags: Mapping[str, str]) -> dict[str, Any]:
    """The values of a configuration file in which entries have the recorded tags.

    An entry that names a version itself, or another model, keeps what it says.
    """
    entries = values.get("models")
    if not isinstance(entries, dict) or not tags:
        return values
    return values | {"models": {name: _pin(entry, tags.get(name, "")) for name, entry in entries.items()}}


def _pin(entry: Any, tag: str) -> Any:
    """`entry`, which is whatever the file has there; what is no entry is an error later."""
    if not tag or not (entry is None or isinstance(entry, dict)):
        return entry
    given = (entry or {}).get("tag") or ""
    names_the_latest = given in ("", tag.partition(":")[0], f"{tag.partition(':')[0]}:latest")
    return {**(entry or {}), "tag": tag} if names_the_latest else entry
