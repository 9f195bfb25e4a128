"""configuration.yaml and SERVING__ variables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from serving.settings import DEFAULT_FILE, FILE_VARIABLE, Settings, get_settings
from serving.settings.models import RESERVED_NAMES, Kind, ModelLimits, ModelSettings

Configure = Callable[[str], Settings]


@pytest.fixture(autouse=True)
def _no_jobs_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Here nothing of tests/conftest.py counts, and nothing that is read here counts elsewhere."""
    for name in ("JOBS__URL", "JOBS__EMBEDDED_WORKER", "GRPC__ENABLED"):
        monkeypatch.delenv(f"SERVING__{name}")
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


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


def _repository() -> dict[str, Any]:
    """What the file in the repository says."""
    content: dict[str, Any] = yaml.safe_load(DEFAULT_FILE.read_text())
    return content


def test_the_file_in_the_repository_has_every_key_with_its_default_and_nothing_else() -> None:
    content, expected = _repository(), _defaults(Settings)
    assert list(content["models"]) == ["iris", "inception_v3"]
    assert content.pop("default_model") == "iris"
    del content["models"], expected["models"], expected["default_model"]
    assert content == expected


KINDS: dict[str, Kind] = {"iris": "rows", "inception_v3": "image"}


@pytest.mark.parametrize("name", KINDS)
def test_the_entries_of_the_file_are_what_empty_ones_come_to(name: str) -> None:
    """But for where iris is computed, which is said beside it."""
    given = ModelSettings.model_validate(_repository()["models"][name])
    assert given.limits(KINDS[name]) == ModelSettings().limits(KINDS[name])
    assert given.batches_protocols == (name != "iris")
    limits = {"threads", "max_rows", "max_in_flight"}
    found, expected = given.model_dump(exclude=limits), ModelSettings().model_dump(exclude=limits)
    for values in (found, expected):
        for key in ("default_for_protocols", "max_batch_rows", "max_queue_rows"):
            del values["batching"][key]
    if name == "iris":
        assert (found.pop("predict_in"), expected.pop("predict_in")) == ("api", "runner")
    assert found == expected


def test_every_key_of_an_entry_is_shown_in_the_file() -> None:
    shown = {key for entry in _repository()["models"].values() for key in entry}
    assert set(ModelSettings.model_fields) - shown == {"tag", "plugin", "runner"}


def test_the_file_in_the_repository_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FILE_VARIABLE, raising=False)
    settings, expected = Settings(), _defaults(Settings)
    assert list(settings.models) == ["iris", "inception_v3"]
    assert settings.default_model == "iris"
    changed = {"models": {}, "default_model": ""}
    assert settings.model_dump() | changed == expected


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
    assert undescribed(ModelSettings, "models.") == []


def test_what_a_file_leaves_out_has_its_default(configure: Configure) -> None:
    settings = configure("server: {workers: 7}")
    expected = _defaults(Settings)
    expected["server"]["workers"] = 7
    assert settings.model_dump() == expected


@pytest.mark.parametrize("text", ["", "{}"])
def test_an_empty_file_means_defaults(configure: Configure, text: str) -> None:
    assert configure(text).model_dump() == _defaults(Settings)


@pytest.mark.parametrize("text", ["models: {wine: {}}", "models: {wine: }", "models:\n  wine:\n"])
def test_an_empty_entry_is_complete(configure: Configure, text: str) -> None:
    settings = configure(text)
    assert settings.models == {"wine": ModelSettings(tag="wine:latest")}
    assert settings.served == settings.models
    assert settings.runners == {"wine_runner": settings.models}


@pytest.mark.parametrize(("kind", "limits"), [
    ("rows", ModelLimits(1, 1024, 256, 1024, 4096)), ("image", ModelLimits(0, 32, 64, 8, 64)),
    ("tensors", ModelLimits(0, 256, 64, 32, 256)),
])  # fmt: skip
def test_limits_are_those_of_the_kind_unless_the_entry_says(kind: Kind, limits: ModelLimits) -> None:
    assert ModelSettings().limits(kind) == limits
    entry = ModelSettings(threads=0, max_rows=3, max_in_flight=4, batching={"max_batch_rows": 5, "max_queue_rows": 6})
    assert entry.limits(kind) == ModelLimits(0, 3, 4, 5, 6)
    assert ModelSettings(max_rows=7).limits(kind) == limits._replace(max_rows=7)


