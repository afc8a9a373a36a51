"""Computes parts of the channels with convolutions of their own, without the Split behind them.

A convolution whose output is split, also behind operators that work on each channel by itself, is one convolution for
each part, with that part of its weights. These are the same multiplications; what is saved is the copy of the parts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import onnx

from sr_edge.export.graph.view import (
    Constant,
    GraphView,
    captured_tensors,
    integer_attribute,
    view_graph,
)
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.export.passes.rewrites.axis_rows import BROADCASTING, UNARY
from sr_edge.export.passes.rewrites.edit import (
    GraphEdit,
    NodeChain,
    constant_integers,
    constant_shape,
    leaving_old_opsets,
    set_attribute,
)

_CHANNELS = 1


@leaving_old_opsets
def split_outputs(model: onnx.ModelProto) -> PassResult:
    """Replaces a convolution whose output is split by convolutions of the parts."""
    split, current = 0, model
    while step := _split_once(view_graph(current)):
        split, current = split + step[0], step[1]
    if not split:
        return PassResult(model, False, "no convolution is followed by a Split or by Slices of its channels")
    return PassResult(current, True, f"{split} convolutions whose output was split are convolutions of the parts now")


def _split_once(view: GraphView) -> tuple[int, onnx.ModelProto] | None:
    """Splits all convolutions that can be split; their parts may be split again."""
    branches = [branch for index in range(len(view.nodes)) if (branch := _split_branch(view, index)) is not None]
    edit = GraphEdit(view)
    for branch in branches:
        _write_parts(view, branch, edit)
    edit.remove_unused_nodes()
    return (len(branches), edit.result("").model) if branches else None


@dataclass(frozen=True)
class _Branch:
    """A convolution and what is behind it, up to where the channels are split.

    Attributes:
        chain: the convolution, and the nodes behind it that work on each channel by itself.
        splitting: the Split, or the Slices.
        parts: the first channel and the one behind the last, for each tensor that is a part.
    """

    chain: tuple[int, ...]
    splitting: tuple[int, ...]
    parts: dict[str, tuple[int, int]] = field(default_factory=dict)


def _split_branch(view: GraphView, index: int) -> _Branch | None:
    """The branch that begins with a convolution, if it ends in a split of the channels."""
    node = view.nodes[index]
    if node.op_type != "Conv" or integer_attribute(node, "group", 1) != 1 or node.input[1] not in view.constants:
        return None
    if len(node.input) > 2 and node.input[2] and node.input[2] not in view.constants:
        return None
    fixed = view.output_names | captured_tensors(view.model)
    chain = [index]
    while True:
        output = view.nodes[chain[-1]].output[0]
        readers = view.consumers.get(output, ())
        if output in fixed or constant_shape(view, output) is None:
            return None
        parts = _parts(view, output, readers)
        if parts is not None:
            return _Branch(tuple(chain), readers, parts)
        if len(readers) != 1 or not _is_channelwise(view, readers[0], output):
            return None
        chain.append(readers[0])


def _parts(view: GraphView, tensor: str, readers: tuple[int, ...]) -> dict[str, tuple[int, int]] | None:
    """The ranges of channels of all readers, if they are one Split or Slices that do not overlap."""
    shape = constant_shape(view, tensor) or ()
    operators = {view.nodes[reader].op_type for reader in readers}
    parts: dict[str, tuple[int, int]] = {}
    if operators == {"Split"} and len(readers) == 1:
        node, start = view.nodes[readers[0]], 0
        if integer_attribute(node, "axis", 0) % len(shape) != _CHANNELS:
            return None
        for output in node.output:
            size = (constant_shape(view, output) or (0, 0))[_CHANNELS]
            parts[output], start = (start, start + size), start + size
    elif operators == {"Slice"}:
        for reader in readers:
            bounds = _slice_of_channels(view, view.nodes[reader], shape)
            if bounds is None:
                return None
            parts[view.nodes[reader].output[0]] = bounds
    ranges = sorted(parts.values())
    is_disjoint = all(one[1] <= other[0] for one, other in pairwise(ranges))
    return parts if len(parts) > 1 and is_disjoint and all(start < stop for start, stop in ranges) else None


def _slice_of_channels(view: GraphView, node: onnx.NodeProto, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The range of channels that a Slice takes; None if it takes anything else."""
    starts, stops, axes, steps = (constant_integers(view, node, position) for position in range(1, 5))
    if axes is None or len(axes) != 1 or axes[0] % len(shape) != _CHANNELS or steps not in ([], [1]):
        return None
    if starts is None or stops is None:
        return None
    start, stop, _ = slice(starts[0], stops[0]).indices(shape[_CHANNELS])
    return start, stop


def _is_channelwise(view: GraphView, index: int, tensor: str) -> bool:
    """Whether each channel of a node's output depends on the same channel of one tensor and on constants."""
    node = view.nodes[index]
    shape, result = constant_shape(view, tensor) or (), constant_shape(view, node.output[0]) or ()
    if len(result) != len(shape) or result[_CHANNELS] != shape[_CHANNELS]:
        return False
    if node.op_type in UNARY:
        return view.computed_inputs(index) == (tensor,)
    if node.op_type in BROADCASTING:
        values = [view.constants[name] for name in node.input if name in view.constants]
        is_alone = view.computed_inputs(index) == (tensor,) and len(values) + 1 == len(node.input)
        return is_alone and all(value.ndim <= len(shape) for value in values)
    weight = view.constants.get(node.input[1]) if node.op_type == "Conv" else None
    if weight is None or node.input[0] != tensor or view.computed_inputs(index) != (tensor,):
        return False
    return weight.shape[:2] == (shape[_CHANNELS], 1) and integer_attribute(node, "group", 1) == shape[_CHANNELS]


def _write_parts(view: GraphView, branch: _Branch, edit: GraphEdit) -> None:
    """Writes the whole branch for each part, in place of the convolution."""
    first = edit.replacing(branch.chain[0])
    for index in (*branch.chain[1:], *branch.splitting):
        edit.replacing(index)
    for output, bounds in branch.parts.items():
        tensor = view.nodes[branch.chain[0]].input[0]
        for index in branch.chain:
            is_last = index == branch.chain[-1]
            tensor = _add_part(view, index, tensor, bounds, first, output if is_last else "")


def _add_part(view: GraphView, index: int, tensor: str, bounds: tuple[int, int], chain: NodeChain, output: str) -> str:
    """Adds a node of the branch for a range of the channels."""
    node = view.nodes[index]
    rank = len(constant_shape(view, node.output[0]) or ())
    inputs = [tensor if name not in view.constants else name for name in node.input]
    for position, name in enumerate(node.input):
        if name in view.constants and node.op_type not in UNARY:
            axis = 0 if node.op_type == "Conv" else _CHANNELS - rank + view.constants[name].ndim
            inputs[position] = chain.constant(_part_of(view.constants[name], axis, bounds), "part")
    if node.op_type == "Conv":
        inputs[0] = tensor
    result = chain.add(node.op_type, inputs, output=output)
    chain.nodes[-1].attribute.extend(node.attribute)
    if node.op_type == "Conv" and integer_attribute(node, "group", 1) > 1:
        set_attribute(chain.nodes[-1], "group", bounds[1] - bounds[0])
    return result


def _part_of(value: Constant, axis: int, bounds: tuple[int, int]) -> Constant:
    """The part of a constant for a range of channels; all of it if it is the same for all channels."""
    if axis < 0 or value.shape[axis] == 1:
        return value
    return value.take(range(*bounds), axis)
