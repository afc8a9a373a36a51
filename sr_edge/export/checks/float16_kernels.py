"""float16 kernels for onnx's ReferenceEvaluator: exact products, sums in float32, rounded once, as in tensor cores.

onnx's own kernels for convolutions, matrix multiplications and sums round every partial sum, or loop over all elements
in Python. Its elementwise kernels use numpy, which rounds correctly but one number at a time; torch gives the same bits
ten times faster. Its kernels for resizing, sampling and pooling loop in Python or lack modes; here ONNX Runtime
computes such a node in float32 and the result is rounded once. The evaluator selects replacements by their class names.
All other operators run in numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx.reference.op_run import OpRun
from onnx.reference.ops import op_add, op_div, op_mul, op_sub

from sr_edge.export.graph.inputs import Tensor
from sr_edge.export.graph.onnxruntime_run import run_onnxruntime

HALF_BITS_OF_INF = 0x7C00
IR_VERSION = 8
"""The IR version of models of a single node, which every supported ONNX Runtime reads."""


def as_torch(x: Tensor) -> torch.Tensor:
    """The array as a torch tensor; copied where torch refuses it (negative strides) or warns (read-only arrays)."""
    return torch.from_numpy(np.require(x, requirements=("C", "W")))


def widened(x: Tensor) -> torch.Tensor:
    """The array as a float32 torch tensor."""
    return as_torch(x).float()


def rounded(x: torch.Tensor, dtype: npt.DTypeLike) -> Tensor:
    """Rounds to float16 as hardware does, with infinity above 65504; for float32 the tensor is returned as it is."""
    return (x.half() if dtype == np.float16 else x).numpy()


def all_finite(x: Tensor) -> bool:
    """Whether no number is infinite or NaN; for float16 ten times as fast as numpy."""
    if x.dtype == np.float16:
        return bool(((x.view(np.uint16) & HALF_BITS_OF_INF) != HALF_BITS_OF_INF).all())
    return bool(np.isfinite(x).all())


def elementwise(standard: type[OpRun], half: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> type[OpRun]:
    """onnx's kernel with another implementation for float16."""

    def run(self: OpRun, a: Tensor, b: Tensor) -> tuple[Tensor]:
        if a.dtype != np.float16:
            return standard._run(self, a, b)  # type: ignore[no-untyped-call]  # onnx states no types here
        return (half(as_torch(a), as_torch(b)).numpy(),)

    return type(standard.__name__, (standard,), {"_run": run})


def in_onnxruntime(operator: str) -> type[OpRun]:
    """A kernel that runs the node in ONNX Runtime in float32 and rounds the results to the type of the inputs."""

    def run(self: OpRun, *inputs: Tensor | None, **attributes: Any) -> tuple[Tensor, ...]:
        is_half = any(value is not None and value.dtype == np.float16 for value in inputs)
        values = [value if value is None or value.dtype != np.float16 else value.astype(np.float32) for value in inputs]
        outputs = _run_alone(self.onnx_node, values, self.run_params["opsets"])
        return tuple(
            rounded(as_torch(value), np.float16) if is_half and value.dtype == np.float32 else value
            for value in outputs
        )

    return type(operator, (OpRun,), {"op_domain": "", "_run": run})


def _run_alone(node: onnx.NodeProto, values: Sequence[Tensor | None], opsets: Mapping[str, int]) -> list[Tensor]:
    """Runs a node as a model of its own and returns its outputs."""
    feeds = {name: value for name, value in zip(node.input, values, strict=True) if name and value is not None}
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in feeds.items()
    ]
    names = [name for name in node.output if name]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in names]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "node", inputs, outputs),
        opset_imports=[onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items()],
        ir_version=IR_VERSION,
    )
    results = run_onnxruntime(model, feeds)
    return [results[name] for name in names]


class Cast(OpRun):
    op_domain = ""

    def _run(self, x: Tensor, to: int, **unused: Any) -> tuple[Tensor]:
        wanted = onnx.helper.tensor_dtype_to_np_dtype(to)
        if {x.dtype, wanted} == {np.dtype(np.float16), np.dtype(np.float32)}:
            return (rounded(widened(x), wanted),)
        return (x.astype(wanted),)


class MatMul(OpRun):
    op_domain = ""

    def _run(self, a: Tensor, b: Tensor) -> tuple[Tensor]:
        return (rounded(torch.matmul(widened(a), widened(b)), a.dtype),)


class Gemm(OpRun):
    op_domain = ""

    def _run(self, a: Tensor, b: Tensor, c: Tensor | None = None, **attributes: Any) -> tuple[Tensor]:
        left = widened(a).T if attributes.get("transA") else widened(a)
        right = widened(b).T if attributes.get("transB") else widened(b)
        alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
        product = (1.0 if alpha is None else alpha) * (left @ right)
        bias = 0.0 if c is None else (1.0 if beta is None else beta) * widened(c)
        return (rounded(product + bias, a.dtype),)


