"""The output of a graph that says the class of each row, and whether the scores beside it mean the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.add.graph import Graph
from serving.add.trial import Learned
from serving.core.signature import TensorSpec
from serving.core.tensors import STRING

_DTYPES = ("int64", "int32", STRING)


@dataclass(frozen=True, slots=True)
class LabelOutput:
    """An output with a class for each row, or with a column of zeros and ones for each class.

    Attributes:
        spec: the output.
        scores: the output beside it.
        learned: runs of the graph.
        values: what it says for each class, by class id: names in the graph, or numbers from 0.
        has_names: whether they stand in the graph.
    """

    spec: TensorSpec
    scores: TensorSpec
    learned: Learned
    values: list[str]
    has_names: bool

    @property
    def is_one_class(self) -> bool:
        """Whether it says one class of each row, and not for each class whether it is right."""
        return len(self.spec.shape) == 1 or self.spec.shape[1] == 1

    @property
    def is_known(self) -> bool:
        """Whether all that it has said in runs is one of its values."""
        return self.is_one_class and all(said in self.values for said, _ in self._rows())

    @property
    def never_has_highest(self) -> bool:
        """Whether it has said in no run the class with the highest score.

        Scores are then distances, as those of a clusterer, or margins in another order.
        """
        found = [
            row[self.values.index(said)] == row.max()
            for said, row in self._rows()
            if said in self.values and len(row) == len(self.values) and np.isfinite(row).all() and row.min() < row.max()
        ]
        return self.is_one_class and bool(found) and not any(found)

    def _rows(self) -> Iterator[tuple[str, NDArray[np.float64]]]:
        for run in self.learned.runs:
            said, scores = run[self.spec.name], run[self.scores.name]
            rows = scores.reshape(len(scores), -1).astype(np.float64)
            yield from zip(map(str, said.reshape(len(said), -1)[:, 0].tolist()), rows, strict=True)


def find_label_output(graph: Graph, learned: Learned, scores: TensorSpec, classes: int) -> LabelOutput | None:
    """The output that says the classes whose scores are `scores`; `None` where there is none."""
    width = scores.shape[1] if len(scores.shape) == 2 else 1
    for spec in learned.outputs:
        if spec.dtype in _DTYPES and (len(spec.shape) == 1 or spec.shape[1:] in ([1], [width])):
            names = graph.labels_behind([spec.name, scores.name], classes)
            values = names if names is not None else [str(index) for index in range(classes)]
            return LabelOutput(spec, scores, learned, values, names is not None)
    return None
