"""The plan of tiles: as few as possible, spread evenly, seams inside both tiles."""

from __future__ import annotations

import itertools

import pytest

from sr_edge.errors import TileError
from sr_edge.spec import TileSpec
from sr_edge.tiling import plan_tiles
from tests.expected_errors import raises

TILE = TileSpec(16, 24)


@pytest.mark.parametrize("overlap_px", [0, 1, 5, 12, 15])
@pytest.mark.parametrize("size", [1, 15, 16, 17, 31, 32, 33, 100, 999])
def test_spans_cover_the_axis_and_seams_lie_inside_both_tiles(size: int, overlap_px: int) -> None:
    spans = plan_tiles(size, 1, TileSpec(16, 16), overlap_px).rows
    assert spans[0].first == spans[0].start == 0
    assert spans[-1].end == size
    for before, after in itertools.pairwise(spans):
        assert before.start < after.start
        assert after.blended == overlap_px
        assert before.end == after.first + overlap_px
        assert after.start <= after.first
        assert before.end <= before.start + 16
    assert all(span.start >= 0 and span.start + span.covered <= size for span in spans)


@pytest.mark.parametrize("overlap_px", [0, 2, 8, 14])
@pytest.mark.parametrize("size", [2, 16, 18, 34, 100, 998])
def test_tiles_of_even_sizes_begin_at_even_pixels(size: int, overlap_px: int) -> None:
    spans = plan_tiles(size, 1, TileSpec(16, 16), overlap_px).rows
    assert {span.start % 2 for span in spans} == {0}
    assert len(spans) == max(1, -(-(size - overlap_px) // (16 - overlap_px)))
    assert all(before.start + 16 - after.start >= overlap_px for before, after in itertools.pairwise(spans))


def test_no_tile_is_more_than_needed() -> None:
    assert plan_tiles(720, 1280, TileSpec(360, 640), 0).tiles == 4
    assert plan_tiles(720, 1280, TileSpec(360, 640), 8).tiles == 9
    assert plan_tiles(96 + 88, 96, TileSpec(96, 96), 8).tiles == 2
    assert plan_tiles(96 + 89, 96, TileSpec(96, 96), 8).tiles == 3


@pytest.mark.parametrize("overlap_px", [-1, 16, 24])
def test_an_overlap_that_does_not_fit_the_tile_is_refused(overlap_px: int) -> None:
    with raises(TileError, found=overlap_px, wanted=(0, 15)):
        plan_tiles(100, 100, TILE, overlap_px)


@pytest.mark.parametrize("size", [(0, 4), (4, 0)])
def test_an_empty_picture_has_no_tiles(size: tuple[int, int]) -> None:
    with raises(TileError, found=size):
        plan_tiles(*size, TILE, 4)
