"""Logging of a server process."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from serving.logs import configure_logging
from serving.settings.observability import LoggingSettings
from tests.process_state import kept_logging

LINES = [
    ("serving.prediction", logging.INFO),
    ("bentoml.serve", logging.INFO),
    ("uvicorn.error", logging.WARNING),
    ("anything", logging.WARNING),
    ("python_multipart.multipart", logging.ERROR),
]


@pytest.fixture(autouse=True)
def kept() -> Iterator[None]:
    with kept_logging():
        yield


@pytest.mark.parametrize(("name", "level"), LINES)
def test_each_record_is_one_line_on_standard_output(capsys: pytest.CaptureFixture[str], name: str, level: int) -> None:
    configure_logging(LoggingSettings())
    logging.getLogger(name).log(level, "hello %s", "you")
    logging.getLogger(name).log(level - 10, "not this")
    out, err = capsys.readouterr()
    assert err == ""
    assert out.endswith(f" {logging.getLevelName(level)} {name} hello you\n")
    assert out.count("\n") == 1


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR"])
def test_the_level_is_of_ours_and_bentomls(capsys: pytest.CaptureFixture[str], level: str) -> None:
    configure_logging(LoggingSettings(level=level))
    for name in ("serving.x", "bentoml.x"):
        logging.getLogger(name).log(getattr(logging, level), "this")
        logging.getLogger(name).log(getattr(logging, level) - 1, "not this")
    assert capsys.readouterr().out.count("this\n") == 2


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LoggingSettings(format="json"))
    logging.getLogger("serving.x").info("a\nb %s", "ü", extra={"rows": 3})
    content = json.loads(capsys.readouterr().out)
    assert content.pop("timestamp").startswith("20")
    assert content == {"level": "INFO", "logger": "serving.x", "message": "a\nb ü", "rows": 3}


def test_a_traceback_in_json_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LoggingSettings(format="json"))
    try:
        raise ValueError("secret")
    except ValueError:
        logging.getLogger("serving.x").exception("failed")
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "ValueError: secret" in json.loads(out)["exc_info"]


def test_configuring_twice_does_not_write_twice(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        configure_logging(LoggingSettings())
    logging.getLogger("serving.x").info("once")
    assert capsys.readouterr().out.count("once") == 1


def test_what_bentoml_configured_is_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("bentoml").addHandler(logging.StreamHandler())
    configure_logging(LoggingSettings())
    logging.getLogger("bentoml.serve").info("once")
    out, err = capsys.readouterr()
    assert (out.count("once"), err) == (1, "")
