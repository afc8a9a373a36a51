"""A digest of what a graph computes and how, blind to names, node order and the library versions in the header.

Every tensor gets the hash of how it is made: operator, attributes, hashes of its inputs; a constant, of its type,
shape and values. The digest covers the outputs' hashes, the inputs' types and shapes, the opset, and how often
each operator occurs (a graph that computes the same thing twice hashes its tensors alike but counts more nodes).
"""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import onnx

from sr_edge.export.graph import Constant, GraphView, default_opset, view_graph


def graph_digest(model: onnx.ModelProto, weights: bool = True) -> str:
    """SHA-256, as hex digits, over the normalised graph.

    Args:
        model: any model whose nodes stand in topological order, as ONNX demands.
        weights: False hashes float constants of more than one element by type and shape only, so that seeded
            random weights, whose last bits may differ between processors, do not enter the digest.
    """
    view = view_graph(model)
    made = {"": "absent"}
    for position, value in enumerate(model.graph.input):
        # The place tells inputs of one shape apart, such as two controls; the picture is the first.
        place = [str(position)] if position else []
        made[value.name] = _hash("input", str(view.types[value.name]), str(view.shapes.get(value.name)), *place)
    made.update({name: _constant_hash(constant, weights) for name, constant in view.constants.items()})
    for node in view.nodes:
        if node.op_type != "Constant":
            recipe = _hash(node.domain, node.op_type, *_attributes(node), *(made[name] for name in node.input))
            made.update({name: _hash(recipe, str(position)) for position, name in enumerate(node.output)})
    outputs = [made[value.name] for value in model.graph.output]
    return _hash(str(default_opset(model)), *_operator_counts(view), *outputs)


def _operator_counts(view: GraphView) -> list[str]:
    counts = Counter(node.op_type for node in view.nodes if node.op_type != "Constant")
    return [f"{operator} {count}" for operator, count in sorted(counts.items())]


def _attributes(node: onnx.NodeProto) -> list[str]:
    return sorted(attribute.SerializeToString(deterministic=True).hex() for attribute in node.attribute)


def _constant_hash(constant: Constant, weights: bool) -> str:
    by_value = weights or constant.size == 1 or not np.issubdtype(constant.dtype, np.floating)
    values = np.ascontiguousarray(constant).tobytes() if by_value else b""
    return _hash("constant", str(constant.dtype), str(constant.shape), hashlib.sha256(values).hexdigest())


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
