"""Telling what a model is: its kind, its task, its classes. Each decision has its reason; options override them.

Only what can be told is decided. What a float image has to be scaled by cannot, so that such a graph is one of
tensors until somebody says it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.add.graph import Graph
from serving.add.label_output import LabelOutput, find_label_output
from serving.add.options import AddOptions
from serving.add.trial import Learned
from serving.core.errors import ModelError
from serving.core.ranking import Activation
from serving.core.signature import TensorSpec
from serving.core.tensors import DTYPES, Tensors
from serving.settings.models import Kind
from serving.store.models import ImagePreprocessing, Task

_CHANNELS = (1, 3)
_SMALLEST_SIDE = 8
# A wider matrix is not a table unless its graph has operators of tables.
_MOST_COLUMNS = 256
_SUM_TOLERANCE = 1e-3
_SCORE_NAMES = ("logit", "prob", "softmax", "score", "class", "predictions")


class Reason(NamedTuple):
    """One line of what was decided."""

    subject: str
    decided: str
    why: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What comes out of a model; see `ModelMetadata`."""

    task: Task
    scores: str = ""
    labels: tuple[str, ...] = ()
    activation: Activation = "none"
    multilabel: bool = False
    label_output: str = ""
    label_values: tuple[str, ...] = ()


# Kinds


def guess_image(inputs: list[TensorSpec], options: AddOptions) -> str:
    """Why a graph is one of images, before it has run; empty where it is not.

    Args:
        inputs: as they are declared.
    """
    if options.kind is not None:
        return "--kind" if options.kind == "image" else ""
    if options.image.is_given:
        return "an option of images is given"
    if len(inputs) == 1 and inputs[0].dtype == "uint8" and len(inputs[0].shape) == 4:
        _, *inner = inputs[0].shape
        layout = _layout(inner)
        if layout and all(side is not None and side >= _SMALLEST_SIDE for side in _sides(inner, layout)):
            return f"one input of uint8 pixels, {inputs[0].describe_shape()}"
    return ""


def read_preprocessing(inputs: list[TensorSpec], options: AddOptions) -> ImagePreprocessing:
    """The preprocessing of a graph of images.

    Raises:
        ModelError: the graph takes no images, or something has to be said with an option.
    """
    given = options.image
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or DTYPES[inputs[0].dtype].is_text:
        shapes = ", ".join(f"{spec.name} {spec.dtype} {spec.describe_shape()}" for spec in inputs)
        raise ModelError(f"a model of images has one input [N, height, width, channels], and this one has {shapes}")
    spec = inputs[0]
    inner = spec.inner_shape
    layout = given.layout or _layout(inner)
    if not layout:
        raise ModelError(f"the layout of {spec.name} {spec.describe_shape()} cannot be told: say --layout NHWC or NCHW")
    depth = inner[2] if layout == "NHWC" else inner[0]
    channels = given.channels or ("L" if depth == 1 else "RGB")
    if depth not in (None, 1 if channels == "L" else 3):
        raise ModelError(
            f"{spec.name} {spec.describe_shape()} has {depth} channels in the layout {layout}, which is not {channels}"
        )
    height, width = _sides(inner, layout)
    if given.size is not None:
        if (width or given.size[0], height or given.size[1]) != given.size:
            raise ModelError(f"--image-size {given.size[0]}x{given.size[1]}: the graph takes {width}x{height}")
        width, height = given.size
    if width is None or height is None:
        raise ModelError(
            f"the size of {spec.name} {spec.describe_shape()} cannot be told: say --image-size WIDTHxHEIGHT"
        )
    number = 1 if channels == "L" else 3
    for option, values in (("--mean", given.mean), ("--deviation", given.deviation)):
        if values is not None and len(values) != number:
            raise ModelError(f"{option}: {len(values)} numbers for {number} channels")
    if given.deviation is not None and not all(given.deviation):
        raise ModelError("--deviation: 0 cannot be one")
    if spec.dtype == "uint8" and (given.scale, given.mean, given.deviation) != (None, None, None):
        raise ModelError(
            "--scale, --mean and --deviation: the graph takes uint8, pixels as they are, and normalises by itself"
        )
    resize = given.resize or ("crop" if given.shortest else "stretch")
    if given.shortest and (resize == "stretch" or given.shortest < max(1, min(width, height))):
        raise ModelError("--shortest: it needs --resize crop, and is at least the shorter side of the crop")
    return ImagePreprocessing(
        width=width,
        height=height,
        layout=layout,
        channels=channels,
        resize=resize,
        shortest=given.shortest or 0,
        interpolation=given.interpolation or "bilinear",
        scale=1.0 if given.scale is None else given.scale,
        mean=list(given.mean or []),
        deviation=list(given.deviation or []),
    )


