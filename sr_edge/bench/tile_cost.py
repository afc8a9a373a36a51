"""Measures latency and memory of a tile size on this machine, for `--tile auto`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sr_edge.export import TileCost, export_best_form
from sr_edge.models import LoadedModel
from sr_edge.runtimes import SessionRequest, measure_latency, measure_memory, open_request
from sr_edge.spec import Precision, TileSpec

RUNS, WARM_UP = 5, 2


def measure_tile(model: LoadedModel, tile: TileSpec, runtime: str) -> TileCost:
    """Exports the fp32 graph at this tile to a temporary folder, and measures its median latency and added memory.

    Raises:
        SrEdgeError: the export or the runtime failed.
    """
    with tempfile.TemporaryDirectory(prefix="sr-edge-tile-") as folder:
        report = export_best_form(model, tile, Path(folder) / "model.onnx")
        request = SessionRequest(report.path, report.metadata.card, tile, Precision.FP32)
        memory = measure_memory(runtime, request)
        with open_request(runtime, request) as session:
            latency = measure_latency(session, RUNS, WARM_UP)
    return TileCost(tile, latency.total.p50_ms, memory.added_bytes)
