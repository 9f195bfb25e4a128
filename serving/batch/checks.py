"""What is wrong with rows, as far as it can be told without scoring them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from threading import Lock
from typing import Any

from serving import codecs
from serving.batch.reading.judge import Table
from serving.codecs.base import Codec
from serving.codecs.opening import open_codec
from serving.codecs.rows import RowsCodec
from serving.core.errors import ModelError
from serving.settings import Settings
from serving.store.models import check_versions, open_model
from serving.store.source import prepare_models

_LONGEST_NAME = 100


def unknown_model(name: str | None, served: Mapping[str, object]) -> str:
    """The one sentence for rows of a model that is not in the configuration or not enabled.

    Args:
        name: of the model; `None` for rows of several such models.
    """
    which = "such model" if name is None else f"model {name[:_LONGEST_NAME]!a}"
    return f"there is no {which}; served: {', '.join(served) or 'none'}"


def open_row_codec(settings: Settings, name: str) -> Codec[Any]:
    """The codec of a model that is enabled.

    Raises:
        ModelError: the model is not in the store, cannot be served, or has a plug-in that says only what `/predict`
            answers.
    """
    entry = settings.served[name]
    prepare_models(settings)
    stored = open_model(entry.tag)
    check_versions(stored, strict=settings.server.strict_versions)
    codec = open_codec(stored, entry)
    kind = type(codec)
    if _is_own(kind.answer) and not _is_own(kind.row_answers):
        raise ModelError(
            f"plugin {entry.plugin} changes answers and not those of rows in a database: it needs row_answers too"
        )
    return codec


def _is_own(method: Callable[..., Any]) -> bool:
    """Whether a method of a codec is a plug-in's and not one that ships."""
    return not method.__module__.startswith(f"{codecs.__name__}.")


class RowChecks:
    """Judges rows before they are inserted. A codec is opened when there is a row of its model, and then kept.

    May be used by several threads.

    Args:
        open_codec: how to open the codec of each model that is enabled, by name.
    """

    def __init__(self, open_codec: Mapping[str, Callable[[], Codec[Any]]]) -> None:
        self._open_codec = open_codec
        self._codecs: dict[str, Codec[Any]] = {}
        self._opening = Lock()

    @classmethod
    def of(cls, settings: Settings) -> RowChecks:
        """For the models that `settings` enable."""
        return cls({name: partial(open_row_codec, settings, name) for name in settings.served})

    def codec(self, model: str) -> Codec[Any] | None:
        """The codec of a model; `None` when there is no such model or it is not enabled.

        Raises:
            ModelError: the model is not in the store or cannot be served.
        """
        if model not in self._open_codec:
            return None
        with self._opening:
            if model not in self._codecs:
                self._codecs[model] = self._open_codec[model]()
            return self._codecs[model]

    def table(self, model: str) -> Table | None:
        """The columns of a model of rows; `None` for other kinds, and for models that are not served.

        Raises:
            ModelError: as `codec`.
        """
        codec = self.codec(model)
        return Table.of(codec.metadata) if isinstance(codec, RowsCodec) else None

    def check(self, model: str, text: str) -> str | None:
        """What is wrong with the JSON of a row's values; `None` when `model` can read it. Opens no file of the row.

        Args:
            model: its name; empty for a row that names none.

        Raises:
            ModelError: as `codec`.
        """
        if not model:
            return f"the row names no model; served: {', '.join(self._open_codec) or 'none'}"
        codec = self.codec(model)
        if codec is None:
            return unknown_model(model, self._open_codec)
        fault = codec.check_row(text)
        return None if fault is None else fault.message
