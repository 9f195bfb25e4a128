"""`serving models add`: from an ONNX file to a model in the store."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime
from pydantic import TypeAdapter, ValidationError

from serving.add import decide
from serving.add.check import Checked, check_model
from serving.add.decide import Deciding, Outcome, Reason
from serving.add.graph import Graph, load_graph, take_apart
from serving.add.options import AddOptions
from serving.add.sample import read_bytes, read_sample
from serving.add.trial import DYNAMIC, Learned, Trial
from serving.core.errors import ModelError
from serving.core.onnxruntime_engine import open_session
from serving.core.tensors import Tensors, to_bytes
from serving.settings.models import Kind, ModelName, ModelSettings
from serving.store.models import SAMPLE_FILE, ImagePreprocessing, ModelMetadata, StoredModel
from serving.store.saving import Staging, check_tag, library_versions, staging

_name = TypeAdapter(ModelName)
_IR = re.compile(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)")
_OPSET = re.compile(r"Opset (\d+) is under development.*support for domain (\S+) is till opset (\d+)", re.DOTALL)
_OPERATOR = re.compile(r"No Op registered for (\S+) with domain_version of (\d+)|(\S+)\(-?\d+\) is not a registered")
_NO_KERNEL = re.compile(r"Could not find an implementation for (\S+)")


@dataclass(frozen=True, slots=True)
class Added:
    """A model that is in the store.

    Attributes:
        name: for its entry in configuration.yaml.
        tag: in the store.
        reasons: what was decided, and why.
        sample: a request with its built-in sample, as JSON.
        answer: what the model answers to it.
    """

    name: str
    tag: str
    metadata: ModelMetadata
    reasons: list[Reason]
    sample: dict[str, Any]
    answer: bytes


def add_model(source: Path, options: AddOptions) -> Added:
    """Read a graph, decide what it is, run it, save it, and open it again; nothing is in the store unless all works.

    Raises:
        ModelError: the model cannot be served, or an option does not fit it; one sentence that says what to do.
    """
    name = _checked_name(options.name or default_name(source))
    tag = f"{name}:{options.version}" if options.version else name
    check_tag(tag)
    graph = load_graph(source)
    with staging() as place:
        directory = place.directory / "graph"
        directory.mkdir()
        trial = _Opened(graph, directory).trial
        declared = [each.spec for each in trial.inputs]
        image = _image(trial, options)
        given = None
        if options.sample is not None and image is None:
            given = read_sample(options.sample, trial.inputs, options.features or ())
        trial = _fix_shapes(trial, graph, directory, given, options)
        lengths = _lengths(declared[0].name, image) if image else {}
        learned = trial.learn(given, lengths=lengths)
        if learned.stacked and image is None:
            take_apart(graph, learned.stacked)
            learned = _reopened(graph, directory).learn(given, lengths=lengths)
        model = _Model(source, graph, learned, image, options)
        checked = model.save(place, tag, directory)
    return Added(name, place.tags[0], model.metadata, model.reasons, checked.codec.sample_json(), checked.answer)


def default_name(source: Path) -> str:
    """A name for routes, made of a file's."""
    stem = re.sub(r"[^a-z0-9]+", "_", source.stem.lower()).strip("_")
    return stem if stem[:1].isalpha() else f"model_{stem}".rstrip("_")


def _checked_name(name: str) -> str:
    try:
        return _name.validate_python(name)
    except ValidationError as error:
        message = error.errors(include_url=False, include_context=False)[0]["msg"].removeprefix("Value error, ")
        if "pattern" in message:
            message = "small letters, digits and single underscores are allowed, and a letter comes first"
        raise ModelError(f"--name {name}: {message}") from error


class _Opened:
    """A graph that ONNX Runtime has loaded out of `directory`, which it is written to."""

    def __init__(self, graph: Graph, directory: Path) -> None:
        path = graph.write(directory)
        try:
            session = open_session(path, origin=str(graph.source))
        except ModelError as error:
            raise _explained(error, graph) from error
        self.trial = Trial(session, graph)


