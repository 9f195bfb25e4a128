"""One row, three ways: /predict, `batch load` with `batch score`, and `score-files` give the same.

`FILES_CASES=2000` makes more files than the suite has time for.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import delete
from starlette.requests import Request

from serving.batch.checks import RowChecks
from serving.batch.database import Database
from serving.batch.files.run import Threads, plan, run
from serving.batch.loading import load
from serving.batch.predictor import Predictor
from serving.batch.reading import FilesError
from serving.batch.reading.judge import Table
from serving.batch.reading.lines import read_lines
from serving.batch.reading.sources import find_source
from serving.batch.tables import Item
from serving.codecs.image_files import ImageFiles
from serving.codecs.rows import RowsCodec
from serving.core.errors import ServingError
from serving.placement import open_engine
from serving.settings.models import ModelSettings
from serving.store.models import StoredModel
from tests import example_models
from tests.batch.any_file import AnyFile, any_file
from tests.batch.files import read
from tests.batch.rows import rows, score

CASES = int(os.environ.get("FILES_CASES", "60"))
Answer = tuple[Any, str | None]
"""A prediction, and why there is none."""


def _whole(path: Path) -> StoredModel:
    spec, node = example_models.spec, example_models.node
    inputs = [spec("count", "int64", None), spec("yes", "bool", None), spec("town name", "string", None)]
    return example_models.stored(
        path, "whole", [node("Where", ["yes", "count", "zero"], ["m"])], inputs, [spec("m", "int64", None)],
        {"zero": np.int64(0)}, kind="rows", task="raw",
    )  # fmt: skip


def _units(path: Path) -> StoredModel:
    names = ["sepal length (cm)", "sepal width (cm)", "petal_length"]
    return example_models.regressor(path / "units", feature_names=names)


MODELS: dict[str, Callable[[Path], StoredModel]] = {
    "units": _units,
    "two": lambda path: example_models.regressor(path, outputs=2),
    "gaps": lambda path: example_models.regressor(path / "gaps", allow_nan=True),
    "unnamed": lambda path: example_models.regressor(path / "unnamed", feature_names=[]),
    "flats": example_models.flats,
    "whole": _whole,
}


class Ways:
    """A model and the three ways to it."""

    def __init__(self, stored: StoredModel, database: Database) -> None:
        self.stored = stored
        self.codec = RowsCodec(stored, ModelSettings())
        self.table = Table.of(stored.metadata)
        self._engine = open_engine(stored, ModelSettings())
        self._database = database

    def predict(self, values: str) -> Answer:
        """What `/predict` answers for a row."""
        body = f'{{"data":[{values}]}}'.encode()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        headers = [(b"content-type", b"application/json")]
        request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
        try:
            tensors = asyncio.run(self.codec.read(request))
            answer = json.loads(self.codec.answer(self._engine.run(tensors), tensors))
        except ServingError as error:
            return None, error.message
        if "prediction" in answer:
            return answer["prediction"][0], None
        return {name: values[0] for name, values in answer["outputs"].items()}, None

    def load_and_score(self, file: AnyFile, rejects: Path) -> list[Answer]:
        with self._database.write() as connection:
            connection.execute(delete(Item))
        source = find_source(str(file.path))
        checks = RowChecks({"m": lambda: self.codec})
        lines = list(read_lines(source, file.options, lambda _: self.table))
        numbers = [line.number for line in lines]
        assert numbers == sorted(set(numbers))
        if file.lines:
            assert numbers == file.lines
        load(self._database, lines, model="m", check=checks.check, rejects=rejects)
        rejected = {}
        if rejects.exists():
            rejected = {each["line"]: each["error"] for each in map(json.loads, rejects.read_text().splitlines())}
        score(self._database, models={"m": Predictor(self.codec, self._engine, ImageFiles("", max_bytes=1))})
        found = iter(rows(self._database, Item.prediction, Item.error))
        return [(None, rejected[number]) if number in rejected else next(found) for number in numbers]

    def score_files(self, file: AnyFile, target: Path) -> list[Answer]:
        planned = plan(str(file.path), str(target), self.stored, options=file.options, target_format="parquet")
        run(planned, Threads(self._engine, threads=1))
        found = []
        for row in read(target):
            if row["error"] is not None:
                found.append((None, row["error"]))
            elif self.stored.metadata.task == "raw":
                found.append(({spec.name: row[spec.name] for spec in self.stored.metadata.outputs}, None))
            else:
                kind = "probabilities" if self.stored.metadata.task == "classification" else "prediction"
                found.append((row[kind], None))
        return found


def same(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return first == second
    arrays = [np.array(each, float) for each in (first, second)]  # a number that is missing is NaN
    return np.allclose(*arrays, rtol=1e-6, atol=0, equal_nan=True)


def check(ways: Ways, file: AnyFile, directory: Path) -> tuple[int, int]:
    """Numbers of rows that are predicted and refused."""
    try:
        loaded: list[Answer] | str = ways.load_and_score(file, directory / "rejects")
    except FilesError as error:
        loaded = str(error)
    try:
        scored: list[Answer] | str = ways.score_files(file, directory / "out")
    except FilesError as error:
        scored = str(error)
    if isinstance(loaded, str) or isinstance(scored, str):
        assert loaded == scored
        assert file.refused, loaded
        return 0, 0
    assert not file.refused
    assert len(loaded) == len(scored) == len(file.bodies)
    expected = [(None, "torn") if body is None else ways.predict(body) for body in file.bodies]
    bad = 0
    for (right, why), (one, one_error), (other, other_error) in zip(expected, loaded, scored, strict=True):
        assert one_error == other_error
        assert (why is None) == (one_error is None), (right, why, one, one_error)
        if why is None:
            assert same(right, one)
            assert same(right, other)
        bad += why is not None
    return len(expected) - bad, bad


def test_the_same_predictions_or_the_same_refusal(sqlite_database: Database, tmp_path: Path) -> None:
    ways = {name: Ways(make(tmp_path / name), sqlite_database) for name, make in MODELS.items()}
    predicted = refused = files = 0
    for case in range(CASES):
        chance = random.Random(case)
        directory = tmp_path / str(case)
        directory.mkdir()
        name = chance.choice(list(ways))
        file = any_file(chance, directory, list(ways[name].table.columns))
        try:
            good, bad = check(ways[name], file, directory)
        except Exception as error:
            error.add_note(f"case {case}: {name} {file.path} {file.how} {file.options} {file.bodies}")
            raise
        predicted, refused, files = predicted + good, refused + bad, files + file.refused
    print(f"{CASES} files: {predicted} rows predicted, {refused} rows and {files} files refused")
    assert predicted > CASES
    assert refused > CASES / 10
    assert files
