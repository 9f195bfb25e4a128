"""The meaning of TensorFlow Serving's API: the signatures of a model, and what is answered.

Every check stands here once, with one wording for HTTP and gRPC.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from serving.codecs.answers import Answers
from serving.codecs.base import LABEL, LABEL_SPEC
from serving.codecs.columns import columns_of
from serving.core.errors import InvalidInputError, NotFoundError
from serving.core.signature import TensorSpec
from serving.core.tensors import BYTES, DTYPES, STRING, Tensors, strings
from serving.core.validation import shortened
from serving.model import Call, Model, Models
from serving.protocols.tensors import from_numbers, from_texts, joined
from serving.protocols.tfserving.messages import (
    CLASSIFY,
    PREDICT,
    ClassifyRequest,
    ClassifyResponse,
    Example,
    ModelDescription,
    PredictRequest,
    PredictResponse,
    Signature,
)

DEFAULT_SIGNATURE = "serving_default"
CLASSIFY_SIGNATURE = "classify"
PROBABILITIES = "probabilities"
ONE_OUTPUT = "output_0"
"""What a SavedModel calls the output of a function that returns one tensor."""
_DIGITS = 19
# As TensorFlow's exporters name them: serialised `tensorflow.Example`s in, one column for each class out.
_EXAMPLES = TensorSpec(name="inputs", dtype=BYTES, shape=[None])
_SCORES = TensorSpec(name="scores", dtype="float32", shape=[None, None])
_CLASSES = TensorSpec(name="classes", dtype=STRING, shape=[None, None])


class Meaning:
    """Of what is said to one model.

    Signatures are a view of the model. `serving_default` has its inputs and its outputs; of a classifier of images it
    gives the label, as the SavedModel does that training exports, and `probabilities` gives the probabilities.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        codec, metadata = model.codec, model.metadata
        self._inputs = codec.offered()[0]
        self._answers = Answers(metadata)
        self._columns = columns_of(metadata) if metadata.kind == "rows" else []
        self.signatures: dict[str, Signature] = {}
        self._select: dict[str, Callable[[Tensors], Tensors]] = {}
        if metadata.kind == "image" and codec.has_labels and not metadata.multilabel:
            label = TensorSpec(name=ONE_OUTPUT, dtype=STRING, shape=[None])
            classes: list[int | None] = [None, len(metadata.labels)]
            scores = TensorSpec(name=PROBABILITIES, dtype=metadata.scores_spec.dtype, shape=classes)
            self._add(DEFAULT_SIGNATURE, (label,), lambda outputs: {ONE_OUTPUT: self._label(outputs)})
            self._add(PROBABILITIES, (scores,), lambda outputs: {PROBABILITIES: self._answers.probabilities(outputs)})
        else:
            # The label that a codec adds is not an output of the graph.
            specs = tuple(spec for spec in codec.protocol_specs() if spec is not LABEL_SPEC)
            names = [spec.name for spec in specs]
            self._add(DEFAULT_SIGNATURE, specs, lambda outputs: {name: outputs[name] for name in names})
        if codec.has_labels and model.signature.has_rows:
            self.signatures[CLASSIFY_SIGNATURE] = self._signature(CLASSIFY, (_EXAMPLES,), (_CLASSES, _SCORES))

    def _add(self, name: str, outputs: tuple[TensorSpec, ...], select: Callable[[Tensors], Tensors]) -> None:
        self.signatures[name] = self._signature(PREDICT, self._inputs, outputs)
        self._select[name] = select

    def _signature(self, method: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Signature:
        model = self.model
        return Signature(
            method, inputs, outputs, model.signature.has_rows, model.limits.max_rows, model.metadata.allow_nan
        )

    def _label(self, outputs: Tensors) -> NDArray[Any]:
        found = outputs.get(LABEL)
        return strings(self.model.codec.most_probable(outputs)) if found is None else found

    async def predict(self, request: PredictRequest, call: Call) -> PredictResponse:
        """Tensors in and out, by the names of a signature. The caller must watch for disconnects and enforce the limit.

        Raises:
            InvalidInputError: it is not what the signature takes; names the tensor.
            OverloadedError, UnavailableError, DeadlineExceededError: as `Model.infer`.
        """
        call.model = self.model.tag
        name = request.signature_name or DEFAULT_SIGNATURE
        signature = self._find(name, PREDICT)
        wanted = _wanted(request.outputs, signature) if request.outputs else None
        outputs = self._select[name](await self.model.infer(request.inputs.read(signature), call))
        if wanted is not None:
            outputs = {name: array for name, array in outputs.items() if name in wanted}
        return PredictResponse(name, signature, outputs)

    async def classify(self, request: ClassifyRequest, call: Call) -> ClassifyResponse:
        """Every class with its score for each example. Otherwise as `predict`."""
        call.model = self.model.tag
        name = request.signature_name or CLASSIFY_SIGNATURE
        self._find(name, CLASSIFY)
        outputs = await self.model.infer(self._example_tensors(request), call)
        scores = self._answers.probabilities(outputs).tolist()
        return ClassifyResponse(name, self.model.metadata.labels, scores)

    def _find(self, name: str, method: str) -> Signature:
        signature = self.signatures.get(name)
        if signature is None:
            raise InvalidInputError(
                f'Serving signature key "{shortened(name)}" not found; there is {joined(self.signatures)}'
            )
        if signature.method != method:
            raise InvalidInputError(f"the method of signature {name} is {signature.method}, not {method}")
        return signature

    def _example_tensors(self, request: ClassifyRequest) -> Tensors:
        """The inputs of examples. An example has an input as one feature, or each of its columns as a feature."""
        if not request.examples:
            raise InvalidInputError("there are no examples; at least one is required")
        self.model.check_rows("examples", len(request.examples))
        examples: list[Example] = []
        known = {spec.name for spec in self._inputs} | {column.name for column in self._columns}
        for index, example in enumerate(request.examples):
            where = f"examples[{index}]"
            if not request.context.keys().isdisjoint(example):
                raise InvalidInputError(f"{where}: a feature of the context is in the example too")
            features = {**request.context, **example}
            if not features.keys() <= known:
                raise InvalidInputError(f"{where}: unknown feature; there is {joined(known)}")
            examples.append(features)
        return {spec.name: self._feature_tensor(spec, examples) for spec in self._inputs}

    def _feature_tensor(self, spec: TensorSpec, examples: Sequence[Example]) -> NDArray[Any]:
        inner = spec.inner_shape
        width = None if None in inner else math.prod(length or 0 for length in inner)
        columns = [column.name for column in self._columns if column.input == spec.name]
        values: list[Any] = []
        for index, example in enumerate(examples):
            where = f"examples[{index}]"
            if spec.name in example or not columns:
                found = self._feature(example, spec, spec.name, width, where)
            else:
                found = [value for name in columns for value in self._feature(example, spec, name, 1, where)]
            if index and len(found) * index != len(values):
                raise InvalidInputError(f"{where}: the feature {spec.name} is not as long as those before it")
            values.extend(found)
        shape = [len(examples), *(-1 if length is None else length for length in inner)]
        if shape.count(-1) > 1:
            raise InvalidInputError(
                f"{spec.name}: no feature says which of several free dimensions it has; use predict"
            )
        if -1 in shape:
            shape[shape.index(-1)] = len(values) // max(1, -math.prod(shape))
        return (from_texts if DTYPES[spec.dtype].is_text else from_numbers)(spec, values, shape)

    def _feature(self, example: Example, spec: TensorSpec, name: str, count: int | None, where: str) -> list[Any]:
        """The values of a feature, of the type of `spec`; null is a missing value where the model takes them."""
        found = example.get(name)
        if found is None:
            raise InvalidInputError(f"{where}: the feature {name} is missing")
        kind = DTYPES[spec.dtype].numpy.kind
        wanted = {"O": "bytes_list", "f": "float_list"}.get(kind, "int64_list")
        if found.kind and found.kind != wanted:
            raise InvalidInputError(f"{where}: the feature {name} is not a {wanted}")
        values = found.values
        if count is not None and len(values) != count:
            raise InvalidInputError(f"{where}: the feature {name} has {len(values)} values, not {count}")
        fits: tuple[type, ...] = {"O": (str, bytes), "f": (float, int), "b": (bool, int)}.get(kind, (int,))
        if kind == "f" and self.model.metadata.allow_nan:
            fits = (*fits, type(None))
        for value in values:
            if not isinstance(value, fits) or (isinstance(value, bool) and kind != "b"):
                raise InvalidInputError(f"{where}: the feature {name} has to be {spec.dtype}")
        return values

    def describe(self) -> ModelDescription:
        return ModelDescription(self.model.name, self.model.version, self.signatures)


def _wanted(names: Sequence[str], signature: Signature) -> set[str]:
    """The outputs to send."""
    known = {output.name for output in signature.outputs}
    for name in names:
        if name not in known:
            raise InvalidInputError(
                f"output tensor alias not found in signature: {shortened(name)}; there is {joined(sorted(known))}"
            )
    if len(set(names)) < len(names):
        raise InvalidInputError("duplicate output tensor alias in output_filter")
    return set(names)


class Meanings:
    """Of all models."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._meanings = {model.name: Meaning(model) for model in models}

    def names(self) -> list[str]:
        return list(self._meanings)

    def find(self, name: str, *, version: str | None = None, label: str | None = None) -> Meaning:
        """The model of this name, and of this version or version label where one is asked for.

        Args:
            version: a number, that of the model or one of its labels; 0 and -1 are the latest.

        Raises:
            NotFoundError: the model or this version of it is not served.
            InvalidInputError: there is no name, or it has no version with this label.
        """
        if version is None and label is None and name in self._meanings:
            return self._meanings[name]
        if not name:
            raise InvalidInputError("Missing ModelSpec: a model name is required")
        try:
            if version is not None and not _is_number(version):
                raise NotFoundError("not a number")
            model = self._models.find(name, version or "")
        except NotFoundError as error:
            short = shortened(name)
            asked = f"Latest({short})" if version is None else f"Specific({short}, {shortened(version)})"
            raise NotFoundError(f"Servable not found for request: {asked}") from error
        if label is not None and label not in model.version_labels:
            raise InvalidInputError(f"Unrecognized servable version label: {shortened(label)}")
        return self._meanings[model.name]


def _is_number(version: str) -> bool:
    digits = version.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS
