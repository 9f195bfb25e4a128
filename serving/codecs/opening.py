"""The codec of a stored model: that of its kind, or a plug-in."""

from __future__ import annotations

import importlib
import inspect
import sys
from typing import Any

from serving.codecs.base import Codec
from serving.core.errors import ModelError
from serving.settings import SOURCE
from serving.settings.models import ImageSettings, ModelSettings
from serving.store.models import StoredModel


def open_codec(stored: StoredModel, settings: ModelSettings) -> Codec[Any]:
    """The codec of a model, as its entry and its metadata say.

    Raises:
        ModelError: the plug-in cannot be imported or is no codec, or the entry does not fit the kind of model.
    """
    kind = stored.metadata.kind
    # By value: settings that come from another process have every field set.
    if kind != "image" and settings.image != ImageSettings():
        raise ModelError(f"model {stored.tag} is a model of {kind}: its entry may not have the section image")
    codec = load_plugin(settings.plugin) if settings.plugin else _shipped(kind)
    return codec(stored, settings)


def load_plugin(path: str) -> type[Codec[Any]]:
    """The class that `module:Class` names; modules beside `service.py` are found whichever program runs.

    Raises:
        ModelError: it cannot be imported, it is no subclass of `Codec`, or it lacks methods of one.
    """
    module_name, _, name = path.partition(":")
    if str(SOURCE) not in sys.path:
        # The `serving` command is installed elsewhere.
        sys.path.append(str(SOURCE))
    try:
        found = getattr(importlib.import_module(module_name), name)
    except Exception as error:  # the module is the operator's: it may raise anything
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ModelError(f"plugin {path} cannot be imported: {text}") from error
    if not isinstance(found, type) or not issubclass(found, Codec):
        raise ModelError(f"plugin {path} is no subclass of serving.codecs.base.Codec")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise ModelError(
            f"plugin {path} lacks methods of a codec: {missing}; make it a subclass of RowsCodec, ImageCodec or "
            "TensorsCodec"
        )
    return found


def _shipped(kind: str) -> type[Codec[Any]]:
    # Imported where they are used: a model of rows has no need of Pillow.
    if kind == "rows":
        from serving.codecs.rows import RowsCodec

        return RowsCodec
    if kind == "image":
        from serving.codecs.image import ImageCodec

        return ImageCodec
    from serving.codecs.tensors import TensorsCodec

    return TensorsCodec
