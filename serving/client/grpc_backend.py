"""Predictions over gRPC, in TensorFlow Serving's protocol or the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.json_format import Error, MessageToDict
from google.protobuf.message import DecodeError

from serving.client.answers import ApiError, ClientError, UnreachableError
from serving.client.predictions import Inputs, Prediction, Protocol, best, read_class
from serving.grpc.messages import INFERENCE, POOL, PREDICTION, message

_ALL_CLASSES = 1_000_000
_REQUEST_ID = "x-request-id"
_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
# What no answer at all ends in; the server's own answers of these codes have the id of the request.
_UNREACHABLE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
_MISSHAPEN = (DecodeError, Error, ValueError, TypeError)
_OPTIONS = [("grpc.max_receive_message_length", -1)]


class _Dialect:
    """Requests of one protocol, and what their answers mean."""

    def __init__(self, target: str, protocol: Protocol, timeout: float) -> None:
        scheme, _, rest = target.rpartition("://")
        if scheme not in ("", "http", "https"):
            raise ValueError("target: host:port is required; https:// before it is TLS")
        self.target = rest
        self.timeout = timeout
        self._protocol = protocol
        self.credentials = grpc.ssl_channel_credentials() if scheme == "https" else None

    @property
    def predict_path(self) -> str:
        return f"/{INFERENCE}/ModelInfer" if self._protocol == "v2" else f"/{PREDICTION}/Classify"

    @property
    def metadata_path(self) -> str:
        return f"/{INFERENCE}/ModelMetadata" if self._protocol == "v2" else f"/{PREDICTION}/GetModelMetadata"

    def ask(self, model: str, inputs: Inputs) -> bytes:
        make = _infer if self._protocol == "v2" else _classify
        try:
            asked: bytes = make(model, inputs).SerializeToString()
        except (TypeError, ValueError) as error:
            raise ValueError(f"the inputs cannot be sent: {error}") from error
        return asked

    def ask_metadata(self, model: str) -> bytes:
        request: Any
        if self._protocol == "v2":
            request = message("inference.ModelMetadataRequest")(name=model)
        else:
            request = message("tensorflow.serving.GetModelMetadataRequest")(metadata_field=["signature_def"])
            request.model_spec.name = model
        asked: bytes = request.SerializeToString()
        return asked

    def read(self, answer: bytes, inputs: Inputs) -> list[Prediction]:
        try:
            return _read_inferred(answer) if self._protocol == "v2" else _read_classified(answer, inputs.top_k)
        except _MISSHAPEN as error:  # somebody else answers on this port
            raise ApiError(200, "not_understood", "the answer is no prediction") from error

    def read_metadata(self, answer: bytes) -> dict[str, Any]:
        name = (
            "inference.ModelMetadataResponse"
            if self._protocol == "v2"
            else "tensorflow.serving.GetModelMetadataResponse"
        )
        read: Callable[..., dict[str, Any]] = MessageToDict
        try:
            return read(message(name).FromString(answer), preserving_proto_field_name=True, descriptor_pool=POOL)
        except _MISSHAPEN as error:
            raise ApiError(200, "not_understood", "the answer is no metadata") from error

    def failed(self, error: Any) -> ClientError:
        """What a call that failed says. `error` is of either kind of call."""
        code = error.code()
        trailing = dict(error.trailing_metadata() or ())
        if code in _UNREACHABLE and _REQUEST_ID not in trailing:
            late = code == grpc.StatusCode.DEADLINE_EXCEEDED
            why = f"no answer within {self.timeout:g} s" if late else error.details()
            return UnreachableError(f"{self.target} cannot be reached: {why}")
        after = str(trailing.get("retry-after", ""))
        return ApiError(
            _STATUS.get(code, 500),
            code.name.lower(),
            error.details() or "an error without words",
            (),
            float(after) if after.isdigit() else None,
        )


def _infer(model: str, inputs: Inputs) -> Any:
    request = message("inference.ModelInferRequest")(model_name=model)
    if inputs.rows:
        shape = [len(inputs.rows), len(inputs.rows[0])]
        tensor = request.inputs.add(name="features", datatype="FP32", shape=shape)
        for row in inputs.rows:
            tensor.contents.fp32_contents.extend(row)
    else:
        tensor = request.inputs.add(name="image", datatype="BYTES", shape=[len(inputs.images)])
        tensor.contents.bytes_contents.extend(inputs.images)
    wanted = request.outputs.add(name="probabilities")
    wanted.parameters["classification"].int64_param = inputs.top_k or _ALL_CLASSES
    return request


def _classify(model: str, inputs: Inputs) -> Any:
    request = message("tensorflow.serving.ClassificationRequest")()
    request.model_spec.name = model
    examples = request.input.example_list.examples
    for row in inputs.rows:
        examples.add().features.feature["features"].float_list.value.extend(row)
    for image in inputs.images:
        examples.add().features.feature["image"].bytes_list.value.append(image)
    return request


def _read_inferred(answer: bytes) -> list[Prediction]:
    (output,) = message("inference.ModelInferResponse").FromString(answer).outputs
    rows, classes = output.shape
    found = [read_class(text.decode()) for text in output.contents.bytes_contents]
    return [Prediction(tuple(found[row * classes : (row + 1) * classes])) for row in range(rows)]


def _read_classified(answer: bytes, top_k: int | None) -> list[Prediction]:
    result = message("tensorflow.serving.ClassificationResponse").FromString(answer).result
    return [best([(each.label, each.score) for each in row.classes], top_k) for row in result.classifications]


class GrpcBackend:
    """One protocol over gRPC, as `serving.client.predict.Backend`."""

    def __init__(self, target: str, protocol: Protocol, timeout: float) -> None:
        self._dialect = dialect = _Dialect(target, protocol, timeout)
        self._channel: Any = (
            grpc.insecure_channel(dialect.target, options=_OPTIONS)
            if dialect.credentials is None
            else grpc.secure_channel(dialect.target, dialect.credentials, options=_OPTIONS)
        )

    def predict(self, model: str, inputs: Inputs) -> list[Prediction]:
        answer = self._ask(self._dialect.predict_path, self._dialect.ask(model, inputs))
        return self._dialect.read(answer, inputs)

    def metadata(self, model: str) -> dict[str, Any]:
        return self._dialect.read_metadata(self._ask(self._dialect.metadata_path, self._dialect.ask_metadata(model)))

    def close(self) -> None:
        self._channel.close()

    def _ask(self, path: str, request: bytes) -> bytes:
        try:
            answer: bytes = self._channel.unary_unary(path)(request, timeout=self._dialect.timeout)
        except grpc.RpcError as error:
            raise self._dialect.failed(error) from error
        return answer


class AsyncGrpcBackend:
    """The same, as coroutines."""

    def __init__(self, target: str, protocol: Protocol, timeout: float) -> None:
        self._dialect = dialect = _Dialect(target, protocol, timeout)
        self._channel: Any = (
            grpc.aio.insecure_channel(dialect.target, options=_OPTIONS)
            if dialect.credentials is None
            else grpc.aio.secure_channel(dialect.target, dialect.credentials, options=_OPTIONS)
        )

    async def predict(self, model: str, inputs: Inputs) -> list[Prediction]:
        answer = await self._ask(self._dialect.predict_path, self._dialect.ask(model, inputs))
        return self._dialect.read(answer, inputs)

    async def metadata(self, model: str) -> dict[str, Any]:
        asked = await self._ask(self._dialect.metadata_path, self._dialect.ask_metadata(model))
        return self._dialect.read_metadata(asked)

    async def close(self) -> None:
        await self._channel.close()

    async def _ask(self, path: str, request: bytes) -> bytes:
        try:
            answer: bytes = await self._channel.unary_unary(path)(request, timeout=self._dialect.timeout)
        except grpc.RpcError as error:
            raise self._dialect.failed(error) from error
        return answer
