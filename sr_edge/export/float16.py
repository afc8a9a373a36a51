"""Runs a half-precision graph in real float16 arithmetic, and judges what half precision costs.

No CPU runtime computes in fp16 (ONNX Runtime and OpenVINO run such graphs in fp32 or bf16, casts and all), so a
test through them proves nothing. Here every fp16 tensor is a numpy float16 array that really rounds and overflows.
Convolutions, matmuls and sums multiply exactly, add up in float32 and round once at the end, as tensor cores do.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx.reference import ReferenceEvaluator

from sr_edge.controls import checked_pairs
from sr_edge.errors import ExportError
from sr_edge.export.float16_kernels import KERNELS, all_finite
from sr_edge.export.graph import view_graph
from sr_edge.export.onnx_run import Tensor, Tensors, feed_of, open_onnxruntime, run_session
from sr_edge.export.parity import compare_outputs
from sr_edge.spec import Control

QUALITY_DB = 40.0
LOSS_BOUND_DB = 0.02


@dataclass(frozen=True)
class Float16Run:
    """Outputs by name, and the first node whose output was not finite ("" when all were)."""

    outputs: Tensors
    first_overflow: str


@dataclass(frozen=True)
class Float16Check:
    """What half precision costs on some patches.

    `psnr_db` is between the fp16 and the fp32 picture (outputs clipped to [0, 1], worst patch); `loss_db` is what
    a picture that is QUALITY_DB away from the truth loses by that much independent noise.
    """

    psnr_db: float
    loss_db: float
    first_overflow: str

    def require_within(self, bound_db: float = LOSS_BOUND_DB) -> None:
        """Raises ExportError when anything overflowed or more than `bound_db` was lost."""
        if self.first_overflow:
            raise ExportError(
                f"in float16 node {self.first_overflow!r} overflows; put what it computes into a module named "
                "fp32_... to keep it in float32, or deploy this network in fp32"
            )
        if not self.loss_db <= bound_db:
            raise ExportError(
                f"float16 costs {self.loss_db:.3f} dB (allowed {bound_db}; PSNR against fp32 {self.psnr_db:.1f} dB); "
                "put the layers that lose it into modules named fp32_..., or deploy this network in fp32"
            )


def run_float16(model: onnx.ModelProto, inputs: Tensors) -> Float16Run:
    """Runs `model` with numpy's float16 for every fp16 tensor; results that are no longer needed are dropped.

    Raises:
        ExportError: a node cannot go on with what float16 made of its inputs (a rounded index, out of bounds), or gave
            another type than the graph says, so that the arithmetic was not float16.
    """
    view = view_graph(model)
    evaluator = ReferenceEvaluator(model, new_ops=list(KERNELS))
    pending = Counter(tensor for node in evaluator.rt_nodes_ for tensor in node.input)
    pending.update(view.output_names)
    alive: dict[str, Any] = {"": None, **evaluator.rt_inits_, **inputs}
    first_overflow = ""
    with np.errstate(all="ignore"):
        for at, node in enumerate(evaluator.rt_nodes_):
            results = _results(node, [alive[name] for name in node.input], view.name(at))
            for name, result in zip(node.output, results, strict=False):  # optional outputs may be unnamed
                _require_type(view.types.get(name), result, view.name(at))
                if not first_overflow and result.dtype.kind == "f" and not all_finite(result):
                    first_overflow = view.name(at)
                alive[name] = result
            pending.subtract(node.input)
            for name in {*node.input, *node.output}:
                if name and pending[name] <= 0:
                    alive.pop(name, None)
    return Float16Run({output.name: alive[output.name] for output in model.graph.output}, first_overflow)


def check_float16(
    half: onnx.ModelProto,
    full: onnx.ModelProto,
    patches: Sequence[npt.NDArray[np.float32]],
    controls: Sequence[Control] = (),
) -> Float16Check:
    """Compares the fp16 graph in real float16 arithmetic with the fp32 graph in ONNX Runtime, patch by patch.

    A graph with controls is compared at their defaults and at their extremes (`checked_pairs`).

    Raises:
        ExportError: the evaluator failed its control (a product that must overflow in float16 did not).
    """
    _require_real_float16()
    name = full.graph.input[0].name
    session = open_onnxruntime(full)
    worst_db, first_overflow = math.inf, ""
    for patch, setting in checked_pairs(patches, controls):
        feed = feed_of(name, patch, setting)
        run = run_float16(half, feed)
        expected = run_session(session, feed)
        first_overflow = first_overflow or run.first_overflow
        for output, picture in run.outputs.items():
            parity = compare_outputs([_clipped(picture)], [_clipped(expected[output])])
            worst_db = min(worst_db, parity.psnr_db)
    return Float16Check(worst_db, noise_loss_db(worst_db), first_overflow)


def noise_loss_db(psnr_db: float, quality_db: float = QUALITY_DB) -> float:
    """What a picture `quality_db` from the truth loses when independent noise `psnr_db` below the peak is added."""
    return 10.0 * math.log10(1.0 + 10.0 ** ((quality_db - psnr_db) / 10.0)) if psnr_db > -1e3 else math.inf


def _results(node: Any, inputs: Sequence[Any], name: str) -> Sequence[Tensor]:
    try:
        found: Sequence[Tensor] = node.run(*inputs)
    except (IndexError, ValueError) as error:  # numpy's, of an index or a shape
        raise ExportError(
            f"in float16 node {name!r} fails ({error}); put what it computes into a module named fp32_... to keep it "
            "in float32, or deploy this network in fp32"
        ) from error
    return found


def _clipped(picture: Tensor) -> Tensor:
    return np.clip(picture.astype(np.float32), 0.0, 1.0)


def _require_type(stated: int | None, result: Tensor, node: str) -> None:
    if stated is not None and onnx.helper.tensor_dtype_to_np_dtype(stated) != result.dtype:
        raise ExportError(f"the float16 check computed {node!r} in {result.dtype}; its verdict would be worthless")


def _require_real_float16() -> None:
    """300 * 300 = 90000 must be infinite, and 1 + 2^-12 must be 1, or the arithmetic is not float16."""
    half = onnx.TensorProto.FLOAT16
    shape = (1, 1, 1, 1)
    kinds = ("Mul", "Conv", "MatMul")
    nodes = [onnx.helper.make_node(kind, ["x", "x"], [kind]) for kind in kinds]
    nodes.append(onnx.helper.make_node("Add", ["one", "tiny"], ["Add"]))
    names = {"x": 300.0, "one": 1.0, "tiny": 2.0**-12}
    graph = onnx.helper.make_graph(
        nodes,
        "control",
        [onnx.helper.make_tensor_value_info(name, half, shape) for name in names],
        [onnx.helper.make_tensor_value_info(name, half, shape) for name in (*kinds, "Add")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    outputs = run_float16(model, {name: np.full(shape, value, np.float16) for name, value in names.items()}).outputs
    if not all(np.isinf(outputs[kind]).all() for kind in kinds) or outputs["Add"].item() != 1.0:
        raise ExportError(
            "the float16 check does not compute in float16 on this machine; its verdict would be worthless"
        )