def _layout(inner: list[int | None]) -> str:
    last, first = inner[2] in _CHANNELS, inner[0] in _CHANNELS
    if last == first:
        return ""
    return "NHWC" if last else "NCHW"


def _sides(inner: list[int | None], layout: str) -> tuple[int | None, int | None]:
    return (inner[0], inner[1]) if layout == "NHWC" else (inner[1], inner[2])


def decide_kind(graph: Graph, learned: Learned, options: AddOptions) -> tuple[Kind, str]:
    """`rows` or `tensors`, of a graph that is not one of images.

    Raises:
        ModelError: --kind asks for what the graph cannot be.
    """
    obstacle = _no_rows(learned, options)
    if options.kind == "rows" and obstacle:
        raise ModelError(f"--kind rows: {obstacle}")
    if options.kind is not None or obstacle:
        return options.kind or "tensors", obstacle or "--kind"
    widths = [_width(spec, options) for spec in learned.inputs]
    is_table = graph.is_classical or bool(options.features)
    if len(widths) > 1:
        what = f"{sum(widths)} columns in {len(widths)} inputs"
        return (
            ("rows", what) if is_table or max(widths) == 1 else ("tensors", f"{len(widths)} inputs of several values")
        )
    what = f"one matrix of {widths[0]} columns" if widths[0] > 1 else "one column"
    return ("rows", what) if is_table or widths[0] <= _MOST_COLUMNS else ("tensors", f"one input of {widths[0]} values")


def _no_rows(learned: Learned, options: AddOptions) -> str:
    """Why inputs are no table; empty where they are one."""
    if learned.batching == "none":
        return f"its inputs have no rows: {learned.why}"
    for spec in learned.inputs:
        if len(spec.shape) not in (1, 2):
            return f"the input {spec.name} has {len(spec.shape)} dimensions"
        if len(spec.shape) == 2 and not _width(spec, options):
            return f"the input {spec.name} has any number of columns; --features or --sample would say how many"
    return ""


def _width(spec: TensorSpec, options: AddOptions) -> int:
    if len(spec.shape) == 1:
        return 1
    return spec.shape[1] if spec.shape[1] is not None else len(options.features or ())


# Tasks


