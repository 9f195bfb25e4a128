"""The stored models that are measured: those of the entries in this checkout's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serving.settings.models import ModelLimits
    from serving.store.models import StoredModel


def stored_model(name: str) -> StoredModel:
    """The model of an entry. Raises ModelError: it is not in the store."""
    from serving.settings import get_settings
    from serving.store.models import open_model

    return open_model(get_settings().models[name].tag)


def model_file(name: str) -> Path:
    """The ONNX file of an entry's model."""
    return stored_model(name).onnx_path


def limits(name: str) -> ModelLimits:
    """The bounds of an entry, with the defaults of its kind of model."""
    from serving.settings import get_settings

    return get_settings().models[name].limits(stored_model(name).metadata.kind)
