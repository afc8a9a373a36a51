"""The ONNX files of a bundle: float ones from the network, INT8 ones from the first of those."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sr_edge.bench.protocol import StageProgress
from sr_edge.calibration import (
    Budget,
    CalibrationConfig,
    CalibrationReport,
    HeldOut,
    calibrate_within,
    quantize_onnx,
    write_cache,
)
from sr_edge.calibration.config import TIMED_RUNTIMES
from sr_edge.calibration.patch import Batch
from sr_edge.deploy.plan import DeployPlan
from sr_edge.errors import ExportError, NotDeployable, NothingToQuantize
from sr_edge.export import ExportReport, derive_onnx, export_best_form, require_deployable
from sr_edge.export.checks.targets import readers_of
from sr_edge.export.onnx_file import take_uint8_frames
from sr_edge.models import LoadedModel
from sr_edge.runtimes import supports
from sr_edge.spec import ActivationType, FrameFormat, Precision

PARITY_PATCHES = 2
CACHE_FILE = "calibration.json"


@dataclass(frozen=True)
class GraphFile:
    """One ONNX file to make, whatever makes it."""

    file: str
    precision: Precision
    io: FrameFormat = FrameFormat.FLOAT_NCHW
    float_precision: Precision = Precision.FP32
    activation_type: ActivationType | None = None


FLOAT_GRAPHS = (
    GraphFile("model.onnx", Precision.FP32),
    GraphFile("model.uint8.onnx", Precision.FP32, FrameFormat.UINT8_NHWC),
    GraphFile("model.fp16.onnx", Precision.FP16, float_precision=Precision.FP16),
    GraphFile("model.fp16.uint8.onnx", Precision.FP16, FrameFormat.UINT8_NHWC, float_precision=Precision.FP16),
)
INT8_GRAPHS = (
    GraphFile("model.int8.onnx", Precision.INT8, activation_type=ActivationType.INT8),
    GraphFile("model.int8-u8.onnx", Precision.INT8, activation_type=ActivationType.UINT8),
    GraphFile(
        "model.int8-fp16.onnx", Precision.INT8, float_precision=Precision.FP16, activation_type=ActivationType.INT8
    ),
    GraphFile("model.int8-u8.uint8.onnx", Precision.INT8, FrameFormat.UINT8_NHWC, activation_type=ActivationType.UINT8),
    GraphFile("model.int8.uint8.onnx", Precision.INT8, FrameFormat.UINT8_NHWC, activation_type=ActivationType.INT8),
    GraphFile(
        "model.int8-fp16.uint8.onnx",
        Precision.INT8,
        FrameFormat.UINT8_NHWC,
        float_precision=Precision.FP16,
        activation_type=ActivationType.INT8,
    ),
)


def graph_files(precisions: Sequence[Precision], half_precision: bool) -> tuple[GraphFile, ...]:
    """All that belong to a bundle of these precisions; none that computes in half precision unless that was proven."""
    return tuple(
        graph
        for graph in (*FLOAT_GRAPHS, *INT8_GRAPHS)
        if graph.precision in precisions and (half_precision or graph.float_precision is not Precision.FP16)
    )


@dataclass(frozen=True)
class FloatExports:
    """The float graphs that were written, and why none computes in half precision; "" where that was proven."""

    reports: tuple[ExportReport, ...]
    no_half_precision: str = ""


def export_all(
    model: LoadedModel, plan: DeployPlan, patches: Sequence[Batch], staging: Path, progress: StageProgress
) -> FloatExports:
    """The float graphs: the first is traced and compared with PyTorch, the others are derived from it.

    The first report's `form_reason` says why it is the traced form, where the network has no static one. INT8 graphs
    come with a half-precision rest as well, so half precision is proven for them, too. A network that loses its picture
    in half precision is exported without it.

    Raises:
        NotDeployable: a graph is not static, or a target that the plan names refuses it.
        ExportError: the fp32 graph is not the network's function.
    """
    first, *others = [graph for graph in FLOAT_GRAPHS if _is_made(graph, plan.precisions)]
    pictures, total = patches[:PARITY_PATCHES], 1 + len(others)
    progress("exporting", 0, total)
    base = export_best_form(model, plan.tile, staging / first.file, targets=plan.targets, patches=pictures)
    written = {first: base}
    for graph in others:
        progress("exporting", len(written), total)
        same_precision = next((made for made in written.values() if made.metadata.precision is graph.precision), base)
        try:
            written[graph] = derive_onnx(
                same_precision,
                staging / graph.file,
                io=graph.io,
                precision=graph.precision,
                targets=plan.targets,
                patches=pictures,
            )
        except NotDeployable:
            raise
        except ExportError as error:
            if graph.precision is not Precision.FP16 or isinstance(error.__cause__, OSError):
                raise
            return FloatExports(tuple(written.values()), str(error))
    progress("exporting", total, total)
    return FloatExports(tuple(written.values()))


def _is_made(graph: GraphFile, precisions: Sequence[Precision]) -> bool:
    """Whether it belongs to the bundle, or proves half precision for the rest of INT8 graphs."""
    proves_int8 = (graph.precision, graph.io) == (Precision.FP16, FrameFormat.FLOAT_NCHW)
    return graph.precision in precisions or (proves_int8 and Precision.INT8 in precisions)


def quantize_all(
    plan: DeployPlan,
    half_precision: bool,
    patches: Sequence[Batch],
    held_out: Sequence[HeldOut],
    staging: Path,
    progress: StageProgress,
) -> CalibrationReport:
    """The INT8 graphs, from the first float one, each checked for the targets that read its activation type.

    Raises:
        NothingToQuantize: no layer keeps the budget.
        ExportError: one of the plan's targets refuses a graph that is meant for it.
    """
    source = staging / FLOAT_GRAPHS[0].file
    report = _calibration_report(source, plan, patches, held_out, staging / CACHE_FILE, progress)
    write_cache(staging / CACHE_FILE, report.calibration)
    graphs = graph_files([Precision.INT8], half_precision)
    for index, graph in enumerate(graphs):
        progress("quantizing", index, len(graphs))
        file = staging / graph.file
        quantize_onnx(
            source, report.calibration, file, graph.activation_type or ActivationType.INT8, graph.float_precision
        )
        if graph.io is FrameFormat.UINT8_NHWC:
            take_uint8_frames(file)
        if plan.targets:  # what is wrong with a graph for everybody was found in the float one
            require_deployable(file, plan.targets, static=False, intended=readers_of(graph.activation_type))
    progress("quantizing", len(graphs), len(graphs))
    return report


def _calibration_report(
    source: Path,
    plan: DeployPlan,
    patches: Sequence[Batch],
    held_out: Sequence[HeldOut],
    cache: Path,
    progress: StageProgress,
) -> CalibrationReport:
    return first_account(
        calibration_orders(plan),
        lambda config: calibrate_within(source, patches, held_out, config, progress=progress, cache=cache),
    )


def calibration_orders(
    plan: DeployPlan, supported: Callable[[str, Precision], bool] = supports
) -> tuple[CalibrationConfig, ...]:
    """What to ask of calibration, the preferred order first.

    Layers are timed where the plan is for one runtime that tells its layers' times, beside bf16 where that runtime has
    it, since users run that; beside fp32 where nothing keeps the budget so.

    Args:
        plan: what to build.
        supported: whether the runtime of that name computes in that precision here.
    """
    timed = plan.runtimes[0] if len(plan.runtimes) == 1 and plan.runtimes[0] in TIMED_RUNTIMES else ""
    exact = CalibrationConfig(
        Budget(plan.max_drop_db), plan.method, tuple(plan.include), tuple(plan.exclude), timed, threads=plan.threads
    )
    return (
        (replace(exact, float_precision=Precision.BF16), exact)
        if timed and supported(timed, Precision.BF16)
        else (exact,)
    )


def first_account(
    orders: Sequence[CalibrationConfig], calibrate: Callable[[CalibrationConfig], CalibrationReport]
) -> CalibrationReport:
    """What the first of `orders` gives under which some layer keeps the budget, with a warning where others failed.

    Raises:
        NothingToQuantize: no layer keeps the budget under any of them; of the last one.
    """
    preferred, *others = orders
    try:
        return calibrate(preferred)
    except NothingToQuantize as error:
        if not others:
            raise
        found = first_account(others, calibrate)
        warning = (
            f"layers were timed beside {others[0].float_precision} instead of {preferred.float_precision}: {error}"
        )
        return replace(found, warnings=(*found.warnings, warning))
