"""The InceptionV3 image classifier on OpenVINO, from the same stored graph as on ONNX Runtime.

On a CPU that has bfloat16 it is nearly twice as fast; without, about as fast. OpenVINO is an optional extra
and is imported only by the functions here.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from serving.core.errors import ModelError
from serving.engines.inception_v3 import IMAGE_SHAPE
from serving.engines.session import available_cores
from serving.store.models import StoredModel

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
        f"inception_v3.engine is openvino, which cannot be imported ({error or 'it is not installed'}): install the "
        f"extra `openvino` ({INSTALL}), or set the engine to onnxruntime"
    )


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 itself (avx512_bf16, AMX or their like), as OpenVINO sees it.

    OpenVINO would also take the hint on any CPU with AVX-512 and emulate, which is slower than float32.

    Raises:
        ModelError: OpenVINO is not installed.
    """
    return "BF16" in _import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoInceptionV3Engine:
    """Class probabilities of images. Normalisation and softmax are inside the graph.

    The graph is compiled once, for batches of any length: measured, that is as fast as a compilation for each
    length, and a row then gets the same answer in every batch, in both precisions. Compiled for a batch of 8
    alone, kernels of another blocking are chosen and the bfloat16 answers differ visibly. The first batch of
    each length takes about one image's time longer.

    Args:
        threads: threads for one call; 0 means one per core.
        precision: of the arithmetic. `bfloat16` keeps 8 significant bits of weights and activations and sums in
            float32, so answers differ from those in float32; how much depends on the weights.

    Raises:
        ModelError: OpenVINO is not installed, cannot load the stored model or the CPU has no bfloat16.
    """

    def __init__(self, model: StoredModel, *, threads: int = 0, precision: Precision = "float32") -> None:
        self.model = model
        openvino = _import_openvino()
        if precision == "bfloat16" and not cpu_has_bfloat16():
            raise ModelError("this CPU has no bfloat16; set inception_v3.openvino_precision to float32 or auto")
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
            graph = core.read_model(model.onnx_path)
            _check_tensors(model, graph)
            compiled = core.compile_model(graph, "CPU", options)
        except RuntimeError as error:  # OpenVINO has no other type
            made_with = model.metadata.versions.get("onnxruntime", "an unknown version")
            raise ModelError(
                f"model {model.tag} (ONNX IR {model.metadata.onnx_ir_version}, opset {model.metadata.onnx_opset}, "
                f"verified with onnxruntime {made_with}) cannot be loaded by the installed openvino "
                f"{openvino.__version__}: {error}"
            ) from error
        self._request = compiled.create_infer_request()
        self._lock = Lock()
        self._classes = len(model.metadata.labels)
        # What was compiled, not what was asked for.
        used = _PRECISIONS[compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()]
        self.description = f"openvino {_short(openvino.__version__)} ({used})"

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities.

        Args:
            images: uint8 `[N, 299, 299, 3]`, RGB.

        Returns:
            float32 `[N, classes]`; a row sums to 1, in bfloat16 too, because the softmax stays in float32.

        Raises:
            ValueError: another dtype or shape.
        """
        # OpenVINO would convert another dtype in silence: normalised pixels would all become 0 or 255.
        if images.dtype != np.uint8 or images.shape[1:] != IMAGE_SHAPE:
            raise ValueError(f"images must be uint8 (N, 299, 299, 3), not {images.dtype} {images.shape}")
        if not len(images):
            return np.empty((0, self._classes), np.float32)
        # A request has one set of buffers, and its results are overwritten by the next: hence the lock and the copy.
        with self._lock:
            return self._request.infer({0: images}, share_inputs=True, share_outputs=False)[0]

    def warm_up(self) -> None:
        """Run once, so that the first caller does not pay for lazy allocation."""
        self.predict(np.zeros((1, *IMAGE_SHAPE), np.uint8))


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


def _check_tensors(model: StoredModel, graph: Any) -> None:
    for kind, found, declared in (
        ("input", graph.inputs, model.metadata.inputs),
        ("output", graph.outputs, model.metadata.outputs),
    ):
        actual = [
            (
                tensor.get_any_name(),
                str(tensor.get_element_type().to_dtype()),
                [n.get_length() if n.is_static else None for n in tensor.get_partial_shape()],
            )
            for tensor in found
        ]
        expected = [(spec.name, spec.dtype, spec.shape) for spec in declared]
        if actual != expected:
            raise ModelError(f"model {model.tag}: the graph's {kind}s are {actual}, its metadata says {expected}")


def _short(version: str) -> str:
    """`2026.4.1-22982-e213a147257-releases/2026/4` to `2026.4.1`."""
    return version.partition("-")[0]
