"""Names of tensors in graphs of any origin, which may use every name that a rewrite would like to give."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from sr_edge.model_sources.onnx_file.external_data import graphs_of


def unused_prefix(graph: onnx.GraphProto, wanted: str) -> str:
    """`wanted`, or the same with underscores appended if any tensor of the graph has a name that begins with it."""
    names = _tensor_names(graph)
    prefix = wanted
    while any(name.startswith(prefix) for name in names):
        prefix = f"{prefix}_"
    return prefix


def rename_tensors(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Renames tensors in a graph and in the bodies of its control flow, in place."""
    for body in graphs_of(graph):
        for value in (*body.input, *body.output, *body.initializer):
            value.name = names.get(value.name, value.name)
        for node in body.node:
            node.input[:] = [names.get(tensor, tensor) for tensor in node.input]
            node.output[:] = [names.get(tensor, tensor) for tensor in node.output]


def _tensor_names(graph: onnx.GraphProto) -> set[str]:
    names: set[str] = set()
    for body in graphs_of(graph):
        names.update(value.name for value in (*body.input, *body.output, *body.initializer))
        for node in body.node:
            names.update((*node.input, *node.output))
    return names
