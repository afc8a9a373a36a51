"""The whole export: from a loaded network to an ONNX file that has been compared, scanned and checked."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import onnx
import torch
from torch import nn

from sr_edge.errors import ExportError, NotStatic, SrEdgeError, UsageError
from sr_edge.export.checks.findings import summarize
from sr_edge.export.checks.float16 import Float16Check
from sr_edge.export.checks.parity import Parity, compare_with_torch
from sr_edge.export.checks.resemblance import resemblance_remark
from sr_edge.export.checks.rules import require_deployable
from sr_edge.export.checks.targets import require_known_targets
from sr_edge.export.exporter_errors import one_line
from sr_edge.export.frame_io import wrap_uint8
from sr_edge.export.graph import read_onnx
from sr_edge.export.metadata import Form, GraphMetadata, read_metadata, write_metadata
from sr_edge.export.patches import CheckPatch, Patch, PatchKind, check_patches
from sr_edge.export.proof import ProvenGraph, in_half_precision, prove, trace_and_prove
from sr_edge.export.static import forms_of, to_static
from sr_edge.export.tracing import trace
from sr_edge.models import LoadedModel
from sr_edge.spec import FrameFormat, Precision, TileSpec
from sr_edge.whole_file import require_output_file, whole_file

StepCallback = Callable[[str], None]

DISTRIBUTION = "sr-edge"

DYNAMIC_SIDE_PX = 48  # of the pictures that a dynamic graph is checked on when no tile is at hand
_TRY_TRACED = "pass --form traced, which exports the network as it is written"
_LEAVE_DYNAMIC_OUT = "leave --dynamic out"
OTHER_SIZES = ((1, 1), (-1, 2))  # what is added to a dynamic graph's tile to see whether other sizes work


@dataclass(frozen=True)
class ExportReport:
    """What was written and how it was proven.

    Attributes:
        float16: None unless the graph is in half precision.
        remarks: what must be known of the checks: worst cases that were excused or lose in half precision, or a
            simplification that was left out.
        warnings: what is known against the graph without making it useless, one line for each rule.
        form_reason: why the network is exported as traced although its static form was wanted; else empty.
    """

    path: Path
    metadata: GraphMetadata
    sha256: str
    size_bytes: int
    nodes: int
    parity: Parity
    float16: Float16Check | None
    remarks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    form_reason: str = ""


def export_onnx(
    model: LoadedModel,
    tile: TileSpec,
    path: Path,
    *,
    form: Form = Form.STATIC,
    io: FrameFormat = FrameFormat.FLOAT_NCHW,
    precision: Precision = Precision.FP32,
    dynamic: bool = False,
    targets: Sequence[str] = (),
    patches: Sequence[Patch] = (),
    progress: StepCallback = lambda step: None,
) -> ExportReport:
    """Writes the network as an ONNX file (opset 17, input "input", output "output", controls by their names).

    The fp32 graph is compared with the PyTorch network on photographs, flat pictures and worst cases
    (`sr_edge.export.checks.parity`); the graph must pass `require_deployable`; a half-precision graph must lose no more
    than 0.02 dB on photographs and flat pictures in real float16 arithmetic. The file appears under its name only when
    complete, and equal input gives equal bytes.

    Args:
        model: the network and its card; it is left alone.
        tile: input size in low-resolution pixels; for a dynamic graph, the size it is traced and checked at.
        path: the .onnx file to write.
        form: the static twin, or the training form as traced (for comparison).
        io: float32 NCHW in [0, 1], or uint8 NHWC with the conversion inside the graph.
        precision: FP32, or FP16 with explicit casts and fp32 islands; INT8 is made by calibration.
        dynamic: free height and width, for networks that allow it.
        targets: the runtimes that must take the graph, such as "tensorrt-10.3"; what others refuse is a warning.
        patches: photographs, float32 (1, 3, height, width) in [0, 1] of the tile's size, to compare on; without any,
            two that are bundled.
        progress: called with the name of each step before it starts.

    Raises:
        UsageError: `path` cannot be written, the precision is not one that export writes, a target is unknown, or a
            patch is not of the tile's size.
        TileError: the tile does not fit the network.
        NotStatic: the static form was wanted and the network has none, whereas its traced form may do.
        ExportError: the network has no ONNX form, or a check failed; nothing is written.
    """
    require_output_file(path)
    _require_writable(precision)
    _require_usable(model, tile, patches)
    targets = require_known_targets(targets)
    progress("building the network")
    network, forms = _network(model, tile, form, dynamic)
    pictures = check_patches(tile, patches)
    if dynamic:
        progress("tracing")
        proven = prove(trace(network, tile, dynamic), model.module, pictures, progress)
        _require_free_sides(proven.graph, model, tile)
    else:
        require = partial(_require_portable, form=form, dynamic=dynamic, targets=targets)
        proven = trace_and_prove(network, model.module, tile, pictures, require, progress)
    resemblance = "" if model.card.random_weights else resemblance_remark(model, pictures[0])
    proven = dataclasses.replace(proven, remarks=(*filter(None, [resemblance]), *proven.remarks))
    card = dataclasses.replace(model.card, static=not dynamic, forms=forms)
    metadata = GraphMetadata(
        card, form, precision, io, None if dynamic else tile, version(DISTRIBUTION), torch.__version__
    )
    return _finish(proven, metadata, path, pictures, progress, targets)


def derive_onnx(
    base: ExportReport,
    path: Path,
    *,
    io: FrameFormat = FrameFormat.FLOAT_NCHW,
    precision: Precision = Precision.FP32,
    targets: Sequence[str] = (),
    patches: Sequence[Patch] = (),
    progress: StepCallback = lambda step: None,
) -> ExportReport:
    """Writes another precision or frame format of an exported graph, without tracing and comparing it again.

    The bytes are those that `export_onnx` would have written. Arguments as there.

    Args:
        base: the report of an export with float frames, in fp32 or in `precision` already, whose file is in place.

    Raises:
        UsageError: `base` is not such an export, or the precision is not one that export writes.
        ExportError: the file is gone or changed, or a check failed; nothing is written.
    """
    found = base.metadata
    _require_writable(precision)
    if found.io is not FrameFormat.FLOAT_NCHW or found.precision not in (Precision.FP32, precision):
        raise UsageError(
            f"{base.path} is in {found.precision} with {found.io} frames, from which {precision} cannot be derived",
            found=(str(found.precision), str(found.io)),
            wanted=(str(Precision.FP32), str(FrameFormat.FLOAT_NCHW)),
            remedy="derive it from the fp32 export with float frames",
        )
    graph = read_onnx(base.path)
    sha256 = hashlib.sha256(base.path.read_bytes()).hexdigest()
    if sha256 != base.sha256:
        raise ExportError(
            f"{base.path} has changed since it was exported",
            found=sha256,
            wanted=base.sha256,
            remedy="export it again",
        )
    pictures = check_patches(found.tile or TileSpec(DYNAMIC_SIDE_PX, DYNAMIC_SIDE_PX), patches)
    metadata = dataclasses.replace(found, precision=precision, io=io)
    proven = ProvenGraph(graph, base.parity, base.float16, base.remarks)
    return _finish(proven, metadata, path, pictures, progress, require_known_targets(targets))


def save_model(model: onnx.ModelProto, path: Path) -> bytes:
    """Checks `model` in full and writes it in one move; returns the bytes written.

    Raises:
        ExportError: the model is not valid ONNX, or the file cannot be written.
    """
    model.producer_name, model.producer_version = "sr_edge", version(DISTRIBUTION)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the graph is not valid ONNX: {one_line(error)}") from error
    data: bytes = model.SerializeToString(deterministic=True)
    try:
        with whole_file(path) as unfinished:
            unfinished.write_bytes(data)
    except OSError as error:
        raise ExportError(
            f"cannot write {path}: {error.strerror or one_line(error)}",
            found=path,
            remedy="choose another file with -o",
        ) from error
    return data


def take_uint8_frames(path: Path) -> None:
    """Rewrites the float-frame graph at `path`, of whatever precision, as one of uint8 NHWC frames.

    Raises:
        ExportError: the graph does not take float frames, or the file cannot be written.
    """
    graph = wrap_uint8(onnx.load(path)).model
    write_metadata(graph, dataclasses.replace(read_metadata(graph), io=FrameFormat.UINT8_NHWC))
    save_model(graph, path)


def _require_usable(model: LoadedModel, tile: TileSpec, patches: Sequence[Patch]) -> None:
    model.card.require_tile(tile)
    wanted = (1, 3, tile.height, tile.width)
    for patch in patches:
        if patch.shape != wanted or patch.dtype != "float32":
            raise UsageError(
                f"a patch is {patch.dtype} of shape {patch.shape}, but the tile {tile} needs float32 of shape {wanted}",
                found=(str(patch.dtype), patch.shape),
                wanted=("float32", wanted),
                remedy="pass patches of the tile's size",
            )


def _require_writable(precision: Precision) -> None:
    if precision not in (Precision.FP32, Precision.FP16):
        raise UsageError(
            f"export writes fp32 and fp16, not {precision}",
            found=str(precision),
            wanted=(str(Precision.FP32), str(Precision.FP16)),
            remedy="for int8 run `sr-edge calibrate` on the fp32 file",
        )


def _network(model: LoadedModel, tile: TileSpec, form: Form, dynamic: bool) -> tuple[nn.Module, dict[str, str]]:
    """The module to trace and the choices made in it, per layer."""
    if form is Form.TRACED:
        return model.module, {}
    try:
        twin = to_static(model.module, tile.height, tile.width)
    except ExportError as error:
        raise _not_static(error) from error
    if dynamic and [type(layer) for layer in twin.modules()] != [type(layer) for layer in model.module.modules()]:
        raise ExportError(
            f"the static form of {model.card.name} is made for one tile size, so that it cannot be dynamic",
            found="--dynamic",
            wanted=str(tile),
            remedy="leave --dynamic out and let tiles take pictures of any size, or try the slower --form traced, "
            "which can be dynamic for some networks",
        )
    return twin, forms_of(twin)


def _not_static(error: ExportError) -> NotStatic:
    """The same refusal of a static form, with the advice to export the traced form."""
    remedy = f"{error.remedy}, or {_TRY_TRACED}" if error.remedy else _TRY_TRACED
    return NotStatic(error.problem, found=error.found, wanted=error.wanted, remedy=remedy)


def _require_free_sides(graph: onnx.ModelProto, model: LoadedModel, tile: TileSpec) -> None:
    step = model.card.multiple_px
    for rows, columns in OTHER_SIZES:
        other = TileSpec(max(step, tile.height + rows * step), max(step, tile.width + columns * step))
        photographs = [patch for patch in check_patches(other) if patch.kind is PatchKind.PHOTOGRAPH]
        try:
            compare_with_torch(graph, model.module, photographs[:1]).require_within(_LEAVE_DYNAMIC_OUT)
        except Exception as error:  # ours, and whatever the network raises of a size that it does not take
            reason = error.problem if isinstance(error, SrEdgeError) else one_line(error)
            raise ExportError(
                f"{model.card.name} does not allow dynamic sizes: traced at {tile} it is wrong at {other} ({reason})",
                found=str(other),
                wanted=str(tile),
                remedy=_LEAVE_DYNAMIC_OUT,
            ) from error


def _require_portable(graph: onnx.ModelProto, form: Form, dynamic: bool, targets: Sequence[str]) -> tuple[str, ...]:
    """What warnings the graph has; raises ExportError where a rule or a target refuses it."""
    try:
        findings = require_deployable(graph, targets, static=form is Form.STATIC and not dynamic)
    except NotStatic as error:
        raise _not_static(error) from error
    return summarize(findings)


def _finish(
    proven: ProvenGraph,
    metadata: GraphMetadata,
    path: Path,
    pictures: Sequence[CheckPatch],
    progress: StepCallback,
    targets: Sequence[str],
) -> ExportReport:
    """Takes a proven graph to the precision and frame format that `metadata` names, and writes it."""
    if metadata.precision is Precision.FP16 and proven.float16 is None:
        proven = in_half_precision(proven, pictures, metadata.card.controls, progress)
    graph = proven.graph
    if metadata.io is FrameFormat.UINT8_NHWC:
        graph = wrap_uint8(graph).model
    warnings = _require_portable(graph, metadata.form, metadata.tile is None, targets)
    progress("writing")
    write_metadata(graph, metadata)
    data = save_model(graph, path)
    return ExportReport(
        path,
        metadata,
        hashlib.sha256(data).hexdigest(),
        len(data),
        len(graph.graph.node),
        proven.parity,
        proven.float16,
        proven.remarks,
        warnings,
    )
