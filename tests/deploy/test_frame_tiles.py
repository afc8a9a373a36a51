"""The tile for frames of a certain size: which ones fit, and which is chosen by measurements that are injected."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import pytest

from sr_edge.bench.protocol import no_progress
from sr_edge.deploy.frame_tiles import (
    MAX_TILE_PIXELS,
    FrameSize,
    choose_frame_tile,
    fitting_tiles,
    require_frames,
)
from sr_edge.errors import EngineError, ExportError, TileError, UsageError
from sr_edge.spec import ModelCard, TileSpec
from sr_edge.tiling import plan_tiles
from tests.expected_errors import raises

CARD = ModelCard("net", scale=2, parameters=1)
WINDOWS = ModelCard("windows", scale=2, parameters=1, multiple_px=48, overlap_px=16)
SQUARES = ModelCard("squares", scale=2, parameters=1, square_tiles=True)
MAIN, FRAME, WHOLE = TileSpec(96, 96), FrameSize(320, 180), TileSpec(180, 320)
MEGABYTE = 1 << 20


def test_sizes_are_width_first() -> None:
    assert FrameSize.parse(" 320X180 ") == FrameSize.of(FRAME) == FrameSize(width=320, height=180)
    assert str(FRAME) == "320x180"


@pytest.mark.parametrize(
    "text", ["", "320", "320x", "x180", "320*180", "320x180x3", "-3x180", "3.5x9", "nonsense", "auto"]
)
def test_nonsense_is_refused(text: str) -> None:
    with raises(UsageError, found=text, wanted="WIDTHxHEIGHT"):
        FrameSize.parse(text)


@pytest.mark.parametrize("text", ["0x180", "320x0", "999999x180"])
def test_impossible_sizes_are_refused(text: str) -> None:
    with raises(UsageError, wanted=(1, 16_384)):
        FrameSize.parse(text)


def test_a_size_is_given_once() -> None:
    with raises(UsageError, found=["320x180"]):
        require_frames([FRAME, FrameSize(640, 360), FRAME], CARD)
    require_frames([FRAME, FrameSize(640, 360)], CARD)


@pytest.mark.parametrize("card", [CARD, ModelCard("least", scale=2, parameters=1, minimum_px=64)])
def test_frames_below_the_smallest_tile_are_refused(card: ModelCard) -> None:
    least = max(card.minimum_px, card.overlap_px + 1)
    require_frames([FrameSize(320, least)], card)
    with raises(TileError, found=FrameSize(320, least - 1), wanted=least):
        require_frames([FrameSize(320, least - 1)], card)


@pytest.mark.parametrize("card", [CARD, WINDOWS, SQUARES])
@pytest.mark.parametrize("frame", [FRAME, FrameSize(1280, 720), FrameSize(90, 160), FrameSize(33, 1000)])
def test_tiles_cover_the_frame_and_suit_the_network(card: ModelCard, frame: FrameSize) -> None:
    tiles = fitting_tiles(frame, card)
    pixels = [
        plan_tiles(frame.height, frame.width, tile, card.overlap_px).tiles * tile.height * tile.width for tile in tiles
    ]
    assert pixels == sorted(pixels) and pixels[0] >= frame.width * frame.height
    for tile in tiles:
        card.require_tile(tile)
        assert tile.height * tile.width <= MAX_TILE_PIXELS


def test_a_whole_frame_is_best_where_the_network_takes_its_size() -> None:
    assert fitting_tiles(FRAME, CARD)[0] == WHOLE
    assert fitting_tiles(FrameSize(96, 96), WINDOWS)[0] == MAIN


def test_frames_too_large_for_any_tile_are_refused() -> None:
    with raises(TileError, wanted=MAX_TILE_PIXELS):
        fitting_tiles(FrameSize(16_384, 16_384), CARD)


class FakeMeter:
    """Injected costs: milliseconds for each tile in every round, and memory of 1 MB for 1,000 pixels."""

    def __init__(
        self, times_ms: Mapping[TileSpec, float | Sequence[float]], failing: tuple[TileSpec, ...] = ()
    ) -> None:
        self.given_ms, self.failing = times_ms, failing
        self.exported: list[TileSpec] = []

    def memory_bytes(self) -> int:
        return MAIN.height * MAIN.width * MEGABYTE // 1000

    def prepare(self, tile: TileSpec) -> None:
        if tile in self.failing:
            raise ExportError("the export failed", found=tile)
        self.exported.append(tile)

    def times_ms(self, tiles: Sequence[TileSpec]) -> dict[TileSpec, Sequence[float]]:
        if not self.given_ms:
            raise EngineError("the library failed")
        times = {tile: self.given_ms.get(tile, tile.height * tile.width / 1000) for tile in tiles}
        return {tile: [ms] * 8 if isinstance(ms, float | int) else ms for tile, ms in times.items()}


def chosen(meter: FakeMeter, limit_megabytes: int = 10_000) -> TileSpec:
    return choose_frame_tile(FRAME, MAIN, CARD, meter, limit_megabytes * MEGABYTE, no_progress).tile


def test_another_tile_is_chosen_where_it_is_faster_for_a_frame() -> None:
    halves = fitting_tiles(FRAME, CARD)[1]
    count = plan_tiles(FRAME.height, FRAME.width, halves, CARD.overlap_px).tiles
    assert chosen(FakeMeter({WHOLE: 50.0, halves: 10.0 / count})) == halves
    assert chosen(FakeMeter({WHOLE: 5.0})) == WHOLE
    noisy = [50.0 / count, 40.0 / count, 70.0 / count, 45.0 / count] * 2
    assert chosen(FakeMeter({WHOLE: [50.0, 50.0, 50.0, 40.0] * 2, halves: noisy})) == WHOLE, "noise does not decide"


def test_tiles_that_need_too_much_memory_are_not_even_exported() -> None:
    meter = FakeMeter({WHOLE: 1.0})
    limit = 50
    tile = chosen(meter, limit)
    assert tile != WHOLE and WHOLE not in meter.exported
    assert tile.height * tile.width <= limit * 1000
    with raises(TileError, wanted=MEGABYTE):
        chosen(FakeMeter({}), 1)


def test_a_tile_that_fails_is_left_out_with_the_reason() -> None:
    outcome = choose_frame_tile(FRAME, MAIN, CARD, FakeMeter({MAIN: 1.0}, (WHOLE,)), 10_000 * MEGABYTE, no_progress)
    assert outcome.tile != WHOLE
    assert any("the export failed" in note for note in outcome.notes)
    with raises(ExportError):
        chosen(FakeMeter({}, fitting_tiles(FRAME, CARD)))


def test_tiles_that_cannot_be_timed_are_chosen_by_their_pixels() -> None:
    outcome = choose_frame_tile(FRAME, MAIN, CARD, FakeMeter({}), 10_000 * MEGABYTE, no_progress)
    assert (outcome.tile, outcome.tiles) == (WHOLE, 1)
    assert any("the library failed" in note for note in outcome.notes)


def test_exports_end_with_their_budget() -> None:
    clock = itertools.count(0, 150.0)
    meter = FakeMeter({WHOLE: 5.0})
    outcome = choose_frame_tile(FRAME, MAIN, CARD, meter, 10_000 * MEGABYTE, no_progress, lambda: next(clock))
    assert (outcome.tile, meter.exported, len(outcome.notes)) == (WHOLE, [WHOLE], 2)


def test_a_main_tile_that_fits_needs_no_other() -> None:
    meter = FakeMeter({})
    outcome = choose_frame_tile(FRAME, WHOLE, CARD, meter, MEGABYTE, no_progress)
    assert (outcome.tile, outcome.tiles, meter.exported) == (WHOLE, 1, [])