@pytest.mark.parametrize(("predict_in", "wanted", "expected"), [
    ("api", None, False), ("runner", None, True), ("api", True, True), ("runner", False, False),
])  # fmt: skip
def test_protocols_are_batched_where_a_runner_computes_unless_the_entry_says(
    predict_in: Any, wanted: bool | None, expected: bool
) -> None:
    entry = ModelSettings(predict_in=predict_in, batching={"default_for_protocols": wanted})
    assert entry.batches_protocols == expected


def test_models_that_name_the_same_runner_share_it(configure: Configure) -> None:
    settings = configure("""
        models:
          a: {runner: small}
          b: {runner: small}
          c: {}
          d: {runner: small, enabled: false}
    """)
    assert {name: list(entries) for name, entries in settings.runners.items()} == {
        "small_runner": ["a", "b"],
        "c_runner": ["c"],
    }
    assert list(settings.served) == ["a", "b", "c"]
    assert list(settings.models) == ["a", "b", "c", "d"]


def test_a_tag_that_is_given_is_kept(configure: Configure) -> None:
    models = configure("models: {a: {tag: 'other:v3'}, b: {}}").models
    assert [entry.tag for entry in models.values()] == ["other:v3", "b:latest"]


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_a_name_that_is_a_route_of_the_server_is_refused(configure: Configure, name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name} cannot be the name of a model: /{name} is a route"):
        configure(f"models: {{{name}: {{}}}}")