_UNCOMMON_CONV = in_onnxruntime("Conv")
"""For convolutions of one or three dimensions, and for padding that differs between the two ends."""


class Conv(OpRun):
    op_domain = ""

    def _run(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, **attributes: Any) -> tuple[Tensor]:
        rank = weight.ndim - 2
        pads = attributes.get("pads") or [0] * (2 * rank)
        if attributes.get("auto_pad") not in (None, "NOTSET") or list(pads[:rank]) != list(pads[rank:]) or rank != 2:
            inputs = [value for value in (x, weight, bias) if value is not None]
            return _UNCOMMON_CONV._run(self, *inputs)  # type: ignore[no-untyped-call]  # onnx states no types here
        result = torch.nn.functional.conv2d(
            widened(x),
            widened(weight),
            None if bias is None else widened(bias),
            stride=tuple(attributes.get("strides") or (1, 1)),
            padding=tuple(pads[:rank]),
            dilation=tuple(attributes.get("dilations") or (1, 1)),
            groups=attributes.get("group") or 1,
        )
        return (rounded(result, x.dtype),)


class ReduceSum(OpRun):
    op_domain = ""

    def _run(self, x: Tensor, axes: Any = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> tuple[Tensor]:
        reduced_axes = tuple(int(axis) for axis in (() if axes is None else axes)) or None
        if reduced_axes is None and noop_with_empty_axes:
            return (x,)
        wide = np.float32 if x.dtype == np.float16 else x.dtype
        return (self._reduce(x, reduced_axes, bool(keepdims), wide).astype(x.dtype),)

    def _reduce(self, x: Tensor, reduced_axes: tuple[int, ...] | None, keepdims: bool, wide: npt.DTypeLike) -> Tensor:
        return np.asarray(np.sum(x, axis=reduced_axes, keepdims=keepdims, dtype=wide))


class ReduceMean(ReduceSum):
    def _reduce(self, x: Tensor, reduced_axes: tuple[int, ...] | None, keepdims: bool, wide: npt.DTypeLike) -> Tensor:
        return np.asarray(np.mean(x, axis=reduced_axes, keepdims=keepdims, dtype=wide))


class Erf(OpRun):
    op_domain = ""

    def _run(self, x: Tensor) -> tuple[Tensor]:
        return (rounded(torch.erf(widened(x)), x.dtype),)


class QuantizeLinear(OpRun):
    """QuantizeLinear of opsets 13 to 18, which onnx lacks: float32 to 8 bits, ties to even."""

    op_domain = ""

    def _run(self, x: Tensor, scale: Tensor, zero_point: Tensor, axis: int = 1, **unused: Any) -> tuple[Tensor]:
        levels = np.rint(x / _along(scale, x, axis)) + _along(zero_point, x, axis)
        limits = np.iinfo(zero_point.dtype)
        return (np.clip(levels, limits.min, limits.max).astype(zero_point.dtype),)


class DequantizeLinear(OpRun):
    op_domain = ""

    def _run(
        self, x: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: int = 1, **unused: Any
    ) -> tuple[Tensor]:
        shift = np.int32(0) if zero_point is None else _along(zero_point.astype(np.int32), x, axis)
        return (((x.astype(np.int32) - shift) * _along(scale, x, axis)).astype(scale.dtype),)


def _along(values: Tensor, x: Tensor, axis: int) -> Tensor:
    """Reshapes a single value, or one value for each index of `axis`, to broadcast with `x`."""
    if values.size == 1:
        return values.reshape(())
    shape = [1] * x.ndim
    shape[axis] = values.size
    return values.reshape(shape)


KERNELS: tuple[type[OpRun], ...] = (
    *(Cast, Conv, MatMul, Gemm, ReduceMean, ReduceSum, Erf, QuantizeLinear, DequantizeLinear),
    elementwise(op_add.Add, torch.add),
    elementwise(op_sub.Sub, torch.sub),
    elementwise(op_mul.Mul, torch.mul),
    elementwise(op_div.Div, torch.div),
    *map(in_onnxruntime, ("AveragePool", "ConvTranspose", "Einsum", "GridSample", "InstanceNormalization")),
    *map(in_onnxruntime, ("LayerNormalization", "LpPool", "MaxPool", "Resize")),
    # onnx's own evaluator gathers along at most 64 elements, scatters in a loop over all elements in Python, and cannot
    # crop by negative padding.
    *map(in_onnxruntime, ("GatherElements", "ScatterElements", "Pad")),
    # onnx's own evaluator takes at most 64 elements along the axis here, and loops over the elements in Python.
    *map(in_onnxruntime, ("GatherElements", "ScatterElements")),
)
