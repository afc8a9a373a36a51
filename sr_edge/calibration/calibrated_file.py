"""From a float file to an INT8 file, with its cache and its curve beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sr_edge.calibration.account import CalibrationReport
from sr_edge.calibration.config import CalibrationConfig
from sr_edge.calibration.graph import load_graph
from sr_edge.calibration.pareto import write_curve
from sr_edge.calibration.patch import Batch, HeldOut, StageProgress
from sr_edge.calibration.post_training import quantize_onnx
from sr_edge.calibration.tuning import calibrate_within
from sr_edge.errors import CacheMismatch, UsageError
from sr_edge.export.checks.findings import summarize
from sr_edge.export.checks.rules import require_deployable
from sr_edge.export.checks.targets import readers_of
from sr_edge.spec import ActivationType, Precision


@dataclass(frozen=True)
class CalibratedFile:
    """What was written: the INT8 graph at `path`, and the `files` of its curve; `warnings` are those of the graph."""

    path: Path
    activation_type: ActivationType
    report: CalibrationReport
    files: tuple[Path, ...]
    warnings: tuple[str, ...] = ()


def cache_beside(out: Path) -> Path:
    """Where the cache of an INT8 graph lies unless another file was named."""
    return out.with_suffix(".calibration.json")


def choose_activation_type(
    activation_type: ActivationType | None, targets: Sequence[str], runtime: str
) -> ActivationType:
    """The spelling named, or the one that all targets read, or OpenVINO's where layers are timed there.

    Args:
        activation_type: None leaves the choice.
        targets: runtimes that must take the file.
        runtime: where layers are timed; empty where they are not.

    Raises:
        UsageError: no one file is for all the targets.
    """
    usual = (ActivationType.UINT8, ActivationType.INT8) if runtime else (ActivationType.INT8, ActivationType.UINT8)
    candidates = usual if activation_type is None else (activation_type,)
    fitting = [candidate for candidate in candidates if set(targets) <= set(readers_of(candidate))]
    if fitting:
        return fitting[0]
    if activation_type is None:
        raise UsageError(
            f"no single INT8 file can be read by all of {', '.join(targets)}",
            found=tuple(targets),
            wanted={each: readers_of(each) for each in ActivationType},
            remedy="calibrate once for each spelling, or use sr-edge deploy, which writes both",
        )
    others = [target for target in targets if target not in readers_of(activation_type)]
    raise UsageError(
        f"INT8 files with the spelling {activation_type} cannot be read by {', '.join(others)}",
        found=activation_type,
        wanted=tuple(each for each in ActivationType if set(others) <= set(readers_of(each))),
        remedy="leave out --spelling",
    )


def calibrate_file(
    source: Path,
    out: Path,
    batches: Sequence[Batch],
    held_out: Sequence[HeldOut],
    config: CalibrationConfig,
    activation_type: ActivationType | None = None,
    *,
    cache: Path | None = None,
    recalibrate: bool = False,
    targets: Sequence[str] = (),
    progress: StageProgress = lambda stage, done, total: None,
) -> CalibratedFile:
    """`calibrate_within`, then everything that belongs to its result.

    Args:
        source: the float32 graph.
        out: the INT8 graph; the curve's JSON and picture and, unless `cache` names it, the cache lie beside it.
        batches, held_out, config, recalibrate, progress: as in `calibrate_within`.
        activation_type: None takes the one that the targets read, or OpenVINO's where that was timed.
        cache: a file that must fit; one that an earlier run left beside `out` is replaced where it does not.
        targets: runtimes that must take the INT8 graph; what they refuse in the float one is found before any work.

    Raises:
        UsageError: no one file is for all the targets.
        ExportError: a target refuses the graph.
        CacheMismatch: `cache` was made from another graph, other patches or by another method.
        CalibrationError: whatever `calibrate_within` raises; or a file cannot be written.
    """
    kept = cache or cache_beside(out)
    chosen_type = choose_activation_type(activation_type, targets, config.runtime)
    findings = require_deployable(load_graph(source), targets, static=False, intended=readers_of(chosen_type))

    def work(again: bool) -> CalibrationReport:
        return calibrate_within(source, batches, held_out, config, progress=progress, cache=kept, recalibrate=again)

    try:
        report = work(recalibrate)
    except CacheMismatch:
        if cache is not None:
            raise
        report = work(True)
    float_precision = Precision.FP16 if config.float_precision is Precision.FP16 else Precision.FP32
    quantize_onnx(source, report.calibration, out, chosen_type, float_precision, targets)
    files = write_curve(report, out.with_suffix(".pareto.json"), out.with_suffix(".pareto.png"))
    return CalibratedFile(out, chosen_type, report, files, summarize(findings))
