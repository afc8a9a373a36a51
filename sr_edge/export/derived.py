"""Graphs that are made from an exported one: in another precision or frame format, or made faster by passes."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import onnx

from sr_edge.errors import ExportError, UsageError
from sr_edge.export.checks.targets import require_known_targets
from sr_edge.export.export import DYNAMIC_TILE_PX, ExportReport, finish, require_portable, require_writable, save_model
from sr_edge.export.graph.metadata import read_metadata, write_metadata
from sr_edge.export.graph.patches import Patch, check_patches
from sr_edge.export.graph.view import read_onnx
from sr_edge.export.passes.nv12_io import wrap_frames
from sr_edge.export.passes.speed_passes import SpeedPass
from sr_edge.export.proof import StepCallback, VerifiedGraph, with_speed_passes
from sr_edge.models import LoadedModel
from sr_edge.nv12.colour import Nv12Colour
from sr_edge.spec import FrameFormat, Precision, TileSpec, member_of


def derive_onnx(
    base: ExportReport,
    path: Path,
    *,
    io: FrameFormat | str = FrameFormat.FLOAT_NCHW,
    nv12_colour: Nv12Colour | str | None = None,
    precision: Precision | str = Precision.FP32,
    without_passes: ExportReport | None = None,
    targets: Sequence[str] = (),
    patches: Sequence[Patch] = (),
    progress: StepCallback = lambda step: None,
) -> ExportReport:
    """Writes an exported graph in another precision or frame format, without tracing and comparing it again.

    The bytes are those that `export_onnx` would have written. The other arguments are those of `export_onnx`.

    Args:
        base: the report of an export with float frames, in fp32 or already in `precision`, whose file still exists.
        without_passes: the export that `base` was made faster from; it is converted to fp16 if `base` fails the
            check of fp16, and a remark reports that.

    Raises:
        UsageError: `base` is not such an export, or export does not write the precision.
        ExportError: the file is missing or has changed, or a check failed; nothing is written.
    """
    io = member_of(FrameFormat, io, "frame format")
    colour = None if nv12_colour is None else member_of(Nv12Colour, nv12_colour, "colour of NV12 frames")
    precision = member_of(Precision, precision, "precision")
    source = base.metadata
    require_writable(precision)
    if source.io is not FrameFormat.FLOAT_NCHW or source.precision not in (Precision.FP32, precision):
        raise UsageError(
            f"{base.path} is in {source.precision} with {source.io} frames, from which {precision} cannot be derived",
            found=(str(source.precision), str(source.io)),
            wanted=(str(Precision.FP32), str(FrameFormat.FLOAT_NCHW)),
            remedy="derive it from the fp32 export with float frames",
        )
    graph = _graph_of(base)
    compared = check_patches(source.tile or TileSpec(DYNAMIC_TILE_PX, DYNAMIC_TILE_PX), patches, source.card.channels)
    metadata = dataclasses.replace(source, precision=precision, io=io, nv12_colour=colour)
    plain = None if without_passes is None else _verified(without_passes, _graph_of(without_passes))
    verified = dataclasses.replace(_verified(base, graph), without_passes=plain)
    return finish(verified, metadata, path, compared, progress, require_known_targets(targets))


def accelerate_onnx(
    base: ExportReport,
    model: LoadedModel,
    path: Path,
    passes: Sequence[SpeedPass],
    *,
    targets: Sequence[str] = (),
    patches: Sequence[Patch] = (),
    progress: StepCallback = lambda step: None,
) -> ExportReport:
    """Writes an exported fp32 graph after passes that make it faster, compared with the network and checked again.

    A pass after which the graph fails its checks is left out, which a remark says.
    The other arguments are those of `export_onnx`.

    Args:
        base: the report of an export in fp32 with float frames and a constant tile, whose file still exists.
        model: the network that it was exported from.
        path: the .onnx file to write.
        passes: the passes to apply.

    Raises:
        UsageError: `base` is not such an export.
        ExportError: the file is missing or has changed.
    """
    source = base.metadata
    if (source.precision, source.io) != (Precision.FP32, FrameFormat.FLOAT_NCHW) or source.tile is None:
        raise UsageError(
            f"{base.path} is not an fp32 graph with float frames and a constant tile",
            found=(str(source.precision), str(source.io), str(source.tile)),
            wanted=(str(Precision.FP32), str(FrameFormat.FLOAT_NCHW)),
            remedy="apply them to the fp32 export with float frames, and derive the others from the result",
        )
    verified = _verified(base, _graph_of(base))
    compared = check_patches(source.tile, patches, source.card.channels)
    require = partial(require_portable, form=source.form, dynamic=False, targets=require_known_targets(targets))
    verified = with_speed_passes(verified, model.module, compared, passes, require, progress)
    report = finish(verified, source, path, compared, progress, targets)
    return dataclasses.replace(report, form_reason=base.form_reason)


def _verified(report: ExportReport, graph: onnx.ModelProto) -> VerifiedGraph:
    return VerifiedGraph(graph, report.parity, report.float16, report.remarks, report.passes)


def _graph_of(base: ExportReport) -> onnx.ModelProto:
    """The graph of an export; raises ExportError if the file has changed since."""
    graph = read_onnx(base.path)
    sha256 = hashlib.sha256(base.path.read_bytes()).hexdigest()
    if sha256 != base.sha256:
        raise ExportError(
            f"{base.path} has changed since it was exported",
            found=sha256,
            wanted=base.sha256,
            remedy="export it again",
        )
    return graph


def take_frames(path: Path, io: FrameFormat, nv12_colour: Nv12Colour | None = None) -> None:
    """Rewrites an ONNX file with float input and output so that it takes frames of another format.

    Works for graphs of any precision.

    Raises:
        ExportError, UsageError, TileError: as `wrap_frames`, or the file cannot be written.
    """
    graph = wrap_frames(onnx.load(path), io, nv12_colour)
    write_metadata(graph, dataclasses.replace(read_metadata(graph), io=io, nv12_colour=nv12_colour))
    save_model(graph, path)
