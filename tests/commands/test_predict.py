"""`serving predict` with models of every kind; what is right in the answers is in tests/client/test_predict.py."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from serving.cli import main
from serving.commands import exits
from tests.client.models import SIDE
from tests.client.server import Address, serve

PEOPLE = [[31.5, "Paris", 2], [8.0, "", 0]]


class Run:
    """`serving predict …` with a server of models of every kind: exit status and both outputs."""

    def __init__(self, address: Address, capsys: pytest.CaptureFixture[str]) -> None:
        self.address = address
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        status = main(["predict", *arguments, "--target", self.address.url, "--timeout", "60"])
        captured = self._capsys.readouterr()
        return status, captured.out, captured.err

    def grpc(self, *arguments: str) -> tuple[int, str, str]:
        status = main(["predict", *arguments, "--transport", "grpc", "--target", self.address.grpc, "--timeout", "60"])
        captured = self._capsys.readouterr()
        return status, captured.out, captured.err


@pytest.fixture
def run(any_models: Address, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(any_models, capsys)


def native(address: Address, model: str, body: Any) -> Any:
    return httpx.post(f"{address.url}/{model}/predict", json=body, timeout=60).json()


def shown(lines: str) -> list[dict[str, float]]:
    """The probabilities by label of each row or image."""
    return [
        {label: float(probability) for label, probability in (line.split() for line in block.splitlines())}
        for block in lines.split("\n\n")
    ]


def test_rows_in_every_form(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [dict(zip(["age", "city", "visits"], row, strict=True)) for row in PEOPLE]
    expected = native(run.address, "people", {"data": PEOPLE})["prediction"]
    (tmp_path / "rows.CSV").write_text('visits,city,age\n2,"Paris",31.5\n\n0,,8\n')
    for name, content in (("list", PEOPLE), ("body", {"data": records})):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    forms = [
        ("--row", "31.5,Paris,2", "--row", '8, "",0'),
        ("--rows", json.dumps(PEOPLE)),
        ("--rows", json.dumps(records)),
        *(("--file", str(tmp_path / name)) for name in ("rows.CSV", "list.json", "body.json")),
        ("--file", "-"),
    ]
    for form in forms:
        for ask in (run, run.grpc):
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(PEOPLE).encode())))
            status, output, errors = ask("people", *form)
            assert (status, errors) == (exits.DONE, "")
            assert [[row[label] for label in "abc"] for row in shown(output)] == [
                pytest.approx(row, abs=1e-4) for row in expected
            ]


def test_numbers_tensors_and_images(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    Image.fromarray(np.full((SIDE, SIDE, 3), 77, np.uint8)).save(file)
    prices = native(run.address, "prices", {"data": [[1, 2, 3], [4, 5, 6]]})["prediction"]
    assert run("prices", "--row", "1,2,3", "--row", "4,5,6")[:2] == (
        exits.DONE,
        "\n\n".join(json.dumps(row, separators=(",", ":")) for row in prices) + "\n",
    )
    assert [json.loads(line) for line in run("prices", "--rows", "[[1,2,3],[4,5,6]]", "--json")[1].splitlines()] == [
        {"value": row} for row in prices
    ]
    tensors = {"user/x": [[1, 0.5]], "count": [3], "words": [["a", "ü"]]}
    outputs = native(run.address, "pair", {"inputs": tensors})["outputs"]
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"inputs": tensors}))
    for given in (("--tensors", json.dumps(tensors)), ("--file", str(body))):
        assert json.loads(run("pair", *given, "--json")[1]) == {"outputs": outputs}
        lines = [line.split("  ", 1) for line in run.grpc("pair", *given)[1].splitlines()]
        assert {name: json.loads(value) for name, value in lines} == outputs
    status, output, _ = run("picture", "--image", str(file), "--image", str(file))
    assert (status, len(shown(output)), set(shown(output)[0])) == (exits.DONE, 2, {"dark", "light"})


def test_without_a_name_the_default_model_is_asked(run: Run) -> None:
    row = ("--row", "5.1,3.5,1.4,0.2")
    assert run(*row)[:2] == run("flowers", *row)[:2]
    assert json.loads(run("--metadata")[1])["name"] == "flowers"
    status, _, errors = run.grpc(*row)
    assert status == exits.USAGE
    assert errors.startswith("serving: name a model; the server has flowers, people, ")


def test_without_a_default_model_the_names_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from serving.http import pages

    class Inventory:
        @staticmethod
        def model_dump_json() -> str:
            return '{"models": {"one": {}, "two": {}}}'

    monkeypatch.setattr(pages, "running_inventory", Inventory)
    with serve([]) as address:
        assert Run(address, capsys)("--row", "1,2") == (
            exits.USAGE,
            "",
            "serving: name a model; the server has one, two\n",
        )


WRONG = {
    "not a number": ("flowers", "--row", "a,1,2,3"),
    "no whole number": ("people", "--row", "1,Bern,2.5"),
    "an underscore": ("flowers", "--row", "5_1,2,3,4"),
    "a digit of another script": ("flowers", "--row", "٥,2,3,4"),
    "a quote that does not end": ("people", "--row", '1,"Bern,2'),
    "rows for images": ("picture", "--row", "1,2"),
    "an image for rows": ("flowers", "--image", __file__),
    "rows that are no JSON": ("flowers", "--rows", "[[1"),
    "rows that are no list": ("flowers", "--rows", "1"),
    "tensors that are no object": ("pair", "--tensors", "[1]"),
    "an input that there is not": ("pair", "--tensors", '{"x": [1]}', "--protocol", "v2"),
    "rows and a file": ("flowers", "--rows", "[[1,2,3,4]]", "--file", __file__),
    "NaN": ("flowers", "--rows", "[[NaN,1,1,1]]"),
}


@pytest.mark.parametrize("arguments", WRONG)
def test_wrong_usage_is_one_line_and_status_2(run: Run, arguments: str) -> None:
    status, output, errors = run(*WRONG[arguments])
    assert (status, output, len(errors.splitlines())) == (exits.USAGE, "", 1), errors
    assert errors.startswith("serving: ")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "empty"),
        ("age,city,visits\n1,Bern\n", "line 2: 2 values"),
        ("age,city,visits\nold,Bern,1\n", "line 2: age: 'old' is not a number: write it as JSON does"),
        ("age,city,visits\n1,Bern,\udcff", "not CSV in UTF-8"),
    ],
)
def test_a_file_of_csv_that_is_wrong_is_told_by_line(run: Run, tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(content.encode(errors="surrogateescape"))
    status, _, errors = run("people", "--file", str(file))
    assert (status, words in errors) == (exits.USAGE, True), errors


def test_columns_that_the_model_has_not_are_refused_by_the_server(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("age,city,other\n1,Bern,3\n")
    status, _, errors = run("people", "--file", str(file))
    assert (status, "400 invalid_input" in errors) == (exits.SERVER, True), errors
