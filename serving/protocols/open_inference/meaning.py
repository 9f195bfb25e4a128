"""The meaning of the Open Inference Protocol: what a request asks of a model, and what is answered.

Every check stands here once, with one wording for HTTP and gRPC.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from numpy.typing import NDArray

import serving
from serving.codecs.answers import Answers
from serving.core.errors import InvalidInputError
from serving.core.ranking import rank
from serving.core.signature import TensorSpec
from serving.core.tensors import DTYPES, Tensors, strings
from serving.core.validation import shortened
from serving.http.description import interface
from serving.metrics.inference import Sums
from serving.model import Call, Model, Models
from serving.protocols.open_inference.messages import (
    INTERFACE,
    BatchStatistics,
    ConfigParameter,
    ConfigTensor,
    Duration,
    InferInput,
    InferRequest,
    InferResponse,
    InferStatistics,
    ModelConfig,
    ModelIndex,
    ModelMetadata,
    ModelStatistics,
    OutputTensor,
    Parameters,
    Server,
    TensorMetadata,
)
from serving.protocols.tensors import check_listed, check_shape, joined

NAME = "model_serving"
EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics")
PLATFORM = "onnx_onnxv1"
"""What the protocol calls a model in ONNX."""
TRITON_PLATFORM, TRITON_BACKEND = "onnxruntime_onnx", "onnxruntime"
_SHARED_MEMORY = "shared_memory_region"
_NO_SHARED_MEMORY = "shared memory is not supported; requests and answers carry their data"
_CLASSIFICATION = "classification"


class Missing(NamedTuple):
    """An extension that Triton has and this server has not: its paths, its gRPC methods, and what callers are told."""

    reason: str
    paths: tuple[str, ...]
    methods: tuple[str, ...]


MISSING = (
    *(
        Missing(
            _NO_SHARED_MEMORY,
            (f"/v2/{kind.lower()}/{{rest}}",),
            tuple(f"{kind}{action}" for action in ("Status", "Register", "Unregister")),
        )
        for kind in ("SystemSharedMemory", "CudaSharedMemory")
    ),
    Missing(
        "requests load and unload no models; `models` in configuration.yaml says which are served",
        ("/v2/repository/models/{rest}",),
        ("RepositoryModelLoad", "RepositoryModelUnload"),
    ),
    Missing(
        "requests do not set traces; `tracing` in configuration.yaml does",
        ("/v2/trace/setting", "/v2/models/{model}/trace/setting"),
        ("TraceSetting",),
    ),
    Missing("requests do not set the log; `logging` in configuration.yaml does", ("/v2/logging",), ("LogSettings",)),
)


def _datatype(spec: TensorSpec) -> str:
    return DTYPES[spec.dtype].open_inference


class Meaning:
    """Of what is said to one model.

    Attributes:
        inputs: those of the model's metadata; a request may have other alternatives (`Codec.offered`).
        outputs: of the answer.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._alternatives = model.codec.offered()
        self.inputs = self._alternatives[0]
        self.outputs = model.codec.protocol_specs()
        self._single = self._single_inputs()
        self._by_name = [{spec.name: spec for spec in alternative} for alternative in self._alternatives]
        self._all = [(spec.name, False, 0) for spec in self.outputs]
        self._datatypes = {spec.name: _datatype(spec) for spec in self.outputs}
        self._has_rows = model.signature.has_rows
        self._allow_nan = model.metadata.allow_nan
        # The output that `classification` is for: the scores of classes.
        ranked = model.metadata.scores if model.codec.has_labels else ""
        self._ranked = ranked if ranked in self._datatypes else ""
        self._answers = Answers(model.metadata)

    def _single_inputs(self) -> dict[tuple[str, str], TensorSpec]:
        """Alternatives of one input by name and datatype, so that most requests are understood by one look-up.

        Pixels are also understood under the name of the images.
        """
        single = [alternative[0] for alternative in self._alternatives if len(alternative) == 1]
        named = {(spec.name, _datatype(spec)): spec for spec in reversed(single)}
        if single and single[0] is self.inputs[0]:
            named = {(single[0].name, _datatype(spec)): spec for spec in reversed(single)} | named
        return named

    async def infer(self, request: InferRequest, call: Call) -> InferResponse:
        """Answer a request. The caller must watch for disconnects and enforce the time limit.

        Raises:
            InvalidInputError: it is not what the model takes; names the tensor.
            OverloadedError, UnavailableError, DeadlineExceededError: as `Model.infer`.
        """
        call.model = self.model.tag
        wanted = self._wanted(request)
        outputs = await self.model.infer(self.tensors(request), call)
        answered = [
            self._classified(name, classes, binary, outputs)
            if classes
            else OutputTensor(name, self._datatypes[name], outputs[name], binary)
            for name, binary, classes in wanted
        ]
        return InferResponse(self.model.name, str(self.model.version), answered, request.id)

    def tensors(self, request: InferRequest) -> Tensors:
        """The inputs of a request, as one of the alternatives of `Codec.offered`.

        Raises:
            InvalidInputError: names the tensor and what it has to be.
        """
        shapes: list[tuple[TensorSpec, InferInput, tuple[int, ...]]] = []
        listed: list[tuple[TensorSpec, int]] = []
        for spec, given in self._choose(request.inputs):
            if given.parameters:
                _refuse_shared_memory(given.name, given.parameters)
            shape = check_shape(spec, given.shape, has_rows=self._has_rows)
            shapes.append((spec, given, shape))
            if (given.data and given.data.listed) or DTYPES[spec.dtype].is_text:
                listed.append((spec, math.prod(shape)))
        check_listed(listed)
        found: Tensors = {}
        for spec, given, shape in shapes:
            if given.data is None:
                raise InvalidInputError(f"{spec.name}: there is no data")
            array = given.data.read(spec, tuple(given.shape), allow_nan=self._allow_nan)
            found[spec.name] = array if array.shape == shape else array.reshape(shape)
        return found

    def _choose(self, inputs: Sequence[InferInput]) -> Iterable[tuple[TensorSpec, InferInput]]:
        """What each input is: the names and datatypes choose the alternative."""
        if len(inputs) == 1:
            spec = self._single.get((inputs[0].name, inputs[0].datatype))
            if spec is not None:
                return ((spec, inputs[0]),)
        given = {each.name: each for each in inputs}
        if len(given) < len(inputs):
            raise InvalidInputError("inputs: an input is given twice")
        for specs in self._by_name:
            if given.keys() == specs.keys() and all(
                _datatype(spec) == given[name].datatype for name, spec in specs.items()
            ):
                return [(spec, given[name]) for name, spec in specs.items()]
        raise self._unknown(given)

    def _unknown(self, given: dict[str, InferInput]) -> InvalidInputError:
        """Why no alternative is meant."""
        there = " or ".join(joined(specs) for specs in self._by_name)
        # The alternative that it is nearest to.
        specs = max(self._by_name, key=lambda each: (len(each.keys() & given.keys()), -len(each.keys() - given.keys())))
        for name in given:
            if not any(name in each for each in self._by_name):
                return InvalidInputError(f"there is no input {shortened(name)}; the model has {there}")
        for name in specs:
            if name not in given:
                return InvalidInputError(f"the input {name} is missing; the model has {there}")
        for name, spec in specs.items():
            if given[name].datatype != _datatype(spec):
                datatype = shortened(given[name].datatype) or "(none)"
                return InvalidInputError(f"{name}: the datatype has to be {_datatype(spec)}, not {datatype}")
        return InvalidInputError(f"inputs: either {there} are required, not {joined(given)}")

    def _wanted(self, request: InferRequest) -> list[tuple[str, bool, int]]:
        """Name, form and number of classes, 0 for the tensor itself, of each output of the answer."""
        classes = _classes(request.parameters) if request.parameters else 0
        if not request.outputs:
            if not classes and not request.binary:
                return self._all
            return [(name, request.binary, classes if name == self._ranked else 0) for name in self._datatypes]
        wanted: list[tuple[str, bool, int]] = []
        for output in request.outputs:
            name = output.name
            if name not in self._datatypes:
                raise InvalidInputError(
                    f"there is no output {shortened(name)}; the model has {joined(self._datatypes)}"
                )
            if any(name == other for other, _, _ in wanted):
                raise InvalidInputError(f"the output {name} is asked for twice")
            own = 0
            if output.parameters:
                _refuse_shared_memory(name, output.parameters)
                own = _classes(output.parameters)
            if own and name != self._ranked:
                of = f"is for {self._ranked}, not for {name}" if self._ranked else "is for models with classes"
                raise InvalidInputError(f"{name}: the parameter classification {of}")
            wanted.append((name, output.binary, (own or classes) if name == self._ranked else 0))
        return wanted

    def _classified(self, name: str, classes: int, binary: bool, outputs: Tensors) -> OutputTensor:
        probabilities = self._answers.probabilities(outputs)
        return OutputTensor(name, "BYTES", classify(probabilities, self.model.metadata.labels, classes), binary)

    def metadata(self) -> ModelMetadata:
        """Versions and tensors. Of inputs all are required; alternatives of `Codec.offered` are not listed."""

        def described(spec: TensorSpec) -> TensorMetadata:
            return TensorMetadata(spec.name, _datatype(spec), _lengths(spec.shape))

        def taken(spec: TensorSpec) -> TensorMetadata:
            return TensorMetadata(spec.name, _datatype(spec), _lengths(self._taken(spec)))

        return ModelMetadata(
            self.model.name,
            [str(self.model.version)],
            PLATFORM,
            [taken(spec) for spec in self.inputs],
            [described(spec) for spec in self.outputs],
        )

    def _taken(self, spec: TensorSpec) -> Sequence[int | None]:
        """The shape of an input for clients: one value for each row is a column, which Triton's tools insist on."""
        return [None, 1] if self._has_rows and len(spec.shape) == 1 else spec.shape

    def config(self) -> ModelConfig:
        """As Triton has it."""

        def described(spec: TensorSpec, shape: Sequence[int | None]) -> ConfigTensor:
            datatype = _datatype(spec)
            dims = _lengths(shape[1:] if self._has_rows else shape)
            return ConfigTensor(spec.name, f"TYPE_{'STRING' if datatype == 'BYTES' else datatype}", dims)

        return ModelConfig(
            self.model.name,
            TRITON_PLATFORM,
            TRITON_BACKEND,
            self.model.limits.max_rows if self._has_rows else 0,
            [described(spec, self._taken(spec)) for spec in self.inputs],
            [described(spec, spec.shape) for spec in self.outputs],
            parameters={INTERFACE: ConfigParameter(msgspec.json.encode(interface(self.model)).decode())},
        )

    def statistics(self, sums: Sums) -> ModelStatistics:
        """How often and how fast the standard protocols asked.

        Each request that was answered is an execution, with as many rows as it has: a batcher behind it may put several
        into one call of the engine. The wait for that is part of `compute_infer`. Encoding is not measured. Batches of
        more than 64 rows are listed under the next power of two.
        """

        def duration(count: int, seconds: float = 0.0) -> Duration:
            return Duration(count, int(seconds * 1e9))

        return ModelStatistics(
            name=self.model.name,
            version=str(self.model.version),
            last_inference=int(sums.last * 1e3),
            inference_count=sums.rows,
            execution_count=sums.executions,
            inference_stats=InferStatistics(
                success=duration(sums.successes, sums.success_seconds),
                fail=duration(sums.failures, sums.failure_seconds),
                queue=duration(sums.successes),
                compute_input=duration(sums.successes, sums.input_seconds),
                compute_infer=duration(sums.successes, sums.infer_seconds),
                compute_output=duration(sums.successes),
            ),
            batch_stats=[
                BatchStatistics(
                    rows,
                    duration(batch.count, batch.input_seconds),
                    duration(batch.count, batch.infer_seconds),
                    duration(batch.count),
                )
                for rows, batch in sorted(sums.batches.items())
            ],
        )

    def index_entry(self) -> ModelIndex:
        """The model as the repository lists it."""
        state, reason = "READY", ""
        if not self.model.ready:
            state, reason = "UNAVAILABLE", "its runner is away, or the server is stopping"
        return ModelIndex(self.model.name, str(self.model.version), state, reason)


