"""Predictions in each protocol over HTTP: what to ask and what the answers mean, without doing the asking.

Each function is a generator that yields requests and is sent the JSON of their answers, so that one program of
blocking calls and one of coroutines can both run it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

Protocol = Literal["native", "tfserving", "v2"]
_ALL_CLASSES = 1_000_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A class that an input may belong to."""

    label: str
    class_id: int
    probability: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """Of one row or image: the most probable classes, best first."""

    candidates: tuple[Candidate, ...]

    @property
    def label(self) -> str:
        return self.candidates[0].label


@dataclass(frozen=True, slots=True)
class Inputs:
    """Either rows or image files, and how many classes to name of each; `None` are all."""

    rows: Sequence[Sequence[float]] = ()
    images: Sequence[bytes] = ()
    top_k: int | None = None

    def __post_init__(self) -> None:
        if bool(self.rows) == bool(self.images):
            raise ValueError("either rows or images are required")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError("top_k has to be at least 1")


@dataclass(frozen=True, slots=True)
class Ask:
    """A request. `content` are keyword arguments of httpx."""

    method: str
    path: str
    content: Mapping[str, Any] = field(default_factory=dict)


Flow = Generator[Ask, Any, list[Prediction]]


def native(model: str, inputs: Inputs) -> Flow:
    """The service's own routes; images go one by one."""
    path = quote(model, safe="")
    labels = yield Ask("GET", f"{path}/label")
    if inputs.rows:
        answer = yield Ask("POST", f"{path}/predict", {"json": {"data": inputs.rows}})
        pairs = [[(labels[str(index)], value) for index, value in enumerate(row)] for row in answer["prediction"]]
        return [best(row, inputs.top_k) for row in pairs]
    found = []
    for image in inputs.images:
        answer = yield Ask(
            "POST",
            f"{path}/predict",
            {
                "params": {"top_k": min(inputs.top_k or len(labels), len(labels))},
                "content": image,
                "headers": {"Content-Type": "image/*"},  # the server looks at the file itself
            },
        )
        candidates = (Candidate(each["label"], each["class_id"], each["probability"]) for each in answer["predictions"])
        found.append(Prediction(tuple(candidates)))
    return found


def tfserving(model: str, inputs: Inputs) -> Flow:
    """TensorFlow Serving's Classify, which names all classes."""
    examples: list[dict[str, Any]] = [{"features": row} for row in inputs.rows]
    examples += [{"image": {"b64": base64.b64encode(image).decode("ascii")}} for image in inputs.images]
    answer = yield Ask("POST", f"v1/models/{quote(model, safe='')}:classify", {"json": {"examples": examples}})
    return [best(row, inputs.top_k) for row in answer["results"]]


def v2(model: str, inputs: Inputs) -> Flow:
    """The Open Inference Protocol, with its extension for classification."""
    given: dict[str, Any] = {"name": "image", "shape": [len(inputs.images)], "datatype": "BYTES"}
    if inputs.rows:
        given = {"name": "features", "shape": [len(inputs.rows), len(inputs.rows[0])], "datatype": "FP32"}
        given["data"] = inputs.rows
    else:
        given["data"] = [base64.b64encode(image).decode("ascii") for image in inputs.images]
    wanted = {"name": "probabilities", "parameters": {"classification": inputs.top_k or _ALL_CLASSES}}
    answer = yield Ask(
        "POST", f"v2/models/{quote(model, safe='')}/infer", {"json": {"inputs": [given], "outputs": [wanted]}}
    )
    (output,) = answer["outputs"]
    count, classes = output["shape"]
    return [
        Prediction(tuple(map(read_class, output["data"][row * classes : (row + 1) * classes]))) for row in range(count)
    ]


def read_class(text: str) -> Candidate:
    """`<probability>:<class id>:<label>`, as Triton's extension for classification writes it."""
    probability, class_id, label = text.split(":", 2)
    return Candidate(label, int(class_id), float(probability))


def best(pairs: Iterable[Sequence[Any]], top_k: int | None) -> Prediction:
    """From label and probability of every class, in the order of their ids."""
    candidates = [Candidate(str(label), index, float(value)) for index, (label, value) in enumerate(pairs)]
    candidates.sort(key=lambda candidate: -candidate.probability)
    return Prediction(tuple(candidates[:top_k]))


FLOWS: dict[Protocol, Callable[[str, Inputs], Flow]] = {"native": native, "tfserving": tfserving, "v2": v2}
METADATA: dict[Protocol, str] = {
    "native": "{}/metadata",
    "tfserving": "v1/models/{}/metadata",
    "v2": "v2/models/{}",
}
