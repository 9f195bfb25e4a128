"""Answering the sample of a stored model in every way that it will be asked: only what can be served is stored."""

from __future__ import annotations

from typing import Any, NamedTuple

from serving.codecs.base import Codec
from serving.codecs.opening import open_codec
from serving.core.engine import Engine
from serving.core.errors import InvalidInputError, ModelError, ServingError
from serving.core.signature import TensorSpec
from serving.core.tensors import Tensors, count, from_bytes, join, name_of_dtype, to_bytes
from serving.placement import open_engine
from serving.settings.models import ModelSettings
from serving.store.models import StoredModel
from serving.store.saving import file_hashes


class Checked(NamedTuple):
    """A model that answers."""

    codec: Codec[Any]
    engine: Engine
    answer: bytes
    """To the sample, as `/{model}/predict/test` gives it."""


def check_files(stored: StoredModel) -> None:
    """Compare the files of a model with the hashes that were stored with it.

    Raises:
        ModelError: names the first file that is missing, changed or new.
    """
    expected = stored.metadata.files
    if not expected:
        return
    found = file_hashes(stored.path)
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise ModelError(f"model {stored.tag}: the file {name} is missing; add the model again")
        if name not in expected:
            raise ModelError(f"model {stored.tag}: the file {name} has been put there since; add the model again")
        if found[name] != expected[name]:
            raise ModelError(f"model {stored.tag}: the file {name} has changed since then; add the model again")


def check_model(stored: StoredModel, settings: ModelSettings, *, image: bytes | None = None) -> Checked:
    """Load a model as it will be served, and answer a sample.

    Args:
        settings: its entry.
        image: a file to answer instead of the sample, for a model of images.

    Raises:
        ModelError: it cannot be loaded, or its sample cannot be answered.
    """
    codec = open_codec(stored, settings)
    engine = open_engine(stored, settings)
    try:
        request = codec.sample() if image is None else codec.sample()._replace(content=image)
        return Checked(codec, engine, _answer(codec, engine, request))
    except ServingError as error:
        raise ModelError(f"model {stored.tag} does not answer its sample: {error.message}") from error


def _answer(codec: Codec[Any], engine: Engine, request: Any) -> bytes:
    metadata = codec.metadata
    tensors, _ = codec.tensors(codec.load(*codec.dump(request)))
    codec.signature.check(tensors, allow_nan=metadata.allow_nan)
    outputs = engine.run(tensors)
    if codec.signature.batching == "one":
        # What rows that arrive together come to.
        engine.run(join([tensors, tensors]))
    for spec in codec.signature.outputs:
        _check_output(codec.stored.tag, spec, outputs, rows=count(tensors) if codec.signature.has_rows else None)
    answer = codec.answer(outputs, request)
    if codec.has_labels:
        codec.label(outputs, request)
    for error in codec.row_answers(outputs).errors:
        if error is not None:
            raise InvalidInputError(error)
    codec.operation()
    # As it goes from a runner to the API.
    from_bytes(to_bytes(codec.protocol_outputs(outputs)))
    return answer


def _check_output(tag: str, spec: TensorSpec, outputs: Tensors, *, rows: int | None) -> None:
    array = outputs[spec.name]
    if name_of_dtype(array) != spec.dtype:
        raise ModelError(f"model {tag}: the output {spec.name} is {name_of_dtype(array)} and not {spec.dtype}")
    if not spec.fits(array.shape):
        raise ModelError(
            f"model {tag}: the output {spec.name} has the shape {list(array.shape)} and not {spec.describe_shape()}"
        )
    if rows is not None and len(array) != rows:
        raise ModelError(f"model {tag}: the output {spec.name} has {len(array)} entries for {rows} rows")
