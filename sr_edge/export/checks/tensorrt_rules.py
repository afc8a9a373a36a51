"""Rules for TensorRT: what its ONNX parser and its builder refuse or compute wrongly, by release.

tensorrt_releases.py has the table of operators and its sources; the restrictions below are those that the same
documents state for each operator. Where documents disagree or are incomplete, the behaviour of TensorRT for RTX 1.7 was
taken, which parses and builds without a GPU (`tests/export/checks/test_tensorrt_for_rtx.py` repeats this):

- TopK: the documentation of the parser says k < 3840, that of the layer k <= 3840, and builders from 10.3 on refuse
with
  "K exceeds the maximum value allowed (3840)"; 3840 builds, 3841 does not.
- Rank: 8 dimensions build, 9 do not parse (nvinfer1::Dims::MAX_DIMS is 8).
- Resize with antialias does not parse ("Antialiasing is not supported currently").
- Einsum and CumSum build. The parsers have had CumSum since 8.0. Since 10.8 it is a layer of its own; where several of
  these differ in axis or direction, all of them give the result of the first one (onnx-tensorrt issue 1034, TensorRT
  issues 4513 and 4551, open, with programs that reproduce it on 10.11).
- float64 is computed in float32 ("TensorRT will attempt to cast DOUBLE down to FLOAT").
- Squeeze and Unsqueeze: since 10.7 the axes may be computed from constants, but not from the image.
- TensorRT for RTX accepts some graphs that only full TensorRT refuses (unsorted TopK, pooling of one dimension, mixed
  float types, larger tensors), and has no kernel or plugin for DeformConv, DFT, NonZero and NonMaxSuppression.

A graph without findings has no known problem, but may still fail to build; nodes inside If, Loop and Scan are not
examined.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto

from sr_edge.export.checks.findings import NEVER, Problem
from sr_edge.export.checks.tensorrt_releases import (
    OLDEST_OPSET,
    SUPPORTED_TYPES,
    TENSORRT_RELEASES,
    Version,
    first_release_with,
)
from sr_edge.export.graph.view import GraphView, attribute, default_opset, integer_attribute, text_attribute

MAX_RANK = 8  # nvinfer1::Dims::MAX_DIMS
MAX_ELEMENTS = 2**31 - 1  # of one tensor, since TensorRT counts elements in 32 bits
MAX_TOP_K = 3840

_INTEGERS = (TensorProto.INT32, TensorProto.INT64)
_STANDARD_DOMAINS = ("", "ai.onnx")
_REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
)  # fmt: skip
_CONSTANT_INPUT = {"CumSum": 1, "OneHot": 1, **dict.fromkeys(_REDUCTIONS, 1)}
_POOLING = ("AveragePool", "LpPool", "MaxPool")
_RESIZE = {  # attribute: default, supported values; cubic is in the bindings of every release, not in the documents
    "mode": ("nearest", ("nearest", "linear", "cubic")),
    "coordinate_transformation_mode": (
        "half_pixel",
        ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners"),
    ),
    "nearest_mode": ("round_prefer_floor", ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")),
    "keep_aspect_ratio_policy": ("stretch", ("stretch",)),
}
_NOT_IN_RTX = frozenset({"DeformConv", "DFT", "NonMaxSuppression", "NonZero"})


def opset(view: GraphView) -> Iterator[Problem]:
    """Versions of the standard operator set that the parser does not read."""
    version = default_opset(view.model)
    reading = [release.version for release in TENSORRT_RELEASES if OLDEST_OPSET <= version <= release.newest_opset]
    first, last = TENSORRT_RELEASES[0], TENSORRT_RELEASES[-1]
    read = f"{first} reads {OLDEST_OPSET} to {first.newest_opset}, {last} to {last.newest_opset}"
    why = f"it is opset {version}; {read}"
    before = min(reading, default=NEVER)
    yield Problem("opset_import", "model", why, "export with opset 17, which every release reads", before=before)


def operators(view: GraphView) -> Iterator[Problem]:
    """Operators that the parser does not know."""
    for at, node in enumerate(view.nodes):
        if node.domain not in _STANDARD_DOMAINS:
            why = f"domain {node.domain!r} needs a plugin"
            yield Problem(view.name(at), node.op_type, why, "use standard operators")
        else:
            before = first_release_with(node.op_type) if node.op_type in SUPPORTED_TYPES else NEVER
            yield Problem(
                view.name(at), node.op_type, "there is no such operator", "write it with other operators", before=before
            )


def operators_of_rtx(view: GraphView) -> Iterator[Problem]:
    """Operators that TensorRT supports and TensorRT for RTX does not."""
    for name, node in view.of_types(_NOT_IN_RTX):
        yield Problem(name, node.op_type, "TensorRT for RTX does not build it", "write it with other operators")


def data_types(view: GraphView) -> Iterator[Problem]:
    """Supported operators with an unsupported data type; float64 is a rule of its own."""
    for at, node in enumerate(view.nodes):
        if node.op_type not in SUPPORTED_TYPES:
            continue
        supported = SUPPORTED_TYPES[node.op_type]
        for tensor in _data_tensors(node):
            element = view.types.get(tensor, TensorProto.UNDEFINED)
            if element not in (TensorProto.UNDEFINED, TensorProto.DOUBLE, *supported):
                names = ", ".join(sorted(map(_type_name, supported)))
                why = f"{tensor!r} is {_type_name(element)}; TensorRT supports {names}"
                yield Problem(view.name(at), node.op_type, why, "cast to one of these types in front of it")


def _data_tensors(node: onnx.NodeProto) -> list[str]:
    """The tensors that the types in the documents apply to; for a Cast, input and output."""
    position = {"Where": 1, "OneHot": 2, "ConstantOfShape": 1}.get(node.op_type, 0)
    tensors = list(node.input[position : position + 1]) or list(node.output[:1])
    return [*tensors, *node.output] if node.op_type in ("Cast", "CastLike") else tensors


def float64(view: GraphView) -> Iterator[Problem]:
    """Tensors of float64."""
    for at, node in enumerate(view.nodes):
        if any(view.types.get(tensor) == TensorProto.DOUBLE for tensor in (*node.input, *node.output)):
            why = "float64 is computed in float32"
            yield Problem(view.name(at), node.op_type, why, "export a float32 network")


def uint8_inside(view: GraphView) -> Iterator[Problem]:
    """uint8 anywhere but in the graph's inputs and outputs."""
    border = {value.name for value in (*view.model.graph.input, *view.model.graph.output)}
    for at, node in enumerate(view.nodes):
        for tensor in node.output:
            if view.types.get(tensor) == TensorProto.UINT8 and tensor not in border:
                why = "uint8 is taken only as an input or output of the graph"
                remedy = "cast to float, or calibrate with --for TARGET, which writes INT8 activations for TensorRT"
                yield Problem(view.name(at), node.op_type, why, remedy)