class Meanings:
    """Of all models.

    Args:
        sums: what a model was asked, from its name; reads files.
    """

    def __init__(self, models: Models, *, sums: Callable[[str], Sums]) -> None:
        self._models = models
        self._meanings = {model.name: Meaning(model) for model in models}
        self._sums = sums

    def find(self, name: str, version: str = "") -> Meaning:
        """Raises NotFoundError: the model or this version of it is not served."""
        if not version and name in self._meanings:
            return self._meanings[name]
        return self._meanings[self._models.find(name, version).name]

    def __iter__(self) -> Iterator[Meaning]:
        return iter(self._meanings.values())

    def index(self, *, only_ready: bool) -> list[ModelIndex]:
        """The models, or those that answer."""
        return [each.index_entry() for each in self if each.model.ready or not only_ready]

    async def statistics(self, meanings: Iterable[Meaning]) -> list[ModelStatistics]:
        """Of some models."""
        found: list[ModelStatistics] = []
        for each in meanings:
            each.model.statistics.flush()
            # In a thread, as the figures of the other processes are in files.
            found.append(each.statistics(await asyncio.to_thread(self._sums, each.model.name)))
        return found


def server() -> Server:
    """This server."""
    return Server(NAME, serving.__version__, EXTENSIONS)


def classify(probabilities: NDArray[Any], labels: Sequence[str], classes: int) -> NDArray[Any]:
    """The most probable classes of each row, best first: strings `[N, classes]`, `<probability>:<class id>:<label>`."""
    classes = min(classes, len(labels))
    number = probabilities.dtype.type  # prints the shortest text that reads as the same number
    found = [
        f"{number(each.probability)!s}:{each.class_id}:{each.label}"
        for row in probabilities
        for each in rank(row, labels, classes)
    ]
    return strings(found, (len(probabilities), classes))


def _classes(parameters: Parameters) -> int:
    """The number of classes that `classification` asks for."""
    value = parameters.get(_CLASSIFICATION)
    if value is None:
        return 0
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or value < 0
        or value != int(value)
    ):
        raise InvalidInputError("the parameter classification has to be a number of classes")
    return int(value)


def _refuse_shared_memory(name: str, parameters: Parameters) -> None:
    if parameters.get(_SHARED_MEMORY) is not None:
        raise InvalidInputError(f"{name}: {_NO_SHARED_MEMORY}")


def _lengths(shape: Sequence[int | None]) -> list[int]:
    return [-1 if length is None else length for length in shape]
