"""configuration.yaml, overridden by `SERVING__…` variables, as typed settings that are read once.

Unknown keys are errors in both places: a misspelt knob must not be ignored in silence. The descriptions
below are the configuration table of the README.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

ENV_PREFIX = "SERVING__"
FILE_VARIABLE = "SERVING_CONFIGURATION"
DEFAULT_FILE = Path(__file__).resolve().parent.parent / "configuration.yaml"

# Formats that Pillow decodes from memory without helper programs, delegates or scripting.
SAFE_FORMATS = frozenset({"JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"})


def _check_formats(formats: list[str]) -> list[str]:
    upper = [name.upper() for name in formats]
    unknown = sorted(set(upper) - SAFE_FORMATS)
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: choose from {', '.join(sorted(SAFE_FORMATS))}")
    return upper


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServingSettings(Section):
    workers: Annotated[int, Field(ge=1)] = Field(1, description="API worker processes; each holds its own iris engine.")
    strict_versions: bool = Field(
        False,
        description="Refuse to start when a library differs in major.minor from the one that made a model; "
        "otherwise it is a warning.",
    )
    request_timeout_seconds: float = Field(
        30.0,
        gt=0,
        description="A prediction that takes longer is answered with 504; X-Request-Timeout-Ms lowers it.",
    )
    drain_seconds: float = Field(
        25.0, ge=0, description="After SIGTERM, how long accepted requests may take to finish."
    )
    freeze_gc: bool = Field(
        True,
        description="Exempt what start-up allocated from garbage collection and collect the rest more rarely; "
        "shortens the longest pauses.",
    )


class ApiSettings(Section):
    data_plane: bool = Field(
        True,
        description="Answer plain-JSON iris requests in front of BentoML's router; the answers are the same.",
    )
    max_request_bytes: int = Field(16 * 1024 * 1024, ge=1024, description="A larger request body is answered with 413.")


_BatchRows = Annotated[int, Field(ge=2, description="Most rows in one engine call.")]
_QueueRows = Annotated[int, Field(ge=1, description="Most rows that wait in a runner process; beyond it, 429.")]
_Linger = Annotated[
    float, Field(ge=0, description="How long the first row of a batch waits for company; 0 never waits for nothing.")
]


class IrisBatchingSettings(Section):
    max_batch_rows: _BatchRows = 1024
    max_queue_rows: _QueueRows = 4096
    linger_ms: _Linger = 0.0


class InceptionV3BatchingSettings(Section):
    max_batch_rows: _BatchRows = 8
    max_queue_rows: _QueueRows = 64
    linger_ms: _Linger = 0.0


class ModelJobsSettings(Section):
    max_retries: int = Field(
        3, ge=0, description="Attempts after the first; a job's own `max_retries` overrides it within `jobs`' limits."
    )
    ttl_seconds: float = Field(
        300.0, gt=0, description="From submission; a job that has not begun by then is expired and never runs."
    )


class IrisSettings(Section):
    enabled: bool = Field(True, description="Serve the iris routes.")
    tag: str = Field("iris:latest", description="Tag in the BentoML model store.")
    threads: int = Field(
        1,
        ge=0,
        description="ONNX Runtime threads for one call; 0 means one per core. One is fastest for a small model.",
    )
    max_rows: int = Field(1024, ge=1, description="Most rows in one request.")
    max_in_flight: int = Field(
        256,
        ge=1,
        description="Requests to the batched route that one API worker holds; beyond it, 429 before the body is read.",
    )
    batching: IrisBatchingSettings = Field(default_factory=IrisBatchingSettings, description="Adaptive batching.")
    jobs: ModelJobsSettings = Field(default_factory=ModelJobsSettings, description="Asynchronous jobs.")


class ImageSettings(Section):
    allowed_formats: Annotated[list[str], AfterValidator(_check_formats)] = Field(
        ["JPEG", "PNG", "WEBP", "BMP", "GIF"],
        description="Image formats that are decoded; of GIF the first frame.",
    )
    max_image_pixels: int = Field(
        50_000_000, ge=1, description="A larger image is refused from its header, before decoding."
    )
    decode_threads: int = Field(
        0, ge=0, description="Images that one API worker decodes at a time; 0 means one per core."
    )


class InceptionV3Settings(Section):
    enabled: bool = Field(True, description="Serve the InceptionV3 routes.")
    tag: str = Field("inception_v3:latest", description="Tag in the BentoML model store.")
    engine: Literal["onnxruntime", "openvino", "auto"] = Field(
        "onnxruntime",
        description="What runs the model; `openvino` needs the extra of that name. `auto` takes OpenVINO where it is "
        "installed, the CPU has bfloat16 and `providers` begins with the CPU, else ONNX Runtime.",
    )
    openvino_precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Arithmetic of OpenVINO; `auto` is bfloat16 on a CPU that has it, else float32. "
        "In bfloat16 probabilities differ from those of ONNX Runtime.",
    )
    threads: int = Field(0, ge=0, description="Engine threads for one call; 0 means one per core.")
    providers: list[Literal["CPUExecutionProvider", "CUDAExecutionProvider"]] = Field(
        ["CPUExecutionProvider"],
        description="ONNX Runtime execution providers in order of preference; one that is not installed is an error.",
    )
    runner_workers: int = Field(
        1, ge=1, description="Runner processes, each with its own engine and queue; for a GPU or many cores."
    )
    max_in_flight: int = Field(
        64,
        ge=1,
        description="Requests that one API worker holds, decoding or waiting; beyond it, 429 before decoding.",
    )
    image: ImageSettings = Field(default_factory=ImageSettings, description="Image decoding.")
    batching: InceptionV3BatchingSettings = Field(
        default_factory=InceptionV3BatchingSettings, description="Adaptive batching."
    )
    jobs: ModelJobsSettings = Field(default_factory=ModelJobsSettings, description="Asynchronous jobs.")


class JobsSettings(Section):
    enabled: bool = Field(True, description="Offer the jobs routes.")
    url: str = Field(
        "sqlite:///jobs.db",
        repr=False,
        description="Where jobs are kept: `sqlite:///file.db` (one host, no server), or `redis://`, `rediss://`, "
        "`unix://`. It may hold a password, so set it in the environment.",
    )
    namespace: str = Field(
        "serving",
        pattern="^[A-Za-z0-9_.-]{1,64}$",
        description="Prefix of every key in Redis; services that share one Redis need different ones.",
    )
    embedded_worker: bool | None = Field(
        None, description="Run a worker process beside the API; empty means yes for SQLite and no for Redis."
    )
    lease_seconds: float = Field(
        15.0, ge=0.5, description="After so long without a sign of life from its worker, a job is given to another."
    )
    job_timeout_seconds: float = Field(
        60.0, gt=0, description="Most time for one attempt; then its worker process is ended and replaced."
    )
    backoff_seconds: list[Annotated[float, Field(ge=0)]] = Field(
        [2.0, 8.0, 30.0], min_length=1, description="Pauses before the attempts after the first; the last one repeats."
    )
    most_retries: int = Field(10, ge=0, description="Largest `max_retries` that a request may ask for.")
    longest_ttl_seconds: float = Field(86_400.0, gt=0, description="Largest `ttl_seconds` that a request may ask for.")
    max_payload_bytes: int = Field(1_048_576, ge=1024, description="A larger job is refused with 413.")
    max_queue_jobs: int = Field(10_000, ge=1, description="Most jobs of a model that are queued; beyond it, 429.")
    max_queue_bytes: int = Field(
        268_435_456, ge=1024, description="Most bytes of payloads of a model that are queued; beyond it, 429."
    )
    result_retention_seconds: float = Field(
        3600.0, gt=0, description="How long a succeeded or cancelled job can be asked for."
    )
    failure_retention_seconds: float = Field(
        604_800.0, gt=0, description="How long a failed or expired job keeps its error and its input."
    )
    worker_port: int = Field(
        9100, ge=0, le=65_535, description="Port of `/readyz` and `/metrics` of `serving worker`; 0 takes a free one."
    )

    @property
    def has_embedded_worker(self) -> bool:
        """Whether `bentoml serve` runs a worker."""
        embedded = self.url.startswith("sqlite:") if self.embedded_worker is None else self.embedded_worker
        return self.enabled and embedded


class LoggingSettings(Section):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lowest level that is written.")
    format: Literal["text", "json"] = Field("text", description="One line of text or one JSON object per record.")
    predictions: bool = Field(True, description="Write one line for each prediction.")


class MetricsSettings(Section):
    duration_buckets: list[float] = Field(
        [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0],
        min_length=1,
        description="Upper bounds of the latency histogram, in seconds.",
    )


class TracingSettings(Section):
    exporter: Literal["none", "otlp"] = Field("none", description="Where spans go; `none` costs nothing.")
    endpoint: str = Field("http://127.0.0.1:4318/v1/traces", description="OTLP/HTTP endpoint of the collector.")
    sample_rate: float = Field(1.0, ge=0, le=1, description="Share of requests that are traced.")


class Settings(BaseSettings):
    """All settings. Raises `pydantic.ValidationError` on unknown keys and bad values."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    serving: ServingSettings = Field(default_factory=ServingSettings)
    api: ApiSettings = Field(default_factory=ApiSettings)
    iris: IrisSettings = Field(default_factory=IrisSettings)
    inception_v3: InceptionV3Settings = Field(default_factory=InceptionV3Settings)
    jobs: JobsSettings = Field(default_factory=JobsSettings)
    logging: LoggingSettings = Field(default_factory=LoggingSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    tracing: TracingSettings = Field(default_factory=TracingSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is the library's
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = Path(os.environ.get(FILE_VARIABLE, DEFAULT_FILE))
        if not file.is_file():
            raise FileNotFoundError(f"no configuration file at {file}")
        return init_settings, _StrictEnv(settings_cls), YamlConfigSettingsSource(settings_cls, file)


class _StrictEnv(EnvSettingsSource):
    """Variables of the environment; one with our prefix and an unknown section is an error, not a no-op."""

    def __call__(self) -> dict[str, Any]:
        values = super().__call__()
        for name in os.environ:
            if name.startswith(ENV_PREFIX):
                section = name[len(ENV_PREFIX) :].split("__")[0].lower()
                if section not in self.settings_cls.model_fields:
                    values[section] = os.environ[name]
        return values


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process."""
    return Settings()
