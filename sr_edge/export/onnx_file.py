"""The whole export: from a loaded network to an ONNX file that has been compared, scanned and checked."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import onnx
import torch
from torch import nn

from sr_edge.errors import ExportError, UsageError
from sr_edge.export.checks.float16 import Float16Check, check_float16
from sr_edge.export.checks.parity import Parity, compare_with_torch
from sr_edge.export.fp16 import to_fp16
from sr_edge.export.frame_io import wrap_uint8
from sr_edge.export.inner_tensors import observe_magnitudes
from sr_edge.export.metadata import Form, GraphMetadata, read_metadata, write_metadata
from sr_edge.export.patches import CheckPatch, Patch, PatchKind, check_patches
from sr_edge.export.scan import TENSORRT_RULES, read_onnx, require_static
from sr_edge.export.simplify import simplify
from sr_edge.export.static import forms_of, to_static
from sr_edge.export.tensorrt_releases import find_release
from sr_edge.export.tensorrt_rules import require_for_tensorrt
from sr_edge.export.tracing import trace
from sr_edge.models import LoadedModel
from sr_edge.spec import Control, FrameFormat, Precision, TileSpec
from sr_edge.whole_file import require_output_file, whole_file

Progress = Callable[[str], None]

DISTRIBUTION = "sr-edge"

DYNAMIC_SIDE_PX = 48  # of the pictures that a dynamic graph is checked on when no tile is at hand
OTHER_SIZES = ((1, 1), (-1, 2))  # what is added to a dynamic graph's tile to see whether other sizes work


@dataclass(frozen=True)
class ExportReport:
    """What was written and how it was proven; `float16` is None unless the graph is in half precision.

    `remarks` are what else must be known of the checks: worst cases that were excused, or a simplification left out.
    """

    path: Path
    metadata: GraphMetadata
    sha256: str
    size_bytes: int
    nodes: int
    parity: Parity
    float16: Float16Check | None
    remarks: tuple[str, ...] = ()


def export_onnx(
    model: LoadedModel,
    tile: TileSpec,
    path: Path,
    *,
    form: Form = Form.STATIC,
    io: FrameFormat = FrameFormat.FLOAT_NCHW,
    precision: Precision = Precision.FP32,
    dynamic: bool = False,
    target: str | None = None,
    patches: Sequence[Patch] = (),
    progress: Progress = lambda step: None,
) -> ExportReport:
    """Writes the network as an ONNX file (opset 17, input "input", output "output", controls by their names).

    The fp32 graph is compared with the PyTorch network on photographs, flat pictures and worst cases
    (`sr_edge.export.checks.parity`); a static form must pass `scan_graph`; a half-precision graph must lose no more
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
        target: a TensorRT release whose parser must take the graph, such as "tensorrt-10.3" (`check_for_tensorrt`).
        patches: photographs, float32 (1, 3, height, width) in [0, 1] of the tile's size, to compare on; without any,
            two that are bundled.
        progress: called with the name of each step before it starts.

    Raises:
        UsageError: `path` cannot be written, the precision is not one that export writes, the target is unknown, or a
            patch is not of the tile's size.
        TileError: the tile does not fit the network.
        ExportError: the network has no ONNX form, or a check failed; nothing is written.
    """
    require_output_file(path)
    _require_usable(model, tile, precision, patches)
    if target is not None:
        find_release(target)
    progress("building the network")
    network, forms = _network(model, tile, form, dynamic)
    progress("tracing")
    traced = trace(network, tile, dynamic)
    pictures = check_patches(tile, patches)
    proven = _proven(traced, model.module, pictures, form, progress)
    graph = proven.graph
    _require_portable(graph, form, dynamic)
    if dynamic:
        _require_free_sides(graph, model, tile)
    card = dataclasses.replace(model.card, static=not dynamic, forms=forms)
    metadata = GraphMetadata(
        card, form, precision, io, None if dynamic else tile, version(DISTRIBUTION), torch.__version__
    )
    return _finish(proven, metadata, path, pictures, progress, target)


def derive_onnx(
    base: ExportReport,
    path: Path,
    *,
    io: FrameFormat = FrameFormat.FLOAT_NCHW,
    precision: Precision = Precision.FP32,
    patches: Sequence[Patch] = (),
    progress: Progress = lambda step: None,
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
        raise UsageError(f"{base.path} is {found.precision} with {found.io} frames; derive from the fp32 float export")
    graph = read_onnx(base.path)
    if hashlib.sha256(base.path.read_bytes()).hexdigest() != base.sha256:
        raise ExportError(f"{base.path} has changed since it was exported; export it again")
    pictures = check_patches(found.tile or TileSpec(DYNAMIC_SIDE_PX, DYNAMIC_SIDE_PX), patches)
    metadata = dataclasses.replace(found, precision=precision, io=io)
    proven = _Proven(graph, base.parity, base.float16, base.remarks)
    return _finish(proven, metadata, path, pictures, progress)


def save_model(model: onnx.ModelProto, path: Path) -> bytes:
    """Checks `model` in full and writes it in one move; returns the bytes written.

    Raises:
        ExportError: the model is not valid ONNX, or the file cannot be written.
    """
    model.producer_name, model.producer_version = "sr_edge", version(DISTRIBUTION)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the graph is not valid ONNX: {error}") from error
    data: bytes = model.SerializeToString(deterministic=True)
    try:
        with whole_file(path) as unfinished:
            unfinished.write_bytes(data)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror or error}; choose another place with -o") from error
    return data


def take_uint8_frames(path: Path) -> None:
    """Rewrites the float-frame graph at `path`, of whatever precision, as one of uint8 NHWC frames.

    Raises:
        ExportError: the graph does not take float frames, or the file cannot be written.
    """
    graph = wrap_uint8(onnx.load(path))
    write_metadata(graph, dataclasses.replace(read_metadata(graph), io=FrameFormat.UINT8_NHWC))
    save_model(graph, path)


def _require_usable(model: LoadedModel, tile: TileSpec, precision: Precision, patches: Sequence[Patch]) -> None:
    if precision not in (Precision.FP32, Precision.FP16):
        raise UsageError(
            f"export writes fp32 and fp16, not {precision}; for int8 run `sr-edge calibrate` on the result"
        )
    tile.require_multiple_of(model.card.multiple_px)
    wanted = (1, 3, tile.height, tile.width)
    for patch in patches:
        if patch.shape != wanted or patch.dtype != "float32":
            raise UsageError(f"a patch is {patch.dtype} {patch.shape}; the tile {tile} needs float32 {wanted}")


def _require_writable(precision: Precision) -> None:
    if precision not in (Precision.FP32, Precision.FP16):
        raise UsageError(
            f"export writes fp32 and fp16, not {precision}; for int8 run `sr-edge calibrate` on the result"
        )


def _network(model: LoadedModel, tile: TileSpec, form: Form, dynamic: bool) -> tuple[nn.Module, dict[str, str]]:
    """The module to trace and the choices made in it, per layer."""
    if form is Form.TRACED:
        return model.module, {}
    twin = to_static(model.module, tile.height, tile.width)
    if dynamic and [type(layer) for layer in twin.modules()] != [type(layer) for layer in model.module.modules()]:
        raise ExportError(
            f"the static form of {model.card.name} is made for one tile size; leave --dynamic out, "
            "and let tiles take pictures of any size, or try the slower --form traced, which some networks allow"
        )
    return twin, forms_of(twin)


def _require_free_sides(graph: onnx.ModelProto, model: LoadedModel, tile: TileSpec) -> None:
    step = model.card.multiple_px
    for rows, columns in OTHER_SIZES:
        other = TileSpec(max(step, tile.height + rows * step), max(step, tile.width + columns * step))
        photographs = [patch for patch in check_patches(other) if patch.kind is PatchKind.PHOTOGRAPH]
        try:
            compare_with_torch(graph, model.module, photographs[:1]).require_within("its sizes are constants")
        except (ExportError, RuntimeError) as error:  # torch raises RuntimeError
            raise ExportError(
                f"{model.card.name} traced at {tile} is wrong at {other}: it does not allow dynamic sizes; "
                f"leave --dynamic out ({error})"
            ) from error


def _require_portable(graph: onnx.ModelProto, form: Form, dynamic: bool) -> None:
    if form is Form.TRACED:
        return
    if dynamic:
        require_static(graph, TENSORRT_RULES)
    else:
        require_static(graph)


@dataclass(frozen=True, eq=False)
class _Proven:
    """A graph with float frames, and what proved it; `float16` is None while it is in fp32."""

    graph: onnx.ModelProto
    parity: Parity
    float16: Float16Check | None = None
    remarks: tuple[str, ...] = ()


_PARITY_ADVICE = {
    Form.STATIC: "export with --form traced, which takes the network without its static rewrites",
    Form.TRACED: "the exporter changes what this network computes: report it with the network's code",
}


def _proven(
    traced: onnx.ModelProto, module: nn.Module, pictures: Sequence[CheckPatch], form: Form, progress: Progress
) -> _Proven:
    """The simplified graph, or the traced one where simplification fails or changes what the network computes.

    Comparing the simplified graph with PyTorch proves both steps at once; the traced graph is compared only where that
    fails, to tell which of the two steps is at fault.
    """
    progress("simplifying")
    try:
        simplified, failure = simplify(traced), ""
    except ExportError as error:
        simplified, failure = traced, str(error)
    progress("comparing with PyTorch")
    parity = compare_with_torch(simplified, module, pictures)
    if parity.passed or failure:
        parity.require_within(_PARITY_ADVICE[form])
        remarks = (f"exported without simplification: {failure}",) if failure else ()
        return _Proven(simplified, parity, remarks=(*remarks, *parity.remarks))
    original = compare_with_torch(traced, module, pictures)
    if not original.passed:
        parity.require_within(_PARITY_ADVICE[form])
    remark = f"exported without simplification, after which the graph differs by {parity.max_abs_error:.3g} of white"
    return _Proven(traced, original, remarks=(remark, *original.remarks))


def _in_half_precision(
    proven: _Proven, pictures: Sequence[CheckPatch], controls: Sequence[Control], progress: Progress
) -> _Proven:
    progress("converting to half precision")
    magnitudes = observe_magnitudes(proven.graph, [patch.batch for patch in pictures], controls)
    half = to_fp16(proven.graph, magnitudes=magnitudes)
    progress("checking in float16 arithmetic")
    check = check_float16(half, proven.graph, pictures, controls)
    check.require_within()
    return _Proven(half, proven.parity, check, (*proven.remarks, *check.remarks))


def _finish(
    proven: _Proven,
    metadata: GraphMetadata,
    path: Path,
    pictures: Sequence[CheckPatch],
    progress: Progress,
    target: str | None = None,
) -> ExportReport:
    """Takes a proven graph to the precision and frame format that `metadata` names, and writes it."""
    if metadata.precision is Precision.FP16 and proven.float16 is None:
        proven = _in_half_precision(proven, pictures, metadata.card.controls, progress)
    graph = proven.graph
    if metadata.io is FrameFormat.UINT8_NHWC:
        graph = wrap_uint8(graph)
    _require_portable(graph, metadata.form, metadata.tile is None)
    if target is not None:
        require_for_tensorrt(graph, target)
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
    )
