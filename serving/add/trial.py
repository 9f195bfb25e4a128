"""Running a graph to learn what its declarations do not say: shapes of outputs, and whether rows are independent.

What a graph declares is not trusted: converters leave shapes out, or declare labels of any number of rows as `[1]`.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from serving.add.graph import Graph
from serving.add.types import served_dtype
from serving.core.errors import ModelError
from serving.core.signature import Batching, TensorSpec
from serving.core.tensors import DTYPES, Tensors, count, join, rows, strings

_RUN_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.EPFail,
    ort_errors.RuntimeException,
    RuntimeError,
    ValueError,
)
_LONGEST_SECONDS = 120.0
_ROWS = 3
# Lengths that are tried for dimensions of any length: those of sequences, and of the sides of images.
_LENGTHS = (1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512)
_SIDES = (32, 48, 64, 96, 112, 128, 160, 192, 224, 256, 299, 320, 384, 512, 640)
# Parts of the largest value of an output: of roundings in calls of one size and of different size, and of float16.
_RELATIVE, _ROUGHLY, _HALF = 1e-4, 5e-2, 2e-2
DYNAMIC = "it quantises all rows of a call together, which changes what each gets"
Values = Literal["zeros", "ones", "varied"]


class Input(NamedTuple):
    """One input as ONNX Runtime declares it; a name or None in `shape` is a dimension of any length."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]
    has_shape: bool
    """Whether the number of dimensions is declared; `shape` is empty otherwise."""

    @property
    def spec(self) -> TensorSpec:
        shape = [length if isinstance(length, int) else None for length in self.shape]
        return TensorSpec(name=self.name, dtype=self.dtype, shape=shape)


