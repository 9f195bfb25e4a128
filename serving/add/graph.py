"""Reading an ONNX file: what is in it, whether it can be served, and what has to be taken off its end.

The file is hostile: it is parsed as protobuf only, its external data may lie nowhere but below its own directory, and
nothing in it is trusted before ONNX Runtime has run it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from serving.add.external_data import find_external_data
from serving.add.protobuf import all_nodes, integers_of, producers_of, shown_name, strings_of
from serving.core.errors import ModelError
from serving.store.models import ONNX_FILE

# The limit of protobuf. What is larger keeps its weights in files beside it.
_MOST_BYTES = 2**31 - 1
_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview", "ai.onnx.preview.training"}
# Operators of ONNX Runtime itself.
_RUNTIME_DOMAINS = {"com.microsoft", "com.microsoft.nchwc", "com.microsoft.experimental", "com.ms.internal.nhwc"}
_ML = "ai.onnx.ml"
_OTHER_FORMATS = {
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), "a pickle of scikit-learn or another library"),
    **dict.fromkeys((".pt", ".pth", ".safetensors"), "a file of PyTorch"),
    **dict.fromkeys((".h5", ".keras", ".hdf5", ".pb"), "a file of Keras or TensorFlow"),
    **dict.fromkeys((".ubj", ".bst", ".xgb"), "a file of XGBoost"),
    ".tflite": "a file of TensorFlow Lite",
    ".ort": "ONNX Runtime's own format",
}
_EXPORT = "docs/own_model.md has the line that exports it to ONNX"
# Operators that pass values on as they are: what stands before them says what a value is.
_TRANSPARENT = {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "DequantizeLinear", "QuantizeLinear"}
_DATA_DEPENDENT = {"NonZero", "NonMaxSuppression", "Unique", "Compress", "Loop", "If", "Scan", "StringSplit"}
_LOCALE = b"C.UTF-8"


def require_onnx() -> Any:
    """The package `onnx`, which serving has no need of.

    Raises:
        ModelError: it is not installed; names the extra.
    """
    try:
        import onnx
        import onnx.checker
        import onnx.numpy_helper
    except ImportError as error:
        raise ModelError(
            "`serving models add` needs the package onnx: install the extra `add` (pip install 'model-serving[add]')"
        ) from error
    return onnx


@dataclass
class Graph:
    """A graph that has been read.

    Attributes:
        proto: the `onnx.ModelProto`; `load_graph` has changed its end where that was necessary.
        source: the file.
        external: files with weights, by the path that the graph has for them, relative to it.
        notes: what was changed, in sentences for people.
        zipmap_labels: class names of ZipMaps that were taken off, by the output that is there instead.
        fault: what the checker of `onnx` says of the file; empty where nothing.
    """

    proto: Any
    source: Path
    external: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    zipmap_labels: dict[str, list[str]] = field(default_factory=dict)
    fault: str = ""

    @property
    def ir_version(self) -> int:
        return int(self.proto.ir_version)

    @property
    def opset(self) -> int:
        """Version of the main operator set; 1 where the graph uses none of it."""
        return max((int(each.version) for each in self.proto.opset_import if each.domain in {"", "ai.onnx"}), default=1)

    @property
    def producer(self) -> str:
        """What exported it, as `skl2onnx 1.20.0`."""
        return shown_name(f"{self.proto.producer_name} {self.proto.producer_version}".strip())

    @property
    def operators(self) -> set[str]:
        """Types of all operators, as `MatMul`."""
        return {node.op_type for node in all_nodes(self.proto)}

    @property
    def is_classical(self) -> bool:
        """Whether it has operators of classical machine learning, such as trees and encoders."""
        return any(node.domain == _ML for node in all_nodes(self.proto))

    @property
    def depends_on_data(self) -> bool:
        """Whether lengths of outputs may depend on values."""
        return not _DATA_DEPENDENT.isdisjoint(self.operators)

    @property
    def has_missing_branch(self) -> bool:
        """Whether a tree in it says where a row goes whose value is missing, as those that were trained with such."""
        return any(sum(integers_of(node, "nodes_missing_value_tracks_true")) for node in all_nodes(self.proto))

    def has_no_shape(self, name: str) -> bool:
        """Whether not even the number of dimensions of an input is declared."""
        return any(
            value.name == name and not value.type.tensor_type.HasField("shape") for value in self.proto.graph.input
        )

    def declare_shape(self, name: str, shape: list[int | None]) -> None:
        """Declare the shape of an input that has none, or a fixed length where it has a free one."""
        for value in self.proto.graph.input:
            if value.name == name:
                declared = value.type.tensor_type.shape
                del declared.dim[:]
                declared.SetInParent()
                for length in shape:
                    dimension = declared.dim.add()
                    if length is not None:
                        dimension.dim_value = length

    def last_operator(self, output: str) -> str:
        """The operator that computes an output, before those that pass it on; empty where there is none.

        That of a quantised graph has the name of the one that it stands for.
        """
        producers = producers_of(self.proto.graph)
        seen: set[str] = set()
        name = output
        while name in producers and name not in seen:
            seen.add(name)
            node = producers[name]
            if node.op_type not in _TRANSPARENT or not node.input:
                return str(node.op_type).removeprefix("QLinear")
            name = node.input[0]
        return ""

    def categories(self, inputs: list[str]) -> dict[str, list[list[str]]]:
        """The strings that encoders in the graph know, for each input in the order in which they read it."""
        consumers: dict[str, list[Any]] = {}
        for node in self.proto.graph.node:
            for name in node.input:
                consumers.setdefault(name, []).append(node)
        found: dict[str, list[list[str]]] = {}
        for start in inputs:
            known: list[list[str]] = []
            queue, seen = [start], {start}
            while queue:
                for node in consumers.get(queue.pop(0), []):
                    if names := strings_of(node, "cats_strings", "keys_strings", "classlabels_strings"):
                        known.append(names)
                        continue
                    new = [name for name in node.output if name and name not in seen]
                    seen.update(new)
                    queue.extend(new)
            found[start] = known
        return found

    def labels_behind(self, outputs: list[str], classes: int) -> list[str] | None:
        """Names of as many classes as there are, found in the operators before `outputs`; `None` where there are none.

        They stand in the attributes of a classifier, in a table that a number is translated with, or in an array that
        an index points into.
        """
        for output in outputs:
            if len(labels := self.zipmap_labels.get(output, [])) == classes:
                return labels
        producers = producers_of(self.proto.graph)
        arrays = {each.name: each for each in self.proto.graph.initializer}
        for output in outputs:
            queue, seen = [output], {output}
            while queue:
                node = producers.get(queue.pop(0))
                if node is None:
                    continue
                labels = _labels_of(node, arrays, classes)
                if len(labels) == classes:
                    return labels
                new = [name for name in node.input if name and name not in seen]
                seen.update(new)
                queue.extend(new)
        return None

    def write(self, directory: Path) -> Path:
        """Write the graph and its external data into `directory`; the path of the graph.

        Raises:
            ModelError: a file cannot be read, or is no longer what it was.
        """
        for location, file in self.external.items():
            target = directory / location
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                # Not through a link that has been put there since the check.
                descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
                with os.fdopen(descriptor, "rb") as content, target.open("xb") as copy:
                    shutil.copyfileobj(content, copy, 1 << 20)
            except OSError as error:
                raise ModelError(f"external data {shown_name(location)} cannot be copied: {error.strerror}") from error
        path = directory / ONNX_FILE
        path.write_bytes(self.proto.SerializeToString())
        return path


def load_graph(source: Path) -> Graph:
    """Read a file, judge what can be judged without running it, and make tensors of outputs that are maps.

    Raises:
        ModelError: it cannot be served; one sentence that says what it is and what to do.
    """
    onnx = require_onnx()
    graph = Graph(_parse(source, onnx), source)
    _check_operators(graph)
    graph.external = find_external_data(graph.proto, graph.source)
    _free_lengths(graph)
    graph.fault = _checked(source, onnx)
    _remove_zipmaps(graph, onnx)
    _remove_sequences(graph, onnx)
    _replace_locales(graph)
    return graph


def _parse(source: Path, onnx: Any) -> Any:
    from google.protobuf.message import DecodeError

    if source.is_dir():
        raise ModelError(f"{source} is a directory, not an ONNX file; {_EXPORT}")
    try:
        size = source.stat().st_size
        if size > _MOST_BYTES:
            raise ModelError(
                f"{source} has more than 2 GB, which no ONNX file can have; export it with its weights beside it: "
                "onnx.save(model, path, save_as_external_data=True)"
            )
        content = source.read_bytes()
    except OSError as error:
        raise ModelError(f"{source} cannot be read: {error.strerror}") from error
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
        readable = proto.HasField("graph") and bool(proto.graph.output)
    except (DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        readable = False
    if not readable:
        if (kind := _OTHER_FORMATS.get(source.suffix.lower())) is not None:
            raise ModelError(f"{source} is no ONNX file but {kind}; {_EXPORT}")
        raise ModelError(f"{source} is no ONNX file, or one that is cut off or damaged; export it again")
    return proto


def _check_operators(graph: Graph) -> None:
    functions = {(function.domain, function.name) for function in graph.proto.functions}
    for node in all_nodes(graph.proto):
        if node.domain not in _DOMAINS | _RUNTIME_DOMAINS and (node.domain, node.op_type) not in functions:
            raise ModelError(
                f"{graph.source} uses {shown_name(node.op_type)} of {shown_name(node.domain)}, an operator that ONNX "
                "Runtime does not have; export the model without custom operators"
            )


def _checked(source: Path, onnx: Any) -> str:
    """What the checker of `onnx` finds first; ONNX Runtime takes some files that it does not."""
    try:
        onnx.checker.check_model(str(source))
    except (onnx.checker.ValidationError, ValueError, TypeError, RuntimeError) as error:
        return shown_name(" ".join(str(error).split()), 300)
    return ""


# The end of a graph


def _free_lengths(graph: Graph) -> None:
    """Have dimensions of any length declared as such; some exporters write 0 or -1 for them."""
    for value in (*graph.proto.graph.input, *graph.proto.graph.output):
        for dimension in value.type.tensor_type.shape.dim if value.type.HasField("tensor_type") else ():
            if dimension.HasField("dim_value") and dimension.dim_value <= 0:
                dimension.ClearField("dim_value")


def take_apart(graph: Graph, stacked: Mapping[str, int]) -> None:
    """Have an output of its own for each entry of the first dimension of some outputs, which have as many."""
    onnx = require_onnx()
    inner = graph.proto.graph
    for output in [each for each in inner.output if each.name in stacked]:
        names = [f"{output.name}_{index}" for index in range(stacked[output.name])]
        kind = output.type.tensor_type.elem_type
        for index, name in enumerate(names):
            place = onnx.numpy_helper.from_array(np.array(index), f"{name}_index")
            inner.initializer.append(place)
            inner.node.append(onnx.helper.make_node("Gather", [output.name, place.name], [name], axis=0))
        values = [*inner.output]
        position = values.index(output)
        values[position : position + 1] = [onnx.helper.make_tensor_value_info(name, kind, None) for name in names]
        _set_outputs(graph, values)
        graph.notes.append(f"{shown_name(output.name)} is {len(names)} outputs now: {shown_name(', '.join(names))}")


def _set_outputs(graph: Graph, outputs: list[Any]) -> None:
    copies = [each.SerializeToString() for each in outputs]
    del graph.proto.graph.output[:]
    for copy in copies:
        graph.proto.graph.output.add().ParseFromString(copy)


def _remove_zipmaps(graph: Graph, onnx: Any) -> None:
    """Have the tensor of probabilities as output where a ZipMap makes a map for each row of it."""
    producers = producers_of(graph.proto.graph)
    for output in graph.proto.graph.output:
        node = producers.get(output.name)
        if node is None or node.op_type != "ZipMap" or node.domain != _ML or _is_read(graph, output.name):
            continue
        labels = strings_of(node, "classlabels_strings") or [
            str(label) for label in integers_of(node, "classlabels_int64s")
        ]
        graph.zipmap_labels[output.name] = labels
        tensor = _output(onnx, output, output.name, [None, len(labels)] if labels else None)
        _replace_output(graph, onnx, node, [(tensor, node.input[0])])
        graph.notes.append(f"the ZipMap before {shown_name(output.name)} is taken off: the output is a tensor now")


def _remove_sequences(graph: Graph, onnx: Any) -> None:
    """Have the tensors as outputs of which the end of a graph makes a sequence."""
    producers = producers_of(graph.proto.graph)
    for output in list(graph.proto.graph.output):
        node = producers.get(output.name)
        if node is None or node.op_type != "SequenceConstruct" or not node.input or _is_read(graph, output.name):
            continue
        taken = {each.name for each in graph.proto.graph.output} | set(producers)
        names = [f"{output.name}_{index}" for index in range(len(node.input))]
        if taken.isdisjoint(names):
            tensors = [_output(onnx, output, name, None) for name in names]
            _replace_output(graph, onnx, node, list(zip(tensors, node.input, strict=True)))
            graph.notes.append(
                f"the sequence {shown_name(output.name)} is {len(names)} outputs now: {shown_name(', '.join(names))}"
            )


def _output(onnx: Any, sequence: Any, name: str, shape: list[int | None] | None) -> Any:
    """An output for tensors of what an output of a sequence, of tensors or of maps, has."""
    element = sequence.type.sequence_type.elem_type
    tensor = element.map_type.value_type.tensor_type if element.HasField("map_type") else element.tensor_type
    kind = tensor.elem_type or onnx.TensorProto.FLOAT
    return onnx.helper.make_tensor_value_info(name, kind, shape)


def _replace_output(graph: Graph, onnx: Any, node: Any, tensors: list[tuple[Any, str]]) -> None:
    """Have `tensors`, (output, tensor of the graph), as outputs in the place of the one that `node` makes."""
    inner = graph.proto.graph
    position = [each.name for each in inner.output].index(node.output[0])
    outputs = list(inner.output)
    outputs[position : position + 1] = [output for output, _ in tensors]
    _set_outputs(graph, outputs)
    inner.node.remove(node)
    inner.node.extend(onnx.helper.make_node("Identity", [tensor], [output.name]) for output, tensor in tensors)


def _is_read(graph: Graph, name: str) -> bool:
    """Whether an output of the graph is the input of an operator as well."""
    return any(name in node.input for node in all_nodes(graph.proto))


def _replace_locales(graph: Graph) -> None:
    """Have upper and lower case told by a locale that every image has; English rules are those of Unicode."""
    for node in all_nodes(graph.proto):
        if node.op_type != "StringNormalizer":
            continue
        attribute = next((each for each in node.attribute if each.name == "locale"), None)
        if attribute is None:
            attribute = node.attribute.add(name="locale", type=3)  # AttributeProto.STRING
        if not attribute.s or attribute.s.lower().startswith(b"en"):
            attribute.s = _LOCALE


def _labels_of(node: Any, arrays: dict[str, Any], classes: int) -> list[str]:
    if node.op_type == "LabelEncoder" and (values := strings_of(node, "values_strings")):
        keys = integers_of(node, "keys_int64s")
        if sorted(keys) == list(range(classes)) and len(keys) == len(values):
            return [value for _, value in sorted(zip(keys, values, strict=True))]
        return []
    if node.op_type in {"ArrayFeatureExtractor", "Gather"} and node.input and node.input[0] in arrays:
        return _array_of_labels(arrays[node.input[0]], classes)
    if labels := strings_of(node, "classlabels_strings"):
        return labels
    return [str(label) for label in integers_of(node, "classlabels_ints", "classlabels_int64s")]


def _array_of_labels(tensor: Any, classes: int) -> list[str]:
    from onnx import TensorProto, numpy_helper

    kinds = {TensorProto.STRING, TensorProto.INT64, TensorProto.INT32}
    lengths = [length for length in tensor.dims if length != 1]
    if tensor.data_type not in kinds or lengths != [classes] or tensor.external_data:
        return []
    # What is declared and what is there may differ in a hostile file.
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        values = numpy_helper.to_array(tensor).ravel().tolist()
        return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values]
    return []