def quantization(view: GraphView) -> Iterator[Problem]:
    """Quantization with a zero point other than 0, of 16 bits, or of a bias in int32."""
    for name, node in view.of_types(["QuantizeLinear", "DequantizeLinear"]):
        quantized = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
        if len(node.input) > 2 and node.input[2] and not _is_zero(view, node.input[2]):
            why = "a zero point other than 0 is refused"
            remedy = "calibrate with --for TARGET, which writes INT8 activations"
            yield Problem(name, node.op_type, why, remedy)
        if view.types.get(quantized) in (TensorProto.INT16, TensorProto.UINT16):
            yield Problem(name, node.op_type, "16-bit quantization is refused", "quantize to 8 bits")
        if view.types.get(quantized) == TensorProto.INT32:
            yield Problem(name, node.op_type, "an int32 bias is refused", "keep the bias in float")


def mixed_float_types(view: GraphView) -> Iterator[Problem]:
    """Nodes with both fp16 and fp32 inputs, which a strongly typed network refuses."""
    mixed = {TensorProto.FLOAT, TensorProto.FLOAT16}
    for at, node in enumerate(view.nodes):
        if node.op_type != "Resize" and mixed <= {view.types.get(tensor, 0) for tensor in node.input if tensor}:
            yield Problem(view.name(at), node.op_type, "it mixes fp16 and fp32 inputs", "cast its inputs to one type")


