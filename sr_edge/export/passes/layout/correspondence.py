"""How the arrangements of the tensors of a node follow from each other, where it works in any arrangement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx

from sr_edge.export.graph.view import GraphView, integer_attribute, integers_attribute
from sr_edge.export.passes.layout.arrangement import (
    CHANNELS,
    Arrangement,
    Groups,
    channel_first_constant,
    from_groups,
)
from sr_edge.export.passes.rewrites.axis_rows import BROADCASTING, RESHAPING, UNARY, special_axes
from sr_edge.export.passes.rewrites.edit import FLOAT_DTYPES, constant_shape

Arrangements = Mapping[str, Arrangement]

REDUCTIONS = frozenset({"ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"})
_ALONG_AN_AXIS = frozenset({"Concat", "Slice", "Softmax", "Split"})
MOVEMENT = RESHAPING | {"Transpose"}
"""Operators that change the arrangement, and not the channel-first tensor."""


def arrangements_of(view: GraphView, index: int, known: Arrangements) -> Arrangements | None:
    """The arrangements of all computed tensors of a node.

    Args:
        view: the graph.
        index: the node.
        known: the arrangements that are known so far, of any tensors of the graph.

    Returns:
        The arrangements; None if those that are known do not determine all others or contradict them, or if the
        operator is not one that works in any arrangement.
    """
    node = view.nodes[index]
    rule = _rule(node)
    tensors = (*view.computed_inputs(index), *(output for output in node.output if output))
    if rule is None or any(constant_shape(view, tensor) is None for tensor in tensors):
        return None
    arrangements = rule(view, index, known)
    if arrangements is None or any(known.get(tensor, one) != one for tensor, one in arrangements.items()):
        return None
    has_groups = all(one.groups(_shape(view, tensor)) is not None for tensor, one in arrangements.items())
    return arrangements if has_groups else None


def groups_of(view: GraphView, tensor: str, arrangements: Arrangements) -> Groups:
    """The axes that each axis of a tensor with a known arrangement consists of."""
    return arrangements[tensor].groups(_shape(view, tensor)) or []


def axis_of(view: GraphView, index: int, arrangements: Arrangements) -> int | None:
    """The axis of the channel-first tensors along which a node works that has one axis."""
    axes = special_axes(view, index)
    if axes is None or len(axes) != 1:
        return None
    node = view.nodes[index]
    for tensor in (*view.computed_inputs(index), *node.output):
        if tensor in arrangements:
            group = groups_of(view, tensor, arrangements)[axes[0]]
            if len(group) == 1:
                return group[0]
    return None


def _rule(node: onnx.NodeProto) -> Callable[[GraphView, int, Arrangements], Arrangements | None] | None:
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type in UNARY:
        return _elementwise
    for operators, rule in _RULES:
        if node.op_type in operators:
            return rule
    return None


def _shape(view: GraphView, tensor: str) -> tuple[int, ...]:
    return constant_shape(view, tensor) or ()


def _elementwise(view: GraphView, index: int, known: Arrangements) -> Arrangements | None:
    """Inputs and output are aligned at their last axes; each axis of an input is that of the output, or one element."""
    node = view.nodes[index]
    output = node.output[0]
    inputs = [node.input[0]] if node.op_type in UNARY else list(node.input)
    tensors = [*(tensor for tensor in inputs if tensor not in view.constants), output]
    target = _shape(view, output)
    groups: Groups = [()] * len(target)
    sizes = [1] * 4
    for tensor in (tensor for tensor in tensors if tensor in known):
        for axis, group in _aligned(groups_of(view, tensor, known), len(target)):
            if groups[axis] not in ((), group):
                return None
            groups[axis] = group
            for each in group:
                sizes[each] = known[tensor].sizes[each]
    used = [axis for group in groups for axis in group]
    if len(set(used)) < len(used) or any(size > 1 and not group for size, group in zip(target, groups, strict=True)):
        return None
    constants = (view.constants[tensor] for tensor in inputs if tensor in view.constants)
    if any(channel_first_constant(value, groups, sizes) is None for value in constants):
        return None
    return {tensor: _part(_shape(view, tensor), groups, sizes) for tensor in tensors}


def _aligned(groups: Groups, rank: int) -> list[tuple[int, tuple[int, ...]]]:
    """The groups of more than one element, with their axes in a tensor of `rank` axes."""
    return [(axis + rank - len(groups), group) for axis, group in enumerate(groups) if group]


def _part(shape: Sequence[int], groups: Groups, sizes: Sequence[int]) -> Arrangement:
    """The arrangement of an input that is broadcast to a tensor whose axes consist of `groups`."""
    own = groups[len(groups) - len(shape) :]
    return from_groups([group if size > 1 else () for size, group in zip(shape, own, strict=True)], sizes)


def _reshape(view: GraphView, index: int, known: Arrangements) -> Arrangements | None:
    source, target = view.nodes[index].input[0], view.nodes[index].output[0]
    arrangement = known.get(source) or known.get(target)
    return None if arrangement is None else {source: arrangement, target: arrangement}


def _transpose(view: GraphView, index: int, known: Arrangements) -> Arrangements | None:
    node = view.nodes[index]
    source, target = node.input[0], node.output[0]
    order = integers_attribute(node, "perm", reversed(range(len(_shape(view, source)))))
    if source in known:
        groups = groups_of(view, source, known)
        return {source: known[source], target: from_groups([groups[axis] for axis in order], known[source].sizes)}
    if target in known:
        groups = groups_of(view, target, known)
        original = [groups[order.index(axis)] for axis in range(len(order))]
        return {source: from_groups(original, known[target].sizes), target: known[target]}
    return None


def _product(view: GraphView, index: int, known: Arrangements) -> Arrangements | None:
    """The last axis is multiplied with a constant matrix, and has to be the channels."""
    node = view.nodes[index]
    source, target = node.input[0], node.output[0]
    weight = view.constants.get(node.input[1])
    if source in view.constants or weight is None or weight.ndim != 2 or view.types.get(source) not in FLOAT_DTYPES:
        return None
    if node.op_type == "Gemm" and not _has_plain_bias(view, node):
        return None
    return _with_sizes(view, [source, target], len(_shape(view, source)) - 1, CHANNELS, known)


def _has_plain_bias(view: GraphView, node: onnx.NodeProto) -> bool:
    """Whether a Gemm does not transpose its first input, and adds the same constant numbers to each row."""
    if integer_attribute(node, "transA", 0):
        return False
    if len(node.input) < 3 or not node.input[2]:
        return True
    bias = view.constants.get(node.input[2])
    return bias is not None and bias.size in (1, _shape(view, node.output[0])[1]) and bias.shape[:-1] in ((), (1,))


def _layer_norm(view: GraphView, index: int, known: Arrangements) -> Arrangements | None:
    node = view.nodes[index]
    rank = len(_shape(view, node.input[0]))
    factors_are_constant = all(tensor in view.constants for tensor in node.input[1:] if tensor)
    is_over_last_axis = integer_attribute(node, "axis", -1) in (-1, rank - 1)
    if not factors_are_constant or not is_over_last_axis or sum(map(bool, node.output)) > 1:
        return None
    if view.types.get(node.input[0]) not in FLOAT_DTYPES:
        return None
    return _with_sizes(view, [node.input[0], node.output[0]], rank - 1, CHANNELS, known)


def _reduction(view: GraphView, index: int, known: Arrangements) -> Arrangements | None:
    source, target = view.nodes[index].input[0], view.nodes[index].output[0]
    axes = special_axes(view, index)
    if axes is None or source not in known:
        return None
    groups = groups_of(view, source, known)
    if not any(groups[axis] for axis in axes):  # nothing to reduce, for which ONNX has no list of axes
        return None
    kept = [() if axis in axes else group for axis, group in enumerate(groups)]
    return {source: known[source], target: from_groups(kept, known[source].sizes)}


def _along_an_axis(view: GraphView, index: int, known: Arrangements) -> Arrangements | None:
    axes, axis = special_axes(view, index), axis_of(view, index, known)
    if axes is None or axis is None:
        return None
    node = view.nodes[index]
    inputs = list(node.input) if node.op_type == "Concat" else [node.input[0]]
    return _with_sizes(view, [*inputs, *node.output], axes[0], axis, known)


def _with_sizes(
    view: GraphView, tensors: Sequence[str], position: int, axis: int, known: Arrangements
) -> Arrangements | None:
    """The arrangements of tensors that differ only in the size of their axis at `position`, which has to be `axis`."""
    for tensor in (tensor for tensor in tensors if tensor in known):
        if groups_of(view, tensor, known)[position] == (axis,):
            resized = {one: known[tensor].resized(axis, _shape(view, one)[position]) for one in tensors}
            return {one: arrangement for one, arrangement in resized.items() if arrangement is not None}
    return None


_RULES: tuple[tuple[frozenset[str], Callable[[GraphView, int, Arrangements], Arrangements | None]], ...] = (
    (BROADCASTING, _elementwise),
    (RESHAPING, _reshape),
    (frozenset({"Transpose"}), _transpose),
    (frozenset({"MatMul", "Gemm"}), _product),
    (frozenset({"LayerNormalization"}), _layer_norm),
    (REDUCTIONS, _reduction),
    (_ALONG_AN_AXIS, _along_an_axis),
)