def test_every_route_of_the_server_is_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first part of each path that is not a model's."""
    from serving.model import Models
    from serving.table import Services, _routes

    monkeypatch.setenv("SERVING__BATCH__DATABASE_URL", "sqlite://")
    routes = _routes(Settings(), Models([]), Services())
    first = {route.path.split("/")[1] for route in routes} - {""}
    names = {part for part in first if part.isidentifier()}
    assert names >= {"jobs", "batch", "v1", "v2", "health", "metrics", "readyz", "inventory"}
    assert names <= RESERVED_NAMES


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a__b", "may not have two underscores in a row"),
        ("Wine", "String should match pattern"),
        ("9a", "String should match pattern"),
        ("a-b", "String should match pattern"),
        ("a/b", "String should match pattern"),
        ("a.b", "String should match pattern"),
        ("", "String should match pattern"),
        ("a" * 64, "String should match pattern"),
        ("ä", "String should match pattern"),
    ],
)
def test_a_name_that_is_none_is_refused(configure: Configure, name: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        configure(f"models: {{{name!r}: {{}}}}")


def test_a_default_model_has_to_be_there(configure: Configure) -> None:
    assert configure("{default_model: a, models: {a: {}}}").default_model == "a"
    with pytest.raises(ValidationError, match="default_model: there is no model b below models"):
        configure("{default_model: b, models: {a: {}}}")


@pytest.mark.parametrize("plugin", ["", "module", "module:", ":Class", "a-b:C", "a.b:C.d", "a/b:C", "a..b:C", "a:b:c"])
def test_a_plugin_names_a_module_and_a_class(configure: Configure, plugin: str) -> None:
    assert configure("models: {a: {plugin: 'plugins.two_towers:TwoTowers'}}").models["a"].plugin
    with pytest.raises(ValidationError, match="plugin"):
        configure(f"models: {{a: {{plugin: {plugin!r}}}}}")


def test_labels_of_versions_may_be_numbers(configure: Configure) -> None:
    assert configure("models: {a: {version_labels: [stable, 3]}}").models["a"].version_labels == ["stable", "3"]


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        ("serving: {workers: 2}", "serving", "server"),
        ("iris: {threads: 1}", "iris", "models.iris"),
        ("iris: {}", "iris", "models.iris"),
        ("iris:", "iris", "models.iris"),
        ("inception_v3: {image: {decode_threads: 1}}", "inception_v3", "models.inception_v3"),
        ("models: {source: /models}", "models.source", "model_source.source"),
        ("models: {source: }", "models.source", "model_source.source"),
        ("models: {max_bytes: 5000}", "models.max_bytes", "model_source.max_bytes"),
        ("models: {wine: {}, source: s3://bucket/models}", "models.source", "model_source.source"),
    ],
)
def test_a_key_of_before_is_an_error_that_names_the_new_one(
    configure: Configure, text: str, old: str, new: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        configure(text)
    (error,) = caught.value.errors()
    assert f"{old} is called {new} now" in error["msg"]


@pytest.mark.parametrize(
    ("variable", "old", "new"),
    [
        ("SERVING__SERVING__WORKERS", "SERVING__SERVING…", "SERVING__SERVER…"),
        ("SERVING__IRIS__THREADS", "SERVING__IRIS…", "SERVING__MODELS__IRIS…"),
        ("SERVING__INCEPTION_V3__MAX_IN_FLIGHT", "SERVING__INCEPTION_V3…", "SERVING__MODELS__INCEPTION_V3…"),
        ("SERVING__MODELS__SOURCE", "SERVING__MODELS__SOURCE", "SERVING__MODEL_SOURCE__SOURCE"),
        ("SERVING__MODELS__MAX_BYTES", "SERVING__MODELS__MAX_BYTES", "SERVING__MODEL_SOURCE__MAX_BYTES"),
    ],
)
def test_a_variable_of_before_is_an_error_that_names_the_new_one(
    monkeypatch: pytest.MonkeyPatch, variable: str, old: str, new: str
) -> None:
    monkeypatch.setenv(variable, "5")
    with pytest.raises(ValidationError) as caught:
        Settings()
    (error,) = caught.value.errors()
    assert f"({old} is {new})" in error["msg"]


def test_a_model_may_be_called_source(configure: Configure) -> None:
    assert list(configure("models: {source: {threads: 1}}").models) == ["source"]


@pytest.mark.parametrize("value", ["true", "false"])
def test_a_setting_that_is_gone_says_so(configure: Configure, value: str) -> None:
    with pytest.raises(ValidationError, match=r"api\.data_plane is no setting any more: .*; leave it out"):
        configure(f"api: {{data_plane: {value}}}")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("irsi: {threads: 1}", "irsi"),
        ("models: {iris: {thread: 1}}", "models.iris.thread"),
        ("models: {iris: {batching: {rows: 1}}}", "models.iris.batching.rows"),
        ("threads: 1", "threads"),
        ("models: {iris: {max_held: 1}}", "models.iris.max_held"),
        ("models: {iris: {batching: {max_latency_ms: 1}}}", "models.iris.batching.max_latency_ms"),
        ("models: {wine: {image: {size: 1}}}", "models.wine.image.size"),
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
        ("SERVING__MODELS__JOBS__THREADS", "2"),
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
    ("variable", "value", "path", "expected"),
    [
        ("SERVING__MODELS__IRIS__THREADS", "3", "models.iris.threads", 3),
        ("serving__models__iris__threads", "3", "models.iris.threads", 3),
        ("SERVING__SERVER__FREEZE_GC", "false", "server.freeze_gc", False),
        ("SERVING__MODELS__IRIS", '{"threads": 3}', "models.iris.threads", 3),
        ("SERVING__METRICS__DURATION_BUCKETS", "[1, 2]", "metrics.duration_buckets", [1.0, 2.0]),
        ("SERVING__MODELS__IRIS__BATCHING__LINGER_MS", "1.5", "models.iris.batching.linger_ms", 1.5),
        ("SERVING__MODELS__WINE__THREADS", "2", "models.wine.threads", 2),
        ("SERVING__MODELS__WINE", "{}", "models.wine.tag", "wine:latest"),
        ("SERVING__DEFAULT_MODEL", "iris", "default_model", "iris"),
    ],
)
def test_a_variable_overrides_the_file(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, path: str, expected: object
) -> None:
    monkeypatch.setenv(variable, value)
    found: Any = configure("{models: {iris: {threads: 5, max_rows: 9}}, server: {freeze_gc: true}}")
    assert found.models["iris"].max_rows == 9, "what the variable does not name stays as the file says"
    for name in path.split("."):
        found = found[name] if isinstance(found, dict) else getattr(found, name)
    assert found == expected


@pytest.mark.parametrize("model", ["iris", "inception_v3"])
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
        "models: {inception_v3: {batching: {max_batch_rows: 0}}}",
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
        "models: 5",
        "models: [1]",
        "models: {iris: 5}",
        "models: {iris: [1]}",
        "models: {iris: {predict_in: thread}}",
        "models: {iris: {engine: tensorrt}}",
        "models: {iris: {runner: 'a b'}}",
        "models: {iris: {version_labels: ['a b']}}",
    ],
)
def test_bad_values_are_refused(configure: Configure, text: str) -> None:
    with pytest.raises(ValidationError):
        configure(text)


def test_formats_may_be_in_lower_case(configure: Configure) -> None:
    assert configure("models: {a: {image: {allowed_formats: [png]}}}").models["a"].image.allowed_formats == ["PNG"]


def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "gone.yaml"))
    with pytest.raises(FileNotFoundError, match=r"gone\.yaml"):
        Settings()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().models["iris"].threads = 2  # type: ignore[misc]


def test_a_process_reads_its_settings_once() -> None:
    assert get_settings() is get_settings()