def ranks(view: GraphView) -> Iterator[Problem]:
    """Tensors of more than eight dimensions."""
    for at, node in enumerate(view.nodes):
        for tensor in dict.fromkeys((*node.input, *node.output)):
            rank = len(view.shapes.get(tensor, ()))
            if rank > MAX_RANK:
                why = f"{tensor!r} has {rank} dimensions; TensorRT supports at most {MAX_RANK}"
                yield Problem(view.name(at), node.op_type, why, "merge dimensions of its reshape")


def tensor_sizes(view: GraphView) -> Iterator[Problem]:
    """Tensors of more elements than 32 bits can count."""
    for at, node in enumerate(view.nodes):
        for tensor in dict.fromkeys((*node.input, *node.output)):
            elements = math.prod(dim for dim in view.shapes.get(tensor, ()) if isinstance(dim, int))
            if elements > MAX_ELEMENTS:
                why = f"{tensor!r} has {elements:,} elements; TensorRT supports at most {MAX_ELEMENTS:,}"
                yield Problem(view.name(at), node.op_type, why, "export a smaller tile")


def top_k(view: GraphView) -> Iterator[Problem]:
    """TopK of more values than TensorRT supports."""
    for name, node in view.of_types(["TopK"]):
        constant = view.constants.get(node.input[1]) if len(node.input) > 1 else None
        if constant is not None and (count := int(np.ravel(constant)[0])) > MAX_TOP_K:
            why = f"k = {count}; TensorRT supports at most {MAX_TOP_K}"
            yield Problem(name, "TopK", why, "rank by a counting sort, or work on smaller tiles")


def unsorted_top_k(view: GraphView) -> Iterator[Problem]:
    """TopK whose values are not sorted."""
    for name, node in view.of_types(["TopK"]):
        if integer_attribute(node, "sorted", 1) != 1:
            yield Problem(name, "TopK", "only sorted values are supported", "set sorted = 1")


def differing_cumulative_sums(view: GraphView) -> Iterator[Problem]:
    """CumSum nodes that differ in axis or direction: from 10.8 on, all of them give the result of the first one."""
    nodes = list(view.of_types(["CumSum"]))
    kinds = {_cumulation(view, node) for _, node in nodes}
    for name, _ in nodes if len(kinds) > 1 else ():
        why = "CumSum nodes of different axes or directions all give the result of one of them"
        yield Problem(name, "CumSum", why, "multiply by constant triangular matrices", since=(10, 8))


def _cumulation(view: GraphView, node: onnx.NodeProto) -> tuple[int | str, int, int]:
    """The axis of a CumSum, counted from the last one, and its attributes exclusive and reverse."""
    constant = view.constants.get(node.input[1])
    axis: int | str = node.input[1]
    if constant is not None:
        axis = int(np.ravel(constant)[0])
        axis -= len(view.shapes.get(node.input[0], ())) if axis >= 0 else 0
    return axis, integer_attribute(node, "exclusive", 0), integer_attribute(node, "reverse", 0)


def build_time_constants(view: GraphView) -> Iterator[Problem]:
    """Computed inputs where TensorRT needs constants at build time."""
    remedy = "write it with Python integers in forward"
    for name, node in view.of_types(_CONSTANT_INPUT):
        tensor = _input(node, _CONSTANT_INPUT[node.op_type])
        if tensor and tensor not in view.constants:
            yield Problem(name, node.op_type, f"its input {tensor!r} is computed and must be a constant", remedy)
    for name, node in view.of_types(["Squeeze", "Unsqueeze"]):
        tensor = _input(node, 1)
        if tensor and tensor not in view.constants:
            before = (10, 7) if _is_computed_from_constants(view, tensor) else NEVER
            why = f"its input {tensor!r} is computed and must be a constant"
            yield Problem(name, node.op_type, why, remedy, before=before)


