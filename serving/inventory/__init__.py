"""What is running: system, CPU, Python, every library, engines, and each model with its hashes.

A Bento has the inventory that was known when it was built beside its configuration, as `inventory.json`. Running code
adds what only the machine knows.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from packaging.utils import canonicalize_name
from pydantic import BaseModel, Field

import serving
from serving.core.signature import TensorSpec
from serving.settings import SOURCE, Settings, get_settings
from serving.settings.recorded import FILE
from serving.store.models import StoredModel, Verification, Weights, installed_version, open_model

# What decides how fast, and with which rounding, a CPU multiplies; the whole list of flags would say less.
_CPU_FEATURES = re.compile(r"^(sse4_[12]|avx\w*|fma|f16c|amx_\w+|neon|asimd\w*|bf16|i8mm|sve\w*)$")


class Service(BaseModel):
    name: str = "model_serving"
    version: str | None = Field(None, description="of the Bento; none outside one")
    code: str = Field(serving.__version__, description="version of the code")
    revision: str | None = Field(None, description="git commit that the Bento was built from")


class System(BaseModel):
    os: str
    kernel: str
    machine: str


class Cpu(BaseModel):
    model: str
    cores: int = Field(description="that this process may use")
    features: list[str]


class Engine(BaseModel):
    version: str
    providers: list[str] = Field([], description="execution providers of ONNX Runtime")


class ModelInventory(BaseModel):
    tag: str
    created_at: str
    format: str
    kind: str = Field(description="of its requests: rows, image or tensors")
    task: str = Field(description="classification, regression or raw")
    weights: Weights | None = Field(None, description="where they come from, as far as that is known")
    files: dict[str, str] = Field(description="SHA-256 of each file of the model")
    classes: int
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    metrics: dict[str, float]
    verification: Verification | None = Field(None, description="the exported graph against the original model")
    versions: dict[str, str] = Field(description="Python and the libraries that made the model")


class Inventory(BaseModel):
    """Parts that are not known, as those of a machine when a Bento is built, are null."""

    service: Service
    python: str | None = None
    system: System | None = None
    cpu: Cpu | None = None
    engines: dict[str, Engine] | None = None
    libraries: dict[str, str] = Field(description="version of every installed distribution")
    models: dict[str, ModelInventory] = Field(description="those that are served, by name")


def take_inventory(settings: Settings) -> Inventory:
    """The inventory of this process and its machine. Reads and hashes the models, so it takes a moment.

    Raises:
        ModelError: an enabled model is not in the store or cannot be served.
    """
    return Inventory(
        service=built_service(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        system=_system(),
        cpu=_cpu(),
        engines=_engines(),
        libraries=_libraries(),
        models=take_models(settings),
    )


@cache
def running_inventory() -> Inventory:
    """The inventory of this process, taken once: what is loaded does not change."""
    return take_inventory(get_settings())


def take_models(settings: Settings) -> dict[str, ModelInventory]:
    """The models that `settings` serve. Raises as `take_inventory`."""
    return {name: describe_model(open_model(tag)) for name, tag in model_tags(settings).items()}


def model_tags(settings: Settings) -> dict[str, str]:
    """Tags of the enabled models, by name."""
    return {name: entry.tag for name, entry in settings.served.items()}


def built_service(source: Path = SOURCE) -> Service:
    """What `make bento` recorded of the Bento that this code is in; nothing of it in the repository."""
    try:
        recorded = json.loads((source / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Service()
    return Service.model_validate(recorded["service"])


def describe_model(model: StoredModel) -> ModelInventory:
    metadata = model.metadata
    return ModelInventory(
        tag=model.tag,
        created_at=model.created_at,
        format=metadata.format,
        kind=metadata.kind,
        task=metadata.task,
        weights=metadata.weights,
        files=_hashes(model.path),
        classes=len(metadata.labels),
        inputs=metadata.inputs,
        outputs=metadata.outputs,
        metrics=metadata.metrics,
        verification=metadata.verification,
        versions=metadata.versions,
    )


@cache
def _hashes(directory: Path) -> Mapping[str, str]:
    """SHA-256 by path below `directory`. A stored model does not change, so each is read once in a process."""
    found = {}
    for file in sorted(path for path in directory.rglob("*") if path.is_file()):
        with file.open("rb") as content:
            found[file.relative_to(directory).as_posix()] = hashlib.file_digest(content, "sha256").hexdigest()
    return found


def _system() -> System:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.system()
    return System(os=name, kernel=platform.release(), machine=platform.machine())


def _cpu() -> Cpu:
    known: dict[str, str] = {}
    file = Path("/proc/cpuinfo")
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        name, _, value = line.partition(":")
        known.setdefault(name.strip().lower(), value.strip())
    flags = (known.get("flags") or known.get("features") or "").split()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Cpu(
        model=known.get("model name") or platform.processor() or platform.machine(),
        cores=cores,
        features=sorted(flag for flag in flags if _CPU_FEATURES.match(flag)),
    )


def _engines() -> dict[str, Engine]:
    import onnxruntime  # a Bento is described without

    engines = {"onnxruntime": Engine(version=onnxruntime.__version__, providers=onnxruntime.get_available_providers())}
    if (version := installed_version("openvino")) is not None:
        engines["openvino"] = Engine(version=version)
    return engines


def _libraries() -> dict[str, str]:
    found = {str(canonicalize_name(item.metadata["Name"])): item.version for item in importlib.metadata.distributions()}
    return dict(sorted(found.items()))
