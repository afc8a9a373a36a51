"""Exports a loaded network to ONNX.

The graph is traced, or read from the ONNX file that the user gave as the network. It is compared with the network and
checked against the rules before the file is written.
"""

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
from sr_edge.export.checks.parity import Parity, compare_with_network
from sr_edge.export.checks.resemblance import resemblance_remark
from sr_edge.export.checks.rules import require_deployable
from sr_edge.export.checks.targets import require_known_targets
from sr_edge.export.graph.file_network import FileNetwork
from sr_edge.export.graph.metadata import Form, GraphMetadata, write_metadata
from sr_edge.export.graph.patches import CheckPatch, Patch, PatchKind, check_patches
from sr_edge.export.passes.nv12_io import wrap_frames
from sr_edge.export.passes.speed_passes import SpeedPass, passes_for_all_targets
from sr_edge.export.passes.tracing import trace
from sr_edge.export.proof import (
    StepCallback,
    VerifiedGraph,
    convert_and_verify_fp16,
    read_and_verify,
    simplify_and_verify,
    trace_and_verify,
    with_speed_passes,
)
from sr_edge.export.twins.registry import forms_of, to_static
from sr_edge.files.whole_file import require_output_file, whole_file
from sr_edge.models import LoadedModel
from sr_edge.nv12.colour import Nv12Colour, require_nv12_colour
from sr_edge.nv12.frames import require_nv12_tile
from sr_edge.printable import one_line
from sr_edge.spec import FrameFormat, PassChoice, Precision, TileSpec, member_of

DISTRIBUTION = "sr-edge"

