"""Which types of inputs and outputs can be served."""

from __future__ import annotations

import onnxruntime

from serving.core.errors import ModelError
from serving.core.tensors import BY_ONNX


def served_dtype(declared: onnxruntime.NodeArg, kind: str) -> str:
    """Our name of the dtype of an `input` or `output`.

    Raises:
        ModelError: it is no tensor, or one of a dtype that callers have no values of; says how to export it.
    """
    name, onnx_type = declared.name, declared.type
    if (known := BY_ONNX.get(onnx_type)) is not None:
        return known.name
    if kind == "input" and ("map(" in onnx_type or onnx_type.startswith("seq(")):
        raise ModelError(
            f"the input {name} is {onnx_type}, which cannot be served; export the model with a tensor for each column, "
            "as a OneHotEncoder takes them in the place of a DictVectorizer"
        )
    if "map(" in onnx_type:
        raise ModelError(
            f"the {kind} {name} is {onnx_type}, and maps cannot be served; export with zipmap=False "
            "(skl2onnx: options={'zipmap': False})"
        )
    if onnx_type.startswith("seq("):
        raise ModelError(
            f"the {kind} {name} is {onnx_type}, and sequences cannot be served; export with zipmap=False, or a graph "
            "that ends with tensors"
        )
    if onnx_type.startswith("optional("):
        raise ModelError(f"the {kind} {name} is {onnx_type}, and optionals cannot be served; export it as a tensor")
    raise ModelError(
        f"the {kind} {name} is {onnx_type}, a type that callers have no values of; export the model with float32 there"
    )
