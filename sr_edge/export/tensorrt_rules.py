"""Checks a graph against what the ONNX parser of one TensorRT release takes, before it is on the device.

The table of operators is in tensorrt_releases.py, with its sources; the restrictions below are those that the same
documents state beside each operator. A clean result says that nothing is known against the graph, not that it
builds; what stands inside If, Loop and Scan is not looked at.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from sr_edge.errors import ExportError
from sr_edge.export.graph import GraphView, attribute, default_opset, view_graph
from sr_edge.export.scan import SHOWN, Finding, one_float_type, read_onnx, tensorrt_quantization
from sr_edge.export.tensorrt_releases import OLDEST_OPSET, TensorRTRelease, find_release

MAX_RANK = 8  # nvinfer1::Dims::MAX_DIMS
MAX_ELEMENTS = 2**31 - 1  # of one tensor: volumes are counted in 32 bits
TOP_K_LIMIT = 3840  # k must be below it
_INTEGERS = (TensorProto.INT32, TensorProto.INT64)
_STANDARD_DOMAINS = ("", "ai.onnx")
_REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
)  # fmt: skip
_POOLING = ("AveragePool", "LpPool", "MaxPool")
_RESIZE = {  # attribute: its default, what is taken; cubic is in every release's bindings, not in the documents
    "mode": ("nearest", ("nearest", "linear", "cubic")),
    "coordinate_transformation_mode": (
        "half_pixel",
        ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners"),
    ),
    "nearest_mode": ("round_prefer_floor", ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")),
    "keep_aspect_ratio_policy": ("stretch", ("stretch",)),
}

Rule = Callable[[GraphView, TensorRTRelease], Iterator[Finding]]


def check_for_tensorrt(model: Path | onnx.ModelProto, target: str) -> tuple[Finding, ...]:
    """Everything in a graph that is known to stop the ONNX parser of one TensorRT release; empty if there is nothing.

    Args:
        model: an ONNX file or a loaded model, of any maker; it is left alone.
        target: the release, such as "tensorrt-10.3".

    Raises:
        UnknownNameError: no such release in the table.
        ExportError: the file is not ONNX, or its shapes contradict each other.
    """
    release = find_release(target)
    view = view_graph(read_onnx(model) if isinstance(model, Path) else model)
    return tuple(finding for rule in RULES for finding in rule(view, release))


def require_for_tensorrt(model: Path | onnx.ModelProto, target: str) -> None:
    """Raises ExportError naming the first findings of `check_for_tensorrt`, unless there are none."""
    findings = check_for_tensorrt(model, target)
    if not findings:
        return
    shown = "; ".join(str(finding) for finding in findings[:SHOWN])
    more = f" (and {len(findings) - SHOWN} more)" if len(findings) > SHOWN else ""
    raise ExportError(f"{find_release(target)} would refuse the graph: {shown}{more}")


def opset(view: GraphView, release: TensorRTRelease) -> Iterator[Finding]:
    """The version of the standard operator set."""
    found = default_opset(view.model)
    if not OLDEST_OPSET <= found <= release.newest_opset:
        why = f"it is opset {found}; {release} reads {OLDEST_OPSET} to {release.newest_opset}"
        yield Finding("opset_import", "model", why, "export with opset 17, which every release reads")


def operators(view: GraphView, release: TensorRTRelease) -> Iterator[Finding]:
    """Operators that the release does not know, and those it knows in other types of data."""
    for at, node in enumerate(view.nodes):
        if node.domain not in _STANDARD_DOMAINS:
            why = f"domain {node.domain!r} needs a plugin"
            yield Finding(view.name(at), node.op_type, why, "use standard operators")
        elif node.op_type not in release.types:
            why = f"{release} has no such operator"
            yield Finding(view.name(at), node.op_type, why, "write it with operators that the release has")
        else:
            yield from _data_types(view, at, release.types[node.op_type])


def _data_types(view: GraphView, at: int, taken: frozenset[int]) -> Iterator[Finding]:
    node = view.nodes[at]
    for tensor in _data_tensors(node):
        found = view.types.get(tensor, TensorProto.UNDEFINED)
        if found not in (TensorProto.UNDEFINED, *taken):
            why = f"{tensor!r} is {_type_name(found)}; TensorRT takes {', '.join(sorted(map(_type_name, taken)))}"
            yield Finding(view.name(at), node.op_type, why, "cast to one of these types in front of it")


def _data_tensors(node: onnx.NodeProto) -> list[str]:
    """What the documents' column of types is about; a Cast has it on both sides."""
    position = {"Where": 1, "OneHot": 2, "ConstantOfShape": 1}.get(node.op_type, 0)
    tensors = list(node.input[position : position + 1]) or list(node.output[:1])
    return [*tensors, *node.output] if node.op_type in ("Cast", "CastLike") else tensors


