"""Verification of a graph: it is simplified, rewritten and compared with the network, in fp16 on images, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import onnx
from torch import nn

from sr_edge.errors import ExportError, NotDeployable, NotStatic, SrEdgeError
from sr_edge.export.checks.float16 import Float16Check, check_float16
from sr_edge.export.checks.parity import Parity, compare_with_network
from sr_edge.export.graph.file_network import FileNetwork
from sr_edge.export.graph.inner_tensors import observe_magnitudes
from sr_edge.export.graph.patches import CheckPatch
from sr_edge.export.passes.constant_parts import WithConstantParts
from sr_edge.export.passes.fp16 import to_fp16
from sr_edge.export.passes.layout.group_norm import group_norm_without_reshape
from sr_edge.export.passes.newer_exporter import trace_by_newer_exporter
from sr_edge.export.passes.rewrites.pipeline import REWRITES, rewrite
from sr_edge.export.passes.simplify import simplify
from sr_edge.export.passes.speed_passes import SpeedPass, apply_passes
from sr_edge.export.passes.tracing import trace
from sr_edge.printable import one_line
from sr_edge.spec import Control, TileSpec

StepCallback = Callable[[str], None]

GROUP_NORM = "group norm"
"""The name of the pass in reports where a graph is exact enough only with it."""

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
        passes: what made the graph other than a plain trace and simplification, in order: another way to trace the
            network, the rewrites that changed it, and the passes that make it faster.
        without_passes: the graph before the passes that made it faster; None if there were none, or it is not known.
    """

    graph: onnx.ModelProto
    parity: Parity
    float16: Float16Check | None = None
    remarks: tuple[str, ...] = ()
    passes: tuple[str, ...] = ()
    without_passes: VerifiedGraph | None = None


@dataclass(frozen=True)
class _Attempt:
    """A way to trace a network.

    Attributes:
        trace: returns the graph; raises ExportError where the exporter fails.
        name: a short name of it; empty for the plain trace.
        remark: what is special about the graph, to be followed by the reason why the plain trace failed.
    """

    trace: Callable[[], onnx.ModelProto]
    name: str = ""
    remark: str = ""


def _attempts(network: nn.Module, tile: TileSpec, channels: int) -> tuple[_Attempt, ...]:
    return (
        _Attempt(lambda: trace(network, tile, channels=channels)),
        _Attempt(
            lambda: trace(WithConstantParts(network), tile, channels=channels),
            "constant parts",
            "what does not depend on the image was computed before tracing",
        ),
        _Attempt(
            lambda: trace_by_newer_exporter(network, tile, channels),
            "newer exporter",
            "the graph is that of torch's newer exporter",
        ),
    )


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
    the image (`WithConstantParts`), and where that fails, too, by torch's newer exporter.

    Args:
        network: the module to trace: the static form, or the network itself.
        module: the network in PyTorch, to compare with.
        tile: height and width.
        patches: the images to compare on.
        require: raises ExportError for a graph that cannot be deployed.
        progress: called with the name of each step before it starts.

    Raises:
        NotDeployable: a general rule or a target refuses the graph, or the network branches in Python on the image.
        ExportError: no trace gives a graph that computes what the network computes; the error of the second one, with
            the reason of the newer exporter.
    """
    advice = _REPORT if network is module else _WITHOUT_REWRITES
    failures: list[ExportError] = []
    for attempt in _attempts(network, tile, patches[0].batch.shape[1]):
        progress("tracing")
        try:
            verified = simplify_and_verify(attempt.trace(), module, patches, progress, advice)
            require(verified.graph)
        except ExportError as error:
            # Another trace has the same operators for the targets, and the same branches in Python.
            if isinstance(error, NotDeployable) and not isinstance(error, NotStatic):
                raise
            failures.append(error)
            if len(failures) > 1 and isinstance(error, NotStatic):
                break  # with constant parts, the shapes that are left depend on the image for any exporter
            continue
        remark = (f"{attempt.remark}, because the plain trace failed: {failures[0].problem}",) if failures else ()
        passes = tuple(filter(None, (attempt.name, *verified.passes)))
        return replace(verified, remarks=(*remark, *verified.remarks), passes=passes)
    raise _decisive(failures)


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


def _decisive(failures: Sequence[ExportError]) -> ExportError:
    """The error to report after all attempts: NotStatic of the plain trace, or the last one of the older exporter."""
    plain, constant, *others = failures
    if isinstance(plain, NotStatic):  # the caller may export the traced form instead
        return plain
    if not others:
        return constant
    problem = f"{constant.problem}; torch's newer exporter does not help: {others[0].problem}"
    return ExportError(problem, found=constant.found, wanted=constant.wanted, remedy=constant.remedy)


def simplify_and_verify(
    traced: onnx.ModelProto,
    network: nn.Module,
    patches: Sequence[CheckPatch],
    progress: StepCallback,
    advice: str = _REPORT,
) -> VerifiedGraph:
    """Simplifies and rewrites a graph and compares it with the network that it was made from.

    Comparing the final graph verifies all steps at once. The graphs in between are compared only where that fails, to
    find out which step is wrong, and to do without it.

    Args:
        traced: the graph as the exporter wrote it, or as it was made from a user's file.
        network: the network in PyTorch, or the `FileNetwork` of that file.
        patches: the images to compare on.
        progress: called with the name of each step before it starts.
        advice: the remedy that an error gives.

    Returns:
        The last of the three graphs (traced, simplified, rewritten) that computes what the network computes. Before a
        graph is rejected, its GroupNorm is written as means over axes, which round less.

    Raises:
        ExportError: not even the traced graph has the output that the network has.
    """
    progress("simplifying")
    skipped: list[str] = []
    graphs: list[tuple[str, onnx.ModelProto, tuple[str, ...]]] = [("", traced, ())]
    for step, change in (("simplification", _simplified), ("rewrites", _rewritten)):
        try:
            changed, passes = change(graphs[-1][1])
        except ExportError as error:
            skipped.append(f"exported without {step}: {error.problem}")
        else:
            graphs += [(step, changed, passes)] if changed is not graphs[-1][1] else []
    progress(f"comparing with {network.file.path.name if isinstance(network, FileNetwork) else 'PyTorch'}")
    for step, graph, passes in reversed(graphs[1:]):
        verified, failure = _verified(graph, network, patches)
        if failure:
            verified, failure = _verified_with_means(graph, failure, network, patches)
        if verified is not None:
            return replace(verified, remarks=(*skipped, *verified.remarks), passes=(*passes, *verified.passes))
        skipped.append(f"exported without {step}, after which {failure}")
    parity = compare_with_network(traced, network, patches)
    parity.require_within(advice)
    return VerifiedGraph(traced, parity, remarks=(*skipped, *parity.remarks))


def _verified(
    graph: onnx.ModelProto, network: nn.Module, patches: Sequence[CheckPatch]
) -> tuple[VerifiedGraph | None, str]:
    """The graph if it computes what the network computes; otherwise why it does not."""
    try:
        parity = compare_with_network(graph, network, patches)
    except NotDeployable:
        raise
    except ExportError as error:
        return None, error.problem
    return (None, parity.refusal) if parity.refusal else (VerifiedGraph(graph, parity, remarks=parity.remarks), "")


def _verified_with_means(
    graph: onnx.ModelProto, failure: str, network: nn.Module, patches: Sequence[CheckPatch]
) -> tuple[VerifiedGraph | None, str]:
    """The same for a graph that failed, with GroupNorm in the form that rounds less."""
    result = group_norm_without_reshape(graph)
    verified = _verified(result.model, network, patches)[0] if result.changed else None
    if verified is None:
        return None, failure
    remark = f"GroupNorm is written as means over axes, because as InstanceNormalization {failure}"
    return replace(verified, remarks=(remark, *verified.remarks), passes=(GROUP_NORM,)), ""


def _simplified(graph: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    return simplify(graph).model, ()


def _rewritten(graph: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The graph after all rewrites, and the names of the modules of those that changed it."""
    results = rewrite(graph)
    names = (graph_pass.__module__.rpartition(".")[2].replace("_", " ") for graph_pass in REWRITES)
    return results[-1].model, tuple(name for name, result in zip(names, results, strict=True) if result.changed)


