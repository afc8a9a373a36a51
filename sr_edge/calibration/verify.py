"""Verifies that the INT8 graph, as written and as compiled, computes what its layers were selected by."""

from __future__ import annotations

import math

import numpy as np
import onnx

from sr_edge.calibration.graph.probe import InstrumentedGraph, float_picture
from sr_edge.calibration.qdq.fake_quant import FakeQuantGraph
from sr_edge.calibration.qdq.writer import insert_qdq
from sr_edge.calibration.result.calibration import Calibration
from sr_edge.calibration.result.timer import Timer
from sr_edge.errors import CalibrationError
from sr_edge.frames import Batch
from sr_edge.spec import ActivationType, Precision

AGREEMENT_DB = 45.0
"""The smallest PSNR of a compiled INT8 graph relative to the fake-quant graph; rounding errors stay well above it."""


def require_equivalent_output(
    model: onnx.ModelProto, selected: Calibration, patch: Batch, runtime: str, timer: Timer, threads: int | None
) -> None:
    """Compares the written graph, and the one that `runtime` compiles, with the fake-quant graph.

    Args:
        model: The float graph.
        selected: The calibration with the selected INT8 layers.
        patch: A patch in the input range of the graph.
        runtime: The name of the runtime; empty to check the written graph alone.
        timer: Runs graphs in that runtime.
        threads: The number of threads of the runtime.

    Raises:
        CalibrationError: An output differs by more than rounding.
    """
    reference = FakeQuantGraph(model, selected).run(patch, selected.int8_nodes)
    written = InstrumentedGraph(insert_qdq(model, selected, ActivationType.INT8).model, optimize=False).run(patch)[0]
    outputs = {"ONNX Runtime": float_picture(written)}
    if runtime:
        run = timer.output_of(insert_qdq(model, selected, ActivationType.UINT8).model, patch, Precision.FP32, threads)
        outputs[runtime] = float_picture(run(patch, {}))
    for name, output in outputs.items():
        agreement_db = _psnr_db(output, reference)
        if agreement_db < AGREEMENT_DB:
            raise CalibrationError(
                f"the output of the INT8 graph in {name} does not match the simulated INT8 output that was used to "
                f"select its layers: the PSNR between them is {agreement_db:.1f} dB, but must be at least "
                f"{AGREEMENT_DB:g} dB",
                found=agreement_db,
                wanted=AGREEMENT_DB,
                remedy="keep some layers float with --exclude, and please report this network to the sr_edge project",
            )


def _psnr_db(output: Batch, reference: Batch) -> float:
    """PSNR whose peak is the largest magnitude of `reference`, at least 1."""
    error = float(np.mean(np.square(output.astype(np.float64) - reference)))
    peak = max(1.0, float(np.abs(reference).max()))
    return 10.0 * math.log10(peak**2 / max(error, 1e-20))
