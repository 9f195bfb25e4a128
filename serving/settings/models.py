"""Settings of each model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from serving.settings.section import Section

# Formats that Pillow decodes from memory without helper programs, delegates or scripting.
SAFE_FORMATS = frozenset({"JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"})


def _check_formats(formats: list[str]) -> list[str]:
    upper = [name.upper() for name in formats]
    unknown = sorted(set(upper) - SAFE_FORMATS)
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: choose from {', '.join(sorted(SAFE_FORMATS))}")
    return upper


_BatchRows = Annotated[int, Field(ge=2, description="Most rows in one engine call.")]
_QueueRows = Annotated[int, Field(ge=1, description="Most rows that wait in a runner process; beyond it, 429.")]
_Linger = Annotated[
    float, Field(ge=0, description="How long the first row of a batch waits for company; 0 never waits for nothing.")
]


_ForProtocols = Annotated[
    bool,
    Field(description="Batch what the standard protocols ask for; otherwise each request is predicted by itself."),
]
_VersionLabels = list[Annotated[str, Field(pattern="^[A-Za-z0-9._-]{1,64}$")]]
_VERSION_LABELS = "What TensorFlow Serving's clients may call the served version, beside the version of its tag."


class IrisBatchingSettings(Section):
    default_for_protocols: _ForProtocols = False
    max_batch_rows: _BatchRows = 1024
    max_queue_rows: _QueueRows = 4096
    linger_ms: _Linger = 0.0


class InceptionV3BatchingSettings(Section):
    default_for_protocols: _ForProtocols = True
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
    version_labels: _VersionLabels = Field(["stable"], description=_VERSION_LABELS)
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
    version_labels: _VersionLabels = Field(["stable"], description=_VERSION_LABELS)
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
    max_images: int = Field(32, ge=1, description="Most images in one request of a standard protocol.")
    image: ImageSettings = Field(default_factory=ImageSettings, description="Image decoding.")
    batching: InceptionV3BatchingSettings = Field(
        default_factory=InceptionV3BatchingSettings, description="Adaptive batching."
    )
    jobs: ModelJobsSettings = Field(default_factory=ModelJobsSettings, description="Asynchronous jobs.")
