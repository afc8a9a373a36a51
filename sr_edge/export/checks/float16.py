"""Runs a half-precision graph in real float16 arithmetic, and judges what half precision costs, patch by patch.

Photographs and flat pictures decide. On a worst case half precision may lose more; what it loses there, and in which
layer, is reported.

No CPU runtime computes in fp16 (ONNX Runtime and OpenVINO run such graphs in fp32 or bf16, casts and all), so a
test through them proves nothing. Here every fp16 tensor is a numpy float16 array that really rounds and overflows.
Convolutions, matmuls and sums multiply exactly, add up in float32 and round once at the end, as tensor cores do.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from sr_edge.controls import checked_pairs
from sr_edge.errors import ExportError
from sr_edge.export.checks.float16_kernels import KERNELS, all_finite
from sr_edge.export.exporter_errors import one_line
from sr_edge.export.graph import view_graph
from sr_edge.export.layers import InstrumentedModel, compare_layers
from sr_edge.export.onnx_run import Tensor, Tensors, feed_of, open_onnxruntime, run_onnxruntime, run_session
from sr_edge.export.patches import CheckPatch, PatchKind
from sr_edge.metrics import LOST, Fidelity, cost_of_noise_db, fidelity
from sr_edge.spec import Control

QUALITY_DB = 40.0
LOSS_BOUND_DB = 0.02

_DEPLOY_IN_FP32 = "deploy this network in fp32"
_KEEP_IN_FLOAT32 = (
    "put what that layer computes into a module whose name starts with fp32_ to keep it in float32, or "
    f"{_DEPLOY_IN_FP32}"
)


@dataclass(frozen=True)
class Float16Run:
    """Outputs by name, and the first node whose output was not finite ("" when all were)."""

    outputs: Tensors
    first_overflow: str


@dataclass(frozen=True)
class PatchFloat16:
    """What half precision costs on one patch: the fp16 picture against the fp32 one, both clipped to [0, 1].

    Attributes:
        first_overflow: the first node whose output is not finite; a flaw only where the picture shows it, since a mask
            may hold infinity.
        loses_in: the layer that adds most of the error, looked for on a worst case that loses more than LOSS_BOUND_DB.
        failure: why a worst case could not be computed.
    """

    patch: str
    kind: PatchKind
    fidelity: Fidelity
    first_overflow: str = ""
    loses_in: str = ""
    failure: str = ""

    @property
    def loss_db(self) -> float:
        """What a picture that is QUALITY_DB away from the truth loses by that much independent noise."""
        return noise_loss_db(self.fidelity.psnr_db)

    def flaw(self, bound_db: float) -> str:
        """Why half precision is not good enough here, or ""."""
        if self.failure:
            return f"on {self.patch} {self.failure}"
        if not self.loss_db <= bound_db:
            if self.first_overflow:
                return f"in float16 node {self.first_overflow!r} overflows on {self.patch}"
            return (
                f"float16 costs {self.loss_db:.3f} dB on {self.patch} (allowed {bound_db:g}; PSNR against fp32 "
                f"{self.fidelity.psnr_db:.1f} dB)"
            )
        return f"float16 changes {self.patch}: {self.fidelity.flaw}" if self.fidelity.flaw else ""

    def cause(self, bound_db: float) -> str | float:
        """The node whose overflow costs more than `bound_db`, or the loss in dB where none overflows."""
        return self.first_overflow if self.first_overflow and not self.loss_db <= bound_db else self.loss_db

    @property
    def remark(self) -> str:
        """The flaw on a worst case, and the layer that causes most of it where that was looked for."""
        layer = f", most of it in {self.loses_in}" if self.loses_in else ""
        return f"on a synthetic worst case, which decides nothing: {self.flaw(LOSS_BOUND_DB)}{layer}"


@dataclass(frozen=True)
class Float16Check:
    """What half precision costs on all patches."""

    patches: tuple[PatchFloat16, ...]

    @property
    def psnr_db(self) -> float:
        """Against fp32, on the worst photograph or flat picture."""
        return min((result.fidelity.psnr_db for result in self._pictures), default=math.inf)

    @property
    def loss_db(self) -> float:
        """On the worst photograph or flat picture."""
        return max((result.loss_db for result in self._pictures), default=0.0)

    @property
    def first_overflow(self) -> str:
        """The first node that overflows on a photograph or flat picture, or ""."""
        return next((result.first_overflow for result in self._pictures if result.first_overflow), "")

    @property
    def remarks(self) -> tuple[str, ...]:
        """What half precision loses on worst cases, which do not decide."""
        worst_cases = [result for result in self.patches if result.kind is PatchKind.WORST_CASE]
        return tuple(result.remark for result in worst_cases if result.flaw(LOSS_BOUND_DB))

    def require_within(self, bound_db: float = LOSS_BOUND_DB) -> None:
        """Raises ExportError when a photograph or flat picture overflows, or loses more than `bound_db`.

        The error's `found` is the node that overflows or else the loss in dB, its `wanted` the loss allowed.
        """
        for result in self._pictures:
            flaw = result.flaw(bound_db)
            if flaw:
                raise ExportError(flaw, found=result.cause(bound_db), wanted=bound_db, remedy=_KEEP_IN_FLOAT32)

    @property
    def _pictures(self) -> list[PatchFloat16]:
        return [result for result in self.patches if result.kind is not PatchKind.WORST_CASE]


def run_float16(model: onnx.ModelProto, inputs: Tensors, kernels: Sequence[type[OpRun]] = KERNELS) -> Float16Run:
    """Runs `model` with numpy's float16 for every fp16 tensor; results that are no longer needed are dropped.

    Args:
        model: the graph, of fp16 and fp32 tensors.
        inputs: its inputs by name.
        kernels: what computes operators in the place of onnx's own kernels of the same class name.

    Raises:
        ExportError: a node cannot go on with what float16 made of its inputs (a rounded index, out of bounds), or gave
            another type than the graph says, so that the arithmetic was not float16.
    """
    view = view_graph(model)
    evaluator = _evaluator(model, kernels)
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


def _evaluator(model: onnx.ModelProto, kernels: Sequence[type[OpRun]]) -> ReferenceEvaluator:
    try:
        return ReferenceEvaluator(model, new_ops=list(kernels))
    except Exception as error:  # onnx's own, of an operator that it has no kernel for
        raise ExportError(
            f"the float16 check cannot compute this graph: {one_line(error)}", remedy=_DEPLOY_IN_FP32
        ) from error


def check_float16(
    half: onnx.ModelProto, full: onnx.ModelProto, patches: Sequence[CheckPatch], controls: Sequence[Control] = ()
) -> Float16Check:
    """Compares the fp16 graph in real float16 arithmetic with the fp32 graph in ONNX Runtime, patch by patch.

    A graph with controls is compared at their defaults and at their extremes (`checked_pairs`).

    Raises:
        ExportError: the evaluator failed its control (a product that must overflow in float16 did not).
    """
    _require_real_float16()
    session = open_onnxruntime(full)
    source, result = full.graph.input[0].name, full.graph.output[0].name
    checked = []
    for patch, setting in checked_pairs(patches, controls):
        feed = feed_of(source, patch.batch, setting)
        try:
            run = run_float16(half, feed)
        except ExportError as error:
            if patch.kind is not PatchKind.WORST_CASE:
                raise
            checked.append(PatchFloat16(patch.name, patch.kind, LOST, failure=error.problem))
            continue
        kept = fidelity(run.outputs[result].astype(np.float32), run_session(session, feed)[result])
        checked.append(PatchFloat16(patch.name, patch.kind, kept, run.first_overflow))
        if patch.kind is PatchKind.WORST_CASE and checked[-1].flaw(LOSS_BOUND_DB) and not run.first_overflow:
            checked[-1] = replace(checked[-1], loses_in=_layer_that_loses(half, full, patch, setting))
    return Float16Check(tuple(checked))


def _layer_that_loses(
    half: onnx.ModelProto, full: onnx.ModelProto, patch: CheckPatch, setting: Mapping[str, float]
) -> str:
    """The layer that adds most error to that of its inputs, by relative error against fp32; "" where that fails."""
    try:
        compared = compare_layers(
            InstrumentedModel(full, run_onnxruntime),
            InstrumentedModel(half, lambda graph, feed: run_float16(graph, feed).outputs),
            patch.batch,
            tolerance=0.0,
            controls=(setting, setting),
        )
    except ExportError:  # the loss is reported without it
        return ""
    worst = max(compared.layers, key=lambda layer: layer.added_error)
    return f"{worst.operator} {worst.name!r}"


def noise_loss_db(psnr_db: float, quality_db: float = QUALITY_DB) -> float:
    """What a picture `quality_db` from the truth loses when independent noise `psnr_db` below the peak is added."""
    return cost_of_noise_db(10.0 ** (-psnr_db / 10.0), quality_db) if psnr_db > -1e3 else math.inf


def _results(node: Any, inputs: Sequence[Any], name: str) -> Sequence[Tensor]:
    try:
        result: Sequence[Tensor] = node.run(*inputs)
    except Exception as error:  # whatever numpy, onnx or ONNX Runtime raise of an index, a shape, or an unknown mode
        raise ExportError(
            f"in float16 node {name!r} fails: {one_line(error)}", found=name, remedy=_KEEP_IN_FLOAT32
        ) from error
    return result


def _require_type(stated: int | None, result: Tensor, node: str) -> None:
    wanted = result.dtype if stated is None else onnx.helper.tensor_dtype_to_np_dtype(stated)
    if wanted != result.dtype:
        raise ExportError(
            f"the float16 check computed node {node!r} in {result.dtype} where the graph states {wanted}, so that its "
            "verdict would be worthless",
            found=str(result.dtype),
            wanted=str(wanted),
            remedy=_DEPLOY_IN_FP32,
        )


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
            "the float16 check does not compute in float16 on this machine, so that its verdict would be worthless",
            wanted="float16",
            remedy=_DEPLOY_IN_FP32,
        )
