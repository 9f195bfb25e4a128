"""What scores rows, for models of every kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.batch.checks import RowChecks, unknown_model
from serving.batch.predictor import Predictor, open_predictor, predictors
from serving.codecs.base import RowAnswers
from serving.codecs.opening import open_codec
from serving.codecs.rows import RowsCodec
from serving.core.engine import Engine
from serving.core.errors import InvalidInputError, ModelError
from serving.core.tensors import NOT_FINITE, Tensors, count
from serving.placement import open_engine
from serving.settings import Settings
from serving.settings.models import ModelSettings
from serving.store.models import StoredModel, open_model
from tests import example_models
from tests.jobs.test_work import Counting


class NoFiles:
    def read(self, text: str) -> bytes:
        raise AssertionError(f"no file is to be read for {text}")


def opened(stored: StoredModel, engine: Callable[[Engine], Counting] = Counting) -> tuple[Predictor, Counting]:
    codec = open_codec(stored, ModelSettings())
    counting = engine(open_engine(stored, codec.settings))
    return Predictor(codec, counting, NoFiles()), counting


def predictions(found: RowAnswers) -> list[Any]:
    return [None if text is None else json.loads(text) for text in found.predictions]


@pytest.fixture(scope="module")
def predictor(model_store: Path) -> Predictor:  # noqa: ARG001
    return predictors(Settings())["iris"]()


def test_predictions_are_those_of_the_service_to_the_last_digit(predictor: Predictor) -> None:
    rows = np.random.default_rng(3).uniform(0.1, 8, (500, 4)).round(3)
    found = predictor.predict([json.dumps(row) for row in rows.tolist()])
    stored = open_model("iris:latest")
    codec, engine = open_codec(stored, ModelSettings()), open_engine(stored, ModelSettings())
    name = stored.metadata.inputs[0].name
    for row, text in zip(rows, found.predictions, strict=True):
        tensors = {name: np.array([row], np.float32)}
        (expected,) = json.loads(codec.answer(engine.run(tensors), tensors))["prediction"]
        assert json.loads(text or "") == expected
    assert set(found.errors) == {None}
    assert set(found.labels) == {"setosa", "versicolor", "virginica"}
    assert (predictor.tag, predictor.most_rows) == (stored.tag, 1_000_000)


BAD = [
    "[1,2]",
    "nonsense",
    "[1,2,3,NaN]",
    "[1,2,3,1e39]",
    "null",
    '"\ud800"',
    "{}",
    '{"sepal length (cm)": 1}',
    *("[1,2,3]", "[1,2,3,null]", '[1,2,3,"4"]', "[" * 5000),
]


def test_bad_rows_fail_alone(predictor: Predictor) -> None:
    values = ["[5.1,3.5,1.4,0.2]", *BAD[:4], "[6.7,3,5.2,2.3]", *BAD[4:]]
    found = predictor.predict(values)
    assert [label for label in found.labels if label] == ["setosa", "virginica"]
    assert [index for index, error in enumerate(found.errors) if error is None] == [0, 5]
    assert [text is None for text in found.predictions] == [error is not None for error in found.errors]
    assert all(error.startswith("values: a list of 4 finite numbers is required: ") for error in found.errors if error)
    assert predictor.predict([]) == RowAnswers([], [], [])
    assert predictor.predict(BAD).predictions == [None] * len(BAD)


def test_rows_may_be_objects_by_the_names_of_the_columns(predictor: Predictor) -> None:
    names = open_model("iris:latest").metadata.feature_names
    values = [6.7, 3, 5.2, 2.3]
    record = json.dumps(dict(reversed(list(zip(names, values, strict=True)))))
    found = predictor.predict([record, json.dumps(values), f" {record}"])
    assert found.errors == [None] * 3
    assert len(set(found.predictions)) == 1


def test_what_overflows_inside_the_model_is_an_error(tmp_path: Path) -> None:
    class Overflowing(Counting):
        def _call(self, tensors: Tensors) -> Tensors:
            found = super()._call(tensors)["probabilities"].copy()
            found[1] = np.nan
            return {"probabilities": found}

    predictor, _ = opened(example_models.flats(tmp_path), Overflowing)
    found = predictor.predict(['["Bern",10,1]'] * 3)
    assert found.errors == [None, NOT_FINITE, None]
    assert [text is None for text in found.predictions] == [False, True, False]
    assert found.labels == ["dear", None, "dear"]


def test_only_enabled_models_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(predictors(Settings())) == ["iris", "inception_v3"]
    monkeypatch.setenv("SERVING__MODELS__IRIS__ENABLED", "false")
    assert list(predictors(Settings())) == ["inception_v3"]


# --- models of every kind ---

# Of each model: rows, the rows of the engine's calls, the predictions, the labels.
Make = Callable[[Path], StoredModel]
KINDS: dict[str, tuple[Make, list[Any], list[int], list[Any], list[str | None]]] = {
    "a table of strings and numbers": (
        example_models.flats,
        [["Bern", 10, 1], {"rooms": 0, "city": "Paris", "area": 5.0}, ["Genève", 20.5, 2]],
        [3],
        [example_models.flats_expected(*row) for row in (("Bern", 10, 1), ("Paris", 5, 0), ("Genève", 20.5, 2))],
        ["dear", "cheap", "dear"],
    ),
    "a regressor": (example_models.regressor, [[1, 2, 3], {"c": 3, "a": 2, "b": 1}], [2], [-0.75, 0.75], [None] * 2),
    "a regressor of two values": (
        lambda path: example_models.regressor(path, outputs=2),
        [[1, 2, 3], [2, 1, 3]],
        [2],
        [[-0.75, -4.0], [0.75, -5.0]],
        [None] * 2,
    ),
    "a graph of one row at a time": (
        example_models.single,
        [[1, 2, 3], [2, 1, 3], [0, 0, 0]],
        [1, 1, 1],
        [-0.75, 0.75, 0],
        [None] * 3,
    ),
    "two inputs": (
        example_models.towers,
        [{"user": [1, 2], "item": [3, 4]}] * 40,
        [32, 8],
        [{"score": 11.0, "both": [1, 2, 3, 4]}] * 40,
        [None] * 40,
    ),
    "rows of different lengths": (
        example_models.lengths,
        [{"text": [1, 2, 3]}, {"text": [4, 5, 6]}, {"text": [7, 9]}, {"text": [1]}],
        [2, 1, 1],
        [{"mean": mean} for mean in (2, 5, 8, 1)],
        [None] * 4,
    ),
    "tensors without rows": (
        example_models.recurrent,
        [{"audio": [1, 3], "state": [[[0, 1, 2]], [[3, 4, 5]]]}, {"audio": [1], "state": [[[0, 0, 0]], [[0, 0, 0]]]}],
        [1, 1],
        [{"level": 2, "next": [[[2, 3, 4]], [[5, 6, 7]]]}, {"level": 1, "next": [[[1, 1, 1]], [[1, 1, 1]]]}],
        [None] * 2,
    ),
}


def close(found: Any, expected: Any) -> bool:
    """Equal, or numbers that a float32 cannot tell apart."""
    if isinstance(expected, dict):
        return set(found) == set(expected) and all(close(found[name], expected[name]) for name in expected)
    return bool(np.allclose(found, expected, rtol=1e-5))


@pytest.mark.parametrize("name", KINDS)
def test_rows_of_every_kind(tmp_path: Path, name: str) -> None:
    make, values, calls, expected, labels = KINDS[name]
    predictor, engine = opened(make(tmp_path))
    # A bad row in the middle changes nothing for the others.
    texts = [json.dumps(value) for value in values]
    for given in (texts, [texts[0], '{"nonsense": 1}', *texts[1:]]):
        engine.calls.clear()
        found = predictor.predict(given)
        good = [index for index, text in enumerate(given) if "nonsense" not in text]
        assert [found.errors[index] for index in good] == [None] * len(values)
        answers = predictions(found)
        assert all(close(answers[index], value) for index, value in zip(good, expected, strict=True))
        assert [found.labels[index] for index in good] == labels
        if len(given) == len(values):
            assert engine.calls == calls
        else:
            assert (found.predictions[1], found.labels[1]) == (None, None)
            assert (found.errors[1] or "").startswith("values: ")


class Refusing(Counting):
    """Refuses a number above a bound, as a graph does that looks into a table."""

    def _call(self, tensors: Tensors) -> Tensors:
        found = super()._call(tensors)
        if any(array.max() > 100 for array in tensors.values() if array.dtype != object):
            raise InvalidInputError("not in the table")
        return found


@pytest.mark.parametrize("name", ["a regressor", "a graph of one row at a time", "two inputs", "tensors without rows"])
def test_what_the_graph_refuses_fails_alone(tmp_path: Path, name: str) -> None:
    make, values, _, expected, _ = KINDS[name]
    predictor, _ = opened(make(tmp_path), Refusing)
    good = json.dumps(values[0])
    bad = good.replace("1,", "1000,", 1)
    found = predictor.predict([good, good, bad, good, good])
    assert found.errors == [None, None, "not in the table", None, None]
    assert all(close(answer, expected[0]) for answer in predictions(found) if answer is not None)
    assert found.predictions[2] is None


def test_large_chunks_are_scored_in_several_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.batch.predictor._CALL_ROWS", 3)
    predictor, engine = opened(example_models.regressor(tmp_path))
    found = predictor.predict([json.dumps([number, 0, 0]) for number in range(5)] + ["[]"])
    assert engine.calls == [3, 2]
    assert predictions(found) == [0, 0.5, 1, 1.5, 2, None]


class Doubling(RowsCodec):
    """A plug-in with pre-processing of its own, which takes one row's values for another's."""

    def tensors(self, request: Tensors) -> tuple[Tensors, str]:
        if request["X"].max() > 100:
            raise InvalidInputError("values: too large for this plug-in")
        return {"X": 2 * request["X"]}, "rows=1"


def test_the_preprocessing_of_a_plugin_is_not_left_out(tmp_path: Path) -> None:
    stored = example_models.regressor(tmp_path)
    codec = Doubling(stored, ModelSettings())
    predictor = Predictor(codec, open_engine(stored, codec.settings), NoFiles())
    found = predictor.predict(["[1,2,3]", "[1000,0,0]", "[2,1,3]"])
    assert predictions(found) == [-1.5, None, 1.5]
    assert found.errors == [None, "values: too large for this plug-in", None]


class Keep(RowsCodec):
    """A plug-in that answers requests in its own way."""

    def answer(self, outputs: Tensors, request: Tensors) -> bytes:  # noqa: ARG002
        return b'{"keep":true}'


class KeepRows(Keep):
    """As it has to be for rows of a database."""

    def row_answers(self, outputs: Tensors) -> RowAnswers:
        number = count(outputs)
        return RowAnswers(['{"keep":true}'] * number, [None] * number, [None] * number)


@pytest.mark.usefixtures("model_store")
def test_rows_are_not_answered_in_another_way_than_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING__MODELS__IRIS__PLUGIN", f"{__name__}:Keep")
    with pytest.raises(ModelError, match="changes answers and not those of rows in a database: it needs row_answers"):
        open_predictor(Settings(), "iris")
    monkeypatch.setenv("SERVING__MODELS__IRIS__PLUGIN", f"{__name__}:KeepRows")
    assert open_predictor(Settings(), "iris").predict(["[1,2,3,4]"]).predictions == ['{"keep":true}']


# --- checks before rows are inserted ---


@pytest.mark.usefixtures("model_store")
def test_rows_are_judged_by_their_model(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = RowChecks.of(Settings())
    assert checks.check("iris", "[1,2,3,4]") is None
    for good in ('{"image_path":"a.png"}', '{"image_url":"file:///a.png"}'):
        assert checks.check("inception_v3", good) is None
    assert "image_url" in (checks.check("inception_v3", '{"image_url":"http://host/a.png"}') or "")
    assert "image_path" in (checks.check("inception_v3", '{"image_path":""}') or "")
    for text in BAD:
        assert (checks.check("iris", text) or "").startswith("values: a list of 4 finite numbers is required")
    assert checks.check("inception_v3", "[1,2,3,4]")
    assert checks.check("oracle", "[]") == "there is no model 'oracle'; served: iris, inception_v3"
    assert checks.check("", "[1,2,3,4]") == "the row names no model; served: iris, inception_v3"
    monkeypatch.setenv("SERVING__MODELS__INCEPTION_V3__ENABLED", "false")
    assert RowChecks.of(Settings()).check("inception_v3", '{"image_path": "a"}') == unknown_model(
        "inception_v3", {"iris": None}
    )


def test_a_check_says_what_the_predictor_says(tmp_path: Path) -> None:
    opening: list[str] = []
    for make in (example_models.flats, example_models.towers, example_models.recurrent):
        stored = make(tmp_path)

        def open_(stored: StoredModel = stored) -> Any:
            opening.append(stored.tag)
            return open_codec(stored, ModelSettings())

        checks = RowChecks({"it": open_})
        predictor, _ = opened(stored)
        for text in (
            "[]",
            "{}",
            "nonsense",
            "null",
            "[1,2,3]",
            '"\ud800"',
            '{"user": [1], "item": [1, 2]}',
            '["a", 1, 1]',
        ):
            assert [checks.check("it", text)] == predictor.predict([text]).errors
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("builtins.open", lambda *_: pytest.fail("a check opens no file"))
            checks.check("it", '{"image_path": "/etc/passwd"}')
    assert opening == ["flats:1", "towers:1", "recurrent:1"], "once for each model"