class Output(NamedTuple):
    """One output: its declaration counts only where runs do not contradict it."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


@dataclass
class Learned:
    """What runs have shown.

    Attributes:
        inputs, outputs: specs for the metadata; the first dimension is None where there are rows.
        sample: inputs that the graph computes.
        runs: outputs of different inputs.
        far: outputs of inputs that are far from 0, where scores that are no probabilities show it.
        stacked: outputs that have something for all rows several times, and how often: shape `[times, rows, …]`.
        why: the reason of `batching`, for people.
    """

    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    batching: Batching
    why: str
    sample: Tensors
    runs: list[Tensors] = field(default_factory=list)
    far: list[Tensors] = field(default_factory=list)
    stacked: dict[str, int] = field(default_factory=dict)


class RunError(Exception):
    """The graph does not compute these inputs."""


class Trial:
    """One graph in ONNX Runtime, to be tried.

    Args:
        session: the graph, loaded.
        graph: the same, read.

    Raises:
        ModelError: an input or output is of a type that cannot be served.
    """

    def __init__(self, session: onnxruntime.InferenceSession, graph: Graph) -> None:
        self.session = session
        self.graph = graph
        self.inputs = [
            Input(each.name, served_dtype(each, "input"), _shape(each), not graph.has_no_shape(each.name))
            for each in session.get_inputs()
        ]
        self.outputs = [Output(each.name, served_dtype(each, "output"), _shape(each)) for each in session.get_outputs()]
        if not self.inputs:
            raise ModelError(f"{graph.source} has no inputs: there is nothing that a caller could ask it")
        if not self.outputs:
            raise ModelError(f"{graph.source} has no outputs")
        self._categories = graph.categories([each.name for each in self.inputs if each.dtype == "string"])

    def run(self, tensors: Tensors) -> Tensors:
        """All outputs.

        Raises:
            RunError: the graph does not compute these inputs.
            ModelError: it takes minutes.
        """
        names = [each.name for each in self.outputs]
        with _limited() as options:
            try:
                found = self.session.run(names, tensors, options)
            except _RUN_ERRORS as error:
                if options.terminate:
                    raise ModelError(
                        f"{self.graph.source} has not answered its sample within {_LONGEST_SECONDS:.0f} s"
                    ) from error
                raise RunError(" ".join(str(error).split())) from error
        return {name: np.asarray(value) for name, value in zip(names, found, strict=True)}

    # Rows

    @property
    def first_lengths(self) -> list[int | str | None]:
        """First dimensions of the inputs; 0 of a scalar."""
        return [each.shape[0] if each.shape else 0 for each in self.inputs]

    @property
    def may_have_rows(self) -> bool:
        """Whether every input has a first dimension that is free, or that is 1."""
        first = self.first_lengths
        return all(not isinstance(length, int) for length in first) or all(length == 1 for length in first)

    def learn(self, given: Tensors | None, *, lengths: Mapping[str, Sequence[int]]) -> Learned:
        """Run the graph with different inputs.

        Args:
            given: the caller's sample.
            lengths: inner shape of inputs whose free dimensions are known, by name.

        Raises:
            ModelError: no inputs are found that the graph computes.
        """
        if given is not None:
            return self._learn_from(given, lengths)
        sizes: tuple[int, ...] = _SIDES if any(len(each.shape) == 4 for each in self.inputs) else _LENGTHS
        if all(isinstance(length, int) for each in self.inputs for length in each.shape[1:]):
            sizes = sizes[:1]
        fault = ""
        plans: list[tuple[bool, int]] = [(True, size) for size in sizes] if self.may_have_rows else []
        plans += [(False, size) for size in (*sizes, *(() if sizes == _LENGTHS else _LENGTHS))]
        for has_rows, size in plans:
            fallback: Tensors | None = None
            for values in ("zeros", "ones", "varied"):
                sample = self._make(values, rows=1 if has_rows else None, size=size, lengths=lengths)
                try:
                    outputs = self.run(sample)
                except RunError as error:
                    fault = fault or str(error)
                    continue
                if _is_finite(outputs):
                    return self._learn(sample, outputs, size, lengths, made_up=True, has_rows=has_rows)
                fallback = fallback or sample
            if fallback is not None:
                return self._learn(fallback, self.run(fallback), size, lengths, made_up=True, has_rows=has_rows)
        raise ModelError(
            f"{self.graph.source}: no inputs could be made up that it computes; give some with --sample FILE "
            f"(ONNX Runtime: {fault[:300]})"
        )

    def _learn_from(self, given: Tensors, lengths: Mapping[str, Sequence[int]]) -> Learned:
        has_rows = self.may_have_rows and len({len(array) for array in given.values() if array.ndim}) == 1
        # Several rows are too many for a graph that takes one at a time.
        plans = [given, rows(given, 0, 1)] if has_rows else [given]
        fault = ""
        for sample in plans:
            try:
                outputs = self.run(sample)
            except RunError as error:
                fault = fault or str(error)
                continue
            return self._learn(sample, outputs, None, lengths, made_up=False, has_rows=has_rows)
        raise ModelError(f"--sample: the graph does not compute it (ONNX Runtime: {fault[:300]})")

    def _learn(
        self,
        sample: Tensors,
        outputs: Tensors,
        size: int | None,
        lengths: Mapping[str, Sequence[int]],
        *,
        made_up: bool,
        has_rows: bool,
    ) -> Learned:
        runs = [(sample, outputs)]
        batching: Batching = "none"
        why = self._why_no_rows()
        if has_rows and self.may_have_rows:
            batching, why = self._judge_rows(sample, size, lengths, runs, made_up=made_up)
        # What varies with lengths of inputs: the same with other lengths.
        if any(None in each.spec.shape[1:] for each in self.inputs if each.name not in lengths):
            self._vary(sample, lengths, runs, has_rows=batching != "none")
        stacked = self._lengthen(sample, runs) if batching == "none" else {}
        inputs = [_with_rows(each.spec, batching) for each in self.inputs]
        specs = [_with_rows(self._output_spec(each, runs), batching) for each in self.outputs]
        found = [found for _, found in runs]
        return Learned(inputs, specs, batching, why, sample, found, self._far(sample), stacked)

    def _why_no_rows(self) -> str:
        for each in self.inputs:
            if not each.shape:
                return f"the input {each.name} is a scalar"
        fixed = [each for each in self.inputs if isinstance(each.shape[0], int)]
        if len(fixed) == len(self.inputs):
            return f"the first dimension of {fixed[0].name} is always {fixed[0].shape[0]}"
        if fixed:
            return f"the first dimension of {fixed[0].name} is no number of rows"
        return "it does not compute a single row"

    def _judge_rows(
        self,
        sample: Tensors,
        size: int | None,
        lengths: Mapping[str, Sequence[int]],
        runs: list[tuple[Tensors, Tensors]],
        *,
        made_up: bool,
    ) -> tuple[Batching, str]:
        """Whether rows may share a call: they have to give the same together as alone."""
        alone: list[tuple[Tensors, Tensors]] = []
        for row in itertools.islice(self._rows(sample, size, lengths, made_up=made_up), 2 * _ROWS):
            try:
                alone.append((row, self.run(row)))
            except RunError:
                continue
        if not alone:
            return "none", "it does not compute a single row"
        # A row is better than none where others cannot be made up: codes that are out of range, for example.
        alone = [*alone, *[alone[0]] * _ROWS][:_ROWS]
        runs.extend(alone)
        for name in alone[0][1]:
            if any(found[name].ndim == 0 or len(found[name]) != 1 for _, found in alone):
                return "none", f"the output {name} has not one entry for each row"
        if all(length == 1 for length in self.first_lengths):
            return "one", "the graph takes one row at a time"
        for number in (2, _ROWS):
            if (found_why := self._judge_together(alone[:number], runs)) is not None:
                return found_why
        return "free", "rows give the same together as alone"

    def _judge_together(
        self, alone: list[tuple[Tensors, Tensors]], runs: list[tuple[Tensors, Tensors]]
    ) -> tuple[Batching, str] | None:
        """What is against several rows in one call; None if nothing.

        Two calls of different size round differently, and some graphs magnify that. So a row is compared among other
        rows with the same row among copies of itself, in calls of one size, and only roughly with itself alone.
        """
        number = len(alone)
        together = join([row for row, _ in alone])
        try:
            found = self.run(together)
            copies = [self.run(join([row] * number)) for row, _ in alone]
        except RunError:
            return "one", f"the graph does not compute {number} rows together"
        if any(array.ndim == 0 or len(array) != number for array in found.values()):
            return "one", f"the graph does not answer {number} rows with {number} outputs"
        runs.append((together, found))
        if not same(self.run(together), found):
            return "free", "rows are independent as far as its random answers show"
        for index, (_, expected) in enumerate(alone):
            copy = rows(copies[index], index, index + 1)
            if not (same(rows(found, index, index + 1), copy) and _similar(copy, expected)):
                if "DynamicQuantizeLinear" in self.graph.operators:
                    return "one", DYNAMIC
                return "none", "rows give something else together than alone"
        return None

    def _rows(
        self, sample: Tensors, size: int | None, lengths: Mapping[str, Sequence[int]], *, made_up: bool
    ) -> Iterator[Tensors]:
        """Different single rows."""
        for index in range(count(sample)):
            yield rows(sample, index, index + 1)
        if made_up and size is not None:
            for seed in range(_ROWS):
                yield self._make("varied", rows=1, size=size, lengths=lengths, seed=seed)
        random = np.random.default_rng(0)
        for _ in range(_ROWS):
            yield {name: _changed(array[:1], random) for name, array in sample.items()}
        while True:
            yield rows(sample, 0, 1)

    # Lengths

    def _vary(
        self,
        sample: Tensors,
        lengths: Mapping[str, Sequence[int]],
        runs: list[tuple[Tensors, Tensors]],
        *,
        has_rows: bool,
    ) -> None:
        present = {length for array in sample.values() for length in array.shape[1:]}
        sizes = _SIDES if any(len(each.shape) == 4 for each in self.inputs) else _LENGTHS
        for size in sorted(sizes, key=lambda size: (size not in (2, 3, 64, 96), size)):
            if size in present:
                continue
            other = self._make("zeros", rows=1 if has_rows else None, size=size, lengths=lengths)
            try:
                runs.append((other, self.run(other)))
            except RunError:
                continue
            return

    def _lengthen(self, sample: Tensors, runs: list[tuple[Tensors, Tensors]]) -> dict[str, int]:
        """Have first dimensions that are free twice as long: what follows them in the outputs is no fixed length.

        Returns:
            `Learned.stacked`.
        """
        free = {each.name for each in self.inputs if each.shape and not isinstance(each.shape[0], int)}
        longer = {name: np.concatenate([array, array]) if name in free else array for name, array in sample.items()}
        try:
            found = self.run(longer) if free else {}
        except RunError:
            return {}
        if not found:
            return {}
        runs.append((longer, found))
        if free != set(sample) or not self.graph.is_classical:
            return {}
        shapes = {name: (runs[0][1][name].shape, array.shape) for name, array in found.items()}
        number = count(sample)
        return {
            name: after[0]
            for name, (before, after) in shapes.items()
            if len(after) > 1 and before[:2] == (after[0], number) and after[1] == 2 * number
        }

    def _far(self, sample: Tensors) -> list[Tensors]:
        """Outputs for floats that are far from 0 in either direction."""
        found = []
        for factor in (1000, -1000):
            with np.errstate(over="ignore"):  # infinity is far as well
                far = {
                    name: (array + array.dtype.type(1)) * array.dtype.type(factor) if array.dtype.kind == "f" else array
                    for name, array in sample.items()
                }
            with suppress(RunError):
                found.append(self.run(far))
        return found

    def _output_spec(self, output: Output, runs: list[tuple[Tensors, Tensors]]) -> TensorSpec:
        shapes = [found[output.name].shape for _, found in runs]
        ranks = {len(shape) for shape in shapes}
        if len(ranks) > 1:
            raise ModelError(
                f"{self.graph.source}: the output {output.name} has now {min(ranks)}, now {max(ranks)} dimensions; "
                "export a graph whose outputs keep theirs"
            )
        varied = len({tuple(array.shape[1:] for array in tensors.values()) for tensors, _ in runs}) > 1
        has_free = any(None in each.spec.shape[1:] for each in self.inputs)
        trusted = not self.graph.depends_on_data and (varied or not has_free)
        shape: list[int | None] = []
        for axis, sizes in enumerate(zip(*shapes, strict=True)):
            declared = output.shape[axis] if axis < len(output.shape) else None
            fixed = len(set(sizes)) == 1 and (trusted or declared == sizes[0])
            shape.append(int(sizes[0]) if fixed else None)
        return TensorSpec(name=output.name, dtype=output.dtype, shape=shape)

    # Values

    def _make(
        self, values: Values, *, rows: int | None, size: int, lengths: Mapping[str, Sequence[int]], seed: int = 0
    ) -> Tensors:
        """Inputs of one kind of values; `rows` for the first dimensions, `size` for every other one that is free."""
        found: Tensors = {}
        random = np.random.default_rng(seed)
        for each in self.inputs:
            shape = [size if not isinstance(length, int) else length for length in each.shape]
            if each.name in lengths:
                shape[1:] = lengths[each.name]
            if rows is not None and shape:
                shape[0] = rows
            found[each.name] = self._values(each, tuple(shape), values, random)
        return found

    def _values(self, each: Input, shape: tuple[int, ...], values: Values, random: np.random.Generator) -> NDArray[Any]:
        dtype = DTYPES[each.dtype]
        if dtype.is_text:
            return self._strings(each, shape, random if values == "varied" else None)
        if values == "zeros":
            return np.zeros(shape, dtype.numpy)
        if values == "ones":
            return np.ones(shape, dtype.numpy)
        if dtype.is_float:
            return np.asarray(random.normal(size=shape).round(2), dtype.numpy)
        most = 2 if dtype.numpy.kind == "b" or each.name not in self._wide else 256
        return np.asarray(random.integers(0, most, shape), dtype.numpy)

    @property
    def _wide(self) -> set[str]:
        """Inputs of pixels, whose values are all those of a byte."""
        return {each.name for each in self.inputs if each.dtype == "uint8" and len(each.shape) == 4}

    def _strings(self, each: Input, shape: tuple[int, ...], random: np.random.Generator | None) -> NDArray[Any]:
        """Categories that the encoders behind an input know: some refuse every other string."""
        known = self._categories.get(each.name) or [[""]]
        columns = shape[1] if len(shape) > 1 else 1
        of_column = [known[index] if len(known) == columns else known[0] for index in range(columns)]
        total = int(np.prod(shape, dtype=np.int64))
        picked = []
        for index in range(total):
            choices = of_column[index % columns]
            picked.append(choices[0 if random is None else int(random.integers(len(choices)))])
        return strings(picked, shape)


def same(first: Tensors, second: Tensors) -> bool:
    """Whether two calls of one size have given the same, but for the last digits."""
    return all(_close(first[name], second[name], _RELATIVE) for name in second)


def _similar(first: Tensors, second: Tensors) -> bool:
    """Whether two calls of different size have given the same, as far as numbers tell."""
    numbers = {name: array for name, array in second.items() if array.dtype.kind == "f"}
    return all(_close(first[name], expected, _ROUGHLY) for name, expected in (numbers or second).items())


def _close(first: NDArray[Any], second: NDArray[Any], relative: float) -> bool:
    if first.shape != second.shape:
        return False
    if second.dtype.kind != "f":
        return bool(np.array_equal(first, second))
    relative = max(relative, _HALF if second.dtype == np.float16 else 0)
    finite = second[np.isfinite(second)].astype(np.float64)
    largest = float(np.abs(finite).max()) if finite.size else 0.0
    return bool(np.allclose(first, second, rtol=0, atol=relative * largest + 1e-12, equal_nan=True))


def _changed(array: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    """Floats that differ a little from those given; everything else may be a code or a name and stays."""
    if array.dtype.kind != "f":
        return array
    return np.asarray(array * random.uniform(0.7, 1.3, array.shape) + random.normal(0, 0.1, array.shape), array.dtype)


def _is_finite(outputs: Tensors) -> bool:
    return all(np.isfinite(array).all() for array in outputs.values() if array.dtype.kind == "f")


def _with_rows(spec: TensorSpec, batching: Batching) -> TensorSpec:
    return spec if batching == "none" else spec.model_copy(update={"shape": [None, *spec.shape[1:]]})


def _shape(declared: onnxruntime.NodeArg) -> tuple[int | str | None, ...]:
    return tuple(length if isinstance(length, int | str) else None for length in declared.shape)


@contextmanager
def _limited() -> Iterator[onnxruntime.RunOptions]:
    """Options of a run that ends after a while."""
    options = onnxruntime.RunOptions()
    # Its log would repeat what the error says.
    options.log_severity_level = 4
    timer = threading.Timer(_LONGEST_SECONDS, setattr, (options, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        yield options
    finally:
        timer.cancel()
