"""Asks with TensorFlow Serving's own client: `python -m tests.e2e.tensorflow_client <host:port> <image> <rows>`.

A program of its own: the client's message definitions import the package `tensorflow`, which takes ten seconds and a
process. Here that package is an empty one, below which the definitions are found all the same. The answers are printed
as JSON.
"""

from __future__ import annotations

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
from tensorflow_serving.apis import (  # noqa: E402
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)


def tensor(array: Any) -> Any:
    """As `tf.make_tensor_proto` writes it."""
    if array.dtype == object:
        made = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=array.ravel().tolist())
    else:
        made = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_content=array.astype("<f4").tobytes())
    for length in array.shape:
        made.tensor_shape.dim.add(size=length)
    return made


def predict(stub: Any, wanted: list[list[float]], image: bytes) -> dict[str, Any]:
    rows = predict_pb2.PredictRequest()
    rows.model_spec.name = "iris"
    rows.inputs["features"].CopyFrom(tensor(np.array(wanted)))
    answer = stub.Predict(rows, timeout=30)
    images = predict_pb2.PredictRequest()
    images.model_spec.name = "inception_v3"
    images.inputs["image"].CopyFrom(tensor(np.array([image], object)))
    return {
        "rows": list(answer.outputs["probabilities"].float_val),
        "version": answer.model_spec.version.value,
        "label": stub.Predict(images, timeout=30).outputs["output_0"].string_val[0].decode(),
    }


def classify(stub: Any, wanted: list[list[float]]) -> Any:
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "iris"
    for row in wanted:
        request.input.example_list.examples.add().features.feature["features"].float_list.value.extend(row)
    answer = stub.Classify(request, timeout=30)
    return [[(each.label, each.score) for each in row.classes] for row in answer.result.classifications]


def describe(stub: Any) -> Any:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "inception_v3"
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert stub.GetModelMetadata(request, timeout=30).metadata["signature_def"].Unpack(signatures)
    return {name: [sorted(each.inputs), sorted(each.outputs)] for name, each in signatures.signature_def.items()}


def refused(stub: Any) -> Any:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "iris"
    request.model_spec.version.value = 1
    try:
        stub.Predict(request, timeout=30)
    except grpc.RpcError as error:
        return [error.code().name, error.details()]


def main(target: str, image: str, rows: str) -> None:
    wanted = json.loads(rows)
    with grpc.insecure_channel(target) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = "iris"
        states = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status, timeout=30)
        answer = {
            **predict(stub, wanted, Path(image).read_bytes()),
            "classes": classify(stub, wanted),
            "signatures": describe(stub),
            "states": [[each.version, each.state] for each in states.model_version_status],
            "refused": refused(stub),
        }
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
