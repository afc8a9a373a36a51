"""A digest of the computation of a graph, independent of names, node order and the library versions in the header.

The hash of a tensor covers the operator that computes it, its attributes and the hashes of its inputs; that of a
constant covers type, shape and values. The digest covers the hashes of the outputs, the types and shapes of the inputs,
the opset, and how often each operator occurs (if a graph computes the same tensor twice, both have the same hash, but
the number of nodes differs).
"""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import onnx

from sr_edge.export.graph.view import Constant, GraphView, default_opset, view_graph


def graph_digest(model: onnx.ModelProto, weights: bool = True) -> str:
    """Computes the SHA-256 digest, as hex digits, of a model without its names.

    Args:
        model: A model whose nodes are in topological order, as ONNX requires.
        weights: False hashes float constants of more than one element by type and shape only, so the digest does
            not depend on seeded random weights, whose last bits may differ between processors.
    """
    view = view_graph(model)
    hashes = {"": "absent"}
    for position, value in enumerate(model.graph.input):
        # The position distinguishes inputs of the same shape, such as two controls; the image is the first input.
        place = [str(position)] if position else []
        hashes[value.name] = _hash("input", str(view.types[value.name]), str(view.shapes.get(value.name)), *place)
    hashes.update({name: _constant_hash(constant, weights) for name, constant in view.constants.items()})
    for node in view.nodes:
        if node.op_type != "Constant":
            recipe = _hash(node.domain, node.op_type, *_attributes(node), *(hashes[name] for name in node.input))
            hashes.update({name: _hash(recipe, str(position)) for position, name in enumerate(node.output)})
    outputs = [hashes[value.name] for value in model.graph.output]
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
