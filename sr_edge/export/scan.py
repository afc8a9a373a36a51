"""Finds what keeps a graph from being static and portable: the contract that every static export is held to.

A rule is a function from a graph's view to findings. STATIC_RULES say that every shape is a constant and no
control flow is left; TENSORRT_RULES name what the TensorRT family (10.3 to 11.4 and RTX) refuses. The u8 spelling
of an INT8 graph, which is for OpenVINO alone, is scanned with STATIC_RULES.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from sr_edge.errors import ExportError
from sr_edge.export.graph import GraphView, attribute, view_graph

MAX_RANK = 5
MAX_TOPK = 3840  # TensorRT's limit
SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """One thing in a graph that a static, portable deployment cannot have, and what to do about it."""

    node: str
    op: str
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.op} {self.node!r}: {self.why}; {self.remedy}"


Rule = Callable[[GraphView], Iterator[Finding]]

_STATIC_FORM = "export the static form (--form static)"
_ARITHMETIC = "write it with matmuls and elementwise arithmetic"

_NOT_STATIC: Mapping[str, tuple[str, str]] = {
    "Einsum": ("compilers expand it into transposes they cannot plan", "write it as a matmul or a 1x1 convolution"),
    "CumSum": ("TensorRT 10.3 has no kernel for it", "multiply by a triangular constant"),
    "NonZero": ("its output's shape depends on the data", _ARITHMETIC),
    "Compress": ("its output's shape depends on the data", _ARITHMETIC),
    "NonMaxSuppression": ("its output's shape depends on the data", _ARITHMETIC),
    "Unique": ("its output's shape depends on the data", _ARITHMETIC),
    "If": ("control flow is decided at run time", "decide at export; " + _STATIC_FORM),
    "Loop": ("control flow is decided at run time", "unroll it; " + _STATIC_FORM),
    "Scan": ("control flow is decided at run time", "unroll it; " + _STATIC_FORM),
    "Shape": ("a shape is computed at run time", _STATIC_FORM),
    "Size": ("a shape is computed at run time", _STATIC_FORM),
    "Range": ("a shape is computed at run time", _STATIC_FORM),
    "ConstantOfShape": ("a shape is computed at run time", _STATIC_FORM),
    "EyeLike": ("a constant is computed at run time", "register it as a buffer"),
    "RandomNormal": ("equal inputs would give unequal pictures", "put the network in eval mode"),
    "RandomNormalLike": ("equal inputs would give unequal pictures", "put the network in eval mode"),
    "RandomUniform": ("equal inputs would give unequal pictures", "put the network in eval mode"),
    "RandomUniformLike": ("equal inputs would give unequal pictures", "put the network in eval mode"),
    "Bernoulli": ("equal inputs would give unequal pictures", "put the network in eval mode"),
    "Multinomial": ("equal inputs would give unequal pictures", "put the network in eval mode"),
    "Dropout": ("it only acts in training", "put the network in eval mode"),
}

# Inputs, by position, that carry sizes or positions and so must be constants in a static graph.
_SIZE_INPUTS: Mapping[str, tuple[int, ...]] = {
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

_TENSORRT_REFUSES = frozenset({
    "DeformConv", "Col2Im", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear",
    "StringNormalizer", "SequenceConstruct", "SequenceAt", "SequenceInsert", "SplitToSequence", "ConcatFromSequence",
})  # fmt: skip


def static_operators(view: GraphView) -> Iterator[Finding]:
    """Operators whose result's shape or control flow is known only at run time."""
    for at, node in enumerate(view.nodes):
        if node.op_type in _NOT_STATIC:
            why, remedy = _NOT_STATIC[node.op_type]
            yield Finding(view.name(at), node.op_type, why, remedy)


def constant_sizes(view: GraphView) -> Iterator[Finding]:
    """Sizes, positions and axes that are computed instead of constant."""
    for at, node in enumerate(view.nodes):
        for position in _SIZE_INPUTS.get(node.op_type, ()):
            if position < len(node.input) and node.input[position] and node.input[position] not in view.constants:
                why = f"its input {position} ({node.input[position]}) is computed at run time"
                yield Finding(view.name(at), node.op_type, why, _STATIC_FORM)


def static_dims(view: GraphView) -> Iterator[Finding]:
    """Tensors with a dimension that is not a number, or of unknown shape."""
    for value in (*view.model.graph.input, *view.model.graph.output):
        shape = view.shapes.get(value.name)
        if shape is None or not all(isinstance(dim, int) for dim in shape):
            why = f"its shape {_spell(shape)} is not constant"
            yield Finding(value.name, "graph input or output", why, "export without --dynamic")
    for at, node in enumerate(view.nodes):
        for tensor in node.output:
            shape = view.shapes.get(tensor)
            known = tensor in view.constants or (shape is not None and all(isinstance(dim, int) for dim in shape))
            if tensor and not known:
                why = f"its output's shape {_spell(shape)} is not constant"
                yield Finding(view.name(at), node.op_type, why, _STATIC_FORM)


