"""configuration.yaml and SERVING__ variables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from serving.settings import DEFAULT_FILE, FILE_VARIABLE, Settings, get_settings
from serving.settings.models import RESERVED_NAMES, Kind, ModelSettings

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


ENTRIES: dict[str, Kind] = {"iris": "rows", "inception_v3": "image"}


def test_the_file_in_the_repository_has_every_key_with_its_default_and_nothing_else() -> None:
    written = yaml.safe_load(DEFAULT_FILE.read_text())
    models, default_model = written.pop("models"), written.pop("default_model")
    defaults = _defaults(Settings)
    assert (defaults.pop("models"), defaults.pop("default_model")) == ({}, "")
    assert written == defaults
    assert (list(models), default_model) == (list(ENTRIES), "iris")


@pytest.mark.parametrize(("model", "kind"), ENTRIES.items())
def test_the_entries_in_the_repository_have_the_defaults_of_their_kind(model: str, kind: Kind) -> None:
    """So a reader finds the defaults there, with their reasons."""
    entry = Settings().models[model]
    assert entry.limits(kind) == ModelSettings().limits(kind)
    limits = {"threads", "max_rows", "max_in_flight"}
    written = entry.model_dump(exclude=limits)
    written["batching"] |= dict.fromkeys(("max_batch_rows", "max_queue_rows"))
    expected = ModelSettings(tag=f"{model}:latest").model_dump(exclude=limits)
    if model == "iris":
        expected |= {"predict_in": "api"}
    assert entry.batches_protocols == (model != "iris")
    written["batching"].pop("default_for_protocols")
    expected["batching"].pop("default_for_protocols")
    assert written == expected


def test_the_file_in_the_repository_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FILE_VARIABLE, raising=False)
    assert list(Settings().models) == list(ENTRIES)


@pytest.mark.parametrize("section", [Settings, ModelSettings])
def test_every_setting_is_described(section: type[BaseModel]) -> None:
    def undescribed(section: type[BaseModel], path: str) -> list[str]:
        found = []
        for name, field in section.model_fields.items():
            nested = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
            if nested:
                found += undescribed(field.annotation, f"{path}{name}.")
            elif not field.description:
                found.append(path + name)
        return found

    assert undescribed(section, "") == []


def test_what_a_file_leaves_out_has_its_default(configure: Configure) -> None:
    settings = configure("models: {wine: {batching: {max_batch_rows: 7}}}")
    assert settings.model_dump(exclude={"models"}) == {
        name: value for name, value in _defaults(Settings).items() if name != "models"
    }
    expected = ModelSettings(tag="wine:latest").model_dump()
    expected["batching"]["max_batch_rows"] = 7
    assert settings.models["wine"].model_dump() == expected


@pytest.mark.parametrize("text", ["", "{}"])
def test_an_empty_file_means_defaults(configure: Configure, text: str) -> None:
    assert configure(text).model_dump() == _defaults(Settings)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("irsi: {threads: 1}", "irsi"),
        ("models: {iris: {thread: 1}}", "models.iris.thread"),
        ("models: {iris: {batching: {rows: 1}}}", "models.iris.batching.rows"),
        ("threads: 1", "threads"),
        ("models: {iris: {max_held: 1}}", "models.iris.max_held"),
        ("models: {iris: {image: {pixels: 1}}}", "models.iris.image.pixels"),
        ("models: {inception_v3: {batching: {max_latency_ms: 1}}}", "models.inception_v3.batching.max_latency_ms"),
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
        ("SERVING__MODELS__IRIS__THREAD", "2"),
        ("SERVING__MODELS__IRIS__BATCHING__ROWS", "2"),
        ("SERVING__MODELS__IRIS__THREADS__MORE", "2"),
        ("SERVING__THREADS", "2"),
        ("SERVING__", "2"),
    ],
)
def test_unknown_variables_are_errors(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValidationError):
        Settings()


def test_variables_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Settings()
    for name in ("SERVING", "SERVING_X", "MODELS", "MODELS__IRIS__THREADS", "API__MAX_REQUEST_BYTES", "LOGGING"):
        monkeypatch.setenv(name, "nonsense")
    assert Settings() == before


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SERVING__MODELS__IRIS__THREADS", "3"),
        ("serving__models__iris__threads", "3"),
        ("SERVING__MODELS__IRIS", '{"threads": 3}'),
        ("SERVING__MODELS", '{"iris": {"threads": 3}}'),
    ],
)
def test_a_variable_overrides_the_file(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    settings = configure("models: {iris: {threads: 5, max_rows: 9}, wine: {threads: 7}}")
    assert settings.models["iris"].threads == 3
    assert settings.models["iris"].max_rows == 9, "what the variable does not name stays as the file says"
    assert settings.models["wine"].threads == 7


def test_a_list_in_a_variable_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING__METRICS__DURATION_BUCKETS", "[1, 2]")
    assert Settings().metrics.duration_buckets == [1.0, 2.0]


@pytest.mark.parametrize("model", ENTRIES)
def test_each_model_has_its_own_batching(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    expected = Settings().model_dump()
    for key, value in (("max_batch_rows", 3), ("max_queue_rows", 5), ("linger_ms", 0.5)):
        monkeypatch.setenv(f"SERVING__MODELS__{model.upper()}__BATCHING__{key.upper()}", str(value))
        expected["models"][model]["batching"][key] = value
    assert Settings().model_dump() == expected


def test_a_nested_variable_changes_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Settings().model_dump()
    monkeypatch.setenv("SERVING__MODELS__INCEPTION_V3__IMAGE__MAX_IMAGE_PIXELS", "1000")
    expected["models"]["inception_v3"]["image"]["max_image_pixels"] = 1000
    assert Settings().model_dump() == expected


@pytest.mark.parametrize(
    "text",
    [
        "server: {workers: 0}",
        "server: {workers: many}",
        "server: {request_timeout_seconds: 0}",
        "server: {drain_seconds: -1}",
        "api: {max_request_bytes: 10}",
        "models: {iris: {threads: -1}}",
        "models: {iris: {max_rows: 0}}",
        "models: {iris: {batching: {max_batch_rows: 0}}}",
        "models: {iris: {batching: {max_queue_rows: 0}}}",
        "models: {iris: {batching: {linger_ms: -1}}}",
        "models: {iris: {batching: {linger_ms: soon}}}",
        "models: {iris: {plugin: no_class}}",
        "models: {iris: {runner: Upper}}",
        "models: {iris: {version_labels: [a/b]}}",
        "models: 5",
        "models: [iris]",
        "default_model: nothing",
        "models: {inception_v3: {batching: {max_queue_rows: 0}}}",
        "models: {inception_v3: {batching: {linger_ms: -0.1}}}",
        "models: {inception_v3: {runner_workers: 0}}",
        "models: {inception_v3: {max_in_flight: 0}}",
        "models: {inception_v3: {providers: [TPU]}}",
        "models: {inception_v3: {image: {allowed_formats: [EPS]}}}",
        "models: {inception_v3: {image: {max_image_pixels: 0}}}",
        "logging: {level: LOUD}",
        "logging: {format: xml}",
        "metrics: {duration_buckets: []}",
        "tracing: {sample_rate: 1.5}",
        "models: {iris: 5}",
        "models: {iris: [1]}",
    ],
)
def test_bad_values_are_refused(configure: Configure, text: str) -> None:
    with pytest.raises(ValidationError):
        configure(text)


def test_formats_may_be_in_lower_case(configure: Configure) -> None:
    settings = configure("models: {cats: {image: {allowed_formats: [png]}}}")
    assert settings.models["cats"].image.allowed_formats == ["PNG"]


@pytest.mark.parametrize("entry", ["", "{}", "null"])
def test_an_entry_may_be_empty(configure: Configure, entry: str) -> None:
    assert configure(f"models:\n  wine: {entry}").models["wine"] == ModelSettings(tag="wine:latest")


@pytest.mark.parametrize("name", ["Wine", "1wine", "wi-ne", "wi__ne", "w" * 64, *sorted(RESERVED_NAMES)])
def test_a_name_that_is_no_name_or_a_route_is_refused(configure: Configure, name: str) -> None:
    with pytest.raises(ValidationError) as caught:
        configure(f"models: {{{name}: {{}}}}")
    assert name in str(caught.value)


def test_models_that_are_not_enabled_are_not_served(configure: Configure) -> None:
    settings = configure("models: {a: {}, b: {enabled: false}, c: {}}")
    assert (list(settings.models), list(settings.served)) == (["a", "b", "c"], ["a", "c"])


def test_models_that_name_the_same_runner_share_it(configure: Configure) -> None:
    settings = configure("models: {a: {runner: small}, b: {}, c: {runner: small}, d: {runner: small, enabled: false}}")
    assert {name: list(models) for name, models in settings.runners.items()} == {
        "small_runner": ["a", "c"],
        "b_runner": ["b"],
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("serving: {workers: 2}", "serving is called server now (SERVING__SERVING… is SERVING__SERVER…)"),
        ("iris: {threads: 2}", "iris is called models.iris now (SERVING__IRIS… is SERVING__MODELS__IRIS…)"),
        ("inception_v3: {}", "inception_v3 is called models.inception_v3 now"),
        ("models: {source: /models}", "models.source is called model_source.source now"),
        ("models: {max_bytes: 1024}", "(SERVING__MODELS__MAX_BYTES is SERVING__MODEL_SOURCE__MAX_BYTES)"),
        ("api: {data_plane: true}", "api.data_plane is no setting any more"),
    ],
)
def test_a_name_of_an_older_version_says_the_new_one(configure: Configure, text: str, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        configure(text)
    assert said in str(caught.value)


def test_a_variable_of_an_older_version_says_the_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING__IRIS__THREADS", "2")
    with pytest.raises(ValidationError, match=r"SERVING__IRIS… is SERVING__MODELS__IRIS…"):
        Settings()


def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "gone.yaml"))
    with pytest.raises(FileNotFoundError, match=r"gone\.yaml"):
        Settings()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().models["iris"].threads = 2  # type: ignore[misc]


def test_a_process_reads_its_settings_once() -> None:
    assert get_settings() is get_settings()
