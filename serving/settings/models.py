"""Settings of each model: its entry below `models` in configuration.yaml.

What the model takes and gives is not here: it stands in the stored model. Values that are left out depend on the kind
of model, which only the stored model knows; `ModelSettings.limits` fills them in.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field

from serving.settings.section import Section

Kind = Literal["rows", "image", "tensors"]
"""What a request to a model is: rows of a table, an image, or named tensors."""

# Formats that Pillow decodes from memory without helper programs, delegates or scripting; HEIF with the extra `heif`.
SAFE_FORMATS = frozenset({"JPEG", "PNG", "WEBP", "BMP", "GIF", "AVIF", "TIFF", "HEIF"})
# First parts of routes that are not a model's, and names that attributes of the service class have.
RESERVED_NAMES = frozenset(
    {
        *("batch", "docs", "health", "healthz", "index", "inventory", "jobs", "label", "livez", "metadata", "metrics"),
        *("models", "ping", "predict", "readyz", "schema", "static", "static_content", "v1", "v2"),
    }
)
_PLUGIN = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"


def _check_formats(formats: list[str]) -> list[str]:
    upper = [name.upper() for name in formats]
    unknown = sorted(set(upper) - SAFE_FORMATS)
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: choose from {', '.join(sorted(SAFE_FORMATS))}")
    return upper


def _check_name(name: str) -> str:
    if "__" in name:
        raise ValueError("a name of a model may not have two underscores in a row: they separate parts of variables")
    if name in RESERVED_NAMES:
        raise ValueError(f"{name} cannot be the name of a model: /{name} is a route of the server")
    return name


ModelName = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,62}$"), AfterValidator(_check_name)]
_VersionLabels = list[Annotated[str, BeforeValidator(str), Field(pattern="^[A-Za-z0-9._-]{1,64}$")]]


class BatchingSettings(Section):
    default_for_protocols: bool | None = Field(
        None,
        description="Batch what the standard protocols ask for; otherwise each request has an engine call of its own. "
        "Empty: yes, unless `predict_in` is `api`.",
    )
    max_batch_rows: int | None = Field(
        None, ge=1, description="Most rows in one engine call. Empty: 1024 for rows, 8 for images, 32 for tensors."
    )
    max_queue_rows: int | None = Field(
        None,
        ge=1,
        description="Most rows that wait in a runner process; beyond it, 429. Empty: 4096 for rows, 64 for images, "
        "256 for tensors.",
    )
    linger_ms: float = Field(
        0.0,
        ge=0,
        description="How long the first row of a batch waits for others although the engine is free; 0 sends a batch "
        "as soon as the engine is free.",
    )


class ModelJobsSettings(Section):
    max_retries: int = Field(
        3, ge=0, description="Attempts after the first; a job's own `max_retries` overrides it within `jobs`' limits."
    )
    ttl_seconds: float = Field(
        300.0, gt=0, description="From submission; a job that has not begun by then is expired and never runs."
    )


_Byte = Annotated[int, Field(ge=0, le=255)]


class ImageSettings(Section):
    allowed_formats: Annotated[list[str], AfterValidator(_check_formats)] = Field(
        ["JPEG", "PNG", "WEBP", "BMP", "GIF", "AVIF"],
        min_length=1,
        description="Image formats that are decoded. TIFF can be added, and HEIF with the extra `heif`.",
    )
    background: list[_Byte] = Field(
        [255, 255, 255],
        min_length=3,
        max_length=3,
        description="Red, green and blue, 0 to 255, of what is seen behind a picture with transparency.",
    )
    max_image_pixels: int = Field(
        50_000_000, ge=1, description="A larger image is refused from its header, before decoding."
    )
    decode_threads: int = Field(
        0, ge=0, description="Images that one API worker decodes at a time; 0 means one per core."
    )


class ModelLimits(NamedTuple):
    """What an entry comes to for the kind of its model."""

    threads: int
    max_rows: int
    max_in_flight: int
    max_batch_rows: int
    max_queue_rows: int


_DEFAULTS: dict[Kind, ModelLimits] = {
    # A call takes microseconds: handing parts of it to other threads costs more than it saves.
    "rows": ModelLimits(threads=1, max_rows=1024, max_in_flight=256, max_batch_rows=1024, max_queue_rows=4096),
    # A call takes tens of milliseconds and uses every core well; beyond 8 images it gives no more images per second.
    "image": ModelLimits(threads=0, max_rows=32, max_in_flight=64, max_batch_rows=8, max_queue_rows=64),
    "tensors": ModelLimits(threads=0, max_rows=256, max_in_flight=64, max_batch_rows=32, max_queue_rows=256),
}


class ModelSettings(Section):
    """One entry. `{}` is complete."""

    enabled: bool = Field(True, description="Serve the model.")
    tag: str = Field("", description="Tag in the BentoML model store; empty: `latest` of the entry's name.")
    version_labels: _VersionLabels = Field(
        ["stable"],
        description="Other names of the served version for clients of the standard protocols, words or numbers. The "
        "version of its tag, and 0 for the latest, are always understood.",
    )
    plugin: str | None = Field(
        None,
        pattern=_PLUGIN,
        description="`module:Class` of a codec of your own, for special pre- or post-processing.",
    )
    predict_in: Literal["api", "runner"] = Field(
        "runner",
        description="Where `/predict` computes: in the API process, for models whose call takes microseconds, or in "
        "a runner process.",
    )
    runner: str = Field(
        "",
        pattern="^([a-z][a-z0-9_]{0,62})?$",
        description="Models that name the same runner share its processes; empty: the model has a runner of its own.",
    )
    runner_workers: int = Field(
        1, ge=1, description="Runner processes, each with its own engine and queue; for a GPU or many cores."
    )
    engine: Literal["onnxruntime", "openvino", "auto"] = Field(
        "onnxruntime",
        description="What runs the model; `openvino` needs the extra of that name. `auto` takes OpenVINO where it is "
        "installed, the CPU has bfloat16 and `providers` begins with the CPU, else ONNX Runtime.",
    )
    openvino_precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Arithmetic of OpenVINO; `auto` is bfloat16 on a CPU that has it, else float32. "
        "In bfloat16 answers differ from those of ONNX Runtime.",
    )
    providers: list[Literal["CPUExecutionProvider", "CUDAExecutionProvider"]] = Field(
        ["CPUExecutionProvider"],
        description="ONNX Runtime execution providers in order of preference; one that is not installed is an error.",
    )
    threads: int | None = Field(
        None,
        ge=0,
        description="Engine threads for one call; 0 means one per core. Empty: 1 for rows, 0 for others.",
    )
    max_rows: int | None = Field(
        None,
        ge=1,
        description="Most rows or images in one request. Empty: 1024 rows, 32 images, 256 rows of tensors.",
    )
    max_in_flight: int | None = Field(
        None,
        ge=1,
        description="Requests that one API worker holds, decoding or waiting; beyond it, 429 before the body is read. "
        "Empty: 256 for rows, 64 for others.",
    )
    image: ImageSettings = Field(default_factory=ImageSettings, description="Image decoding; for a model of images.")
    batching: BatchingSettings = Field(default_factory=BatchingSettings, description="Adaptive batching.")
    jobs: ModelJobsSettings = Field(default_factory=ModelJobsSettings, description="Asynchronous jobs.")

    def limits(self, kind: Kind) -> ModelLimits:
        """What this entry sets, and the defaults of `kind` for the rest."""
        own: dict[str, Any] = {
            "threads": self.threads,
            "max_rows": self.max_rows,
            "max_in_flight": self.max_in_flight,
            "max_batch_rows": self.batching.max_batch_rows,
            "max_queue_rows": self.batching.max_queue_rows,
        }
        return _DEFAULTS[kind]._replace(**{name: value for name, value in own.items() if value is not None})

    @property
    def batches_protocols(self) -> bool:
        """Whether requests of the standard protocols share engine calls."""
        wanted = self.batching.default_for_protocols
        return self.predict_in != "api" if wanted is None else wanted


Entry = Annotated[ModelSettings, BeforeValidator(lambda value: {} if value is None else value)]
"""In YAML `wine:` without anything behind it is as complete as `wine: {}`."""
