"""Asks with TensorFlow Serving's own client: `python -m tests.matrix.tensorflow_client TARGET`.

Each line of standard input is a request, `[model, signature, {input: [dtype, values]}]`, with bytes in base64; a line
with the outputs is printed for it, as nested lists by name. A program of its own: see `tests.e2e.tensorflow_client`.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import numpy as np
import tensorflow_serving

tensorflow = sys.modules["tensorflow"] = ModuleType("tensorflow")
tensorflow.__path__ = [str(Path(tensorflow_serving.__path__[0]).parent / "tensorflow")]

from tensorflow.core.framework import tensor_pb2, types_pb2  # type: ignore[import-untyped]  # noqa: E402
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc  # noqa: E402

_DTYPES = {"float32": types_pb2.DT_FLOAT, "int32": types_pb2.DT_INT32, "int64": types_pb2.DT_INT64}
_VALUES = {types_pb2.DT_FLOAT: "float_val", types_pb2.DT_INT64: "int64_val", types_pb2.DT_STRING: "string_val"}


def tensor(dtype: str, values: Any) -> Any:
    """As `tf.make_tensor_proto` writes it."""
    if dtype == "bytes":
        array = np.array([base64.b64decode(value) for value in values], object)
    elif dtype == "object":
        array = np.vectorize(str.encode, otypes=[object])(np.array(values, object))
    else:
        array = np.array(values, dtype)
    if array.dtype == object:
        made = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=array.ravel().tolist())
    else:
        made = tensor_pb2.TensorProto(dtype=_DTYPES[dtype], tensor_content=array.tobytes())
    for length in array.shape:
        made.tensor_shape.dim.add(size=length)
    return made


def values(made: Any) -> Any:
    """As `tf.make_ndarray` reads it."""
    shape = [dim.size for dim in made.tensor_shape.dim]
    if made.tensor_content:
        return np.frombuffer(made.tensor_content, "<f4" if made.dtype == types_pb2.DT_FLOAT else "<i8").reshape(shape)
    found = list(getattr(made, _VALUES[made.dtype]))
    if made.dtype == types_pb2.DT_STRING:
        found = [value.decode() for value in found]
    return np.array(found).reshape(shape)


def predict(channel: grpc.Channel, model: str, signature: str, inputs: dict[str, Any]) -> dict[str, Any]:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, (dtype, given) in inputs.items():
        request.inputs[name].CopyFrom(tensor(dtype, given))
    answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60)
    return {name: values(made).tolist() for name, made in answer.outputs.items()}


if __name__ == "__main__":
    with grpc.insecure_channel(sys.argv[1]) as channel:
        for line in sys.stdin:
            print(json.dumps(predict(channel, *json.loads(line))), flush=True)
