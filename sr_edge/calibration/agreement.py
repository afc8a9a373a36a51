"""Whether an INT8 graph, written and compiled, computes what was judged when its layers were chosen."""

from __future__ import annotations

import math

import numpy as np
import onnx

from sr_edge.calibration.calibration import Calibration
from sr_edge.calibration.patch import Batch
from sr_edge.calibration.qdq import insert_qdq
from sr_edge.calibration.switched import FakeQuantGraph
from sr_edge.calibration.timer import Timer
from sr_edge.calibration.watched import InstrumentedGraph, float_picture
from sr_edge.errors import CalibrationError
from sr_edge.spec import ActivationType, Precision

AGREEMENT_DB = 45.0
"""What a compiled INT8 graph must reach against the arithmetic that it stands for: rounding stays well above."""


def require_equivalent_output(
    model: onnx.ModelProto, chosen: Calibration, patch: Batch, runtime: str, timer: Timer, threads: int | None
) -> None:
    """Raises CalibrationError unless the written graph, and the one that `runtime` compiles, do what was judged.

    Args:
        model: the float graph.
        chosen: with the layers that become INT8.
        patch: in the range of the graph's input.
        runtime: its name, or empty for the written graph alone.
        timer: runs graphs in that runtime.
        threads: of the runtime.
    """
    judged = FakeQuantGraph(model, chosen).run(patch, chosen.int8_nodes)
    written = InstrumentedGraph(insert_qdq(model, chosen, ActivationType.INT8), optimize=False).run(patch)[0]
    found = {"ONNX Runtime": float_picture(written)}
    if runtime:
        run = timer.output_of(insert_qdq(model, chosen, ActivationType.UINT8), patch, Precision.FP32, threads)
        found[runtime] = float_picture(run(patch, {}))
    for computed_by, output in found.items():
        agreement_db = _agreement_db(output, judged)
        if agreement_db < AGREEMENT_DB:
            raise CalibrationError(
                f"the INT8 graph run by {computed_by} differs from the arithmetic that its layers were chosen by: "
                f"the PSNR is {agreement_db:.1f} dB and must be at least {AGREEMENT_DB:g} dB",
                found=agreement_db,
                wanted=AGREEMENT_DB,
                remedy="keep layers float with --exclude, or report the network",
            )


def _agreement_db(found: Batch, wanted: Batch) -> float:
    """PSNR with the largest magnitude as peak, at least 1."""
    error = float(np.mean(np.square(found.astype(np.float64) - wanted)))
    peak = max(1.0, float(np.abs(wanted).max()))
    return 10.0 * math.log10(peak**2 / max(error, 1e-20))
