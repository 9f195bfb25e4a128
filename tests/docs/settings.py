"""The keys of configuration.yaml, and the variables that override them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from serving.settings import ENV_PREFIX, Settings

NAME = "<name>"
"""Stands in a key for what the user has chosen: the name of a model."""


def section_of(field: FieldInfo) -> tuple[type[BaseModel], str] | None:
    """The section that a field is, and what stands between its name and that of a key in it; `None` for a value."""
    annotation: Any = field.annotation
    between = "."
    if get_origin(annotation) is dict:
        annotation, between = get_args(annotation)[1], f".{NAME}."
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    is_section = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return (annotation, between) if is_section else None


def keys(section: type[BaseModel] = Settings, path: str = "") -> Iterator[str]:
    """Every key with its path, such as `api.max_request_bytes` and `models.<name>.threads`."""
    for name, field in section.model_fields.items():
        inner = section_of(field)
        if inner:
            yield from keys(inner[0], f"{path}{name}{inner[1]}")
        else:
            yield path + name


def is_key(mentioned: str) -> bool:
    """Whether a document may call it a setting: `models.<name>.threads`, `models.iris.threads`, or a section."""
    return any(re.fullmatch(pattern, mentioned) for pattern in _patterns())


def is_variable(name: str) -> bool:
    """Whether a variable of the environment overrides a value."""
    return name.startswith(ENV_PREFIX) and any(
        re.fullmatch(pattern, name[len(ENV_PREFIX) :].replace("__", ".").lower()) for pattern in _values()
    )


def mentioned(text: str) -> set[str]:
    """What a document calls by the name of a section and more, in backticks, with or without a value behind it."""
    sections = "|".join(Settings.model_fields)
    return set(re.findall(rf"`((?:{sections})(?:\.(?:[a-z0-9_]+|{NAME}))+)(?=[`:])", text))


def mentioned_variables(text: str) -> set[str]:
    return set(re.findall(rf"\b{ENV_PREFIX}[A-Z0-9_]*[A-Z0-9]", text))


def _values() -> Iterator[str]:
    return (re.escape(key).replace(NAME, "(?:<name>|[a-z][a-z0-9_]*)") for key in keys())


def _patterns() -> Iterator[str]:
    for pattern in _values():
        parts = pattern.split(r"\.")
        for number in range(2, len(parts) + 1):
            yield r"\.".join(parts[:number])
    yield from Settings.model_fields
