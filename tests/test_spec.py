"""Value objects refuse invalid values on construction and name the valid ones."""

from __future__ import annotations

import pytest

from sr_edge.errors import TileError, UsageError
from sr_edge.spec import ModelCard, TileSpec
from tests.expected_errors import raises


def test_a_tile_is_read_from_one_size_or_two() -> None:
    assert TileSpec.parse("96") == TileSpec(96, 96)
    assert TileSpec.parse(" 48X64 ") == TileSpec(48, 64)


@pytest.mark.parametrize("text", ["", "wide", "96x", "x96", "96x96x3", "-4", "9.5"])
def test_other_texts_are_not_tiles(text: str) -> None:
    with raises(TileError, found=text, wanted="HEIGHTxWIDTH"):
        TileSpec.parse(text)


@pytest.mark.parametrize("size", [(0, 8), (8, 0), (-1, 8)])
def test_an_empty_tile_is_refused(size: tuple[int, int]) -> None:
    with raises(TileError, found=size):
        TileSpec(*size)


@pytest.mark.parametrize(
    ("tile", "advice"), [(TileSpec(50, 96), "48x96 or 96x96"), (TileSpec(4, 4), "48x48"), (TileSpec(96, 90), "96x48")]
)
def test_a_tile_that_is_no_multiple_is_refused_with_the_nearest_ones(tile: TileSpec, advice: str) -> None:
    with raises(TileError, found=tile, wanted=48) as caught:
        tile.require_multiple_of(48)
    assert caught.value.remedy is not None
    assert f"--tile {advice}" in caught.value.remedy
    TileSpec(48, 96).require_multiple_of(48)


def test_a_network_refuses_tiles_that_are_too_small_or_not_square() -> None:
    card = ModelCard("net", scale=2, parameters=1, multiple_px=8, minimum_px=32, square_tiles=True)
    card.require_tile(TileSpec(32, 32))
    with raises(TileError, found=TileSpec(36, 32), wanted=8):
        card.require_tile(TileSpec(36, 32))
    with raises(TileError, found=TileSpec(24, 24), wanted=32):
        card.require_tile(TileSpec(24, 24))
    with raises(TileError, found=TileSpec(32, 48), wanted=TileSpec(48, 48)):
        card.require_tile(TileSpec(32, 48))


def test_a_scale_below_one_is_not_a_magnification() -> None:
    with raises(UsageError, found=0, wanted=(1, 2, 3, 4, 8, 16)):
        ModelCard("net", scale=0, parameters=1)
