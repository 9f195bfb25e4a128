"""Any ONNX graph in ONNX Runtime."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from serving.core.engine import Engine, available_cores, refused
from serving.core.errors import ModelError
from serving.core.signature import Signature, TensorSpec
from serving.core.tensors import DTYPES, Tensors

logger = logging.getLogger("serving.engine")

# What ONNX Runtime raises for a file that is missing, broken, or in a format newer than it reads. Its
# message names the newest IR version or opset that it supports.
_LOAD_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)
# What it raises for shapes that do not fit inside the graph and for values that point outside a table.
_RUN_ERRORS = (ort_errors.Fail, ort_errors.InvalidArgument, ort_errors.RuntimeException)


class OnnxRuntimeEngine(Engine):
    """A graph in ONNX Runtime.

    Args:
        path: the ONNX file.
        signature: what the graph has to have.
        origin: what the file is, for messages: `model iris:1 (ONNX IR 8, opset 18, verified with onnxruntime 1.23)`.
        threads: threads for one call; 0 means one per core.
        providers: execution providers in order of preference.

    Raises:
        ModelError: the file cannot be loaded by the installed ONNX Runtime (names both versions), a provider
            is not installed, or the graph's inputs and outputs are not those of the signature.
    """

    def __init__(
        self,
        path: Path,
        signature: Signature,
        *,
        origin: str,
        threads: int = 0,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        self.signature = signature
        self._session = open_session(path, origin=origin, threads=threads, providers=providers)
        _check_tensors(origin, "input", self._session.get_inputs(), signature.inputs, signature)
        _check_tensors(origin, "output", self._session.get_outputs(), signature.outputs, signature, ranks=False)
        self._outputs = [spec.name for spec in signature.outputs]
        floats = {spec.dtype for spec in signature.inputs if DTYPES[spec.dtype].is_float}
        precision = floats.pop() if len(floats) == 1 else "float32"
        self.description = f"onnxruntime {onnxruntime.__version__} ({precision}, {self._session.get_providers()[0]})"

    def _call(self, tensors: Tensors) -> Tensors:
        try:
            found = self._session.run(self._outputs, tensors)
        except _RUN_ERRORS as error:
            if "llocat" in str(error):  # no memory left is not the caller's fault
                raise
            # ONNX Runtime's message names nodes of the graph: it is for the operator.
            logger.info("the graph refused its input: %s", error)
            raise refused(tensors) from error
        return dict(zip(self._outputs, found, strict=True))


def open_session(
    path: Path, *, origin: str, threads: int = 0, providers: Sequence[str] = ("CPUExecutionProvider",)
) -> onnxruntime.InferenceSession:
    """Load a graph; see `OnnxRuntimeEngine`."""
    missing = [name for name in providers if name not in onnxruntime.get_available_providers()]
    if missing:
        raise ModelError(
            f"{', '.join(missing)} is not in the installed onnxruntime "
            f"(it has {', '.join(onnxruntime.get_available_providers())})"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that do not spin between two calls leave the cores to whatever decodes the next request.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    except _LOAD_ERRORS as error:
        raise ModelError(
            f"{origin} cannot be loaded by the installed onnxruntime {onnxruntime.__version__}: {error}"
        ) from error


def _check_tensors(
    origin: str,
    kind: str,
    actual: Sequence[onnxruntime.NodeArg],
    declared: Sequence[TensorSpec],
    signature: Signature,
    *,
    ranks: bool = True,
) -> None:
    """Compare names, dtypes and (of inputs) shapes; the shapes of outputs were learned by running the graph."""
    found = [(arg.name, arg.type, _shape(arg, signature) if ranks else None) for arg in actual]
    expected = [(spec.name, DTYPES[spec.dtype].onnx, spec.shape if ranks else None) for spec in declared]
    if sorted(found, key=str) != sorted(expected, key=str):
        raise ModelError(f"{origin}: the graph's {kind}s are {found}, its metadata says {expected}")


def _shape(arg: onnxruntime.NodeArg, signature: Signature) -> list[int | None]:
    # A dimension of any length has a name or nothing in the graph. Rows that are run one by one count as any number.
    shape = [length if isinstance(length, int) else None for length in arg.shape]
    return [None, *shape[1:]] if signature.batching == "one" else shape
