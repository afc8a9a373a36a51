"""Runs a half-precision graph in real float16 arithmetic and measures what half precision costs, patch by patch.

Photographs and flat images decide whether the graph is accepted. On worst cases half precision may lose more; the loss
and the layer that causes it are reported.

No CPU runtime computes in fp16: ONNX Runtime and OpenVINO run such graphs, casts included, in fp32 or bf16, so a
test with them means nothing. Here every fp16 tensor is a numpy float16 array that really rounds and overflows.
Convolutions, matrix multiplications and sums multiply exactly, accumulate in float32 and round once at the end, as
tensor cores do.
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
from sr_edge.export.checks.layer_diff import InstrumentedModel, compare_layers
from sr_edge.export.graph.inputs import Tensor, Tensors, feed_of
from sr_edge.export.graph.onnxruntime_run import open_onnxruntime, run_onnxruntime, run_session
from sr_edge.export.graph.patches import CheckPatch, PatchKind
from sr_edge.export.graph.view import view_graph
from sr_edge.metrics import LOST, Fidelity, cost_of_noise_db, fidelity
from sr_edge.printable import one_line
from sr_edge.spec import Control

QUALITY_DB = 40.0
"""The PSNR of a network against the original at which the loss by half precision is stated."""

LOSS_BOUND_DB = 0.02
"""The largest loss by half precision on a photograph or flat image."""

_DEPLOY_IN_FP32 = "deploy this network in fp32"
_KEEP_IN_FLOAT32 = (
    "put what that layer computes into a module whose name starts with fp32_ to keep it in float32, or "
    f"{_DEPLOY_IN_FP32}"
)


@dataclass(frozen=True)
class Float16Run:
    """Outputs by name, and the first node with an output that is not finite; "" where all are finite.

    Attributes:
        outputs: Outputs of the graph by name.
        first_overflow: Name of the first operator whose output is not finite.
    """

    outputs: Tensors
    first_overflow: str


@dataclass(frozen=True)
class PatchFloat16:
    """The cost of half precision on one patch: the fp16 output against the fp32 output, both clipped to [0, 1].

    Attributes:
        first_overflow: the first node with an output that is not finite. It counts only where the result suffers, since
            a mask may contain infinity.
        loses_in: the layer that adds most of the error; determined for worst cases that lose more than LOSS_BOUND_DB.
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
        """The loss of an image with a PSNR of QUALITY_DB when the error of half precision is added as noise."""
        return noise_loss_db(self.fidelity.psnr_db)

    def flaw(self, bound_db: float) -> str:
        """Why half precision is not good enough on this patch, or ""."""
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
        """The node whose overflow costs more than `bound_db`; where none does, the loss in dB."""
        return self.first_overflow if self.first_overflow and not self.loss_db <= bound_db else self.loss_db

    @property
    def remark(self) -> str:
        """The flaw on a worst case, with the layer that causes most of it where that is known."""
        layer = f", most of it in {self.loses_in}" if self.loses_in else ""
        return f"on a synthetic worst case, which is no reason to refuse the graph: {self.flaw(LOSS_BOUND_DB)}{layer}"


@dataclass(frozen=True)
class Float16Check:
    """The cost of half precision on all patches.

    Attributes:
        patches: The cost on each patch.
    """

    patches: tuple[PatchFloat16, ...]

    @property
    def psnr_db(self) -> float:
        """The PSNR against fp32 on the worst photograph or flat image."""
        return min((result.fidelity.psnr_db for result in self._pictures), default=math.inf)

    @property
    def loss_db(self) -> float:
        """The loss on the worst photograph or flat image."""
        return max((result.loss_db for result in self._pictures), default=0.0)

    @property
    def first_overflow(self) -> str:
        """The first node that overflows on a photograph or flat image, or ""."""
        return next((result.first_overflow for result in self._pictures if result.first_overflow), "")

    @property
    def remarks(self) -> tuple[str, ...]:
        """The losses on worst cases, which are no reason to refuse the graph."""
        worst_cases = [result for result in self.patches if result.kind is PatchKind.WORST_CASE]
        return tuple(result.remark for result in worst_cases if result.flaw(LOSS_BOUND_DB))

    def require_within(self, bound_db: float = LOSS_BOUND_DB) -> None:
        """Raises ExportError where a photograph or flat image overflows, or loses more than `bound_db`.

        Its `found` is the node that overflows or otherwise the loss in dB, its `wanted` the loss allowed.
        """
        for result in self._pictures:
            flaw = result.flaw(bound_db)
            if flaw:
                raise ExportError(flaw, found=result.cause(bound_db), wanted=bound_db, remedy=_KEEP_IN_FLOAT32)

    @property
    def _pictures(self) -> list[PatchFloat16]:
        return [result for result in self.patches if result.kind is not PatchKind.WORST_CASE]


