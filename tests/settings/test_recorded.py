"""A Bento serves the models that it was built with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import serving.settings
from serving.settings import FILE_VARIABLE, Settings
from serving.settings.reading import require_settings
from serving.settings.recorded import FILE, pin, recorded_tags

TAGS = {"iris": "iris:abc"}


@pytest.mark.parametrize("entry", [None, {}, {"tag": ""}, {"tag": None}, {"tag": "iris"}, {"tag": "iris:latest"}])
def test_an_entry_without_a_version_has_the_recorded_one(entry: Any) -> None:
    assert pin({"models": {"iris": entry}}, TAGS) == {"models": {"iris": {"tag": "iris:abc"}}}


@pytest.mark.parametrize("entry", [{"tag": "iris:def"}, {"tag": "other:latest"}, {"tag": "other"}])
def test_an_entry_that_names_a_version_or_another_model_keeps_it(entry: Any) -> None:
    assert pin({"models": {"iris": entry}}, TAGS) == {"models": {"iris": entry}}


@pytest.mark.parametrize("values", [{}, {"models": None}, {"models": []}, {"models": {"iris": 1}}])
def test_what_is_no_entry_is_left_to_the_check_of_the_settings(values: dict[str, Any]) -> None:
    assert pin(values, TAGS) == values


def test_a_model_that_is_not_configured_is_not_added() -> None:
    assert pin({"models": {"wine": {}}}, TAGS) == {"models": {"wine": {}}}


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"models": []}', '{"models": {"iris": {}}}'])
def test_a_broken_inventory_is_an_error_and_not_ignored(content: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ValueError, match="is not an inventory: build the Bento again"):
        recorded_tags(tmp_path)


def test_the_settings_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert recorded_tags(tmp_path) == {}
    (tmp_path / FILE).write_text(json.dumps({"models": {"iris": {"tag": "iris:abc"}}}))
    (tmp_path / "configuration.yaml").write_text("models: {iris: {threads: 2}, wine: }")
    monkeypatch.setattr(serving.settings, "SOURCE", tmp_path)
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "configuration.yaml"))
    models = Settings().models
    assert (models["iris"].tag, models["iris"].threads, models["wine"].tag) == ("iris:abc", 2, "wine:latest")
    monkeypatch.setenv("SERVING__MODELS__IRIS__TAG", "iris:def")
    assert Settings().models["iris"].tag == "iris:def"
    (tmp_path / FILE).write_text("{")
    serving.settings.get_settings.cache_clear()
    with pytest.raises(SystemExit, match="is not an inventory"):
        require_settings()
