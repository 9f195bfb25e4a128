"""Predictions by the Open Inference Protocol, with its extensions for binary data and classification."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from serving.client.answers import read_error
from serving.client.description import Description
from serving.client.exchange import Exchange, HttpDialect, HttpRequest, get, reading, to_json
from serving.client.inputs import Inputs
from serving.client.predictions import ALL_CLASSES, Candidate, Prediction

if TYPE_CHECKING:
    from serving.client.arrays import Arrays

_HEADER_LENGTH = "Inference-Header-Content-Length"


class OpenInferenceHttp(HttpDialect):
    """JSON, with the data of the tensors after it."""

    def metadata(self, model: str) -> Exchange[dict[str, Any]]:
        return (yield from get(f"v2/models/{quote(model, safe='')}"))

    def predict(self, description: Description, inputs: Inputs) -> Exchange[list[Prediction]]:
        inputs.check(description)
        request = _write(description, inputs)
        response = yield request
        with reading(request):
            return read_outputs(_read(response), description, inputs)


class Output:
    """A tensor of an answer: its name, datatype, shape and elements in binary form."""

    __slots__ = ("data", "datatype", "name", "shape")

    def __init__(self, name: str, datatype: str, shape: Sequence[int], data: bytes) -> None:
        self.name = name
        self.datatype = datatype
        self.shape = tuple(shape)
        self.data = data


def write_inputs(description: Description, inputs: Inputs) -> list[tuple[str, str, list[int], bytes]]:
    """Name, datatype, shape and elements in binary form of each input.

    Raises:
        ValueError: the inputs cannot be sent.
    """
    from serving.client.arrays import to_arrays
    from serving.core.tensors import DTYPES
    from serving.protocols.open_inference.messages import to_binary

    specs = {spec.name: spec for spec in (*description.inputs, *description.protocol_inputs)}
    try:
        arrays = to_arrays(inputs, description)
    except ValueError as error:
        raise ValueError(f"the inputs cannot be sent: {error}") from error
    return [
        (name, DTYPES[specs[name].dtype].open_inference, list(array.shape), to_binary(array))
        for name, array in arrays.items()
    ]


def wanted_outputs(description: Description, inputs: Inputs) -> list[tuple[str, int]]:
    """Name of each output, and how many classes of it to name; 0 for the tensor itself."""
    classes = (inputs.top_k or ALL_CLASSES) if description.ranks else 0
    return [(output.name, classes) for output in description.wanted]


def read_outputs(answered: list[Output], description: Description, inputs: Inputs) -> list[Prediction]:
    """The predictions in an answer to `wanted_outputs`."""
    from serving.client.arrays import to_predictions

    by_name = {output.name: output for output in answered}
    if description.ranks:
        (spec,) = description.wanted
        found = _array(by_name[spec.name], "bytes")
        number = _number(spec.dtype)
        return [
            Prediction(tuple(read_class(text.decode(), number) for text in row)) for row in found.tolist()
        ]
    arrays: Arrays = {spec.name: _array(by_name[spec.name], spec.dtype) for spec in description.wanted}
    return to_predictions(arrays, description, inputs)