DYNAMIC_TILE_PX = 48  # height and width of the images that a dynamic graph is checked on where no tile is known
_TRY_TRACED = "pass --form traced, which exports the network as it is written"
_LEAVE_DYNAMIC_OUT = "leave --dynamic out"
OTHER_SIZES = ((1, 1), (-1, 2))  # steps added to height and width of the tile to test other sizes of a dynamic graph


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote, and the results of its checks.

    Attributes:
        path: the file.
        metadata: what the file says about itself.
        sha256: digest of the file.
        size_bytes: size of the file.
        nodes: number of operators.
        parity: the comparison with the network.
        float16: the check of half precision; None for a graph in fp32.
        remarks: notes on the checks, for example worst cases that exceeded the parity bound but were accepted, the fp16
            loss on worst cases, or a graph simplification that was skipped.
        passes: what made the graph other than a plain trace and simplification: another way to trace the network, and
            the rewrites that changed it.
        warnings: problems of the graph that do not prevent its deployment, one line for each rule.
        form_reason: why the traced form was exported although the static form was wanted; otherwise empty.
    """

    path: Path
    metadata: GraphMetadata
    sha256: str
    size_bytes: int
    nodes: int
    parity: Parity
    float16: Float16Check | None
    remarks: tuple[str, ...] = ()
    passes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    form_reason: str = ""

    def __repr__(self) -> str:
        metadata = self.metadata
        tile = f"tile {metadata.tile}" if metadata.tile else "any size"
        what = f"{metadata.card.name} x{metadata.card.scale}, {metadata.form}, {metadata.precision}, {metadata.io} io"
        return f"<ExportReport {self.path}: {what}, {tile}, {self.nodes} nodes>"


def export_onnx(
    model: LoadedModel,
    tile: TileSpec | str,
    path: Path,
    *,
    form: Form | str = Form.STATIC,
    io: FrameFormat | str = FrameFormat.FLOAT_NCHW,
    nv12_colour: Nv12Colour | str | None = None,
    precision: Precision | str = Precision.FP32,
    dynamic: bool = False,
    passes: Sequence[SpeedPass] | None = None,
    targets: Sequence[str] = (),
    patches: Sequence[Patch] = (),
    progress: StepCallback = lambda step: None,
) -> ExportReport:
    """Writes the network as an ONNX file (opset 17, input "input", output "output", controls by their names).

    The fp32 graph is compared with the network on photographs, flat images and worst cases
    (`sr_edge.export.checks.parity`); the graph must pass `require_deployable`; a half-precision graph may lose at most
    0.02 dB on photographs and flat images in real float16 arithmetic. The file is written atomically, and equal input
    gives equal bytes.

    Args:
        model: the network and its card; it is not modified.
        tile: input size in low-resolution pixels; for a dynamic graph, the size at which it is traced and checked.
        path: the .onnx file to write.
        form: the static form, or the PyTorch network as it is written (for comparison). The network of an ONNX file is
            exported as `Form.IMPORTED`, which needs no choice.
        io: float32 NCHW in [0, 1], uint8 NHWC with the conversion inside the graph, or NV12 input with uint8 output.
        nv12_colour: matrix and range of NV12 frames, which they need.
        precision: FP32, or FP16 with explicit casts and fp32 islands; calibration writes INT8.
        dynamic: dynamic height and width, for networks that allow it.
        passes: the passes that make the graph faster; None applies those that are a gain on every target, and none to a
            dynamic graph. A pass after which the graph fails its checks is left out, which a remark says.
        targets: the runtimes that must accept the graph, such as "tensorrt-10.3"; what others refuse is a warning.
        patches: photographs to compare on, float32 (1, channels, height, width) in [0, 1] of the tile's size; if empty,
            two bundled photographs are used.
        progress: called with the name of each step before it starts.

    Raises:
        UsageError: `path` cannot be written, export does not write the precision, a target is unknown, a patch is not
            of the tile's size, an option for tracing is given for an ONNX file, or passes for a dynamic graph; or NV12
            frames without a colour, or for a network that does not take RGB.
        TileError: the tile does not fit the network, or it is odd and frames are NV12.
        NotStatic: the static form was wanted and the network has none; its traced form may be exportable.
        ExportError: the network cannot be expressed in ONNX, or a check failed; nothing is written.
    """
    tile = TileSpec.of(tile)
    form = member_of(Form, form, "form")
    io = member_of(FrameFormat, io, "frame format")
    colour = None if nv12_colour is None else member_of(Nv12Colour, nv12_colour, "colour of NV12 frames")
    precision = member_of(Precision, precision, "precision")
    require_output_file(path)
    require_writable(precision)
    require_nv12_colour(io, colour)
    if io is FrameFormat.NV12:
        require_nv12_tile(None if dynamic else tile, model.card.channels)
    _require_usable(model, tile, patches)
    targets = require_known_targets(targets)
    compared = check_patches(tile, patches, model.card.channels)
    passes = _chosen_passes(passes, dynamic)
    forms: dict[str, str] = {}
    if isinstance(model.module, FileNetwork):
        form = _imported(model.module, form, dynamic)
    require = partial(require_portable, form=form, dynamic=dynamic, targets=targets)
    if isinstance(model.module, FileNetwork):
        verified = read_and_verify(model.module, tile, compared, require, progress)
    else:
        verified, forms = _traced(model, tile, form, dynamic, require, compared, progress)
    verified = with_speed_passes(verified, model.module, compared, passes, require, progress)
    resemblance = "" if model.card.random_weights else resemblance_remark(model, compared[0])
    verified = dataclasses.replace(verified, remarks=(*filter(None, [resemblance]), *verified.remarks))
    card = dataclasses.replace(model.card, static=not dynamic, forms=forms)
    torch_version = "" if form is Form.IMPORTED else torch.__version__
    metadata = GraphMetadata(
        card, form, precision, io, None if dynamic else tile, version(DISTRIBUTION), torch_version, colour
    )
    return finish(verified, metadata, path, compared, progress, targets)


def save_model(model: onnx.ModelProto, path: Path) -> bytes:
    """Checks that `model` is valid ONNX, writes it atomically and returns the bytes written.

    Raises:
        ExportError: the model is not valid ONNX, or the file cannot be written.
    """
    model.producer_name, model.producer_version = "sr_edge", version(DISTRIBUTION)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the graph is not valid ONNX: {one_line(str(error))}") from error
    data: bytes = model.SerializeToString(deterministic=True)
    try:
        with whole_file(path) as unfinished:
            unfinished.write_bytes(data)
    except OSError as error:
        raise ExportError(
            f"cannot write {path}: {error.strerror or one_line(str(error))}",
            found=path,
            remedy="choose another file with -o",
        ) from error
    return data


def _require_usable(model: LoadedModel, tile: TileSpec, patches: Sequence[Patch]) -> None:
    model.card.require_tile(tile)
    wanted = (1, model.card.channels, tile.height, tile.width)
    for patch in patches:
        if patch.shape != wanted or patch.dtype != "float32":
            raise UsageError(
                f"a patch is {patch.dtype} of shape {patch.shape}, but the tile {tile} needs float32 of shape {wanted}",
                found=(str(patch.dtype), patch.shape),
                wanted=("float32", wanted),
                remedy="pass patches of the tile's size, with the channels of the network",
            )


def require_writable(precision: Precision) -> None:
    if precision not in (Precision.FP32, Precision.FP16):
        raise UsageError(
            f"export writes fp32 and fp16, not {precision}",
            found=str(precision),
            wanted=(str(Precision.FP32), str(Precision.FP16)),
            remedy="for int8 run `sr-edge calibrate` on the fp32 file",
        )


def _chosen_passes(passes: Sequence[SpeedPass] | None, dynamic: bool) -> Sequence[SpeedPass]:
    """The passes to apply; raises UsageError where some were asked for with dynamic sizes, for which none is made."""
    if passes is None:
        return () if dynamic else passes_for_all_targets(PassChoice.STRUCTURE)
    if dynamic and passes:
        raise UsageError(
            "the passes that make graphs faster need a constant size, but the graph is to be dynamic",
            found=tuple(speed_pass.name for speed_pass in passes),
            wanted=str(PassChoice.NONE),
            remedy="leave --dynamic or --passes out",
        )
    return passes


def _imported(network: FileNetwork, form: Form, dynamic: bool) -> Form:
    """The form of an ONNX file; raises UsageError where an option for tracing was given."""
    option = "--dynamic" if dynamic else "--form traced" if form is Form.TRACED else ""
    if option:
        raise UsageError(
            f"{option} is for PyTorch networks, which are traced, but {network.file.path} is a graph already",
            found=option,
            wanted="a PyTorch network",
            remedy=f"leave {option} out",
        )
    return Form.IMPORTED


def _traced(
    model: LoadedModel,
    tile: TileSpec,
    form: Form,
    dynamic: bool,
    require: Callable[[onnx.ModelProto], object],
    patches: Sequence[CheckPatch],
    progress: StepCallback,
) -> tuple[VerifiedGraph, dict[str, str]]:
    """The verified graph of a PyTorch network, and the form chosen for each of its layers."""
    progress("building the network")
    network, forms = _network(model, tile, form, dynamic)
    if dynamic:
        progress("tracing")
        verified = simplify_and_verify(
            trace(network, tile, dynamic, model.card.channels), model.module, patches, progress
        )
        _require_dynamic_sizes(verified.graph, model, tile)
    else:
        verified = trace_and_verify(network, model.module, tile, patches, require, progress)
    return verified, forms


def _network(model: LoadedModel, tile: TileSpec, form: Form, dynamic: bool) -> tuple[nn.Module, dict[str, str]]:
    """The module to trace, and the form chosen for each of its layers."""
    if form is Form.TRACED:
        return model.module, {}
    try:
        twin = to_static(model.module, tile.height, tile.width, model.card.channels)
    except ExportError as error:
        raise _not_static(error) from error
    if dynamic and [type(layer) for layer in twin.modules()] != [type(layer) for layer in model.module.modules()]:
        raise ExportError(
            f"the static form of {model.card.name} is made for one tile size, so it cannot be dynamic",
            found="--dynamic",
            wanted=str(tile),
            remedy="leave --dynamic out, since images of any size are processed in tiles, or try the slower "
            "--form traced, which can be dynamic for some networks",
        )
    return twin, forms_of(twin)


def _not_static(error: ExportError) -> NotStatic:
    """The error as NotStatic, with the advice to export the traced form."""
    remedy = f"{error.remedy}, or {_TRY_TRACED}" if error.remedy else _TRY_TRACED
    return NotStatic(error.problem, found=error.found, wanted=error.wanted, remedy=remedy)


def _require_dynamic_sizes(graph: onnx.ModelProto, model: LoadedModel, tile: TileSpec) -> None:
    step = model.card.multiple_px
    for rows, columns in OTHER_SIZES:
        other = TileSpec(max(step, tile.height + rows * step), max(step, tile.width + columns * step))
        checked = check_patches(other, channels=model.card.channels)
        photographs = [patch for patch in checked if patch.kind is PatchKind.PHOTOGRAPH]
        try:
            compare_with_network(graph, model.module, photographs[:1]).require_within(_LEAVE_DYNAMIC_OUT)
        except Exception as error:  # ours, and whatever the network raises for a size that it cannot process
            reason = error.problem if isinstance(error, SrEdgeError) else one_line(str(error))
            raise ExportError(
                f"{model.card.name} does not allow dynamic sizes: traced at {tile} it is wrong at {other} ({reason})",
                found=str(other),
                wanted=str(tile),
                remedy=_LEAVE_DYNAMIC_OUT,
            ) from error


def require_portable(graph: onnx.ModelProto, form: Form, dynamic: bool, targets: Sequence[str]) -> tuple[str, ...]:
    """The warnings of the rules about the graph; raises ExportError where a rule or a target refuses it."""
    try:
        findings = require_deployable(graph, targets, static=form is Form.STATIC and not dynamic)
    except NotStatic as error:
        raise _not_static(error) from error
    return summarize(findings)


def finish(
    verified: VerifiedGraph,
    metadata: GraphMetadata,
    path: Path,
    patches: Sequence[CheckPatch],
    progress: StepCallback,
    targets: Sequence[str],
) -> ExportReport:
    """Converts a verified graph to the precision and frame format of `metadata`, checks and writes it."""
    if metadata.precision is Precision.FP16 and verified.float16 is None:
        verified = convert_and_verify_fp16(verified, patches, metadata.card.controls, progress)
    graph = verified.graph
    graph = wrap_frames(graph, metadata.io, metadata.nv12_colour)
    warnings = require_portable(graph, metadata.form, metadata.tile is None, targets)
    progress("writing")
    write_metadata(graph, metadata)
    data = save_model(graph, path)
    return ExportReport(
        path,
        metadata,
        hashlib.sha256(data).hexdigest(),
        len(data),
        len(graph.graph.node),
        verified.parity,
        verified.float16,
        verified.remarks,
        verified.passes,
        warnings,
    )