def tensorrt_operators(view: GraphView) -> Iterator[Finding]:
    """Operators and settings that TensorRT's parser or builder refuses."""
    for at, node in enumerate(view.nodes):
        if node.op_type in _TENSORRT_REFUSES or node.domain not in ("", "ai.onnx"):
            where = f"domain {node.domain!r}" if node.domain else "it"
            yield Finding(view.name(at), node.op_type, f"TensorRT refuses {where}", "use standard float operators")
        elif node.op_type == "Resize" and _integer(node, "antialias"):
            yield Finding(view.name(at), "Resize", "TensorRT refuses antialias", "resize without antialias")
        elif node.op_type == "TopK" and (count := _top_k(view, node)) > MAX_TOPK:
            why = f"k = {count} is above TensorRT's {MAX_TOPK}"
            yield Finding(view.name(at), "TopK", why, "rank by matmuls or work on smaller tiles")
        if any(view.types.get(tensor) == onnx.TensorProto.DOUBLE for tensor in node.output):
            yield Finding(view.name(at), node.op_type, "TensorRT has no float64", "export a float32 network")


def tensorrt_quantization(view: GraphView) -> Iterator[Finding]:
    """Q/DQ spellings that TensorRT refuses: a zero point other than 0, int16, an int32 bias."""
    refused = (onnx.TensorProto.INT16, onnx.TensorProto.UINT16)
    for at, node in enumerate(view.nodes):
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        quantized = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
        if len(node.input) > 2 and node.input[2] and not _is_zero(view, node.input[2]):
            why = "TensorRT refuses a zero point other than 0"
            yield Finding(view.name(at), node.op_type, why, "write the s8 spelling")
        if view.types.get(quantized) in refused:
            yield Finding(view.name(at), node.op_type, "TensorRT refuses int16", "quantize to 8 bits")
        if view.types.get(quantized) == onnx.TensorProto.INT32:
            yield Finding(view.name(at), node.op_type, "TensorRT refuses an int32 bias", "keep the bias in float")


def one_float_type(view: GraphView) -> Iterator[Finding]:
    """Nodes that mix fp16 and fp32 inputs, which a strongly typed network refuses."""
    mixed = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16}
    for at, node in enumerate(view.nodes):
        if node.op_type != "Resize" and mixed <= {view.types.get(tensor, 0) for tensor in node.input if tensor}:
            yield Finding(view.name(at), node.op_type, "it mixes fp16 and fp32 inputs", "cast its inputs to one type")


STATIC_RULES: tuple[Rule, ...] = (static_operators, constant_sizes, static_dims)
TENSORRT_RULES: tuple[Rule, ...] = (tensorrt_operators, tensorrt_quantization, one_float_type)


def scan_graph(
    model: Path | onnx.ModelProto,
    rules: tuple[Rule, ...] = STATIC_RULES + TENSORRT_RULES,
) -> tuple[Finding, ...]:
    """Everything in the graph that a static, portable deployment cannot have; empty for a sound graph.

    Args:
        model: an ONNX file or a loaded model; it is left alone.
        rules: what to look for besides the rank.

    Raises:
        ExportError: the file is not ONNX, or its shapes contradict each other.
    """
    view = view_graph(read_onnx(model) if isinstance(model, Path) else model)
    return tuple(finding for rule in rules for finding in rule(view)) + tuple(_ranks(view))


def require_static(
    model: Path | onnx.ModelProto,
    rules: tuple[Rule, ...] = STATIC_RULES + TENSORRT_RULES,
) -> None:
    """Raises ExportError naming the first findings of `scan_graph`, unless there are none."""
    findings = scan_graph(model, rules)
    if not findings:
        return
    shown = "; ".join(str(finding) for finding in findings[:SHOWN])
    more = f" (and {len(findings) - SHOWN} more)" if len(findings) > SHOWN else ""
    raise ExportError(f"the graph is not static: {shown}{more}")


def read_onnx(path: Path) -> onnx.ModelProto:
    """Loads an ONNX file; raises ExportError when it is absent or is no ONNX file."""
    try:
        model = onnx.load(path)
    except FileNotFoundError as error:
        raise ExportError(f"no file {path}; pass a .onnx file") from error
    except Exception as error:  # protobuf's and onnx's parse errors share no base class
        raise ExportError(f"{path} is not a readable ONNX file ({error}); export it again") from error
    if not model.graph.node:
        raise ExportError(f"{path} holds no graph; export it again")
    return model


def _ranks(view: GraphView) -> Iterator[Finding]:
    for at, node in enumerate(view.nodes):
        rank = max((len(view.shapes.get(tensor, ())) for tensor in (*node.input, *node.output)), default=0)
        if rank > MAX_RANK:
            why = f"a tensor of rank {rank} is above {MAX_RANK}"
            yield Finding(view.name(at), node.op_type, why, "merge dimensions of its reshape")


def _spell(shape: tuple[int | str | None, ...] | None) -> str:
    return "(unknown)" if shape is None else "(" + ", ".join("?" if dim is None else str(dim) for dim in shape) + ")"


def _integer(node: onnx.NodeProto, name: str) -> int:
    found = attribute(node, name)
    return int(found.i) if found is not None else 0


def _top_k(view: GraphView, node: onnx.NodeProto) -> int:
    count = view.constants.get(node.input[1])
    return int(np.asarray(count).ravel()[0]) if count is not None else 0


def _is_zero(view: GraphView, tensor: str) -> bool:
    value = view.constants.get(tensor)
    return value is not None and not np.any(value)
