"""Requests of both protocols."""

from __future__ import annotations

from typing import Any

import numpy as np

from serving.grpc.messages import message

ModelInferRequest = message("inference.ModelInferRequest")
PredictRequest = message("tensorflow.serving.PredictRequest")
ClassificationRequest = message("tensorflow.serving.ClassificationRequest")
ROW = (5.1, 3.5, 1.4, 0.2)
DT_FLOAT, DT_DOUBLE, DT_UINT8, DT_STRING = 1, 2, 4, 7


def infer_rows(rows: Any = (ROW,), *, raw: bool = True, **fields: Any) -> Any:
    """A ModelInferRequest for iris."""
    array = np.array(rows, "<f4")
    request = ModelInferRequest(**({"model_name": "iris"} | fields))
    tensor = request.inputs.add(name="features", datatype="FP32", shape=array.shape)
    if raw:
        request.raw_input_contents.append(array.tobytes())
    else:
        tensor.contents.fp32_contents.extend(array.ravel().tolist())
    return request


def infer_images(*images: bytes, raw: bool = True) -> Any:
    """A ModelInferRequest for image files."""
    request = ModelInferRequest(model_name="inception_v3")
    tensor = request.inputs.add(name="image", datatype="BYTES", shape=[len(images)])
    if raw:
        request.raw_input_contents.append(b"".join(len(image).to_bytes(4, "little") + image for image in images))
    else:
        tensor.contents.bytes_contents.extend(images)
    return request


def predict_rows(rows: Any = (ROW,), *, content: bool = True) -> Any:
    """A PredictRequest for iris."""
    array = np.array(rows, "<f4")
    request = PredictRequest()
    request.model_spec.name = "iris"
    tensor = request.inputs["features"]
    tensor.dtype = DT_FLOAT
    for length in array.shape:
        tensor.tensor_shape.dim.add(size=length)
    if content:
        tensor.tensor_content = array.tobytes()
    else:
        tensor.float_val.extend(array.ravel().tolist())
    return request


def predict_images(*images: bytes, signature: str = "") -> Any:
    """A PredictRequest for image files."""
    request = PredictRequest()
    request.model_spec.name = "inception_v3"
    request.model_spec.signature_name = signature
    tensor = request.inputs["image"]
    tensor.dtype = DT_STRING
    tensor.tensor_shape.dim.add(size=len(images))
    tensor.string_val.extend(images)
    return request
