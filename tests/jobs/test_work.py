"""From a request to a payload and from a payload to the answer, for models of every kind."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from serving.codecs.base import Codec
from serving.codecs.image import ImageRequest
from serving.codecs.image_decoding import sample_image
from serving.codecs.opening import open_codec
from serving.core.engine import Engine
from serving.core.errors import ConfigurationError, InvalidImageError, InvalidInputError, MalformedRequestError
from serving.core.tensors import Tensors, count, strings, to_bytes
from serving.jobs.job import Claimed, Lease
from serving.jobs.process import _model, plan_of
from serving.jobs.work import Answer, Encoded, ModelWork, encode, fingerprint, open_work
from serving.placement import open_engine
from serving.settings import Settings
from serving.settings.models import ModelSettings
from serving.store.models import StoredModel
from tests import example_models
from tests.tiny_models import tiny_model


def claimed(encoded: Encoded) -> Claimed:
    return Claimed(Lease("id", "model", "owner", 1), encoded.payload, encoded.parameters, 0.0, suspected=False)


def codec_of(stored: StoredModel, **settings: Any) -> Codec[Any]:
    return open_codec(stored, ModelSettings(**settings))


class Counting(Engine):
    """Notes the rows of each call of an engine."""

    def __init__(self, engine: Engine) -> None:
        self.signature = engine.signature
        self.description = engine.description
        self._engine = engine
        self.calls: list[int] = []

    def _call(self, tensors: Tensors) -> Tensors:
        self.calls.append(count(tensors) if self.signature.has_rows else 1)
        return self._engine.run(tensors)


class Opened:
    """The work of a stored model, and its engine's calls."""

    def __init__(self, stored: StoredModel, **settings: Any) -> None:
        self.codec = codec_of(stored, **settings)
        self.engine = Counting(open_engine(stored, self.codec.settings))
        self.work = ModelWork(self.codec, lambda: self.engine)
        self.work.open()
        self.engine.calls.clear()

    def answers(self, *encoded: Encoded) -> list[Answer]:
        return self.work.run([self.work.prepare(claimed(each)) for each in encoded])

    def predict(self, request: Any) -> bytes:
        """What `/predict` answers."""
        return self.codec.answer(self.engine._engine.run(self.codec.tensors(request)[0]), request)


@pytest.fixture
def iris(tmp_path: Path) -> Opened:
    return Opened(tiny_model(tmp_path, feature_names=["a", "b", "c", "d"]))


@pytest.fixture
def images(tmp_path: Path) -> Opened:
    return Opened(example_models.colours(tmp_path))


def picture(red: int = 0, green: int = 0, blue: int = 0) -> bytes:
    file = BytesIO()
    Image.new("RGB", (9, 7), (red, green, blue)).save(file, "PNG")
    return file.getvalue()


def rows(values: np.ndarray) -> Encoded:
    """A job of the rows of a float32 matrix."""
    return Encoded(to_bytes({"features": values}), '{"v":1}')


def test_fingerprints_tell_requests_apart() -> None:
    requests = [
        ("iris", Encoded(b"ab", "{}")),
        ("iris", Encoded(b"b", "{}a")),
        ("irisa", Encoded(b"b", "{}")),
        ("iris", Encoded(b"ab", '{"top_k":1}')),
    ]
    prints = {fingerprint(model, encoded) for model, encoded in requests}
    assert len(prints) == len(requests)
    assert {len(value) for value in prints} == {64}
    assert fingerprint(*requests[0]) == fingerprint("iris", Encoded(b"ab", "{}"))


# --- a matrix of rows ---


@pytest.mark.parametrize("number", [1, 3])
def test_rows_come_back_as_they_were(iris: Opened, number: int) -> None:
    features = np.random.default_rng(0).normal(size=(number, 4)).astype(np.float32)
    # Every second row of an array: what is sent need not lie together in memory.
    encoded = encode(iris.codec, {"features": np.repeat(features, 2, axis=0)[::2]})
    assert encoded.parameters == '{"v":1}'
    prepared = iris.work.prepare(claimed(encoded))
    assert np.array_equal(prepared.tensors["features"], features)
    assert prepared.rows == number


