"""Files of iris rows, and the command that scores them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
from numpy.typing import NDArray

from serving.placement import open_engine
from serving.settings.models import ModelSettings
from serving.store.models import StoredModel

COLUMNS = ("sepal_length", "sepal_width", "petal_length", "petal_width")


def features(rows: int, *, seed: int = 0) -> NDArray[np.float64]:
    """`[rows, 4]`, with one decimal as a flower is measured."""
    return np.random.default_rng(seed).uniform(0.1, 8.0, (rows, 4)).round(1)


def table(rows: int, *, seed: int = 0, first_id: int = 0) -> pa.Table:
    """An id and the four features."""
    values = features(rows, seed=seed)
    ids = np.arange(first_id, first_id + rows)
    return pa.table({"id": ids} | {name: values[:, index] for index, name in enumerate(COLUMNS)})


def write(path: Path, content: pa.Table | Mapping[str, Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(content if isinstance(content, pa.Table) else pa.table(content), path, **options)
    return path


def read(directory: str | Path, format_: str = "parquet", **options: Any) -> list[dict[str, Any]]:
    """The rows of an output in the order of its parts."""
    found = pyarrow.dataset.dataset(str(directory), format=format_, **options).to_table()
    return found.to_pylist()


class Scored:
    """A stored model and its engine."""

    def __init__(self, model: StoredModel) -> None:
        self.model = model
        self.engine = open_engine(model, ModelSettings())
        self.name = model.metadata.inputs[0].name

    def predict(self, rows: NDArray[Any]) -> NDArray[Any]:
        """The scores of rows of a matrix."""
        return self.engine.run({self.name: rows})[self.model.metadata.scores]


class Command:
    """`serving batch score-files …` in this process."""

    def __init__(self, capsys: Any) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, dict[str, Any], str]:
        """Exit status, summary and standard error."""
        from serving.cli import main

        status = main(["batch", "score-files", *map(str, arguments)])
        output, errors = self._capsys.readouterr()
        return status, json.loads(output) if output else {}, errors
