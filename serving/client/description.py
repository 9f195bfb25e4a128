"""What a model takes and gives, as `/{model}/metadata` says it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from serving.client.answers import ApiError


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output; `None` in `shape` is a dimension of any length."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Tensor:
        shape = tuple(None if length is None else int(length) for length in document["shape"])
        return cls(str(document["name"]), str(document["dtype"]), shape)


@dataclass(frozen=True, slots=True)
class Description:
    """One model.

    Attributes:
        name: as in the routes.
        kind: what a request is, `rows`, `image` or `tensors`.
        task: what comes out, `classification`, `regression` or `raw` tensors.
        scores: the output with the scores of classes or the predicted numbers; empty for raw tensors.
        classes: how many there are.
        labels: of the classes by class id, where answers of the protocol are without them.
        feature_names: of the columns; empty where each input is a column of its own name.
        inputs, outputs: of the graph.
        protocol_inputs: what the standard protocols take.
    """

    name: str
    kind: str
    task: str
    scores: str
    classes: int
    feature_names: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    protocol_inputs: tuple[Tensor, ...]
    labels: tuple[str, ...] = ()

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Description:
        """From the metadata of a model.

        Raises:
            ApiError: they do not say what the model takes.
        """
        try:
            return cls(
                name=str(document["name"]),
                kind=str(document["kind"]),
                task=str(document["task"]),
                scores=str(document["scores"]),
                classes=int(document["classes"]),
                feature_names=tuple(map(str, document["feature_names"])),
                inputs=tuple(map(Tensor.read, document["inputs"])),
                outputs=tuple(map(Tensor.read, document["outputs"])),
                protocol_inputs=tuple(map(Tensor.read, document["protocol_inputs"])),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            missing = f"no {error.args[0]}" if isinstance(error, KeyError) else "values that are not understood"
            raise ApiError(
                200,
                "not_understood",
                f"the metadata of the model has {missing}: the server is older than this client, or another program",
            ) from error

    def with_labels(self, labels: Iterable[str]) -> Description:
        return replace(self, labels=tuple(map(str, labels)))

    @property
    def ranks(self) -> bool:
        """Whether a prediction is the most probable classes."""
        return self.task == "classification" and self.kind != "tensors"

    @property
    def wanted(self) -> tuple[Tensor, ...]:
        """The outputs that a prediction is made of."""
        if self.task == "raw" or self.kind == "tensors":
            return self.outputs
        return tuple(output for output in self.outputs if output.name == self.scores)
