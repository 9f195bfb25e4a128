"""Which models a server imported at its start: for the processes that it starts, by a variable that they inherit."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "SERVING_IMPORTED_MODELS"


def imported_model(name: str) -> Path | None:
    """Directory of the imported model of that name; `None` where the store's own is served."""
    directory = os.environ.get(VARIABLE)
    found = Path(directory, name) if directory else None
    return found if found and found.is_dir() else None


def announce(directory: Path) -> None:
    """Have this process and those that it starts serve the models below `directory`, each in one of its name."""
    os.environ[VARIABLE] = str(directory)


def are_announced() -> bool:
    return VARIABLE in os.environ
