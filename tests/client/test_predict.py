"""The clients that predict, by every protocol, for models of every kind: they say what curl is answered."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from serving.client import ApiError, AsyncPredictor, Candidate, Prediction, Predictor
from tests.client.models import SIDE
from tests.client.server import Address

WAYS = [("native", "rest"), ("v2", "rest"), ("tfserving", "rest"), ("v2", "grpc"), ("tfserving", "grpc")]
NAN = float("nan")


def picture(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((SIDE, SIDE, 3), [value, 90, 30], np.uint8)).save(file, "PNG")
    return file.getvalue()


PICTURES = [picture(20), picture(200)]
FLOWERS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]
PEOPLE = [[31.5, "Paris", 2], [8, "Böblingen", 0], [77.25, "Bern", 12]]
PAIR: dict[str, Any] = {"user/x": [[1.0, 0.5], [2.0, -1.5]], "count": [3, -4], "words": [["a", "ü"], ["", "long"]]}
STATE: dict[str, Any] = {"h": np.arange(12, dtype=np.float32).reshape(2, 2, 3), "rate": 0.25}
INPUTS: dict[str, dict[str, Any]] = {
    "flowers": {"rows": FLOWERS},
    "people": {"rows": PEOPLE},
    "price": {"rows": [[1.0, 2.0, 3.0], [0.1, 0.2, 0.3]]},
    "prices": {"rows": [[1.0, 2.0, 3.0], [0.1, 0.2, 0.3]]},
    "vectors": {"rows": [[1.0, 2.0, 3.0], [0.1, 0.2, 0.3]]},
    "pair": {"tensors": PAIR},
    "state": {"tensors": STATE},
    "picture": {"images": PICTURES},
    "depth": {"images": PICTURES},
    "embedding": {"images": PICTURES},
}


def ask(address: Address, way: tuple[str, str], model: str, **inputs: Any) -> list[Prediction]:
    """What the two clients say, which is the same."""
    protocol, transport = way
    options: Any = {"protocol": protocol, "transport": transport, "timeout": 60}
    target = address.url if transport == "rest" else address.grpc

    async def coroutine() -> list[Prediction]:
        async with AsyncPredictor(target, **options) as predictor:
            return await predictor.predict(model, **inputs)

    with Predictor(target, **options) as predictor:
        found = predictor.predict(model, **inputs)
    assert list(map(plain, asyncio.run(coroutine()))) == list(map(plain, found))
    return found


def plain(prediction: Prediction) -> Any:
    """In a form that can be compared, with NaN too: of arrays the dtype and the text of the values."""
    outputs = {name: (array.dtype.name, repr(array.tolist())) for name, array in prediction.outputs.items()}
    return prediction.candidates, prediction.value, outputs


def by_curl(address: Address, model: str) -> Any:
    """The bodies of `/predict`, one for each request that the kind of the model needs."""
    given = INPUTS[model]
    url = f"{address.url}/{model}/predict"
    if "images" in given:
        bodies = [{"image": base64.b64encode(image).decode()} for image in given["images"]]
    elif "rows" in given:
        bodies = [{"data": given["rows"]}]
    else:
        bodies = [{"inputs": {name: np.asarray(value).tolist() for name, value in given["tensors"].items()}}]
    answers = [httpx.post(url, json=body, timeout=60) for body in bodies]
    assert [answer.status_code for answer in answers] == [200] * len(answers), answers[0].text
    return [answer.json() for answer in answers]


def numbers(predictions: list[Prediction]) -> list[list[float]]:
    """The probabilities of each prediction in the order of the class ids."""
    return [
        [each.probability for each in sorted(prediction.candidates, key=lambda each: each.class_id)]
        for prediction in predictions
    ]


@pytest.mark.parametrize("way", WAYS, ids="-".join)
@pytest.mark.parametrize("model", ["flowers", "people"])
def test_classes_of_rows(any_models: Address, way: tuple[str, str], model: str) -> None:
    found = ask(any_models, way, model, **INPUTS[model])
    (answer,) = by_curl(any_models, model)
    assert numbers(found) == answer["prediction"]
    for prediction in found:
        assert {(each.label, each.class_id) for each in prediction.candidates} == {("a", 0), ("b", 1), ("c", 2)}
        assert prediction.label == max(prediction.candidates, key=lambda each: each.probability).label
    best = ask(any_models, way, model, **INPUTS[model], top_k=1)
    assert best == [Prediction(prediction.candidates[:1]) for prediction in found]


@pytest.mark.parametrize("way", WAYS, ids="-".join)
@pytest.mark.parametrize("model", ["price", "prices"])
def test_numbers_of_rows(any_models: Address, way: tuple[str, str], model: str) -> None:
    (answer,) = by_curl(any_models, model)
    assert isinstance(answer["prediction"][0], float if model == "price" else list)
    assert [each.value for each in ask(any_models, way, model, **INPUTS[model])] == answer["prediction"]


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_outputs_of_rows(any_models: Address, way: tuple[str, str]) -> None:
    (answer,) = by_curl(any_models, "vectors")
    found = ask(any_models, way, "vectors", **INPUTS["vectors"])
    assert [each.outputs["y"].tolist() for each in found] == answer["outputs"]["y"]
    assert found[0].outputs["y"].dtype == np.float32
    with pytest.raises(ValueError, match="no classes"):
        found[0].label  # noqa: B018


@pytest.mark.parametrize("way", WAYS, ids="-".join)
@pytest.mark.parametrize("model", ["pair", "state"])
def test_tensors(any_models: Address, way: tuple[str, str], model: str) -> None:
    (answer,) = by_curl(any_models, model)
    (found,) = ask(any_models, way, model, **INPUTS[model])
    assert {name: array.tolist() for name, array in found.outputs.items()} == answer["outputs"]
    assert [array.dtype for array in found.outputs.values()] == (
        [np.float32, np.int64, object] if model == "pair" else [np.float32]
    )


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_images(any_models: Address, way: tuple[str, str]) -> None:
    found = ask(any_models, way, "picture", images=PICTURES)
    for prediction, answer in zip(found, by_curl(any_models, "picture"), strict=True):
        assert prediction == Prediction(tuple(Candidate(**each) for each in answer["predictions"]))
    assert len({prediction.candidates for prediction in found}) == 2
    (one,) = ask(any_models, way, "picture", image=PICTURES[0], top_k=1)
    assert one == Prediction(found[0].candidates[:1])
    found = ask(any_models, way, "depth", images=PICTURES)
    assert [each.value for each in found] == [answer["prediction"] for answer in by_curl(any_models, "depth")]
    found = ask(any_models, way, "embedding", images=PICTURES)
    answers = [answer["outputs"] for answer in by_curl(any_models, "embedding")]
    assert [{"y": each.outputs["y"].tolist()} for each in found] == answers


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_rows_in_every_form_are_the_same(any_models: Address, way: tuple[str, str]) -> None:
    names = ["age", "city", "visits"]
    records = [dict(zip(names, row, strict=True)) for row in PEOPLE]
    frame = pd.DataFrame(records)
    expected = ask(any_models, way, "people", rows=PEOPLE)
    for rows in (records, [dict(reversed(row.items())) for row in records], frame, frame[["visits", "age", "city"]]):
        assert ask(any_models, way, "people", rows=rows) == expected
    expected = ask(any_models, way, "flowers", rows=FLOWERS)
    for rows in (
        np.array(FLOWERS),
        pd.DataFrame(FLOWERS),
        map(tuple, FLOWERS),
        [list(map(np.float64, r)) for r in FLOWERS],
    ):
        given = list(rows) if isinstance(rows, map) else rows
        assert ask(any_models, way, "flowers", rows=given) == expected


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_missing_values(any_models: Address, way: tuple[str, str]) -> None:
    expected = ask(any_models, way, "gaps", rows=[[1.5, -1.0], [-1.0, 2.5]])
    frame = pd.DataFrame([[1.5, None], [None, 2.5]])
    for rows in ([[1.5, None], [None, 2.5]], np.array([[1.5, NAN], [NAN, 2.5]]), frame):
        assert ask(any_models, way, "gaps", rows=rows) == expected


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_images_in_every_form_are_the_same(any_models: Address, way: tuple[str, str], tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(PICTURES[0])
    forms: list[Callable[[], Any]] = [
        lambda: file,
        lambda: str(file),
        lambda: bytearray(PICTURES[0]),
        lambda: Image.open(file),
    ]
    with Predictor(
        any_models.url if way[1] == "rest" else any_models.grpc,
        protocol=way[0],  # type: ignore[arg-type]
        transport=way[1],  # type: ignore[arg-type]
        timeout=60,
    ) as predictor:
        expected = predictor.predict("picture", image=PICTURES[0])
        for form in forms:
            assert predictor.predict("picture", image=form()) == expected
        with file.open("rb") as opened:
            assert predictor.predict("picture", image=opened) == expected


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_arrays_are_tensors(any_models: Address, way: tuple[str, str]) -> None:
    arrays = {
        "user/x": np.array(PAIR["user/x"], np.float64),
        "count": np.array(PAIR["count"], np.int32),
        "words": np.array(PAIR["words"]),
    }
    (found,) = ask(any_models, way, "pair", tensors=arrays)
    assert plain(found) == plain(ask(any_models, way, "pair", tensors=PAIR)[0])


@pytest.mark.parametrize("way", WAYS, ids="-".join)
@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        ("flowers", {"images": [b"x"]}),
        ("flowers", {"tensors": {"x": [[1, 2, 3, 4]]}}),
        ("picture", {"rows": FLOWERS}),
        ("pair", {"rows": FLOWERS}),
        ("flowers", {"rows": np.zeros(4)}),
        ("flowers", {"rows": pd.DataFrame([[1, 2]], columns=["length", "length"])}),
        ("flowers", {"rows": [[object(), 1, 1, 1]]}),
        ("picture", {"image": io.StringIO("text")}),
        ("picture", {"image": 7}),
        ("picture", {"image": PICTURES[0], "rows": FLOWERS}),
        ("flowers", {}),
        ("flowers", {"rows": FLOWERS, "top_k": 0}),
    ],
)
def test_what_cannot_be_asked_is_not(
    any_models: Address, way: tuple[str, str], model: str, inputs: dict[str, Any]
) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the messages are not the point
        ask(any_models, way, model, **inputs)


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("flowers", {"rows": [[1.0, 2.0]]}),
    ("flowers", {"rows": [["x", 1, 2, 3]]}),
    ("flowers", {"rows": [["5.1", "3.5", "1.4", "0.2"]]}),
    ("pair", {"tensors": {**PAIR, "count": [True, False]}}),
    ("people", {"rows": [[31.5, "Paris"]]}),
    ("people", {"rows": [[31.5, 7, 2]]}),
    ("people", {"rows": [[31.5, "Paris", 2.5]]}),
    ("people", {"rows": [{"age": 31.5, "city": "Paris"}]}),
    ("people", {"rows": [{"age": 31.5, "city": "Paris", "visits": 1, "other": 1}]}),
    ("pair", {"tensors": {**PAIR, "count": [1.5, 2]}}),
    ("pair", {"tensors": {**PAIR, "count": [2**63, 2]}}),
    ("pair", {"tensors": {**PAIR, "words": [["a"], ["b"]]}}),
    ("pair", {"tensors": {"count": [1]}}),
    ("pair", {"tensors": {**PAIR, "other": [1]}}),
    ("picture", {"image": b"no picture"}),
]


@pytest.mark.parametrize("way", WAYS, ids="-".join)
@pytest.mark.parametrize(("model", "inputs"), WRONG)
def test_what_is_wrong_is_refused_by_client_or_server(
    any_models: Address, way: tuple[str, str], model: str, inputs: dict[str, Any]
) -> None:
    """Whoever notices: no value is changed into another one that is right."""
    with pytest.raises((ValueError, ApiError)) as caught:
        ask(any_models, way, model, **inputs)
    if isinstance(caught.value, ApiError):
        assert caught.value.status == 400


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_an_unknown_model_is_not_found(any_models: Address, way: tuple[str, str]) -> None:
    with pytest.raises(ApiError) as caught:
        ask(any_models, way, "rose", rows=FLOWERS)
    assert caught.value.status == 404


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_what_a_model_takes_is_said_by_the_server(any_models: Address, way: tuple[str, str]) -> None:
    options: Any = {"protocol": way[0], "transport": way[1], "timeout": 60}
    with Predictor(any_models.url if way[1] == "rest" else any_models.grpc, **options) as predictor:
        found = predictor.describe("picture")
        assert (found.name, found.kind, found.task, found.classes) == ("picture", "image", "classification", 2)
        assert [(each.name, each.dtype, each.shape) for each in found.protocol_inputs] == [("image", "bytes", (None,))]
        assert [(each.name, each.shape) for each in found.inputs] == [("pixels_in", (None, SIDE, SIDE, 3))]
        assert predictor.describe("flowers").feature_names == ("length", "width", "petal, length", "depth")