def uint8_at_the_border(view: GraphView, release: TensorRTRelease) -> Iterator[Finding]:
    """uint8 anywhere but in the graph's inputs and outputs."""
    border = {value.name for value in (*view.model.graph.input, *view.model.graph.output)}
    for at, node in enumerate(view.nodes):
        for tensor in node.output:
            if view.types.get(tensor) == TensorProto.UINT8 and tensor not in border:
                why = "uint8 is taken only as an input or output of the graph"
                yield Finding(view.name(at), node.op_type, why, "cast to float, or quantize to int8 (the s8 spelling)")


def quantization(view: GraphView, release: TensorRTRelease) -> Iterator[Finding]:
    """A zero point other than 0, int16, an int32 bias: what no release takes."""
    return tensorrt_quantization(view)


def mixed_floats(view: GraphView, release: TensorRTRelease) -> Iterator[Finding]:
    """Nodes that mix fp16 and fp32 inputs, which a strongly typed network refuses."""
    return one_float_type(view)


def sizes(view: GraphView, release: TensorRTRelease) -> Iterator[Finding]:
    """Tensors of too many dimensions, or of more elements than 32 bits can count."""
    for at, node in enumerate(view.nodes):
        for tensor in dict.fromkeys((*node.input, *node.output)):
            shape = view.shapes.get(tensor, ())
            if len(shape) > MAX_RANK:
                why = f"{tensor!r} has {len(shape)} dimensions; TensorRT has at most {MAX_RANK}"
                yield Finding(view.name(at), node.op_type, why, "merge dimensions of its reshape")
            elements = math.prod(dim for dim in shape if isinstance(dim, int))
            if elements > MAX_ELEMENTS:
                why = f"{tensor!r} has {elements:,} elements; TensorRT counts to {MAX_ELEMENTS:,}"
                yield Finding(view.name(at), node.op_type, why, "export a smaller tile")


def top_k(view: GraphView, release: TensorRTRelease) -> Iterator[Finding]:
    """TopK of too many, or unsorted."""
    for at, node in _nodes(view, ["TopK"]):
        count = view.constants.get(node.input[1]) if len(node.input) > 1 else None
        if count is not None and int(np.ravel(count)[0]) >= TOP_K_LIMIT:
            why = f"k = {int(np.ravel(count)[0])}; TensorRT takes less than {TOP_K_LIMIT}"
            yield Finding(view.name(at), "TopK", why, "rank by a counting sort, or work on smaller tiles")
        if _integer(node, "sorted", 1) != 1:
            yield Finding(view.name(at), "TopK", "TensorRT gives sorted values only", "set sorted = 1")


def build_time_constants(view: GraphView, release: TensorRTRelease) -> Iterator[Finding]:
    """Inputs that must be constants in this release."""
    wanted = {"CumSum": 1, "OneHot": 1, **dict.fromkeys(_REDUCTIONS, 1)}
    if release.version < (10, 7):
        wanted |= {"Squeeze": 1, "Unsqueeze": 1}
    for at, node in _nodes(view, wanted):
        tensor = node.input[wanted[node.op_type]] if len(node.input) > wanted[node.op_type] else ""
        if tensor and tensor not in view.constants:
            why = f"its input {tensor!r} is computed; {release} wants a constant"
            yield Finding(view.name(at), node.op_type, why, "export the static form (--form static)")


