"""What runs a model: arrays in, arrays out. Engines know no HTTP, no BentoML, no queue and no codec."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod

from serving.core.errors import InvalidInputError
from serving.core.signature import Signature
from serving.core.tensors import Tensors, count, join, rows


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def refused(tensors: Tensors) -> InvalidInputError:
    """What a caller is told whose values or shapes a graph cannot compute."""
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in tensors.items())
    return InvalidInputError(f"the model cannot compute these values or shapes: {shapes}")


class Engine(ABC):
    """One loaded graph.

    Attributes:
        signature: its tensors.
        description: library, version and precision for people, as `onnxruntime 1.23.0 (float32, CPUExecutionProvider)`.
    """

    signature: Signature
    description: str

    def run(self, tensors: Tensors) -> Tensors:
        """All outputs for the inputs, which have been judged by `Signature.check`.

        A graph that takes one row at a time is called once for each row.

        Raises:
            InvalidInputError: the graph cannot compute these values or shapes.
        """
        if self.signature.batching != "one" or count(tensors) == 1:
            return self._call(tensors)
        return join([self._call(rows(tensors, row, row + 1)) for row in range(count(tensors))])

    def warm_up(self, sample: Tensors | None = None) -> None:
        """Run once, so that the first caller does not pay for lazy allocation; zeros unless there is a `sample`."""
        self.run(sample or self.signature.zeros())

    @abstractmethod
    def _call(self, tensors: Tensors) -> Tensors:
        """One call of the graph."""