def test_jobs_of_rows_share_a_call_and_answer_apart(iris: Opened) -> None:
    features = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    first, second = iris.answers(rows(features[:1]), rows(features[1:]))
    assert iris.engine.calls == [4]
    assert [len(msgspec.json.decode(answer)["prediction"]) for answer in (first, second)] == [1, 3]
    assert iris.answers(rows(features[:1])) == [first]
    assert iris.predict({"features": features[:1]}) == first


def test_rows_that_overflow_are_their_own_jobs_fault(iris: Opened) -> None:
    good, bad = np.ones((1, 4), np.float32), np.full((1, 4), 3e38, np.float32)
    answers = iris.answers(rows(good), rows(bad), rows(good))
    assert isinstance(answers[1], InvalidInputError)
    assert answers[0] == answers[2]
    assert isinstance(answers[0], bytes)


def test_jobs_of_the_first_version_are_read(iris: Opened) -> None:
    """As version 1 of the service stored them: the rows of the matrix, and no version."""
    features = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    answers = iris.answers(Encoded(features.astype("<f4").tobytes(), "{}"))
    assert answers == iris.answers(rows(features))


@pytest.mark.parametrize("payload", [b"", b"123", b"x" * 17])
def test_a_payload_of_the_first_version_that_is_no_rows(iris: Opened, payload: bytes) -> None:
    with pytest.raises(InvalidInputError, match="not rows"):
        iris.work.prepare(claimed(Encoded(payload, "{}")))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"123",
        bytes(16),
        rows(np.zeros((1, 4), np.float32)).payload[:-1],
        to_bytes({"features": np.zeros((1, 3), np.float32)}),
        to_bytes({"features": np.zeros((1, 4))}),
        to_bytes({"others": np.zeros((1, 4), np.float32)}),
        to_bytes({"features": np.full((1, 4), np.nan, np.float32)}),
    ],
)
def test_a_payload_that_is_no_input_of_the_model(iris: Opened, payload: bytes) -> None:
    with pytest.raises((InvalidInputError, MalformedRequestError)):
        iris.work.prepare(claimed(Encoded(payload, '{"v":1}')))


@pytest.mark.parametrize("parameters", ["", "{", "[]", "5", "\ufffd"])
def test_parameters_that_are_no_object(iris: Opened, images: Opened, parameters: str) -> None:
    for opened, payload in ((iris, bytes(16)), (images, sample_image())):
        with pytest.raises(MalformedRequestError, match="parameters"):
            opened.work.prepare(claimed(Encoded(payload, parameters)))


# --- images ---


def test_images_share_a_call_and_answer_apart(images: Opened) -> None:
    requests = [ImageRequest(picture(red=255), 1), ImageRequest(picture(blue=255), 3)]
    found = images.answers(*(encode(images.codec, request) for request in requests))
    assert images.engine.calls == [2]
    red, blue = (msgspec.json.decode(answer) for answer in found)
    assert [candidate["label"] for candidate in red["predictions"]] == ["red"]
    assert [candidate["label"] for candidate in blue["predictions"]] == ["blue", "green", "red"]
    assert found == [images.predict(request) for request in requests]


def test_images_of_the_first_version_are_read(images: Opened) -> None:
    """As version 1 of the service stored them: without a version."""
    content = picture(green=200)
    assert images.answers(Encoded(content, '{"top_k":2}')) == [images.predict(ImageRequest(content, 2))]


def test_bytes_that_are_no_image(images: Opened) -> None:
    for content in (b"", b"no image", sample_image()[:-40]):
        with pytest.raises(InvalidImageError):
            images.work.prepare(claimed(encode(images.codec, ImageRequest(content, 1))))


