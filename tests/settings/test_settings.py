"""configuration.yaml and SERVING__ variables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from serving.settings import DEFAULT_FILE, FILE_VARIABLE, Settings, get_settings

Configure = Callable[[str], Settings]


@pytest.fixture(autouse=True)
def _no_jobs_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here nothing of tests/conftest.py counts."""
    for name in ("JOBS__URL", "JOBS__EMBEDDED_WORKER", "GRPC__ENABLED"):
        monkeypatch.delenv(f"SERVING__{name}")


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """The settings of a configuration file with this text."""

    def read(text: str) -> Settings:
        file = tmp_path / "configuration.yaml"
        file.write_text(text)
        monkeypatch.setenv(FILE_VARIABLE, str(file))
        return Settings()

    return read


def _defaults(section: type[BaseModel]) -> dict[str, Any]:
    """Every key of a section with its default, nested."""
    values = {name: field.get_default(call_default_factory=True) for name, field in section.model_fields.items()}
    return {name: value.model_dump() if isinstance(value, BaseModel) else value for name, value in values.items()}


def test_the_file_in_the_repository_has_every_key_with_its_default_and_nothing_else() -> None:
    assert yaml.safe_load(DEFAULT_FILE.read_text()) == _defaults(Settings)


def test_the_file_in_the_repository_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FILE_VARIABLE, raising=False)
    assert Settings().model_dump() == _defaults(Settings)


def test_every_setting_is_described() -> None:
    def undescribed(section: type[BaseModel], path: str) -> list[str]:
        found = []
        for name, field in section.model_fields.items():
            nested = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
            if nested:
                found += undescribed(field.annotation, f"{path}{name}.")
            elif not field.description:
                found.append(path + name)
        return found

    assert undescribed(Settings, "") == []


def test_what_a_file_leaves_out_has_its_default(configure: Configure) -> None:
    settings = configure("iris: {batching: {max_batch_rows: 7}}")
    expected = _defaults(Settings)
    expected["iris"]["batching"]["max_batch_rows"] = 7
    assert settings.model_dump() == expected


@pytest.mark.parametrize("text", ["", "{}"])
def test_an_empty_file_means_defaults(configure: Configure, text: str) -> None:
    assert configure(text).model_dump() == _defaults(Settings)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("irsi: {threads: 1}", "irsi"),
        ("iris: {thread: 1}", "iris.thread"),
        ("iris: {batching: {rows: 1}}", "iris.batching.rows"),
        ("threads: 1", "threads"),
        ("iris: {max_held: 1}", "iris.max_held"),
        ("iris: {batching: {max_latency_ms: 1}}", "iris.batching.max_latency_ms"),
        ("inception_v3: {batching: {max_latency_ms: 1}}", "inception_v3.batching.max_latency_ms"),
        ("iris: {runner_workers: 2}", "iris.runner_workers"),
    ],
)
def test_unknown_keys_in_the_file_are_named(configure: Configure, text: str, named: str) -> None:
    with pytest.raises(ValidationError) as caught:
        configure(text)
    assert [".".join(map(str, error["loc"])) for error in caught.value.errors()] == [named]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SERVING__IRSI__THREADS", "2"),
        ("SERVING__IRIS__THREAD", "2"),
        ("SERVING__IRIS__BATCHING__ROWS", "2"),
        ("SERVING__IRIS__THREADS__MORE", "2"),
        ("SERVING__THREADS", "2"),
        ("SERVING__", "2"),
    ],
)
def test_unknown_variables_are_errors(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValidationError):
        Settings()


def test_variables_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERVING", "SERVING_X", "IRIS", "IRIS__THREADS", "API__DATA_PLANE", "LOGGING"):
        monkeypatch.setenv(name, "nonsense")
    assert Settings().model_dump() == _defaults(Settings)


@pytest.mark.parametrize(
    ("variable", "value", "section", "key", "expected"),
    [
        ("SERVING__IRIS__THREADS", "3", "iris", "threads", 3),
        ("serving__iris__threads", "3", "iris", "threads", 3),
        ("SERVING__API__DATA_PLANE", "false", "api", "data_plane", False),
        ("SERVING__IRIS", '{"threads": 3}', "iris", "threads", 3),
        ("SERVING__METRICS__DURATION_BUCKETS", "[1, 2]", "metrics", "duration_buckets", [1.0, 2.0]),
    ],
)
def test_a_variable_overrides_the_file(
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    section: str,
    key: str,
    expected: object,
) -> None:
    monkeypatch.setenv(variable, value)
    settings = configure("{iris: {threads: 5, max_rows: 9}, api: {data_plane: true}}")
    assert getattr(getattr(settings, section), key) == expected
    assert settings.iris.max_rows == 9, "what the variable does not name stays as the file says"


@pytest.mark.parametrize("model", ["iris", "inception_v3"])
def test_each_model_has_its_own_batching(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    expected = _defaults(Settings)
    for key, value in (("max_batch_rows", 3), ("max_queue_rows", 5), ("linger_ms", 0.5)):
        monkeypatch.setenv(f"SERVING__{model.upper()}__BATCHING__{key.upper()}", str(value))
        expected[model]["batching"][key] = value
    assert Settings().model_dump() == expected


def test_a_nested_variable_changes_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING__INCEPTION_V3__IMAGE__MAX_IMAGE_PIXELS", "1000")
    expected = _defaults(Settings)
    expected["inception_v3"]["image"]["max_image_pixels"] = 1000
    assert Settings().model_dump() == expected


@pytest.mark.parametrize(
    "text",
    [
        "serving: {workers: 0}",
        "serving: {workers: many}",
        "serving: {request_timeout_seconds: 0}",
        "serving: {drain_seconds: -1}",
        "api: {max_request_bytes: 10}",
        "iris: {threads: -1}",
        "iris: {max_rows: 0}",
        "iris: {batching: {max_batch_rows: 1}}",
        "iris: {batching: {max_queue_rows: 0}}",
        "iris: {batching: {linger_ms: -1}}",
        "iris: {batching: {linger_ms: soon}}",
        "inception_v3: {batching: {max_batch_rows: 1}}",
        "inception_v3: {batching: {max_queue_rows: 0}}",
        "inception_v3: {batching: {linger_ms: -0.1}}",
        "inception_v3: {runner_workers: 0}",
        "inception_v3: {max_in_flight: 0}",
        "inception_v3: {providers: [TPU]}",
        "inception_v3: {image: {allowed_formats: [EPS]}}",
        "inception_v3: {image: {max_image_pixels: 0}}",
        "logging: {level: LOUD}",
        "logging: {format: xml}",
        "metrics: {duration_buckets: []}",
        "tracing: {sample_rate: 1.5}",
        "iris: 5",
        "iris: [1]",
    ],
)
def test_bad_values_are_refused(configure: Configure, text: str) -> None:
    with pytest.raises(ValidationError):
        configure(text)


def test_formats_may_be_in_lower_case(configure: Configure) -> None:
    assert configure("inception_v3: {image: {allowed_formats: [png]}}").inception_v3.image.allowed_formats == ["PNG"]


def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "gone.yaml"))
    with pytest.raises(FileNotFoundError, match=r"gone\.yaml"):
        Settings()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().iris.threads = 2  # type: ignore[misc]


def test_a_process_reads_its_settings_once() -> None:
    assert get_settings() is get_settings()