def _is_computed_from_constants(view: GraphView, tensor: str) -> bool:
    """Whether the tensor depends on no input of the graph."""
    waiting, seen = [tensor], {tensor}
    while waiting:
        current = waiting.pop()
        if current in view.constants:
            continue
        if current not in view.producer:
            return False
        sources = {source for source in view.nodes[view.producer[current]].input if source} - seen
        seen |= sources
        waiting += sources
    return True


def resizing(view: GraphView) -> Iterator[Problem]:
    """Resize with attributes that TensorRT does not support."""
    for name, node in view.of_types(["Resize"]):
        for key, (default, supported) in _RESIZE.items():
            value = text_attribute(node, key, default)
            if value not in supported:
                why = f"{key} is {value}; TensorRT supports {', '.join(supported)}"
                yield Problem(name, "Resize", why, "choose a supported value")
        if integer_attribute(node, "antialias", 0):
            yield Problem(name, "Resize", "antialias is refused", "resize without antialias")


def pooled_dimensions(view: GraphView) -> Iterator[Problem]:
    """Pooling of one dimension, or of more than three."""
    for name, node in view.of_types(_POOLING):
        kernel = attribute(node, "kernel_shape")
        if kernel is not None and len(kernel.ints) not in (2, 3):
            why = f"it pools {len(kernel.ints)} dimensions; TensorRT pools 2 or 3"
            yield Problem(name, node.op_type, why, "add a dimension of size 1 with a reshape")


def pooling(view: GraphView) -> Iterator[Problem]:
    """Pooling that is dilated or returns indices."""
    for name, node in view.of_types(_POOLING):
        dilations = attribute(node, "dilations")
        if dilations is not None and set(dilations.ints) - {1}:
            yield Problem(name, node.op_type, "dilated pooling is refused", "pool without dilations")
        if node.op_type == "MaxPool" and _output(node, 1):
            yield Problem(name, "MaxPool", "indices are not supported", "use only its first output")


def further_restrictions(view: GraphView) -> Iterator[Problem]:
    """Restrictions that the documents state for single operators."""
    for at, node in enumerate(view.nodes):
        for why, remedy, before in _restrictions(view, node):
            until = "" if before == NEVER else " before TensorRT {}.{}".format(*before)
            yield Problem(view.name(at), node.op_type, f"{why}{until}", remedy, before=before)


def _restrictions(view: GraphView, node: onnx.NodeProto) -> Iterator[tuple[str, str, Version]]:
    if node.op_type == "LayerNormalization" and any(node.output[1:]):
        yield "only its first output is supported", "compute mean and deviation separately", NEVER
    if node.op_type == "ScatterND" and text_attribute(node, "reduction", "none") != "none":
        yield "a reduction is not supported", "scatter without it and add the parts", NEVER
    if node.op_type == "GridSample" and len(view.shapes.get(node.input[0], ())) > 4:
        yield "inputs of more than 4 dimensions are not supported", "sample slice by slice", (11, 2)
    if node.op_type == "Einsum" and _is_special_einsum(text_attribute(node, "equation", "")):
        yield "an ellipsis or a diagonal is not supported", "write it as a matrix multiplication", (10, 12)
    if node.op_type == "Pad" and _input(node, 3):
        yield "the input axes is not supported", "pad every axis, with 0 where nothing is added", (10, 4)
    if node.op_type == "Pow":
        base, exponent = (view.types.get(tensor) for tensor in node.input[:2])
        if base in _INTEGERS or exponent in _INTEGERS:
            before = (10, 12) if base in _INTEGERS else (10, 8)
            yield "integer powers are not supported", "cast to float, or multiply", before


def _is_special_einsum(equation: str) -> bool:
    terms = re.split(r",|->", equation.replace(" ", ""))
    return "." in equation or any(len(set(term)) < len(term) for term in terms)


def _input(node: onnx.NodeProto, position: int) -> str:
    return node.input[position] if position < len(node.input) else ""


def _output(node: onnx.NodeProto, position: int) -> str:
    return node.output[position] if position < len(node.output) else ""


def _is_zero(view: GraphView, tensor: str) -> bool:
    value = view.constants.get(tensor)
    return value is not None and not np.any(value)


def _type_name(element: int) -> str:
    return str(TensorProto.DataType.Name(element)).lower()