def _explained(error: ModelError, graph: Graph) -> ModelError:
    """Why ONNX Runtime does not load a graph, in one sentence that says what to do."""
    text = " ".join(str(error).split())
    here = f"the installed onnxruntime {onnxruntime.__version__}"
    if found := _IR.search(text):
        return ModelError(
            f"{graph.source} has IR version {found[1]}, and {here} reads up to {found[2]}: export it with an older "
            "version, or install a newer onnxruntime"
        )
    if found := _OPSET.search(text):
        return ModelError(
            f"{graph.source} has opset {found[1]} of {found[2]}, and {here} reads up to {found[3].rstrip('.')}: export "
            "it with an older opset, or install a newer onnxruntime"
        )
    if found := _OPERATOR.search(text):
        return ModelError(
            f"{graph.source} uses the operator {found[1] or found[3]}, which {here} does not have: export it "
            "without, or install a newer onnxruntime"
        )
    if found := _NO_KERNEL.search(text):
        return ModelError(
            f"{graph.source} uses {found[1]} with types that {here} does not compute: export it with float32"
        )
    reason = graph.fault or text.partition(": ")[2][:300]
    return ModelError(f"{graph.source} cannot be loaded by {here}: {reason}; export it again")


def _image(trial: Trial, options: AddOptions) -> tuple[ImagePreprocessing, str] | None:
    """The preprocessing of a graph of images and why it is one; None of another graph."""
    declared = [each.spec for each in trial.inputs]
    why = decide.guess_image(declared, options)
    return (decide.read_preprocessing(declared, options), why) if why else None


def _lengths(name: str, image: tuple[ImagePreprocessing, str]) -> dict[str, Sequence[int]]:
    """The inner shape of the input, whose sides the graph may leave free."""
    preprocessing, _ = image
    channels = 1 if preprocessing.channels == "L" else 3
    sides = (preprocessing.height, preprocessing.width)
    return {name: (*sides, channels) if preprocessing.layout == "NHWC" else (channels, *sides)}


def _fix_shapes(trial: Trial, graph: Graph, directory: Path, given: Tensors | None, options: AddOptions) -> Trial:
    """Have the graph declare what only the sample and names say: ranks, and the number of columns of a table.

    Raises:
        ModelError: the number of columns is not known. It is not tried out: trees read beyond a row that is too short.
    """
    changed = False
    for each in trial.inputs:
        if given is None and not each.has_shape:
            raise ModelError(f"the graph does not say the number of dimensions of {each.name}: give a --sample")
        if given is not None and not each.has_shape and given[each.name].ndim:
            graph.declare_shape(each.name, [None] * given[each.name].ndim)
            changed = True
    if len(trial.inputs) == 1 and len(trial.inputs[0].shape) == 2 and trial.inputs[0].spec.shape[1] is None:
        (table,) = trial.inputs
        columns = len(options.features or ()) or (given[table.name].shape[1] if given is not None else 0)
        if graph.is_classical and not columns:
            raise ModelError(
                f"the graph does not say how many columns {table.name} has: name them with --features, or give a row "
                "with --sample"
            )
        if graph.is_classical or options.features:
            graph.declare_shape(table.name, [table.spec.shape[0], columns])
            changed = True
    return _reopened(graph, directory) if changed else trial


def _reopened(graph: Graph, directory: Path) -> Trial:
    """The graph as it has been changed."""
    shutil.rmtree(directory)
    directory.mkdir()
    return _Opened(graph, directory).trial