def with_speed_passes(
    verified: VerifiedGraph,
    network: nn.Module,
    patches: Sequence[CheckPatch],
    passes: Sequence[SpeedPass],
    require: Callable[[onnx.ModelProto], object],
    progress: StepCallback,
) -> VerifiedGraph:
    """Makes a verified graph faster, and verifies the result in the same way.

    If the result fails, the passes are applied one after the other, and those that fail are left out.

    Args:
        verified: the fp32 graph.
        network: the network to compare with.
        patches: the images to compare on.
        passes: the passes to apply.
        require: raises ExportError for a graph that cannot be deployed.
        progress: called with the name of each step before it starts.

    Returns:
        The verified graph, with a remark for each pass that was left out.
    """
    try:
        graph, names = apply_passes(verified.graph, passes)
        if not names:
            return verified
        progress(f"verifying the graph after {', '.join(names)}")
        require(graph)
        parity = compare_with_network(graph, network, patches)
        failure = parity.refusal
    except Exception as error:  # a pass that fails on a graph that nobody foresaw must not prevent its export
        failure = error.problem if isinstance(error, SrEdgeError) else f"{type(error).__name__}: {error}"
    if not failure:
        remarks = tuple(remark for remark in verified.remarks if remark not in verified.parity.remarks)
        return VerifiedGraph(
            graph,
            parity,
            remarks=(*remarks, *parity.remarks),
            passes=(*verified.passes, *names),
            without_passes=verified.without_passes or verified,
        )
    if len(passes) == 1:
        remark = f"exported without the pass {passes[0].name}: {one_line(failure)}"
        return replace(verified, remarks=(*verified.remarks, remark))
    for speed_pass in passes:
        verified = with_speed_passes(verified, network, patches, (speed_pass,), require, progress)
    return verified


def convert_and_verify_fp16(
    verified: VerifiedGraph, patches: Sequence[CheckPatch], controls: Sequence[Control], progress: StepCallback
) -> VerifiedGraph:
    """Converts the graph to fp16 with fp32 islands, and verifies it in float16 arithmetic.

    A graph that fails after passes that made it faster is converted without them, which a remark says.

    Raises:
        ExportError: the output for a photograph or flat image differs too much.
    """
    try:
        return _in_fp16(verified, patches, controls, progress)
    except ExportError as error:
        if verified.without_passes is None:
            raise
        remark = f"fp16 is exported without passes that make it faster: with them {error.problem}"
    half = _in_fp16(verified.without_passes, patches, controls, progress)
    return replace(half, remarks=(remark, *half.remarks))


def _in_fp16(
    verified: VerifiedGraph, patches: Sequence[CheckPatch], controls: Sequence[Control], progress: StepCallback
) -> VerifiedGraph:
    progress("converting to half precision")
    magnitudes = observe_magnitudes(verified.graph, [patch.batch for patch in patches], controls)
    half = to_fp16(verified.graph, magnitudes=magnitudes).model
    progress("checking in float16 arithmetic")
    check = check_float16(half, verified.graph, patches, controls)
    check.require_within()
    return replace(verified, graph=half, float16=check, remarks=(*verified.remarks, *check.remarks))