def resizing(view: GraphView, release: TensorRTRelease) -> Iterator[Finding]:
    """Ways to resize that TensorRT has not."""
    for at, node in _nodes(view, ["Resize"]):
        for name, (default, taken) in _RESIZE.items():
            found = _text(node, name, default)
            if found not in taken:
                why = f"{name} is {found}; TensorRT takes {', '.join(taken)}"
                yield Finding(view.name(at), "Resize", why, "resize in one of these ways")
        if _integer(node, "antialias", 0):
            yield Finding(view.name(at), "Resize", "TensorRT refuses antialias", "resize without antialias")


def pooling(view: GraphView, release: TensorRTRelease) -> Iterator[Finding]:
    """Pooling other than of 2 or 3 sides, dilated, or that gives indices."""
    for at, node in _nodes(view, _POOLING):
        kernel = attribute(node, "kernel_shape")
        if kernel is not None and len(kernel.ints) not in (2, 3):
            why = f"it pools {len(kernel.ints)} sides; TensorRT pools 2 or 3"
            yield Finding(view.name(at), node.op_type, why, "add a side of 1 by a reshape")
        dilations = attribute(node, "dilations")
        if dilations is not None and set(dilations.ints) - {1}:
            yield Finding(view.name(at), node.op_type, "TensorRT has no dilated pooling", "pool without dilations")
        if node.op_type == "MaxPool" and len(node.output) > 1 and node.output[1]:
            yield Finding(view.name(at), "MaxPool", "TensorRT gives no indices", "use only its first output")


def restrictions(view: GraphView, release: TensorRTRelease) -> Iterator[Finding]:
    """What the documents say beside single operators."""
    for at, node in enumerate(view.nodes):
        for why, remedy in _restricted(view, node, release):
            yield Finding(view.name(at), node.op_type, why, remedy)


def _restricted(view: GraphView, node: onnx.NodeProto, release: TensorRTRelease) -> Iterator[tuple[str, str]]:
    version = release.version
    if node.op_type == "LayerNormalization" and any(node.output[1:]):
        yield "TensorRT gives its first output only", "compute mean and deviation apart"
    if node.op_type == "ScatterND" and _text(node, "reduction", "none") != "none":
        yield "TensorRT scatters without a reduction only", "add the parts with arithmetic"
    if node.op_type == "GridSample" and len(view.shapes.get(node.input[0], ())) > 4 and version < (11, 2):
        yield f"{release} samples pictures of 4 dimensions only", "sample slice by slice"
    if node.op_type == "Einsum" and version < (10, 12) and _is_special_einsum(_text(node, "equation", "")):
        yield f"{release} has no ellipsis and no diagonal", "write it as a matmul"
    if node.op_type == "Pad" and version < (10, 4) and len(node.input) > 3 and node.input[3]:
        yield f"{release} takes no axes", "pad all axes, those that stay with 0"
    if node.op_type == "Pow":
        base, exponent = (view.types.get(tensor) for tensor in node.input[:2])
        if (base in _INTEGERS and version < (10, 12)) or (exponent in _INTEGERS and version < (10, 8)):
            yield f"{release} raises floats to float powers only", "cast to float, or multiply"


def _is_special_einsum(equation: str) -> bool:
    terms = re.split(r",|->", equation.replace(" ", ""))
    return "." in equation or any(len(set(term)) < len(term) for term in terms)


RULES: tuple[Rule, ...] = (
    opset,
    operators,
    uint8_at_the_border,
    quantization,
    mixed_floats,
    sizes,
    top_k,
    build_time_constants,
    resizing,
    pooling,
    restrictions,
)


def _nodes(view: GraphView, operators: Iterable[str]) -> Iterator[tuple[int, onnx.NodeProto]]:
    return ((at, node) for at, node in enumerate(view.nodes) if node.op_type in operators)


def _integer(node: onnx.NodeProto, name: str, default: int) -> int:
    found = attribute(node, name)
    return default if found is None else int(found.i)


def _text(node: onnx.NodeProto, name: str, default: str) -> str:
    found = attribute(node, name)
    return default if found is None else found.s.decode()


def _type_name(element: int) -> str:
    return str(TensorProto.DataType.Name(element)).lower()
