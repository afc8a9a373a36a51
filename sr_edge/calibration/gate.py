"""The decibel gate: as much INT8 as a quality budget allows, judged on the whole graph."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx

from sr_edge.calibration.calibration import Calibration
from sr_edge.calibration.qdq import insert_qdq
from sr_edge.calibration.sensitivity import LayerNoise
from sr_edge.errors import CalibrationError, UsageError
from sr_edge.spec import Spelling

Evaluate = Callable[[onnx.ModelProto], float]
"""The quality in dB of a graph with the float model's inputs and outputs, for example PSNR against held-out HR."""


@dataclass(frozen=True)
class GatedCalibration:
    """A calibration whose INT8 graph was evaluated: `drop_db` = `float_db` - `int8_db`, within the budget."""

    calibration: Calibration
    float_db: float
    int8_db: float

    @property
    def drop_db(self) -> float:
        return self.float_db - self.int8_db


def meet_budget(
    model: onnx.ModelProto,
    calibration: Calibration,
    ranking: Sequence[LayerNoise],
    evaluate: Evaluate,
    max_drop_db: float,
) -> GatedCalibration:
    """Switches the noisiest layers to float, as few as a bisection finds, until the joint loss is within the budget.

    Args:
        model: the float graph that was calibrated, as `load_graph` gives it.
        calibration: the INT8 layers to start from.
        ranking: those layers, the noisiest first, from `rank_layers`.
        evaluate: called with the float graph once and with about log2(layers) INT8 graphs.
        max_drop_db: what INT8 may cost, in `evaluate`'s decibels.

    Raises:
        CalibrationError: not even the least noisy layer alone is within the budget.
        UsageError: the budget is negative.
    """
    if max_drop_db < 0.0:
        raise UsageError(f"a budget of {max_drop_db} dB asks INT8 to be better than float; pass 0.05, for example")
    float_db = evaluate(model)

    @functools.cache
    def gated(float_layers: int) -> GatedCalibration:
        names = [noise.node for noise in ranking[:float_layers]]
        candidate = calibration.keep_float(names, f"kept float to lose at most {max_drop_db:g} dB")
        return GatedCalibration(candidate, float_db, evaluate(insert_qdq(model, candidate, Spelling.S8)))

    counts = range(len(ranking))
    fewest = bisect.bisect_left(counts, True, key=lambda count: gated(count).drop_db <= max_drop_db)
    if fewest == len(ranking):
        raise CalibrationError(
            f"no INT8 layer stays within {max_drop_db:g} dB; allow a larger drop or deploy the model in float"
        )
    return gated(fewest)