def test_images_are_judged_by_the_settings(tmp_path: Path) -> None:
    opened = Opened(example_models.colours(tmp_path), image={"allowed_formats": ["JPEG"]})
    with pytest.raises(InvalidImageError, match="JPEG"):
        opened.work.prepare(claimed(encode(opened.codec, ImageRequest(picture(), 1))))


@pytest.mark.parametrize("top_k", ["0", "4", "true", '"1"', "null", "1.5"])
def test_a_top_k_that_cannot_be(images: Opened, top_k: str) -> None:
    with pytest.raises(InvalidInputError, match="top_k"):
        images.work.prepare(claimed(Encoded(picture(), f'{{"top_k":{top_k},"v":1}}')))


# --- models of every kind ---


def flat(*values: tuple[str, float, int]) -> Tensors:
    city, area, rooms = zip(*values, strict=True)
    return {
        "city": strings(city, (len(city), 1)),
        "area": np.array(area, np.float32).reshape(-1, 1),
        "rooms": np.array(rooms, np.int64).reshape(-1, 1),
    }


def pair(*user: float, item: tuple[float, float] = (1, 2)) -> Tensors:
    return {"user": np.array([user], np.float32), "item": np.array([item], np.float32)}


def sound(level: float, length: int) -> Tensors:
    return {"audio": np.full(length, level, np.float32), "state": np.ones((2, 1, 3), np.float32)}


Make = Callable[[Path], StoredModel]
MATRIX = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [-1.0, 0.0, 1e200]])
# Of each model: jobs, the rows of the engine's calls, and what the answers say.
KINDS: dict[str, tuple[Make, list[Tensors], list[int], Callable[[list[Any]], None]]] = {}


def kind(make: Make, jobs: list[Tensors], calls: list[int]) -> Any:
    def register(judge: Callable[[list[Any]], None]) -> None:
        KINDS[judge.__name__] = (make, jobs, calls, judge)

    return register


@kind(example_models.flats, [flat(("Bern", 10, 1)), flat(("Genève", 20, 2), ("Paris", 5, 0))], [3])
def a_table_of_strings_and_numbers(answers: list[Any]) -> None:
    expected = [[("Bern", 10, 1)], [("Genève", 20, 2), ("Paris", 5, 0)]]
    for answer, values in zip(answers, expected, strict=True):
        np.testing.assert_allclose(
            answer["prediction"], [example_models.flats_expected(*row) for row in values], rtol=1e-5
        )


@kind(example_models.regressor, [{"X": MATRIX[:1]}, {"X": MATRIX[1:]}], [3])
def a_regressor(answers: list[Any]) -> None:
    expected = MATRIX @ example_models.WEIGHTS[:, 0]
    assert [answer["prediction"] for answer in answers] == [expected[:1].tolist(), expected[1:].tolist()]


@kind(lambda path: example_models.regressor(path, outputs=2), [{"X": MATRIX[:2]}, {"X": MATRIX[2:]}], [3])
def a_regressor_of_two_values(answers: list[Any]) -> None:
    expected = MATRIX @ example_models.WEIGHTS
    assert [answer["prediction"] for answer in answers] == [expected[:2].tolist(), expected[2:].tolist()]


@kind(example_models.single, [{"X": MATRIX[:2]}, {"X": MATRIX[2:]}], [1, 1, 1])
def a_graph_of_one_row_at_a_time(answers: list[Any]) -> None:
    expected = MATRIX @ example_models.WEIGHTS[:, 0]
    assert [answer["prediction"] for answer in answers] == [expected[:2].tolist(), expected[2:].tolist()]


@kind(example_models.towers, [pair(1, 2), pair(3, 4, item=(5, 6))], [2])
def two_inputs(answers: list[Any]) -> None:
    assert [answer["outputs"] for answer in answers] == [
        {"score": [5.0], "both": [[1.0, 2.0, 1.0, 2.0]]},
        {"score": [39.0], "both": [[3.0, 4.0, 5.0, 6.0]]},
    ]