class _Model:
    """What is to be saved."""

    def __init__(
        self,
        source: Path,
        graph: Graph,
        learned: Learned,
        image: tuple[ImagePreprocessing, str] | None,
        options: AddOptions,
    ) -> None:
        self.source = source
        self.graph = graph
        self.learned = learned
        self.options = options
        self.reasons = [Reason("graph", f"IR {graph.ir_version}, opset {graph.opset}", graph.producer)]
        self.reasons += [Reason("changed", note, "") for note in graph.notes]
        self.image = image[0] if image else None
        kind: Kind
        kind, why = ("image", image[1]) if image else decide.decide_kind(graph, learned, options)
        if kind == "image" and learned.batching == "none":
            raise ModelError(f"a model of images takes them as rows, and this graph has none: {learned.why}")
        self.reasons.append(Reason("kind", kind, why))
        self.features = self._features(kind)
        deciding = Deciding(graph, learned, kind, options)
        outcome = deciding.decide()
        self.reasons += deciding.reasons
        if options.batching is not None:
            _check_batching(options, learned)
            learned.batching, learned.why = options.batching, "--batching"
        meaning = {
            "free": "rows share a call",
            "one": "one row a call",
            "none": "one request a call",
        }[learned.batching]
        self.reasons.append(Reason("batching", f"{learned.batching}: {meaning}", learned.why))
        allow_nan, why = decide.takes_missing_values(graph, learned.sample, options)
        self.reasons.append(Reason("missing", "NaN allowed" if allow_nan else "refused", why))
        if self.image is not None:
            self.reasons.append(Reason("image", describe_image(self.image), ""))
        elif options.sample is None:
            self.reasons.append(Reason("sample", "made up", "--sample would give one that means something"))
        self.metadata = self._metadata(kind, outcome, allow_nan=allow_nan)

    def _features(self, kind: Kind) -> list[str]:
        given = list(self.options.features or ())
        if not given:
            return []
        if kind != "rows":
            raise ModelError(f"--features: only columns have names, and the kind is {kind}; --kind rows makes a table")
        specs = self.learned.inputs
        widths = [1 if len(spec.shape) == 1 else spec.shape[1] or len(given) for spec in specs]
        if sum(widths) != len(given):
            raise ModelError(f"--features: {len(given)} names for {sum(widths)} columns")
        if len(set(given)) != len(given):
            raise ModelError("--features: a name occurs twice")
        return given

    def _metadata(self, kind: Kind, outcome: Outcome, *, allow_nan: bool) -> ModelMetadata:
        learned = self.learned
        try:
            return ModelMetadata(
                format="onnx",
                kind=kind,
                task=outcome.task,
                scores=outcome.scores,
                activation=outcome.activation,
                labels=list(outcome.labels),
                multilabel=outcome.multilabel,
                label_output=outcome.label_output,
                label_values=list(outcome.label_values),
                feature_names=self.features,
                inputs=learned.inputs,
                outputs=learned.outputs,
                batching=learned.batching,
                allow_nan=allow_nan,
                image=self.image,
                versions=library_versions("onnx", "onnxruntime"),
                onnx_ir_version=self.graph.ir_version,
                onnx_opset=self.graph.opset,
            )
        except ValidationError as error:
            raise ModelError(f"{self.source}: {error.errors(include_url=False)[0]['msg']}") from error

    def save(self, place: Staging, tag: str, directory: Path) -> Checked:
        """Put the model together in `place`, and answer its sample before it is published."""
        labels = {"framework": "onnx", "kind": self.metadata.kind, "task": self.metadata.task}
        with place.model(tag, self.metadata, labels=labels) as path:
            for file in list(directory.iterdir()):
                file.rename(path / file.name)
            if self.image is None:
                (path / SAMPLE_FILE).write_bytes(to_bytes(self.learned.sample))
            stored = StoredModel(tag=tag, path=path, created_at="", metadata=self.metadata)
            sample = None
            if self.image is not None and self.options.sample is not None:
                sample = read_bytes(self.options.sample)
            return check_model(stored, ModelSettings(), image=sample)


def _check_batching(options: AddOptions, learned: Learned) -> None:
    """Raises ModelError where the graph cannot be run so."""
    if options.batching != learned.batching and (options.batching != "one" or learned.batching != "free"):
        if options.batching == "free" and learned.batching == "one" and learned.why == DYNAMIC:
            return
        raise ModelError(f"--batching {options.batching}: the graph cannot be run so: {learned.why}")


def describe_image(image: ImagePreprocessing) -> str:
    """The preprocessing in a line for people."""
    how = image.resize if image.resize == "stretch" else f"crop from {image.shortest or min(image.width, image.height)}"
    parts = [f"{image.width}x{image.height} {image.layout} {image.channels}, {how}, {image.interpolation}"]
    parts.append(f"scale {image.scale:.6g}")
    if image.mean:
        parts.append(f"mean {','.join(f'{value:g}' for value in image.mean)}")
    if image.deviation:
        parts.append(f"deviation {','.join(f'{value:g}' for value in image.deviation)}")
    return ", ".join(parts)
