"""`serving predict` and the clients of `serving.client` that predict, against the running service."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.cli import main
from serving.client import ApiError, AsyncPredictor, Prediction, Predictor, UnreachableError
from serving.commands import exits
from tests.server import Server, free_port

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]]
PROTOCOLS: list[Any] = ["native", "tfserving", "v2"]


@pytest.fixture
def target(server: Server) -> str:
    return f"127.0.0.1:{server.port}"


def both(target: str, protocol: Any, model: str, **inputs: Any) -> list[Prediction]:
    """What the two clients say, which is the same."""

    async def ask() -> list[Prediction]:
        async with AsyncPredictor(target, protocol=protocol, timeout=60) as predictor:
            return await predictor.predict(model, **inputs)

    with Predictor(f"http://{target}", protocol=protocol, timeout=60) as predictor:
        found = predictor.predict(model, **inputs)
    assert asyncio.run(ask()) == found
    return found


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_rows(server: Server, target: str, protocol: str) -> None:
    native = httpx.post(f"{server.url}/iris/predict", json={"data": ROWS}, timeout=60).json()["prediction"]
    found = both(target, protocol, "iris", rows=ROWS)
    assert [prediction.label for prediction in found] == ["setosa", "virginica"]
    for prediction, expected in zip(found, native, strict=True):
        by_class = sorted(prediction.candidates, key=lambda each: each.class_id)
        assert [each.label for each in by_class] == ["setosa", "versicolor", "virginica"]
        assert [each.probability for each in by_class] == pytest.approx(expected, rel=1e-6)
        assert prediction.candidates[0].probability == max(each.probability for each in by_class)
    assert both(target, protocol, "iris", rows=ROWS, top_k=2) == [Prediction(each.candidates[:2]) for each in found]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_images(server: Server, target: str, protocol: str, photo: bytes) -> None:
    native = httpx.post(
        f"{server.url}/inception_v3/predict?top_k=3", content=photo, headers={"content-type": "image/jpeg"}, timeout=60
    ).json()["predictions"]
    found = both(target, protocol, "inception_v3", images=[photo, photo], top_k=3)
    assert found[0] == found[1]
    assert [(each.label, each.class_id) for each in found[0].candidates] == [
        (each["label"], each["class_id"]) for each in native
    ]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_metadata_and_errors(target: str, protocol: Any) -> None:
    with Predictor(target, protocol=protocol, timeout=60) as predictor:
        assert "features" in json.dumps(predictor.metadata("iris"))
        with pytest.raises(ApiError) as caught:
            predictor.predict("iris", rows=[[1.0, 2.0]])
        assert caught.value.status == 400
        assert len(caught.value.message) > 20
        with pytest.raises(ApiError) as caught:
            predictor.metadata("rose")
        assert caught.value.status == 404


def test_what_cannot_be_asked() -> None:
    for options in ({"protocol": "x"}, {"transport": "x"}, {"transport": "grpc"}, {"target": "ftp://host"}):
        with pytest.raises(ValueError, match=r"there is no|native|target"):
            Predictor(**options)  # type: ignore[arg-type]
    with Predictor() as predictor:
        for inputs in ({}, {"rows": ROWS, "images": [b""]}, {"rows": ROWS, "top_k": 0}):
            with pytest.raises(ValueError, match=r"required|top_k"):
                predictor.predict("iris", **inputs)  # type: ignore[arg-type]


def test_nobody_answers() -> None:
    with Predictor(f"127.0.0.1:{free_port()}", timeout=60) as predictor, pytest.raises(UnreachableError):
        predictor.predict("iris", rows=ROWS)


@pytest.mark.parametrize("protocol", [[], ["--protocol", "tfserving"], ["--protocol", "v2"]], ids=PROTOCOLS)
def test_command(target: str, capsys: pytest.CaptureFixture[str], protocol: list[str]) -> None:
    row = ["predict", "iris", "--row", "5.1,3.5,1.4,0.2", "--target", target, "--timeout", "60", *protocol]
    assert main(row) == exits.DONE
    printed = capsys.readouterr().out
    assert printed == "setosa      0.9745\nversicolor  0.0242\nvirginica   0.0013\n"
    assert main([*row, "--row", "6.3,3.3,6.0,2.5", "--top-k", "1", "--json"]) == exits.DONE
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [[each["label"] for each in line["candidates"]] for line in lines] == [["setosa"], ["virginica"]]


def test_command_with_images_and_metadata(
    target: str, photo: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVING_URL", f"http://{target}")
    file = tmp_path / "cat.jpg"
    file.write_bytes(photo)
    assert (
        main(["predict", "inception_v3", "--image", str(file), "--image", str(file), "--timeout", "60"]) == exits.DONE
    )
    first, second = capsys.readouterr().out.split("\n\n")
    assert first.splitlines() == second.splitlines()
    assert len(first.splitlines()) == 5
    assert main(["predict", "iris", "--metadata", "--protocol", "v2"]) == exits.DONE
    assert json.loads(capsys.readouterr().out)["name"] == "iris"


WRONG = {
    "nothing": [],
    "rows and metadata": ["--row", "1,2,3,4", "--metadata"],
    "rows and an image": ["--row", "1,2,3,4", "--image", __file__],
    "no JSON": ["--rows", "[[1"],
    "native over gRPC": ["--row", "1,2,3,4", "--transport", "grpc", "--protocol", "native"],
    "no server's address": ["--row", "1,2,3,4", "--target", "ftp://host"],
}


@pytest.mark.parametrize("arguments", WRONG)
def test_command_that_is_wrong(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "iris", *WRONG[arguments]]) == exits.USAGE
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_command_with_values_that_no_column_takes(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "iris", "--row", "a,b", "--target", target, "--timeout", "60"]) == exits.USAGE
    expected = "'a' is not a number: write it as JSON does, such as 5.1, -3 or 1e-7"
    assert capsys.readouterr().err == f"serving: --row a,b: sepal length (cm): {expected}\n"


def test_command_without_a_model_asks_the_default_one(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--row", "5.1,3.5,1.4,0.2", "--target", target, "--timeout", "60"]) == exits.DONE
    assert capsys.readouterr().out == "setosa      0.9745\nversicolor  0.0242\nvirginica   0.0013\n"


def test_command_whose_server_refuses_or_is_away(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "iris", "--row", "1,2", "--target", target, "--protocol", "v2"]) == exits.SERVER
    assert "the shape [1, 2] is not [N, 4]" in capsys.readouterr().err
    assert main(["predict", "iris", "--row", "1,2,3,4", "--target", f"127.0.0.1:{free_port()}"]) == exits.SERVER
    assert "cannot be reached" in capsys.readouterr().err