def run_float16(model: onnx.ModelProto, inputs: Tensors, kernels: Sequence[type[OpRun]] = KERNELS) -> Float16Run:
    """Runs `model` with numpy's float16 for every fp16 tensor; results are freed after their last use.

    Args:
        model: a graph of fp16 and fp32 tensors.
        inputs: its inputs by name.
        kernels: kernels that replace those of onnx with the same class name.

    Raises:
        ExportError: a node cannot process inputs that float16 has rounded (an index out of bounds), or has an output of
            another type than the graph states, so the arithmetic was not float16.
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
    except Exception as error:  # onnx raises its own types for an operator without a kernel
        raise ExportError(
            f"the float16 check cannot compute this graph: {one_line(str(error))}", remedy=_DEPLOY_IN_FP32
        ) from error


def check_float16(
    half: onnx.ModelProto, full: onnx.ModelProto, patches: Sequence[CheckPatch], controls: Sequence[Control] = ()
) -> Float16Check:
    """Compares the fp16 graph in real float16 arithmetic with the fp32 graph in ONNX Runtime, patch by patch.

    A graph with controls is compared at their default values and at their extremes (`checked_pairs`).

    Args:
        half: The fp16 graph.
        full: The fp32 graph.
        patches: What both compute.
        controls: The scalars that the user sets at run time.

    Raises:
        ExportError: the evaluator does not compute in float16 (a product that must overflow did not), or it cannot
            compute a photograph or flat image.
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
    """The layer that adds most to the relative error of its inputs against fp32; "" where it cannot be determined."""
    try:
        compared = compare_layers(
            InstrumentedModel(full, run_onnxruntime),
            InstrumentedModel(half, lambda graph, feed: run_float16(graph, feed).outputs),
            patch.batch,
            tolerance=0.0,
            controls=(setting, setting),
        )
    except ExportError:  # the loss is then reported without the layer
        return ""
    worst = max(compared.layers, key=lambda layer: layer.added_error)
    return f"{worst.operator} {worst.name!r}"


def noise_loss_db(psnr_db: float, quality_db: float = QUALITY_DB) -> float:
    """The loss in dB of an image with a PSNR of `quality_db` when noise `psnr_db` below the peak is added."""
    return cost_of_noise_db(10.0 ** (-psnr_db / 10.0), quality_db) if psnr_db > -1e3 else math.inf


def _results(node: Any, inputs: Sequence[Any], name: str) -> Sequence[Tensor]:
    try:
        result: Sequence[Tensor] = node.run(*inputs)
    except Exception as error:  # whatever numpy, onnx or ONNX Runtime raise for an index, a shape or an unknown mode
        raise ExportError(
            f"in float16 node {name!r} fails: {one_line(str(error))}", found=name, remedy=_KEEP_IN_FLOAT32
        ) from error
    return result


def _require_type(stated: int | None, result: Tensor, node: str) -> None:
    wanted = result.dtype if stated is None else onnx.helper.tensor_dtype_to_np_dtype(stated)
    if wanted != result.dtype:
        raise ExportError(
            f"the float16 check computed node {node!r} in {result.dtype} where the graph states {wanted}, so its "
            "result would be meaningless",
            found=str(result.dtype),
            wanted=str(wanted),
            remedy=_DEPLOY_IN_FP32,
        )


def _require_real_float16() -> None:
    """Raises ExportError unless 300 * 300 is infinite and 1 + 2^-12 is 1, as in float16."""
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
            "the float16 check does not compute in float16 on this machine, so its result would be meaningless",
            wanted="float16",
            remedy=_DEPLOY_IN_FP32,
        )