LONG, SHORT = {"text": np.array([[1, 2, 3]], np.float32)}, {"text": np.array([[7, 9]], np.float32)}


@kind(example_models.lengths, [LONG, LONG, SHORT, LONG], [2, 1, 1])
def rows_of_different_lengths(answers: list[Any]) -> None:
    assert [answer["outputs"]["mean"] for answer in answers] == [[2.0], [2.0], [8.0], [2.0]]


@kind(example_models.recurrent, [sound(1, 4), sound(2, 4), sound(3, 5)], [1, 1, 1])
def tensors_without_rows(answers: list[Any]) -> None:
    assert [answer["outputs"]["level"] for answer in answers] == [1.0, 2.0, 3.0]
    assert [np.array(answer["outputs"]["next"]).ravel().tolist() for answer in answers] == [
        [2.0] * 6,
        [3.0] * 6,
        [4.0] * 6,
    ]


@pytest.mark.parametrize("name", KINDS)
def test_jobs_of_every_kind(tmp_path: Path, name: str) -> None:
    make, jobs, calls, judge = KINDS[name]
    opened = Opened(make(tmp_path))
    answers = opened.answers(*(encode(opened.codec, tensors) for tensors in jobs))
    assert opened.engine.calls == calls
    assert answers == [opened.predict(tensors) for tensors in jobs]
    judge([msgspec.json.decode(answer) for answer in answers])


class Refusing(Counting):
    """Refuses what has a number above a bound, as a graph does that looks into a table."""

    def _call(self, tensors: Tensors) -> Tensors:
        found = super()._call(tensors)
        if any(array.max() > 100 for array in tensors.values()):
            raise InvalidInputError("not in the table")
        return found


def test_what_the_graph_refuses_is_its_own_jobs_fault(tmp_path: Path) -> None:
    opened = Opened(example_models.towers(tmp_path))
    opened.engine = Refusing(opened.engine)
    opened.work.open()
    opened.engine.calls.clear()
    jobs = [encode(opened.codec, pair(value, 1)) for value in (1, 1000, 2, 3)]
    answers = opened.answers(*jobs)
    assert [isinstance(answer, bytes) for answer in answers] == [True, False, True, True]
    assert opened.engine.calls == [4, 2, 1, 1, 2]


def test_an_answer_with_another_number_of_rows_is_nobodys(iris: Opened) -> None:
    class Losing(Counting):
        def _call(self, tensors: Tensors) -> Tensors:
            return {name: array[:1] for name, array in super()._call(tensors).items()}

    iris.engine = Losing(iris.engine)
    iris.work.open()
    with pytest.raises(RuntimeError, match="another number of rows"):
        iris.answers(rows(np.ones((1, 4), np.float32)), rows(np.ones((1, 4), np.float32)))


# --- the settings ---


@pytest.mark.parametrize("name", KINDS)
def test_a_model_reaches_the_worker_process_as_it_is(tmp_path: Path, name: str) -> None:
    stored = KINDS[name][0](tmp_path)
    assert _model(msgspec.json.decode(msgspec.json.encode(plan_of(stored)), type=type(plan_of(stored)))) == stored


def test_the_work_of_a_model_is_what_its_entry_says(tmp_path: Path) -> None:
    settings = Settings(
        models={
            "colours": ModelSettings(image={"decode_threads": 3}),  # type: ignore[arg-type]
            "towers": ModelSettings(batching={"max_batch_rows": 7}),  # type: ignore[arg-type]
        }
    )
    colours = open_work("colours", example_models.colours(tmp_path), settings)
    towers = open_work("towers", example_models.towers(tmp_path), settings)
    assert (colours.decode_threads, colours.max_batch_rows) == (3, 8)
    assert (towers.decode_threads, towers.max_batch_rows) == (1, 7)
    with pytest.raises(ConfigurationError, match="no model oracle"):
        open_work("oracle", example_models.towers(tmp_path), settings)
