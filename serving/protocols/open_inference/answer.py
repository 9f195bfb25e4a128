"""The answer to an inference request of the Open Inference Protocol, from probabilities to bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from serving.core.ranking import Probabilities, rank
from serving.protocols.open_inference.request import InferRequest, WantedOutput
from serving.protocols.served_models import LABEL, ServedModel

_encode = msgspec.json.encode


class InferAnswer(NamedTuple):
    body: bytes
    json_length: int | None
    """How much of the body is JSON, where binary data follows it."""


def encode_answer(request: InferRequest, probabilities: Probabilities, model: ServedModel) -> InferAnswer:
    """The body, and the length of its JSON when it has binary data."""
    answer: dict[str, Any] = {"model_name": model.name, "model_version": str(model.version)}
    if request.id is not None:
        answer["id"] = request.id
    parts: list[bytes] = []
    outputs = answer["outputs"] = []
    for wanted in request.outputs:
        datatype, shape, values = _tensor(wanted, probabilities, model)
        output: dict[str, Any] = {"name": wanted.name, "datatype": datatype, "shape": shape}
        if wanted.binary:
            part = write_elements(values) if isinstance(values, list) else values.astype("<f4", copy=False).tobytes()
            output["parameters"] = {"binary_data_size": len(part)}
            parts.append(part)
        else:
            output["data"] = values if isinstance(values, list) else values.ravel().tolist()
        outputs.append(output)
    document = _encode(answer)
    if not any(wanted.binary for wanted in request.outputs):
        return InferAnswer(document, None)
    return InferAnswer(b"".join([document, *parts]), len(document))


def _tensor(
    wanted: WantedOutput, probabilities: Probabilities, model: ServedModel
) -> tuple[str, list[int], list[str] | Probabilities]:
    """Datatype, shape and values in row-major order."""
    if wanted.name == LABEL:
        return "BYTES", [len(probabilities)], model.most_probable(probabilities)
    if wanted.classes:
        classes = min(wanted.classes, len(model.labels))
        return "BYTES", [len(probabilities), classes], classify(probabilities, model.labels, classes)
    return "FP32", list(probabilities.shape), probabilities


def classify(probabilities: Probabilities, labels: Sequence[str], classes: int) -> list[str]:
    """`<probability>:<class id>:<label>` of the most probable classes of each row, best first."""
    return [
        f"{np.float32(found.probability)}:{found.class_id}:{found.label}"
        for row in probabilities
        for found in rank(row, labels, classes)
    ]


def write_elements(texts: Sequence[str]) -> bytes:
    """The binary form of a BYTES tensor; see `read_elements`."""
    parts: list[bytes] = []
    for text in texts:
        content = text.encode()
        parts += (len(content).to_bytes(4, "little"), content)
    return b"".join(parts)
