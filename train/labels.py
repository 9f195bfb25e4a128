"""Class names by class id."""

from __future__ import annotations

import json
from pathlib import Path

from train.errors import TrainingError


def numbered(classes: int) -> list[str]:
    """`class_0000`, `class_0001`, …: names that cannot be mistaken for real ones."""
    return [f"class_{index:04d}" for index in range(classes)]


def read_labels(file: Path) -> list[str]:
    """Read a JSON list of distinct, non-empty strings.

    Raises:
        TrainingError: the file cannot be read or holds anything else.
    """
    try:
        labels = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"--labels {file}: {error.strerror}") from error
    except ValueError as error:
        raise TrainingError(f"--labels {file}: not JSON in UTF-8 ({error})") from error
    if not isinstance(labels, list) or not all(isinstance(label, str) and label.strip() for label in labels):
        raise TrainingError(f"--labels {file}: must hold a JSON list of non-empty strings")
    if repeated := sorted({label for label in labels if labels.count(label) > 1}):
        raise TrainingError(f"--labels {file}: names occur more than once: {', '.join(repeated)}")
    return labels


def check_length(labels: list[str], *, classes: int) -> None:
    """Check that there is a name for each of the model's classes.

    Raises:
        TrainingError: there are more or fewer.
    """
    if len(labels) != classes:
        raise TrainingError(f"--labels: {len(labels)} names for a model with {classes} classes")