class Deciding:
    """Decides the task of one graph.

    Args:
        graph: the graph.
        learned: what its runs have shown.
        kind: of its inputs.
        options: what was said.
    """

    def __init__(self, graph: Graph, learned: Learned, kind: Kind, options: AddOptions) -> None:
        self.graph = graph
        self.learned = learned
        self.kind = kind
        self.options = options
        self.reasons: list[Reason] = []

    def decide(self) -> Outcome:
        """The task, and what belongs to it.

        Raises:
            ModelError: options ask for what the outputs cannot be.
        """
        task, scores, why = self._task()
        self.reasons.append(Reason("task", f"{task}, of {scores.name}" if scores is not None else task, why))
        if scores is None or task == "raw":
            self._refuse_of_no_use(task)
            return Outcome("raw")
        if task == "regression":
            self._refuse_of_no_use(task)
            return Outcome("regression", scores.name)
        return self._classification(scores)

    def _refuse_of_no_use(self, task: Task) -> None:
        given = (("--labels", self.options.labels), ("--activation", self.options.activation))
        for option, value in given:
            if value is not None:
                raise ModelError(f"{option} is of no use: the task is {task}; --task classification has classes")

    def _task(self) -> tuple[Task, TensorSpec | None, str]:
        options = self.options
        if options.task == "raw":
            return "raw", None, "--task"
        if self.learned.batching == "none":
            if options.task is not None or options.scores is not None:
                raise ModelError(f"--task and --scores need rows, and there are none: {self.learned.why}")
            return "raw", None, "there are no rows"
        if options.scores is None and options.task is None:
            return self._told_task()
        spec = self._output(options.scores) if options.scores is not None else self._only_candidate()
        if options.task is not None:
            return options.task, spec, "--task"
        found = self._why_classes(spec) or ("--labels" if options.labels is not None else "")
        return ("classification", spec, found) if found else ("regression", spec, "nothing says that there are classes")

    def _candidates(self) -> list[TensorSpec]:
        return [spec for spec in self.learned.outputs if self._may_be_scores(spec)]

    def _only_candidate(self) -> TensorSpec:
        candidates = self._candidates()
        if len(candidates) != 1:
            names = ", ".join(spec.name for spec in candidates) or "none"
            raise ModelError(f"--task {self.options.task}: --scores has to say which output has the numbers ({names})")
        return candidates[0]

    def _told_task(self) -> tuple[Task, TensorSpec | None, str]:
        candidates = self._candidates()
        found = [(spec, why) for spec in candidates if (why := self._why_classes(spec))]
        if len(found) == 1:
            return "classification", found[0][0], found[0][1]
        if len(candidates) != 1:
            return "raw", None, f"{len(candidates) or 'no'} outputs have numbers of rows"
        (spec,) = candidates
        why = self._why_raw(spec)
        if self.options.labels is not None or why:
            return ("raw", None, why) if self.options.labels is None else ("classification", spec, "--labels")
        last = self.graph.last_operator(spec.name)
        return "regression", spec, f"the graph ends with {last}" if "Regressor" in last else "one output of numbers"

    def _why_raw(self, spec: TensorSpec) -> str:
        """Why the one output of numbers need not be a prediction; empty where it is one."""
        if self.kind == "tensors" or (self.kind == "image" and _width_of_scores(spec) != 1):
            return f"nothing says what {spec.name} means"
        if contradiction := self._contradiction(spec):
            return contradiction
        return f"{len(self.learned.outputs)} outputs" if len(self.learned.outputs) > 1 else ""

    def _output(self, name: str) -> TensorSpec:
        for spec in self.learned.outputs:
            if spec.name == name:
                if not self._may_be_scores(spec):
                    raise ModelError(f"--scores {name}: {spec.dtype} {spec.describe_shape()} are no numbers of rows")
                return spec
        raise ModelError(f"--scores {name}: the outputs are {', '.join(spec.name for spec in self.learned.outputs)}")

    def _may_be_scores(self, spec: TensorSpec) -> bool:
        ranks = (1, 2)
        return DTYPES[spec.dtype].is_float and len(spec.shape) in ranks and None not in spec.inner_shape

    def _label_output(self, scores: TensorSpec) -> LabelOutput | None:
        return find_label_output(self.graph, self.learned, scores, max(_width_of_scores(scores), 2))

    def _contradiction(self, scores: TensorSpec) -> str:
        """Why scores are not those of the classes that the label beside them says; empty where they may be."""
        label = self._label_output(scores)
        if label is None or not label.never_has_highest or _sum_to_one(self._values(scores.name)):
            return ""
        return (
            f"{label.spec.name} is never the class with the highest of {scores.name}, which are distances or margins "
            "in another order"
        )

    def _why_classes(self, spec: TensorSpec) -> str:
        """What says that an output has scores of classes; empty where nothing does."""
        width = _width_of_scores(spec)
        last = self.graph.last_operator(spec.name)
        label = self._label_output(spec)
        if self._contradiction(spec):
            return ""
        named = any(part in spec.name.lower() for part in _SCORE_NAMES)
        given = self.options.labels
        signs = {
            # One number beside a label may be that of an outlier detector, which has no classes.
            f"{label.spec.name if label else ''} stands beside {spec.name}": label is not None
            and (width > 1 or (self.graph.is_classical and label.has_names)),
            f"{spec.name} comes out of {last}": last == "Sigmoid" or (last in ("Softmax", "LogSoftmax") and width > 1),
            f"{spec.name} sums to 1": width > 1 and _sum_to_one(self._values(spec.name)),
            f"--labels names the classes of {spec.name}": given is not None and len(given) == max(width, 2),
            f"{spec.name} has {width} values, and a name of scores": width > 1 and named and self.kind == "image",
        }
        return next((sign for sign, is_there in signs.items() if is_there), "")

    def _values(self, name: str, runs: Sequence[Tensors] | None = None) -> NDArray[np.float64]:
        """An output in runs, all of those near 0 unless given, `[runs, width]`, without what is not finite."""
        found = [run[name].astype(np.float64) for run in (self.learned.runs if runs is None else runs)]
        width = max(_width_of_scores(next(spec for spec in self.learned.outputs if spec.name == name)), 1)
        values = np.concatenate([np.empty((0, width)), *[array.reshape(-1, width) for array in found]])
        return values[np.isfinite(values).all(axis=1)]

    # Classes

    def _classification(self, scores: TensorSpec) -> Outcome:
        if contradiction := self._contradiction(scores):
            raise ModelError(
                f"{scores.name} has no scores of classes: {contradiction}; export the model with probabilities, or "
                "leave out --task and --labels: its outputs are answered as they are"
            )
        classes = max(_width_of_scores(scores), 2)
        values = self._values(scores.name)
        multilabel = self._is_multilabel(scores)
        activation, why = self._activation(scores, values, multilabel=multilabel)
        self.reasons.append(Reason("activation", activation, why))
        labels = self._labels(scores, classes)
        if multilabel:
            self.reasons.append(Reason("multilabel", "yes", "several classes may be right at once"))
        label = self._label_output(scores)
        if multilabel or label is None or not label.is_known:
            return Outcome("classification", scores.name, tuple(labels), activation, multilabel)
        return Outcome(
            "classification", scores.name, tuple(labels), activation, False, label.spec.name, tuple(label.values)
        )

    def _is_multilabel(self, scores: TensorSpec) -> bool:
        if self.options.multilabel is not None:
            return self.options.multilabel
        if _width_of_scores(scores) == 1:
            return False
        # Not the sum: of several labels too it may be 1 in all runs.
        label = self._label_output(scores)
        return not label.is_one_class if label is not None else self.graph.last_operator(scores.name) == "Sigmoid"

    def _activation(
        self, scores: TensorSpec, values: NDArray[np.float64], *, multilabel: bool
    ) -> tuple[Activation, str]:
        if self.options.activation is not None:
            return self.options.activation, "--activation"
        last = self.graph.last_operator(scores.name)
        if last == "Softmax" and _width_of_scores(scores) > 1:  # of quantised ones the sum is only about 1
            return "none", f"{scores.name} comes out of {last}"
        if multilabel or _width_of_scores(scores) == 1:
            values = np.concatenate([values, self._values(scores.name, self.learned.far)])
            within = bool(values.size) and bool(((values >= -_SUM_TOLERANCE) & (values <= 1 + _SUM_TOLERANCE)).all())
            if within:
                return "none", f"{scores.name} is between 0 and 1"
            return "sigmoid", f"{scores.name} is not between 0 and 1"
        if _sum_to_one(values):
            return "none", f"{scores.name} sums to 1"
        return "softmax", f"{scores.name} does not sum to 1"

    def _labels(self, scores: TensorSpec, classes: int) -> list[str]:
        given = self.options.labels
        if given is not None:
            if len(given) != classes:
                raise ModelError(f"--labels: {len(given)} names, and {scores.name} has {classes} classes")
            self.reasons.append(Reason("labels", _few(given), "--labels"))
            return list(given)
        label = self._label_output(scores)
        behind = [scores.name] if label is None else [label.spec.name, scores.name]
        found = self.graph.labels_behind(behind, classes)
        if found is not None:
            self.reasons.append(Reason("labels", _few(found), "they stand in the graph"))
            return found
        made = [f"class_{index}" for index in range(classes)]
        self.reasons.append(Reason("labels", _few(made), "the graph has none; --labels would name them"))
        return made


def takes_missing_values(graph: Graph, sample: Tensors, options: AddOptions) -> tuple[bool, str]:
    """Whether NaN stands for a missing value."""
    if options.allow_nan is not None:
        return options.allow_nan, "--allow-nan" if options.allow_nan else "--no-allow-nan"
    if any(array.dtype.kind == "f" and np.isnan(array).any() for array in sample.values()):
        return True, "the sample has missing values"
    if "Imputer" in graph.operators:
        return True, "the graph fills in missing values (Imputer)"
    if graph.has_missing_branch:
        return True, "its trees have a branch for missing values"
    return False, "--allow-nan would allow missing values"


def _width_of_scores(spec: TensorSpec) -> int:
    return spec.shape[1] or 1 if len(spec.shape) == 2 else 1


def _sum_to_one(values: NDArray[np.float64]) -> bool:
    return bool(
        values.size
        and values.shape[1] > 1
        and (values >= -_SUM_TOLERANCE).all()
        and (np.abs(values.sum(axis=1) - 1) <= _SUM_TOLERANCE).all()
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])}, … ({len(names)})"
