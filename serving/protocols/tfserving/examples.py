"""`tensorflow.serving.Input`, the examples of Classify, as what models take."""

from __future__ import annotations

from typing import Any

import numpy as np

from serving.core.errors import InvalidInputError
from serving.protocols.served_models import ServedModel, Values


def decode(given: Any, model: ServedModel) -> Values:
    """The rows or image files of a ClassificationRequest's `input`.

    An example has the model's input as one feature, or each of its columns as a feature of its own.

    Raises:
        InvalidInputError: a feature is missing, unknown, or not of the model's type and length.
    """
    kind = given.WhichOneof("kind")
    if kind is None:
        raise InvalidInputError("input: an example_list is required")
    examples = getattr(given, kind)
    context = dict(examples.context.features.feature) if kind == "example_list_with_context" else {}
    rows = [
        _row(f"examples[{index}]", context, dict(example.features.feature), model)
        for index, example in enumerate(examples.examples)
    ]
    if not rows:
        raise InvalidInputError("input: there are no examples")
    return rows if model.inputs[0].dtype == "bytes" else np.array(rows, np.float32)


def _row(where: str, context: dict[str, Any], features: dict[str, Any], model: ServedModel) -> Any:
    if context.keys() & features.keys():
        raise InvalidInputError(f"{where}: a feature of the context is in the example too")
    features = context | features
    (spec, *_) = model.inputs
    columns = model.stored.metadata.feature_names
    known = {spec.name, *columns}
    for name in features:
        if name not in known:
            raise InvalidInputError(f"{where}: unknown feature; there is {', '.join([spec.name, *columns])}")
    if spec.dtype == "bytes":
        return _values(where, features, spec.name, "bytes_list", 1)[0]
    if spec.name in features:
        return _values(where, features, spec.name, "float_list", spec.shape[1] or 0)
    return [_values(where, features, name, "float_list", 1)[0] for name in columns]


def _values(where: str, features: dict[str, Any], name: str, kind: str, count: int) -> list[Any]:
    if name not in features:
        raise InvalidInputError(f"{where}: the feature {name} is missing")
    feature = features[name]
    if feature.WhichOneof("kind") != kind:
        raise InvalidInputError(f"{where}: the feature {name} is not a {kind}")
    values = list(getattr(feature, kind).value)
    if len(values) != count:
        raise InvalidInputError(f"{where}: the feature {name} has {len(values)} values, not {count}")
    return values
