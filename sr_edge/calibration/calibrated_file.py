"""From a float file to an INT8 file, with its cache and its curve beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sr_edge.calibration.account import Account
from sr_edge.calibration.pareto import write_curve
from sr_edge.calibration.post_training import quantize_onnx
from sr_edge.calibration.quality import HeldOut
from sr_edge.calibration.tuning import Order, StageProgress, calibrate_within
from sr_edge.calibration.watched import Batch
from sr_edge.errors import CacheMismatch
from sr_edge.spec import Precision, Spelling


@dataclass(frozen=True)
class CalibratedFile:
    """What was written: the INT8 graph at `path`, and the `files` of its curve."""

    path: Path
    spelling: Spelling
    account: Account
    files: tuple[Path, ...]


def cache_beside(out: Path) -> Path:
    """Where the cache of an INT8 graph lies unless another file was named."""
    return out.with_suffix(".calibration.json")


def calibrate_file(
    source: Path,
    out: Path,
    batches: Sequence[Batch],
    held_out: Sequence[HeldOut],
    order: Order,
    spelling: Spelling | None = None,
    *,
    cache: Path | None = None,
    recalibrate: bool = False,
    progress: StageProgress = lambda stage, done, total: None,
) -> CalibratedFile:
    """`calibrate_within`, then everything that belongs to its result.

    Args:
        source: the float32 graph.
        out: the INT8 graph; the curve's JSON and picture and, unless `cache` names it, the cache lie beside it.
        batches, held_out, order, recalibrate, progress: as in `calibrate_within`.
        spelling: None takes OpenVINO's where that was timed, and everybody else's otherwise.
        cache: a file that must fit; one that an earlier run left beside `out` is replaced where it does not.

    Raises:
        CacheMismatch: `cache` was made from another graph, other patches or by another method.
        CalibrationError: whatever `calibrate_within` raises; or a file cannot be written.
    """
    kept = cache or cache_beside(out)

    def work(again: bool) -> Account:
        return calibrate_within(source, batches, held_out, order, progress=progress, cache=kept, recalibrate=again)

    try:
        account = work(recalibrate)
    except CacheMismatch:
        if cache is not None:
            raise
        account = work(True)
    spelled = spelling or (Spelling.U8 if order.runtime else Spelling.S8)
    rest = Precision.FP16 if order.rest is Precision.FP16 else Precision.FP32
    quantize_onnx(source, account.calibration, out, spelled, rest)
    files = write_curve(account, out.with_suffix(".pareto.json"), out.with_suffix(".pareto.png"))
    return CalibratedFile(out, spelled, account, files)
