"""A traced graph proven to be its network: simplified, compared with PyTorch, in half precision judged by pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import onnx
from torch import nn

from sr_edge.errors import ExportError, NotDeployable, NotStatic
from sr_edge.export.checks.float16 import Float16Check, check_float16
from sr_edge.export.checks.parity import Parity, compare_with_torch
from sr_edge.export.constant_parts import WithConstantParts
from sr_edge.export.fp16 import to_fp16
from sr_edge.export.inner_tensors import observe_magnitudes
from sr_edge.export.patches import CheckPatch
from sr_edge.export.simplify import simplify
from sr_edge.export.tracing import trace
from sr_edge.spec import Control, TileSpec

StepCallback = Callable[[str], None]

_WITHOUT_REWRITES = "export with --form traced, which takes the network without its static rewrites"
_REPORT = "report this with the network's code, since the exporter changes what the network computes"


@dataclass(frozen=True, eq=False)
class ProvenGraph:
    """A graph with float frames, and what proved it.

    `float16` is None while the graph is in fp32. `remarks` are what must be known of the checks: worst cases that were
    excused or lose in half precision, or a simplification that was left out.
    """

    graph: onnx.ModelProto
    parity: Parity
    float16: Float16Check | None = None
    remarks: tuple[str, ...] = ()


def trace_and_prove(
    network: nn.Module,
    module: nn.Module,
    tile: TileSpec,
    patches: Sequence[CheckPatch],
    require: Callable[[onnx.ModelProto], object],
    progress: StepCallback,
) -> ProvenGraph:
    """The graph of one tile size: as the network is traced, or where that fails with its constant parts kept out.

    Args:
        network: what to trace: the static form, or the network itself.
        module: the network in PyTorch.
        tile: height and width.
        patches: what to compare on.
        require: raises ExportError for a graph that cannot be deployed.
        progress: called with the name of each step before it starts.

    Raises:
        NotDeployable: a rule that holds everywhere or a target refuses the graph, or the network decides in Python.
        ExportError: neither way gives a graph that is the network's function; of the second way.
    """
    advice = _REPORT if network is module else _WITHOUT_REWRITES
    try:
        return _traced_and_proven(network, module, tile, patches, advice, require, progress)
    except ExportError as error:
        # Constants change neither what a target refuses nor what the network decides.
        if isinstance(error, NotDeployable) and not isinstance(error, NotStatic):
            raise
        failure = error
    try:
        proven = _traced_and_proven(WithConstantParts(network), module, tile, patches, advice, require, progress)
    except ExportError:
        if isinstance(failure, NotStatic):  # the traced form may do
            raise failure from failure.__cause__
        raise
    remark = (
        "what does not depend on the picture was computed before tracing, since the plain trace failed: "
        f"{failure.problem}"
    )
    return replace(proven, remarks=(remark, *proven.remarks))


def _traced_and_proven(
    network: nn.Module,
    module: nn.Module,
    tile: TileSpec,
    patches: Sequence[CheckPatch],
    advice: str,
    require: Callable[[onnx.ModelProto], object],
    progress: StepCallback,
) -> ProvenGraph:
    progress("tracing")
    proven = prove(trace(network, tile), module, patches, progress, advice)
    require(proven.graph)
    return proven


def prove(
    traced: onnx.ModelProto,
    module: nn.Module,
    patches: Sequence[CheckPatch],
    progress: StepCallback,
    advice: str = _REPORT,
) -> ProvenGraph:
    """The simplified graph, or the traced one where simplification fails or changes what the network computes.

    Comparing the simplified graph with PyTorch proves both steps at once; the traced graph is compared only where that
    fails, to tell which of the two steps is at fault.

    Args:
        traced: as the exporter wrote it.
        module: the network in PyTorch.
        patches: what to compare on.
        progress: called with the name of each step before it starts.
        advice: what an error says to do next.

    Raises:
        ExportError: neither graph gives the pictures that PyTorch gives.
    """
    progress("simplifying")
    try:
        simplified, failure = simplify(traced).model, ""
    except ExportError as error:
        simplified, failure = traced, f"it is as it was ({error})"
    progress("comparing with PyTorch")
    graph = simplified
    if not failure:
        try:
            parity = compare_with_torch(simplified, module, patches)
            failure = parity.refusal
        except NotDeployable:
            raise
        except ExportError as error:
            failure = str(error)
    if failure:
        graph, parity = traced, compare_with_torch(traced, module, patches)
    parity.require_within(advice)
    remarks = (f"exported without simplification, after which {failure}",) if failure else ()
    return ProvenGraph(graph, parity, remarks=(*remarks, *parity.remarks))


def in_half_precision(
    proven: ProvenGraph, patches: Sequence[CheckPatch], controls: Sequence[Control], progress: StepCallback
) -> ProvenGraph:
    """The same graph in fp16 with fp32 islands; raises ExportError where it loses a photograph or flat picture."""
    progress("converting to half precision")
    magnitudes = observe_magnitudes(proven.graph, [patch.batch for patch in patches], controls)
    half = to_fp16(proven.graph, magnitudes=magnitudes).model
    progress("checking in float16 arithmetic")
    check = check_float16(half, proven.graph, patches, controls)
    check.require_within()
    return replace(proven, graph=half, float16=check, remarks=(*proven.remarks, *check.remarks))
