"""ONNX Runtime sessions as the engines need them."""

from __future__ import annotations

import os
from collections.abc import Sequence

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from serving.core.errors import ModelError
from serving.store.models import StoredModel, TensorSpec

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
_DTYPES = {"float32": "tensor(float)", "uint8": "tensor(uint8)"}


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def open_session(
    model: StoredModel,
    *,
    threads: int,
    spin: bool,
    providers: Sequence[str] = ("CPUExecutionProvider",),
) -> onnxruntime.InferenceSession:
    """Load the ONNX graph of `model`.

    Args:
        threads: threads for one call; 0 means one per core.
        spin: let idle threads spin between calls: lower latency, but it takes cores from the rest.
        providers: execution providers in order of preference.

    Raises:
        ModelError: the file cannot be loaded by the installed ONNX Runtime (names both versions), a provider
            is not installed, or the graph's inputs and outputs are not those of the metadata.
    """
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
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
    try:
        session = onnxruntime.InferenceSession(str(model.onnx_path), options, providers=list(providers))
    except _LOAD_ERRORS as error:
        made_with = model.metadata.versions.get("onnxruntime", "an unknown version")
        raise ModelError(
            f"model {model.tag} (ONNX IR {model.metadata.onnx_ir_version}, opset {model.metadata.onnx_opset}, "
            f"verified with onnxruntime {made_with}) cannot be loaded by the installed onnxruntime "
            f"{onnxruntime.__version__}: {error}"
        ) from error
    _check_tensors(model.tag, "input", session.get_inputs(), model.metadata.inputs)
    _check_tensors(model.tag, "output", session.get_outputs(), model.metadata.outputs)
    return session


def describe(session: onnxruntime.InferenceSession) -> str:
    """Library, version, precision of the graph and the provider that comes first, for people."""
    return f"onnxruntime {onnxruntime.__version__} (float32, {session.get_providers()[0]})"


def _check_tensors(tag: str, kind: str, actual: Sequence[onnxruntime.NodeArg], declared: Sequence[TensorSpec]) -> None:
    # A dimension of any length has a name or nothing in the graph.
    found = [(arg.name, arg.type, [n if isinstance(n, int) else None for n in arg.shape]) for arg in actual]
    expected = [(spec.name, _DTYPES.get(spec.dtype, spec.dtype), spec.shape) for spec in declared]
    if found != expected:
        raise ModelError(f"model {tag}: the graph's {kind}s are {found}, its metadata says {expected}")
