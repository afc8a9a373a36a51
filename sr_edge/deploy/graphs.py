"""The ONNX files of a bundle: float graphs from the network, and INT8 graphs from the first float graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
from sr_edge.deploy.plan import DeployPlan
from sr_edge.errors import ExportError, NotDeployable, NothingToQuantize
from sr_edge.export import ExportReport, accelerate_onnx, derive_onnx, export_best_form, require_deployable
from sr_edge.export.checks.targets import readers_of
from sr_edge.export.derived import take_frames
from sr_edge.export.passes.speed_passes import passes_for_all_targets
from sr_edge.frames import Batch
from sr_edge.models import LoadedModel
from sr_edge.nv12.colour import Nv12Colour
from sr_edge.runtimes import supports
from sr_edge.spec import ActivationType, FrameFormat, Precision, StageProgress

PARITY_PATCHES = 2
CACHE_FILE = "calibration.json"
PLAIN_FILE = "plain.onnx"


@dataclass(frozen=True)
class GraphFile:
    """An ONNX file of a bundle; the fields are those of `Artifact`."""

    file: str
    precision: Precision
    io: FrameFormat = FrameFormat.FLOAT_NCHW
    float_precision: Precision = Precision.FP32
    activation_type: ActivationType | None = None
    runtimes: tuple[str, ...] = ()
    passes: tuple[str, ...] = ()
    nv12_colour: Nv12Colour | None = None


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


def with_frames(graph: GraphFile, nv12_colour: Nv12Colour | None = None) -> tuple[GraphFile, ...]:
    """The graphs of a float graph for uint8 frames and, if they have a colour, for NV12 frames."""
    formats = (FrameFormat.UINT8_NHWC,) if nv12_colour is None else (FrameFormat.UINT8_NHWC, FrameFormat.NV12)
    return tuple(
        replace(
            graph,
            file=graph.file.replace(".onnx", f".{io}.onnx"),
            io=io,
            nv12_colour=nv12_colour if io is FrameFormat.NV12 else None,
        )
        for io in formats
    )


def _with_nv12(graphs: Sequence[GraphFile], nv12_colour: Nv12Colour | None) -> tuple[GraphFile, ...]:
    """The graphs of a bundle and, if NV12 frames have a colour, those for them beside those for uint8 frames."""
    float_graphs = [graph for graph in graphs if graph.io is FrameFormat.FLOAT_NCHW]
    return (*graphs, *(made for graph in float_graphs for made in with_frames(graph, nv12_colour)[1:]))


def graph_files(
    precisions: Sequence[Precision], half_precision: bool, nv12_colour: Nv12Colour | None = None
) -> tuple[GraphFile, ...]:
    """The files of a bundle of these precisions; INT8 with float layers in fp16 only with `half_precision`.

    Args:
        precisions: The precisions.
        half_precision: Whether float layers of INT8 graphs may be in fp16.
        nv12_colour: Matrix and range of NV12 frames; None for a bundle without graphs for them.
    """
    return tuple(
        graph
        for graph in _with_nv12((*FLOAT_GRAPHS, *INT8_GRAPHS), nv12_colour)
        if graph.precision in precisions
        and (half_precision or graph.float_precision in (graph.precision, Precision.FP32))
    )


@dataclass(frozen=True)
class FloatExports:
    """The float graphs that were exported.

    Attributes:
        reports: Their export reports; the first is that of the fp32 graph.
        plain: The report of the fp32 graph without the passes that make it faster; its file is not part of the bundle.
        fp16_failure: Why no graph computes in fp16; empty if fp16 passed its checks.
    """

    reports: tuple[ExportReport, ...]
    plain: ExportReport
    fp16_failure: str = ""

    @property
    def passes(self) -> tuple[str, ...]:
        """The passes that made the graphs of all runtimes faster."""
        return self._passes_of(self.reports[0])

    @property
    def fp16_passes(self) -> tuple[str, ...]:
        """Those of the fp16 graph, which has none if it fails its check with them and passes it without them."""
        half = (report for report in self.reports if report.metadata.precision is Precision.FP16)
        return next(map(self._passes_of, half), self.passes)

    @property
    def half_precision_for_int8(self) -> bool:
        """Whether the float layers of INT8 graphs may compute in fp16; they have the passes of the fp32 graph."""
        return not self.fp16_failure and self.fp16_passes == self.passes

    def _passes_of(self, report: ExportReport) -> tuple[str, ...]:
        return report.passes[len(self.plain.passes) :]


def export_float_graphs(
    model: LoadedModel, plan: DeployPlan, patches: Sequence[Batch], staging: Path, progress: StageProgress
) -> FloatExports:
    """Exports the float graphs: the first is traced and compared with PyTorch, the others are derived from it.

    Where the network has no static form, the `form_reason` of the first report says why it is the traced form. fp16 is
    checked for INT8 bundles, too, since some INT8 graphs compute their float layers in fp16. A graph that fails that
    check after passes that make it faster is converted without them; a network that fails it then, too, is exported
    without fp16 graphs.

    Args:
        model: The network.
        plan: The deployment.
        patches: Calibration patches, of which the first PARITY_PATCHES are compared.
        staging: The folder in which the bundle is built.
        progress: Called with (stage, steps done, number of steps).

    Raises:
        NotDeployable: A graph is not static, or a target of the plan refuses it.
        ExportError: The outputs of the fp32 graph differ from those of the network.
    """
    graphs = _with_nv12(FLOAT_GRAPHS, plan.nv12_colour)
    wanted = [graph for graph in graphs if _is_exported(graph, plan.precisions)]
    # Those in fp16 come last: where they fail, all others are written.
    first, *others = sorted(wanted, key=lambda graph: graph.precision is Precision.FP16)
    compared, total = patches[:PARITY_PATCHES], 1 + len(others)
    progress("exporting", 0, total)
    plain = export_best_form(
        model, plan.tile, staging / PLAIN_FILE, form=plan.form, passes=(), targets=plan.targets, patches=compared
    )
    passes = passes_for_all_targets(plan.passes, plan.speed_passes)
    base = accelerate_onnx(plain, model, staging / first.file, passes, targets=plan.targets, patches=compared)
    written = {first: base}
    for graph in others:
        progress("exporting", len(written), total)
        same_precision = next((each for each in written.values() if each.metadata.precision is graph.precision), base)
        try:
            written[graph] = derive_onnx(
                same_precision,
                staging / graph.file,
                io=graph.io,
                nv12_colour=graph.nv12_colour,
                precision=graph.precision,
                without_passes=plain if base.passes != plain.passes else None,
                targets=plan.targets,
                patches=compared,
            )
        except NotDeployable:
            raise
        except ExportError as error:
            if graph.precision is not Precision.FP16 or isinstance(error.__cause__, OSError):
                raise
            return FloatExports(tuple(written.values()), plain, str(error))
    progress("exporting", total, total)
    return FloatExports(tuple(written.values()), plain)


def _is_exported(graph: GraphFile, precisions: Sequence[Precision]) -> bool:
    """Whether the bundle contains the graph, or needs it as the check of fp16 for the float layers of INT8 graphs."""
    checks_int8 = (graph.precision, graph.io) == (Precision.FP16, FrameFormat.FLOAT_NCHW)
    return graph.precision in precisions or (checks_int8 and Precision.INT8 in precisions)


def export_int8_graphs(
    plan: DeployPlan,
    half_precision: bool,
    patches: Sequence[Batch],
    held_out: Sequence[HeldOut],
    staging: Path,
    progress: StageProgress,
) -> CalibrationReport:
    """Calibrates the fp32 graph and exports the INT8 graphs, each checked for the targets of its activation type.

    Args:
        plan: The deployment.
        half_precision: Whether float layers may be in fp16.
        patches: Patches to calibrate with.
        held_out: Patches on which the loss of quality is measured.
        staging: The folder in which the bundle is built, with the float graphs.
        progress: Called with (stage, steps done, number of steps).

    Raises:
        NothingToQuantize: No layer stays within the budget.
        ExportError: A target of the plan refuses a graph that is intended for it.
    """
    source = staging / FLOAT_GRAPHS[0].file
    report = _calibration_report(source, plan, patches, held_out, staging / CACHE_FILE, progress)
    write_cache(staging / CACHE_FILE, report.calibration)
    graphs = graph_files([Precision.INT8], half_precision, plan.nv12_colour)
    for index, graph in enumerate(graphs):
        progress("quantizing", index, len(graphs))
        file = staging / graph.file
        quantize_onnx(
            source, report.calibration, file, graph.activation_type or ActivationType.INT8, graph.float_precision
        )
        if graph.io is not FrameFormat.FLOAT_NCHW:
            take_frames(file, graph.io, graph.nv12_colour)
        if plan.targets:  # rules for all targets were checked on the float graph
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
    return calibrate_with_fallback(
        calibration_configs(plan),
        lambda config: calibrate_within(source, patches, held_out, config, progress=progress, cache=cache),
    )


def calibration_configs(
    plan: DeployPlan, supported: Callable[[str, Precision], bool] = supports
) -> tuple[CalibrationConfig, ...]:
    """The configurations to calibrate with, the preferred one first.

    Layers are timed where the plan has one runtime, which reports the times of its layers. The float layers then run in
    bf16 where that runtime supports it, as users would run them; the second configuration uses fp32, for networks in
    which no layer stays within the budget next to bf16.

    Args:
        plan: The deployment.
        supported: Whether the runtime of that name supports that precision on this machine.
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


def calibrate_with_fallback(
    configs: Sequence[CalibrationConfig], calibrate: Callable[[CalibrationConfig], CalibrationReport]
) -> CalibrationReport:
    """Calibrates with the first configuration in which some layer stays within the budget, and warns of earlier ones.

    Args:
        configs: The configurations, the preferred one first.
        calibrate: Calibrates with one configuration.

    Raises:
        NothingToQuantize: No layer stays within the budget in any of them; the error is that of the last one.
    """
    preferred, *others = configs
    try:
        return calibrate(preferred)
    except NothingToQuantize as error:
        if not others:
            raise
        report = calibrate_with_fallback(others, calibrate)
        warning = (
            f"layers were timed with float layers in {others[0].float_precision} instead of "
            f"{preferred.float_precision}: {error}"
        )
        return replace(report, warnings=(*report.warnings, warning))
