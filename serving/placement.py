"""Where a model runs: its engine in this process, or a runner behind a link."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Protocol

from serving.core.engine import Engine
from serving.core.errors import ModelError
from serving.core.openvino_engine import OpenVinoEngine, cpu_has_bfloat16, not_installed, openvino_is_installed
from serving.core.tensors import Tensors
from serving.settings.models import ModelSettings
from serving.store.models import StoredModel

EngineName = Literal["onnxruntime", "openvino"]


class Submit(Protocol):
    """How tensors reach a batcher: one of this process, or that of a runner. See `MicroBatcher.submit`."""

    async def __call__(self, tensors: Tensors, *, expires_in: float = math.inf, alone: bool = False) -> Tensors: ...


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


def open_engine(stored: StoredModel, settings: ModelSettings) -> Engine:
    """Load a stored model as its entry says.

    Raises:
        ModelError: it cannot be loaded, or what was asked for is not installed or not in the CPU.
    """
    metadata = stored.metadata
    if metadata.format != "onnx":
        raise ModelError(f"model {stored.tag} is a {metadata.format}; only ONNX models are served")
    threads = settings.limits(metadata.kind).threads
    if choose_engine(settings.engine, providers=settings.providers) == "onnxruntime":
        # Here, as the supervisor of a server makes the same service and loads no engine.
        from serving.core.onnxruntime_engine import OnnxRuntimeEngine

        return OnnxRuntimeEngine(
            stored.onnx_path,
            metadata.signature,
            origin=stored.origin,
            threads=threads,
            providers=settings.providers,
        )
    precision = settings.openvino_precision
    if precision == "auto":
        precision = "bfloat16" if cpu_has_bfloat16() else "float32"
    return OpenVinoEngine(
        stored.onnx_path, metadata.signature, origin=stored.origin, threads=threads, precision=precision
    )
