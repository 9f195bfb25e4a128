"""Walking the protobuf of an ONNX file: nodes, tensors, attributes, names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_LONGEST_NAME = 100


def all_nodes(proto: Any) -> Iterator[Any]:
    """All nodes, also those of inner graphs and of functions."""
    yield from _nodes_of(proto.graph.node)
    for function in proto.functions:
        yield from _nodes_of(function.node)


def _nodes_of(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        yield node
        for graph in _inner_graphs(node):
            yield from _nodes_of(graph.node)


def _inner_graphs(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def all_tensors(proto: Any) -> Iterator[Any]:
    """All tensors that the file has values of."""
    graphs = [proto.graph]
    for node in all_nodes(proto):
        graphs.extend(_inner_graphs(node))
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("sparse_tensor"):
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
            yield from attribute.tensors
            for sparse in attribute.sparse_tensors:
                yield from (sparse.values, sparse.indices)
    for graph in graphs:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)


def producers_of(graph: Any) -> dict[str, Any]:
    """The node that computes each value of a graph, by the value's name."""
    return {name: node for node in graph.node for name in node.output if name}


def strings_of(node: Any, *names: str) -> list[str]:
    """The texts of the first of some attributes that a node has; empty where it has none of them."""
    for attribute in node.attribute:
        if attribute.name in names and attribute.strings:
            return [text.decode("utf-8", "replace") for text in attribute.strings]
    return []


def integers_of(node: Any, *names: str) -> list[int]:
    """As `strings_of`, for whole numbers."""
    for attribute in node.attribute:
        if attribute.name in names and attribute.ints:
            return list(attribute.ints)
    return []


def shown_name(text: str, longest: int = _LONGEST_NAME) -> str:
    """A name out of the file as a message repeats it."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in text)
    return printable if len(printable) <= longest else f"{printable[:longest]}…"
