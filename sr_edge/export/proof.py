"""Verification of a graph: it is simplified and compared with the network, and in fp16 checked on images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import onnx
from torch import nn

from sr_edge.errors import ExportError, NotDeployable, NotStatic
from sr_edge.export.checks.float16 import Float16Check, check_float16
from sr_edge.export.checks.parity import Parity, compare_with_network
from sr_edge.export.graph.file_network import FileNetwork
from sr_edge.export.graph.inner_tensors import observe_magnitudes
from sr_edge.export.graph.patches import CheckPatch
from sr_edge.export.passes.constant_parts import WithConstantParts
from sr_edge.export.passes.fp16 import to_fp16
from sr_edge.export.passes.simplify import simplify
from sr_edge.export.passes.tracing import trace
from sr_edge.spec import Control, TileSpec

StepCallback = Callable[[str], None]

_WITHOUT_REWRITES = "export with --form traced, which takes the network without its static rewrites"
_REPORT = "report this with the network's code, since the exporter changes what the network computes"
_REPORT_FILE = "report this with the file, since preparing its graph for deployment changes what it computes"


@dataclass(frozen=True, eq=False)
class VerifiedGraph:
    """A graph of float frames with the results of its checks.

    Attributes:
        graph: the graph, with float32 NCHW input and output.
        parity: the comparison of the fp32 graph with the network.
        float16: the check of half precision; None while the graph is in fp32.
        remarks: notes on the checks, for example worst cases that exceeded the parity bound but were accepted, the fp16
            loss on worst cases, or a graph simplification that was skipped.
    """

    graph: onnx.ModelProto
    parity: Parity
    float16: Float16Check | None = None
    remarks: tuple[str, ...] = ()


def trace_and_verify(
    network: nn.Module,
    module: nn.Module,
    tile: TileSpec,
    patches: Sequence[CheckPatch],
    require: Callable[[onnx.ModelProto], object],
    progress: StepCallback,
) -> VerifiedGraph:
    """Traces the network for one tile size and verifies the graph.

    Where the plain trace fails, the network is traced again with everything computed beforehand that does not depend on
    the image (`WithConstantParts`).

    Args:
        network: the module to trace: the static form, or the network itself.
        module: the network in PyTorch, to compare with.
        tile: height and width.
        patches: the images to compare on.
        require: raises ExportError for a graph that cannot be deployed.
        progress: called with the name of each step before it starts.

    Raises:
        NotDeployable: a general rule or a target refuses the graph, or the network branches in Python on the image.
        ExportError: neither trace gives a graph that computes what the network computes; the error of the second one.
    """
    advice = _REPORT if network is module else _WITHOUT_REWRITES
    try:
        return _traced_and_verified(network, module, tile, patches, advice, require, progress)
    except ExportError as error:
        # The second trace has the same operators for the targets, and the same branches in Python.
        if isinstance(error, NotDeployable) and not isinstance(error, NotStatic):
            raise
        failure = error
    try:
        verified = _traced_and_verified(WithConstantParts(network), module, tile, patches, advice, require, progress)
    except ExportError:
        if isinstance(failure, NotStatic):  # the caller may export the traced form instead
            raise failure from failure.__cause__
        raise
    remark = (
        "what does not depend on the image was computed before tracing, because the plain trace failed: "
        f"{failure.problem}"
    )
    return replace(verified, remarks=(remark, *verified.remarks))


def _traced_and_verified(
    network: nn.Module,
    module: nn.Module,
    tile: TileSpec,
    patches: Sequence[CheckPatch],
    advice: str,
    require: Callable[[onnx.ModelProto], object],
    progress: StepCallback,
) -> VerifiedGraph:
    progress("tracing")
    verified = simplify_and_verify(
        trace(network, tile, channels=patches[0].batch.shape[1]), module, patches, progress, advice
    )
    require(verified.graph)
    return verified


def read_and_verify(
    network: FileNetwork,
    tile: TileSpec,
    patches: Sequence[CheckPatch],
    require: Callable[[onnx.ModelProto], object],
    progress: StepCallback,
) -> VerifiedGraph:
    """Takes the graph of a user's ONNX file for one tile size and compares it with the file as it is.

    Args:
        network: the network of the file.
        tile: height and width.
        patches: the images to compare on.
        require: raises ExportError for a graph that cannot be deployed.
        progress: called with the name of each step before it starts.

    Raises:
        NotDeployable: a general rule or a target refuses the graph.
        ExportError: the graph does not compute what the file computes, or the file does not take this tile.
    """
    progress(f"reading {network.file.path.name}")
    verified = simplify_and_verify(network.file.graph(tile), network, patches, progress, _REPORT_FILE)
    require(verified.graph)
    return verified


def simplify_and_verify(
    traced: onnx.ModelProto,
    network: nn.Module,
    patches: Sequence[CheckPatch],
    progress: StepCallback,
    advice: str = _REPORT,
) -> VerifiedGraph:
    """Simplifies a graph and compares it with the network that it was made from.

    Comparing the simplified graph verifies tracing and simplification at once. The traced graph is compared only where
    that fails, to find out which of the two steps is wrong.

    Args:
        traced: the graph as the exporter wrote it, or as it was made from a user's file.
        network: the network in PyTorch, or the `FileNetwork` of that file.
        patches: the images to compare on.
        progress: called with the name of each step before it starts.
        advice: the remedy that an error gives.

    Returns:
        The simplified graph, or the traced one where simplification fails or changes what the network computes.

    Raises:
        ExportError: neither graph has the output that the network has.
    """
    progress("simplifying")
    try:
        simplified, failure = simplify(traced).model, ""
    except ExportError as error:
        simplified, failure = traced, f"it is unchanged ({error})"
    progress(f"comparing with {network.file.path.name if isinstance(network, FileNetwork) else 'PyTorch'}")
    graph = simplified
    if not failure:
        try:
            parity = compare_with_network(simplified, network, patches)
            failure = parity.refusal
        except NotDeployable:
            raise
        except ExportError as error:
            failure = str(error)
    if failure:
        graph, parity = traced, compare_with_network(traced, network, patches)
    parity.require_within(advice)
    remarks = (f"exported without simplification, after which {failure}",) if failure else ()
    return VerifiedGraph(graph, parity, remarks=(*remarks, *parity.remarks))


def convert_and_verify_fp16(
    verified: VerifiedGraph, patches: Sequence[CheckPatch], controls: Sequence[Control], progress: StepCallback
) -> VerifiedGraph:
    """Converts the graph to fp16 with fp32 islands; raises ExportError where a photograph or flat image suffers."""
    progress("converting to half precision")
    magnitudes = observe_magnitudes(verified.graph, [patch.batch for patch in patches], controls)
    half = to_fp16(verified.graph, magnitudes=magnitudes).model
    progress("checking in float16 arithmetic")
    check = check_float16(half, verified.graph, patches, controls)
    check.require_within()
    return replace(verified, graph=half, float16=check, remarks=(*verified.remarks, *check.remarks))
