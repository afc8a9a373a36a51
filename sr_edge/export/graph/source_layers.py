"""Finds the layers of the network that the nodes of a graph come from, as paths of modules.

Exporters leave them in the names of nodes (TorchScript's: "/body/body.0/conv/Conv"), in the metadata of nodes (the
newer one's scopes) and in the names of parameters ("body.0.conv.weight"). Optimizers drop them here and there; such a
node takes the path of the nearest node that has one, of those that read it first.
"""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Sequence

import onnx

from sr_edge.export.graph.view import GraphView

SCOPES = "pkg.torch.onnx.name_scopes"
"""The key of a node's metadata with the list of its scopes: all modules around it, and its own name at the end."""


def source_layers(model: onnx.ModelProto) -> tuple[str, ...]:
    """The path of the module of each node, in the order of the nodes; "" where the graph has no path at all."""
    view = GraphView(model, tuple(model.graph.node), {}, {})
    own = [_own_path(view, index) for index in range(len(view.nodes))]
    return tuple(path or _nearest(view, own, index) for index, path in enumerate(own))


def _own_path(view: GraphView, index: int) -> str:
    node = view.nodes[index]
    return _path_in_scopes(node) or _path_in_name(node.name) or _path_of_parameters(view, node)


def _path_in_scopes(node: onnx.NodeProto) -> str:
    entry = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "")
    try:
        scopes = ast.literal_eval(entry) if entry else []
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    modules = scopes[1:-1] if isinstance(scopes, list) else []
    return str(modules[-1]) if modules else ""


def _path_in_name(name: str) -> str:
    """The modules in TorchScript's names, in which those of lists repeat the name of the list: "/body/body.0/Conv".

    Operators at the end are left out: a node that replaces another one is named "/body/body.0/Einsum/MatMul".
    """
    if not name.startswith("/"):
        return ""
    modules = name.split("/")[1:-1]
    while modules and onnx.defs.has(modules[-1].partition("_")[0]):
        modules.pop()
    return ".".join(
        module for at, module in enumerate(modules) if not "".join(modules[at + 1 : at + 2]).startswith(f"{module}.")
    )


def _path_of_parameters(view: GraphView, node: onnx.NodeProto) -> str:
    """The module of the first parameter that the node reads: "body.0.conv" of "body.0.conv.weight"."""
    paths = (name.rpartition(".")[0] for name in node.input if name in view.constants and "::" not in name)
    return next((path for path in paths if path), "")


def _nearest(view: GraphView, own: Sequence[str], start: int) -> str:
    seen, pending = {start}, deque([start])
    while pending:
        index = pending.popleft()
        if own[index]:
            return own[index]
        producers = (view.producer[tensor] for tensor in view.nodes[index].input if tensor in view.producer)
        for neighbour in (*view.readers(index), *producers):
            if neighbour not in seen:
                seen.add(neighbour)
                pending.append(neighbour)
    return ""
