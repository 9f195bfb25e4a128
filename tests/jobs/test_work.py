"""From a request to a payload and from a payload to the answer."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from serving.codecs.image_decoding import sample_image
from serving.core.errors import ConfigurationError, InvalidImageError, InvalidInputError, MalformedRequestError
from serving.core.ranking import check_top_k, image_answer, iris_answer
from serving.http.schemas import Candidate, Classification, IrisProbabilities
from serving.jobs.job import Claimed, Lease
from serving.jobs.work import Encoded, ImageWork, IrisWork, encode_image, encode_rows, fingerprint, open_work
from serving.settings import Settings
from serving.settings.models import InceptionV3Settings, IrisSettings
from tests.tiny_models import tiny_model


def claimed(encoded: Encoded) -> Claimed:
    return Claimed(Lease("id", "model", "owner", 1), encoded.payload, encoded.parameters, 0.0, suspected=False)


@pytest.fixture
def iris(tmp_path: Path) -> IrisWork:
    work = IrisWork(tiny_model(tmp_path), IrisSettings())
    work.open()
    return work


class Classifier:
    """In the place of an image engine: the mean brightness decides."""

    def predict(self, images: np.ndarray) -> np.ndarray:
        bright = images.reshape(len(images), -1).mean(axis=1).astype(np.float32) / 255
        return np.stack([bright, 1 - bright, np.zeros_like(bright)], axis=1)


@pytest.fixture
def images(tmp_path: Path) -> ImageWork:
    work = ImageWork(tiny_model(tmp_path), InceptionV3Settings())
    work._engine = Classifier()  # type: ignore[assignment]
    return work


def picture(brightness: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 8), (brightness,) * 3).save(file, "PNG")
    return file.getvalue()


# Probabilities in whose notation writers of numbers differ.
NUMBERS = np.array(
    [[0.1, 1e-7, 1.0], [1.1754944e-38, 0.99999994, 0.0], [1e-45, 1 / 3, 1e-5], [2e-4, 9e-6, 0]], np.float32
)


def test_iris_answers_are_those_of_the_route() -> None:
    expected = IrisProbabilities(prediction=NUMBERS.tolist()).model_dump_json().encode()
    assert iris_answer(NUMBERS) == expected


def test_image_answers_are_those_of_the_route() -> None:
    labels = ["grüner Drache", 'say "cheese"', "tab\there"]
    for row in NUMBERS:
        ranked = sorted(range(3), key=lambda index: -row[index])
        best = [Candidate(label=labels[i], class_id=i, probability=float(row[i])) for i in ranked]
        assert image_answer(row, labels, 3) == Classification(predictions=best).model_dump_json().encode()
        assert image_answer(row, labels, 1) == Classification(predictions=best[:1]).model_dump_json().encode()


def test_equal_probabilities_come_in_the_order_of_their_classes() -> None:
    answer = msgspec.json.decode(image_answer(np.array([0.2, 0.4, 0.2, 0.2], np.float32), ["a", "b", "c", "d"], 4))
    assert [found["class_id"] for found in answer["predictions"]] == [1, 0, 2, 3]


def test_more_classes_than_there_are() -> None:
    check_top_k(3, ["a", "b", "c"])
    with pytest.raises(InvalidInputError, match="at most 3"):
        check_top_k(4, ["a", "b", "c"])


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


@pytest.mark.parametrize("rows", [1, 3])
def test_rows_come_back_as_they_were(iris: IrisWork, rows: int) -> None:
    features = np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)
    # Every second row of an array: what is sent need not lie together in memory.
    encoded = encode_rows(np.repeat(features, 2, axis=0)[::2])
    assert len(encoded.payload) == rows * 16
    assert np.array_equal(iris.prepare(claimed(encoded)).rows, features)


def test_iris_jobs_share_a_call_and_answer_apart(iris: IrisWork) -> None:
    features = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    prepared = [iris.prepare(claimed(encode_rows(part))) for part in (features[:1], features[1:])]
    first, second = iris.run(prepared)
    assert [len(msgspec.json.decode(answer)["prediction"]) for answer in (first, second)] == [1, 3]
    assert iris.run([iris.prepare(claimed(encode_rows(features[:1])))]) == [first]


def test_rows_that_overflow_are_their_own_jobs_fault(iris: IrisWork) -> None:
    good, bad = np.ones((1, 4), np.float32), np.full((1, 4), 3e38, np.float32)
    answers = iris.run([iris.prepare(claimed(encode_rows(rows))) for rows in (good, bad, good)])
    assert isinstance(answers[1], InvalidInputError)
    assert answers[0] == answers[2]
    assert isinstance(answers[0], bytes)


@pytest.mark.parametrize("payload", [b"", b"123", b"x" * 17])
def test_a_payload_that_is_no_rows(iris: IrisWork, payload: bytes) -> None:
    with pytest.raises(InvalidInputError, match="not rows"):
        iris.prepare(claimed(Encoded(payload, "{}")))


@pytest.mark.parametrize("parameters", ["", "{", "[]", "5", "\ufffd"])
def test_parameters_that_are_no_object(iris: IrisWork, images: ImageWork, parameters: str) -> None:
    for work, payload in ((iris, bytes(16)), (images, sample_image())):
        with pytest.raises(MalformedRequestError, match="parameters"):
            work.prepare(claimed(Encoded(payload, parameters)))


def test_images_share_a_call_and_answer_apart(images: ImageWork) -> None:
    requests = [encode_image(picture(255), top_k=1), encode_image(picture(0), top_k=3)]
    bright, dark = (
        msgspec.json.decode(answer) for answer in images.run([images.prepare(claimed(r)) for r in requests])
    )
    assert bright == {"predictions": [{"label": "a", "class_id": 0, "probability": 1.0}]}
    assert [found["label"] for found in dark["predictions"]] == ["b", "a", "c"]


def test_bytes_that_are_no_image(images: ImageWork) -> None:
    for content in (b"", b"no image", sample_image()[:-40]):
        with pytest.raises(InvalidImageError):
            images.prepare(claimed(encode_image(content, top_k=1)))


def test_images_are_judged_by_the_settings(tmp_path: Path) -> None:
    settings = InceptionV3Settings(image={"allowed_formats": ["JPEG"]})  # type: ignore[arg-type]
    with pytest.raises(InvalidImageError, match="JPEG"):
        ImageWork(tiny_model(tmp_path), settings).prepare(claimed(encode_image(picture(0), top_k=1)))


@pytest.mark.parametrize("top_k", ["0", "4", "true", '"1"', "null", "1.5"])
def test_a_top_k_that_cannot_be(images: ImageWork, top_k: str) -> None:
    with pytest.raises(InvalidInputError, match="top_k"):
        images.prepare(claimed(Encoded(picture(0), f'{{"top_k":{top_k}}}')))


def test_the_work_of_each_model(tmp_path: Path) -> None:
    model, settings = tiny_model(tmp_path), Settings()
    assert isinstance(open_work("iris", model, settings), IrisWork)
    assert isinstance(open_work("inception_v3", model, settings), ImageWork)
    assert open_work("iris", model, settings).max_batch_rows == settings.iris.batching.max_batch_rows
    with pytest.raises(ConfigurationError, match="oracle"):
        open_work("oracle", model, settings)
