"""What `--tile auto` measures."""

from __future__ import annotations

from sr_edge.bench.tile_cost import measure_tile
from sr_edge.models import load_model
from sr_edge.spec import TileSpec


def test_a_tile_is_exported_run_and_weighed() -> None:
    cost = measure_tile(load_model("convnet-tiny", 2, random_weights=True), TileSpec(24, 32), "onnxruntime")
    assert cost.tile == TileSpec(24, 32)
    assert cost.latency_ms > 0
    assert cost.memory_bytes > 0
