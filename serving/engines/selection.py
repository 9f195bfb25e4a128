"""Which engine serves a model, where there is a choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from serving.core.errors import ModelError
from serving.engines.inception_v3 import InceptionV3Engine
from serving.engines.openvino_inception_v3 import (
    OpenVinoInceptionV3Engine,
    Precision,
    cpu_has_bfloat16,
    not_installed,
    openvino_is_installed,
)
from serving.store.models import StoredModel

EngineName = Literal["onnxruntime", "openvino"]


class ImageEngine(Protocol):
    """What every engine of the image classifier can do."""

    model: StoredModel
    description: str
    """Library, version and precision, for people: `openvino 2026.4.1 (bfloat16)`."""

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 `[N, 299, 299, 3]`, RGB, to probabilities float32 `[N, classes]`."""

    def warm_up(self) -> None: ...


def choose_engine(engine: EngineName | Literal["auto"], *, providers: Sequence[str]) -> EngineName:
    """`auto` is OpenVINO where it pays: installed, on a CPU with bfloat16, and no accelerator is preferred.

    Nothing is imported for the answer unless OpenVINO is installed and `auto` asks for it.
    """
    if engine != "auto":
        return engine
    prefers_cpu = not providers or providers[0] == "CPUExecutionProvider"
    return "openvino" if prefers_cpu and openvino_is_installed() and cpu_has_bfloat16() else "onnxruntime"


def check_engine(engine: EngineName | Literal["auto"]) -> None:
    """Whether what is asked for by name is installed; nothing is imported or loaded.

    Raises:
        ModelError: it is not; names the extra.
    """
    if engine == "openvino" and not openvino_is_installed():
        raise ModelError(not_installed())


def open_inception_v3(
    model: StoredModel,
    *,
    engine: EngineName | Literal["auto"] = "onnxruntime",
    threads: int = 0,
    providers: Sequence[str] = ("CPUExecutionProvider",),
    openvino_precision: Precision | Literal["auto"] = "auto",
) -> ImageEngine:
    """Load the image classifier as the settings of the same names say.

    Args:
        threads: threads for one call; 0 means one per core.
        providers: ONNX Runtime's execution providers in order of preference.
        openvino_precision: `auto` is bfloat16 on a CPU that has it, else float32.

    Raises:
        ModelError: the stored model cannot be loaded, or what was asked for is not installed or not in the CPU.
    """
    if choose_engine(engine, providers=providers) == "onnxruntime":
        return InceptionV3Engine(model, threads=threads, providers=providers)
    precision = openvino_precision
    if precision == "auto":
        precision = "bfloat16" if cpu_has_bfloat16() else "float32"
    return OpenVinoInceptionV3Engine(model, threads=threads, precision=precision)
