"""Predictions by the Open Inference Protocol, with its extensions for binary data and classification."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx

from serving.client.answers import read_error
from serving.client.description import Description
from serving.client.exchange import Exchange, HttpDialect, HttpRequest, get, reading
from serving.client.inputs import Inputs, to_json
from serving.client.predictions import ALL_CLASSES, Candidate, Prediction

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


class BinaryTensor(NamedTuple):
    """A tensor of a request or an answer, its elements in the binary form of the protocol."""

    name: str
    datatype: str
    shape: Sequence[int]
    data: bytes


def write_inputs(description: Description, inputs: Inputs) -> list[BinaryTensor]:
    """The inputs as they are sent.

    Raises:
        ValueError: the inputs cannot be sent.
    """
    from serving.client.arrays import to_arrays
    from serving.core.tensors import DTYPES
    from serving.protocols.open_inference.messages import to_binary

    specs = {spec.name: spec for spec in (*description.inputs, *description.protocol_inputs)}
    return [
        BinaryTensor(name, DTYPES[specs[name].dtype].open_inference, array.shape, to_binary(array))
        for name, array in to_arrays(inputs, description).items()
    ]


def wanted_outputs(description: Description, inputs: Inputs) -> list[tuple[str, int]]:
    """Name of each output, and how many classes of it to name; 0 for the tensor itself."""
    classes = (inputs.top_k or ALL_CLASSES) if description.ranks else 0
    return [(output.name, classes) for output in description.wanted]


def read_outputs(answered: Sequence[BinaryTensor], description: Description, inputs: Inputs) -> list[Prediction]:
    """The predictions in an answer to `wanted_outputs`."""
    from serving.client.arrays import to_predictions

    by_name = {tensor.name: tensor for tensor in answered}
    if description.ranks:
        (spec,) = description.wanted
        found = _array(by_name[spec.name], "bytes")
        number = _number(spec.dtype)
        return [Prediction(tuple(read_class(text.decode(), number) for text in row)) for row in found.tolist()]
    arrays = {spec.name: _array(by_name[spec.name], spec.dtype) for spec in description.wanted}
    return to_predictions(arrays, description, inputs)


def _array(tensor: BinaryTensor, dtype: str) -> Any:
    from serving.core.signature import TensorSpec
    from serving.protocols.open_inference.messages import BinaryData

    shape = tuple(tensor.shape)
    spec = TensorSpec(name=tensor.name, dtype=dtype, shape=list(shape))
    return BinaryData(tensor.data).read(spec, shape, allow_nan=True).copy()  # which the caller may change


def _number(dtype: str) -> Callable[[str], float]:
    """Reads a probability as the number that the model gave: its text is the shortest that means it."""
    from serving.core.tensors import DTYPES

    number = DTYPES[dtype].numpy.type
    return lambda text: float(number(text))


def read_class(text: str, number: Callable[[str], float] = float) -> Candidate:
    """`<probability>:<class id>:<label>`, as Triton's extension for classification writes it."""
    probability, class_id, label = text.split(":", 2)
    return Candidate(label, int(class_id), number(probability))


def _write(description: Description, inputs: Inputs) -> HttpRequest:
    given = write_inputs(description, inputs)
    header = to_json(
        {
            "inputs": [
                {
                    "name": tensor.name,
                    "datatype": tensor.datatype,
                    "shape": tensor.shape,
                    "parameters": {"binary_data_size": len(tensor.data)},
                }
                for tensor in given
            ],
            "outputs": [
                {
                    "name": name,
                    "parameters": {"binary_data": True, **({"classification": classes} if classes else {})},
                }
                for name, classes in wanted_outputs(description, inputs)
            ],
        }
    )
    headers = {"Content-Type": "application/octet-stream", _HEADER_LENGTH: str(len(header))}
    content = b"".join([header, *(tensor.data for tensor in given)])
    path = f"v2/models/{quote(description.name, safe='')}/infer"
    return HttpRequest("POST", path, {"content": content, "headers": headers})


def _read(response: httpx.Response) -> list[BinaryTensor]:
    if not response.is_success:
        raise read_error(response)
    length = int(response.headers[_HEADER_LENGTH])
    start = length
    found: list[BinaryTensor] = []
    for output in json.loads(response.content[:length])["outputs"]:
        end = start + output["parameters"]["binary_data_size"]
        found.append(BinaryTensor(output["name"], output["datatype"], output["shape"], response.content[start:end]))
        start = end
    return found
