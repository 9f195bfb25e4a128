"""ONNX graphs in OpenVINO, from the same stored file as in ONNX Runtime.

On a CPU that has bfloat16 it is nearly twice as fast for convolutions; without, about as fast. OpenVINO is an optional
extra and is imported only by the functions here.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np

from serving.core.engine import Engine, available_cores, refused
from serving.core.errors import ModelError
from serving.core.signature import Signature, TensorSpec
from serving.core.tensors import DTYPES, Tensors, count

logger = logging.getLogger("serving.engine")

Precision = Literal["float32", "bfloat16"]
_PRECISIONS: dict[str, Precision] = {"f32": "float32", "bf16": "bfloat16"}
_HINTS = {precision: hint for hint, precision in _PRECISIONS.items()}
INSTALL = "pip install 'model-serving[openvino]'"


def openvino_is_installed() -> bool:
    """Looked up, not imported: an import takes 0.2 s and 60 MB."""
    return importlib.util.find_spec("openvino") is not None


def not_installed(error: ImportError | None = None) -> str:
    """What to do about it."""
    return (
        f"the engine is openvino, which cannot be imported ({error or 'it is not installed'}): install the "
        f"extra `openvino` ({INSTALL}), or set the engine to onnxruntime"
    )


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 itself (avx512_bf16, AMX or their like), as OpenVINO sees it.

    OpenVINO would also take the hint on any CPU with AVX-512 and emulate, which is slower than float32.

    Raises:
        ModelError: OpenVINO is not installed.
    """
    return "BF16" in _import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoEngine(Engine):
    """A graph in OpenVINO.

    The graph is compiled once, for batches of any length: measured, that is as fast as a compilation for each
    length, and a row then gets the same answer in every batch, in both precisions. Compiled for a batch of 8
    alone, kernels of another blocking are chosen and the bfloat16 answers differ visibly. The first batch of
    each length takes about one row's time longer.

    Args:
        path, signature, origin: as of `OnnxRuntimeEngine`.
        threads: threads for one call; 0 means one per core.
        precision: of the arithmetic. `bfloat16` keeps 8 significant bits of weights and activations and sums in
            float32, so answers differ from those in float32; how much depends on the weights.

    Raises:
        ModelError: OpenVINO is not installed, cannot load the graph or the CPU has no bfloat16.
    """

    def __init__(
        self, path: Path, signature: Signature, *, origin: str, threads: int = 0, precision: Precision = "float32"
    ) -> None:
        self.signature = signature
        openvino = _import_openvino()
        texts = [spec.name for spec in (*signature.inputs, *signature.outputs) if DTYPES[spec.dtype].is_text]
        if texts:
            raise ModelError(f"{origin}: OpenVINO takes no strings ({', '.join(texts)}): set the engine to onnxruntime")
        if precision == "bfloat16" and not cpu_has_bfloat16():
            raise ModelError("this CPU has no bfloat16; set openvino_precision to float32 or auto")
        core = openvino.Core()
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": threads or available_cores(),
            # One call at a time gets all threads: several callers are served by batches, not side by side.
            "NUM_STREAMS": 1,
            # The API workers decode images on the same cores, where a pinned thread could not make way for them.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            graph = core.read_model(path)
            _check_tensors(origin, "input", graph.inputs, signature.inputs)
            _check_tensors(origin, "output", graph.outputs, signature.outputs)
            compiled = core.compile_model(graph, "CPU", options)
        except RuntimeError as error:  # OpenVINO has no other type
            raise ModelError(
                f"{origin} cannot be loaded by the installed openvino {openvino.__version__}: {error}"
            ) from error
        self._request = compiled.create_infer_request()
        self._lock = Lock()
        # What was compiled, not what was asked for.
        used = _PRECISIONS[compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()]
        self.description = f"openvino {_short(openvino.__version__)} ({used})"

    def _call(self, tensors: Tensors) -> Tensors:
        # OpenVINO would convert another dtype in silence: normalised pixels would all become 0 or 255.
        self.signature.check(tensors, allow_nan=True)
        if self.signature.has_rows and not count(tensors):
            # Of a batch of nothing OpenVINO makes an error.
            return {
                spec.name: np.zeros([0, *(length or 0 for length in spec.inner_shape)], DTYPES[spec.dtype].numpy)
                for spec in self.signature.outputs
            }
        # A request has one set of buffers, and its results are overwritten by the next: hence the lock and the copy.
        with self._lock:
            try:
                found = self._request.infer(tensors, share_inputs=True, share_outputs=False)
            except RuntimeError as error:  # OpenVINO has no other type
                if "llocat" in str(error):  # no memory left is not the caller's fault
                    raise
                # OpenVINO's message names nodes of the graph: it is for the operator.
                logger.info("the graph refused its input: %s", error)
                raise refused(tensors) from error
            return {spec.name: found[spec.name] for spec in self.signature.outputs}


def _import_openvino() -> Any:
    """The module, imported without its telemetry.

    Raises:
        ModelError: it is not installed, or a library that it needs is not there; names the extra.
    """
    # The import itself reports to the vendor's analytics when this package, a dependency of openvino, is there.
    # Without, openvino uses a stub. A service does not call home.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise ModelError(not_installed(error)) from error


def _check_tensors(origin: str, kind: str, found: Any, declared: tuple[TensorSpec, ...]) -> None:
    actual = {
        tensor.get_any_name(): (str(tensor.get_element_type().to_dtype()), len(tensor.get_partial_shape()))
        for tensor in found
    }
    expected = {spec.name: (spec.dtype, len(spec.shape)) for spec in declared}
    if actual != expected:
        raise ModelError(f"{origin}: the graph's {kind}s are {actual}, its metadata says {expected}")


def _short(version: str) -> str:
    """`2026.4.1-22982-e213a147257-releases/2026/4` to `2026.4.1`."""
    return version.partition("-")[0]
