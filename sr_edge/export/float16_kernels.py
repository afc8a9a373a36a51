"""float16 kernels for onnx's ReferenceEvaluator: multiply exactly, add up in float32, round once, as tensor cores do.

onnx's own kernels of these operators round every partial sum, or walk through Python for every element. It finds
replacements by class name. Operators not listed here are numpy's float16 arithmetic, which rounds each result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from onnx.reference.op_run import OpRun

from sr_edge.errors import ExportError
from sr_edge.export.onnx_run import Tensor


class MatMul(OpRun):
    op_domain = ""

    def _run(self, a: Tensor, b: Tensor) -> tuple[Tensor]:
        return (np.matmul(a.astype(np.float32), b.astype(np.float32)).astype(a.dtype),)


class Gemm(OpRun):
    op_domain = ""

    def _run(self, a: Tensor, b: Tensor, c: Tensor | None = None, **attributes: Any) -> tuple[Tensor]:
        left = a.astype(np.float32).T if attributes.get("transA") else a.astype(np.float32)
        right = b.astype(np.float32).T if attributes.get("transB") else b.astype(np.float32)
        alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
        product = np.float32(1.0 if alpha is None else alpha) * (left @ right)
        bias = 0.0 if c is None else np.float32(1.0 if beta is None else beta) * c.astype(np.float32)
        return ((product + bias).astype(a.dtype),)


class Conv(OpRun):
    op_domain = ""

    def _run(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, **attributes: Any) -> tuple[Tensor]:
        sides = weight.ndim - 2
        pads = attributes.get("pads") or [0] * (2 * sides)
        if attributes.get("auto_pad") not in (None, "NOTSET") or list(pads[:sides]) != list(pads[sides:]) or sides != 2:
            raise ExportError(
                "the float16 check knows 2-D convolutions with equal, explicit padding on both sides only"
            )
        result = torch.nn.functional.conv2d(
            torch.from_numpy(x.astype(np.float32)),
            torch.from_numpy(weight.astype(np.float32)),
            None if bias is None else torch.from_numpy(bias.astype(np.float32)),
            stride=tuple(attributes.get("strides") or (1, 1)),
            padding=tuple(pads[:sides]),
            dilation=tuple(attributes.get("dilations") or (1, 1)),
            groups=attributes.get("group") or 1,
        )
        return (result.numpy().astype(x.dtype),)


class ReduceSum(OpRun):
    op_domain = ""

    def _run(self, x: Tensor, axes: Any = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> tuple[Tensor]:
        over = tuple(int(axis) for axis in (() if axes is None else axes)) or None
        if over is None and noop_with_empty_axes:
            return (x,)
        wide = np.float32 if x.dtype == np.float16 else x.dtype
        return (self._reduce(x, over, bool(keepdims), wide).astype(x.dtype),)

    def _reduce(self, x: Tensor, over: tuple[int, ...] | None, keepdims: bool, wide: npt.DTypeLike) -> Tensor:
        return np.asarray(np.sum(x, axis=over, keepdims=keepdims, dtype=wide))


class ReduceMean(ReduceSum):
    def _reduce(self, x: Tensor, over: tuple[int, ...] | None, keepdims: bool, wide: npt.DTypeLike) -> Tensor:
        return np.asarray(np.mean(x, axis=over, keepdims=keepdims, dtype=wide))


class Erf(OpRun):
    op_domain = ""

    def _run(self, x: Tensor) -> tuple[Tensor]:
        return (torch.erf(torch.from_numpy(x.astype(np.float32))).numpy().astype(x.dtype),)


KERNELS: tuple[type[OpRun], ...] = (Conv, MatMul, Gemm, ReduceMean, ReduceSum, Erf)
