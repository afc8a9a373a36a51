"""Rules for every target: no results that differ from run to run, constant sizes, and no operators that are slow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from sr_edge.export.checks.findings import Problem
from sr_edge.export.graph.view import GraphView

USUAL_RANK = 5
"""The rank that suffices for image networks; compilers plan transposes of higher rank badly."""

_WRITE_SIZES_AS_NUMBERS = "write it with Python integers in forward, so that tracing makes a constant of it"

_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
)
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
_DATA_DEPENDENT = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Unique"})
_RUN_TIME_CONSTANTS = frozenset({"Shape", "Size", "Range", "ConstantOfShape", "EyeLike"})

_SIZE_INPUTS: Mapping[str, tuple[int, ...]] = {  # inputs, by position, that hold sizes or positions
    "Reshape": (1,),
    "Expand": (1,),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Tile": (1,),
    "Pad": (1,),
    "TopK": (1,),
    "OneHot": (1,),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
    "ReduceSum": (1,),
    "Trilu": (1,),
}


def random_operators(view: GraphView) -> Iterator[Problem]:
    """Operators that draw random numbers."""
    for name, node in view.of_types(_RANDOM):
        yield Problem(name, node.op_type, "equal inputs would give different outputs", "put the network in eval mode")


def dropout_in_training(view: GraphView) -> Iterator[Problem]:
    """Dropout whose training mode is on or computed; without it, Dropout is the identity."""
    for name, node in view.of_types(["Dropout"]):
        mode = node.input[2] if len(node.input) > 2 else ""
        if mode and (mode not in view.constants or np.any(view.constants[mode])):
            yield Problem(name, "Dropout", "it is in training mode", "call F.dropout with training=self.training")


def control_flow(view: GraphView) -> Iterator[Problem]:
    """Branches and loops."""
    for name, node in view.of_types(_CONTROL_FLOW):
        yield Problem(name, node.op_type, "control flow is decided at run time", "decide or unroll it in Python")


def data_dependent_shapes(view: GraphView) -> Iterator[Problem]:
    """Operators whose output shape depends on the values of the image."""
    for name, node in view.of_types(_DATA_DEPENDENT):
        why = "its output shape depends on the values of the image"
        yield Problem(name, node.op_type, why, "write it with matrix multiplications and elementwise arithmetic")


def unknown_shapes(view: GraphView) -> Iterator[Problem]:
    """Tensors of unknown shape, or with a dimension that is not a number."""
    for value in view.model.graph.input:
        shape = view.shapes.get(value.name)
        if not is_constant_shape(shape):
            yield Problem(
                value.name, "input", f"its shape {_shape_text(shape)} is not constant", "export without --dynamic"
            )
    for at, node in enumerate(view.nodes):
        for tensor in node.output if node.op_type not in _DATA_DEPENDENT else ():
            shape = view.shapes.get(tensor)
            if tensor and tensor not in view.constants and not is_constant_shape(shape):
                why = f"its output's shape {_shape_text(shape)} is not constant"
                yield Problem(view.name(at), node.op_type, why, _WRITE_SIZES_AS_NUMBERS)


def sizes_computed_at_run_time(view: GraphView) -> Iterator[Problem]:
    """Sizes, positions and axes that are computed at run time, even if all shapes are known.

    Every target accepts them (tested with ONNX Runtime 1.31, OpenVINO 2026.4 and TensorRT for RTX 1.7); they take time.
    """
    for name, node in view.of_types(_RUN_TIME_CONSTANTS):
        yield Problem(name, node.op_type, "a size is computed at run time", _WRITE_SIZES_AS_NUMBERS)
    for name, node in view.of_types(_SIZE_INPUTS):
        for position in _SIZE_INPUTS[node.op_type]:
            tensor = node.input[position] if position < len(node.input) else ""
            if tensor and tensor not in view.constants:
                why = f"its input {position} ({tensor}) is computed at run time"
                yield Problem(name, node.op_type, why, _WRITE_SIZES_AS_NUMBERS)


def high_rank(view: GraphView) -> Iterator[Problem]:
    """Tensors of more than five dimensions, which export merges where they move together (`merge_axes`).

    The largest rank that a target accepts is a rule of that target.
    """
    for at, node in enumerate(view.nodes):
        rank = max((len(view.shapes.get(tensor, ())) for tensor in (*node.input, *node.output)), default=0)
        if rank > USUAL_RANK:
            why = f"a tensor has {rank} dimensions; compilers optimize more than {USUAL_RANK} badly"
            yield Problem(view.name(at), node.op_type, why, "merge dimensions of the reshape in front of it")


def einsum(view: GraphView) -> Iterator[Problem]:
    """Einsum, which every target accepts and most expand into transposes around a matrix multiplication.

    Export does so itself, with fewer transposes, for one or two operands (`einsum_as_product`).
    """
    for name, _ in view.of_types(["Einsum"]):
        why = "compilers expand it into transposes and a matrix multiplication"
        remedy = "write it as a matrix multiplication or a 1x1 convolution where time matters"
        yield Problem(name, "Einsum", why, remedy)


def cumulative_sum(view: GraphView) -> Iterator[Problem]:
    """CumSum, which every target accepts and some run as a sequential loop.

    Export rewrites it for short axes of constant size (`cumulative_sum_as_product`).
    """
    for name, _ in view.of_types(["CumSum"]):
        why = "a runtime without a kernel for it adds one element after the other"
        yield Problem(name, "CumSum", why, "multiply by a constant triangular matrix where time matters")


def is_constant_shape(shape: tuple[int | str | None, ...] | None) -> bool:
    """Whether every dimension is known and a number."""
    return shape is not None and all(isinstance(dim, int) for dim in shape)


def has_free_inputs(view: GraphView) -> bool:
    """Whether the graph accepts images of several sizes."""
    return not all(is_constant_shape(view.shapes.get(value.name)) for value in view.model.graph.input)


def _shape_text(shape: tuple[int | str | None, ...] | None) -> str:
    return "(unknown)" if shape is None else "(" + ", ".join("?" if dim is None else str(dim) for dim in shape) + ")"
