"""From a float file to an INT8 file, with the cache and the curve beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sr_edge.calibration.config import CalibrationConfig
from sr_edge.calibration.data.patch import HeldOut
from sr_edge.calibration.graph.load import load_graph
from sr_edge.calibration.post_training import quantize_onnx
from sr_edge.calibration.selection.pareto import write_curve
from sr_edge.calibration.selection.report import CalibrationReport
from sr_edge.calibration.within_budget import calibrate_within
from sr_edge.errors import CacheMismatch, UsageError
from sr_edge.export.checks.findings import summarize
from sr_edge.export.checks.rules import require_deployable
from sr_edge.export.checks.targets import readers_of
from sr_edge.frames import Batch
from sr_edge.printable import html_list
from sr_edge.spec import ActivationType, Precision, StageProgress


@dataclass(frozen=True)
class CalibratedFile:
    """The files that were written: the INT8 graph at `path`, and the `files` of its curve.

    `warnings` are those of the graph for the targets.

    Attributes:
        path: The INT8 graph.
        activation_type: How its activations are written.
        report: The layers that were selected, and why.
        files: The files of the curve of loss against time.
        warnings: Problems of the graph that do not prevent its deployment.
    """

    path: Path
    activation_type: ActivationType
    report: CalibrationReport
    files: tuple[Path, ...]
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<CalibratedFile {self.path}: {self.activation_type} activations, {self.report.in_short}>"

    def _repr_html_(self) -> str:
        return self.report._repr_html_() + html_list(f"{self.path}", self.warnings)


def cache_beside(out: Path) -> Path:
    """The default path of the cache of an INT8 graph."""
    return out.with_suffix(".calibration.json")


def choose_activation_type(targets: Sequence[str], runtime: str) -> ActivationType:
    """The activation type that all targets read; without targets, that of the runtime in which layers are timed.

    Args:
        targets: The runtimes that the file is for. OpenVINO reads UINT8 activations, TensorRT INT8, ONNX Runtime both
            and INT8 by preference.
        runtime: The runtime in which layers are timed; empty if none is timed.

    Raises:
        UsageError: No activation type is read by all targets.
    """
    if not targets:
        return ActivationType.UINT8 if runtime else ActivationType.INT8
    for activation_type in ActivationType:
        if set(targets) <= set(readers_of(activation_type)):
            return activation_type
    raise UsageError(
        f"no single INT8 file can be read by all of {', '.join(targets)}",
        found=tuple(targets),
        wanted={each: readers_of(each) for each in ActivationType},
        remedy="OpenVINO reads UINT8 activations, TensorRT reads INT8: run sr-edge calibrate twice, with --for "
        "openvino and with --for for the other targets, or use sr-edge deploy, which writes both files",
    )


def calibrate_file(
    source: Path,
    out: Path,
    batches: Sequence[Batch],
    held_out: Sequence[HeldOut],
    config: CalibrationConfig,
    *,
    cache: Path | None = None,
    recalibrate: bool = False,
    targets: Sequence[str] = (),
    progress: StageProgress = lambda stage, done, total: None,
) -> CalibratedFile:
    """Calibrates within a budget and writes the INT8 graph, its curve and the cache.

    Args:
        source: The float32 graph.
        out: The INT8 graph to write; the JSON file and picture of the curve are written beside it.
        batches: As in `calibrate_within`.
        held_out: As in `calibrate_within`.
        config: As in `calibrate_within`.
        cache: A cache that must match; by default the cache beside `out`, which is replaced if it does not match.
        recalibrate: As in `calibrate_within`.
        targets: The runtimes that the file is for; they decide its activation type. What they refuse in the float graph
            is reported before any work.
        progress: Called with (stage, steps done, steps in all).

    Raises:
        UsageError: The targets take different activation types.
        ExportError: A target refuses the graph.
        CacheMismatch: `cache` was made from another graph, other patches or by another method.
        CalibrationError: As in `calibrate_within`; or a file cannot be written.
    """
    cache_path = cache or cache_beside(out)
    activation_type = choose_activation_type(targets, config.runtime)
    findings = require_deployable(load_graph(source), targets, static=False, intended=readers_of(activation_type))

    def calibrate_once(measure_again: bool) -> CalibrationReport:
        return calibrate_within(
            source, batches, held_out, config, progress=progress, cache=cache_path, recalibrate=measure_again
        )

    try:
        report = calibrate_once(recalibrate)
    except CacheMismatch:
        if cache is not None:
            raise
        report = calibrate_once(True)
    float_precision = Precision.FP16 if config.float_precision is Precision.FP16 else Precision.FP32
    quantize_onnx(source, report.calibration, out, activation_type, float_precision, targets)
    files = write_curve(report, out.with_suffix(".pareto.json"), out.with_suffix(".pareto.png"))
    return CalibratedFile(out, activation_type, report, files, summarize(findings))
