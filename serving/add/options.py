"""What a person says of a model that its graph does not tell, and reading it from the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from serving.core.errors import ModelError
from serving.core.ranking import Activation
from serving.core.signature import Batching
from serving.settings.models import Kind
from serving.store.models import Task

_MOST_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How a picture becomes the input of the graph; see `ImagePreprocessing`. None is not said."""

    size: tuple[int, int] | None = None
    """Width and height."""
    layout: Literal["NHWC", "NCHW"] | None = None
    channels: Literal["RGB", "BGR", "L"] | None = None
    resize: Literal["stretch", "crop"] | None = None
    shortest: int | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = None
    scale: float | None = None
    mean: Sequence[float] | None = None
    deviation: Sequence[float] | None = None

    @property
    def is_given(self) -> bool:
        """Whether anything is said, so that the model is one of images."""
        return self != ImageOptions()


@dataclass(frozen=True, slots=True)
class AddOptions:
    """None, or empty, is not said, and told by the graph and its runs."""

    name: str = ""
    version: str = ""
    labels: Sequence[str] | None = None
    features: Sequence[str] | None = None
    kind: Kind | None = None
    task: Task | None = None
    scores: str | None = None
    activation: Activation | None = None
    multilabel: bool | None = None
    batching: Batching | None = None
    allow_nan: bool | None = None
    sample: Path | None = None
    image: ImageOptions = field(default_factory=ImageOptions)


def read_names(text: str, option: str) -> list[str]:
    """Names between commas, or those in a file: a JSON list, a JSON object of names by number, or a name a line.

    Raises:
        ModelError: there is no such file, or it has something else in it.
    """
    file = Path(text)
    if not file.is_file():
        if "," in text:
            return _checked([part.strip() for part in text.split(",")], option)
        raise ModelError(f"{option} {text}: there is no such file; give a file, or names between commas")
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ModelError(f"{option} {file}: larger than {_MOST_BYTES >> 20} MB")
        content = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{option} {file}: cannot be read as text in UTF-8") from error
    if content.lstrip()[:1] in ("[", "{"):
        return _checked(_from_json(content, f"{option} {file}"), f"{option} {file}")
    return _checked([line.strip() for line in content.splitlines() if line.strip()], f"{option} {file}")


def _from_json(content: str, place: str) -> list[Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{place}: no JSON ({error})") from error
    if isinstance(found, dict):
        if sorted(found) != sorted(map(str, range(len(found)))):
            raise ModelError(f"{place}: the keys of the object are not the numbers from 0 to {len(found) - 1}")
        found = [found[str(index)] for index in range(len(found))]
        # ImageNet's usual file has a code and a name for each number.
        found = [each[1] if isinstance(each, list) and len(each) == 2 else each for each in found]
    return list(found)


def _checked(names: list[Any], place: str) -> list[str]:
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise ModelError(f"{place}: a list of names is required, none of them empty")
    return names


def read_number(text: str) -> float:
    """A number such as `0.5`, or a fraction such as `1/255`; raises ValueError."""
    try:
        return float(Fraction(text.replace(" ", "")))
    except ZeroDivisionError as error:
        raise ValueError(text) from error
