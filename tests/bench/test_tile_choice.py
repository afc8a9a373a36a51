from __future__ import annotations

import pytest

from sr_edge.bench.tile_choice import (
    TileCost,
    candidate_tiles,
    choose_tile,
    measure_tile,
    new_output_pixels,
    time_per_pixel_ns,
)
from sr_edge.errors import TileError
from sr_edge.models import load_model
from sr_edge.spec import ModelCard, TileSpec
from tests.expected_errors import raises

CARD = ModelCard(name="net", scale=2, parameters=1, multiple_px=48, overlap_px=16)
MEGABYTE = 1 << 20


def cost(size_px: int, latency_ms: float, megabytes: int) -> TileCost:
    return TileCost(TileSpec(size_px, size_px), latency_ms, megabytes * MEGABYTE)


MEASURED = {48: cost(48, 10.0, 50), 96: cost(96, 45.0, 150), 144: cost(144, 120.0, 400)}


def measure(tile: TileSpec) -> TileCost:
    return MEASURED[tile.height]


def test_the_overlap_is_counted() -> None:
    assert new_output_pixels(TileSpec(48, 96), CARD) == (48 - 16) * (96 - 16) * 4
    assert time_per_pixel_ns(MEASURED[48], CARD) == pytest.approx(10.0e6 / (32 * 32 * 4))


def test_the_least_time_per_new_pixel_wins() -> None:
    choice = choose_tile(CARD, measure, [TileSpec(48, 48), TileSpec(96, 96), TileSpec(144, 144)])
    assert choice.tile == TileSpec(96, 96)
    assert choice.costs == tuple(MEASURED.values())


def test_among_equally_fast_tiles_the_one_with_less_memory_wins() -> None:
    even = {48: cost(48, 32 * 32, 50), 96: cost(96, 80 * 80 / 1.02, 150)}
    tiles = [TileSpec(48, 48), TileSpec(96, 96)]
    assert choose_tile(CARD, lambda tile: even[tile.height], tiles).tile == TileSpec(48, 48)


def test_the_memory_limit_holds() -> None:
    tiles = [TileSpec(48, 48), TileSpec(96, 96)]
    assert choose_tile(CARD, measure, tiles, memory_limit_bytes=100 * MEGABYTE).tile == TileSpec(48, 48)
    with raises(TileError, found=50 * MEGABYTE, wanted=MEGABYTE):
        choose_tile(CARD, measure, tiles, memory_limit_bytes=MEGABYTE)


def test_candidates_fit_the_network() -> None:
    assert candidate_tiles(CARD, [32, 48, 64, 96]) == (TileSpec(48, 48), TileSpec(96, 96))
    with raises(TileError, found=(16, 32)):
        candidate_tiles(CARD, [16, 32])
    with raises(TileError, found=TileSpec(50, 50), wanted=48):
        choose_tile(CARD, measure, [TileSpec(50, 50)])


def test_a_tile_of_nothing_but_overlap_is_refused() -> None:
    wide = ModelCard(name="net", scale=2, parameters=1, overlap_px=48)
    with raises(TileError, found=48, wanted=49):
        choose_tile(wide, measure, [TileSpec(48, 96)])


def test_a_tile_is_exported_and_measured() -> None:
    cost = measure_tile(load_model("convnet-tiny", 2, random_weights=True), TileSpec(24, 32), "onnxruntime")
    assert cost.tile == TileSpec(24, 32)
    assert cost.latency_ms > 0
    assert cost.memory_bytes > 0
