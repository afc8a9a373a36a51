"""Reads --tile: a size, or `auto`, which measures the candidates here."""

from __future__ import annotations

from collections.abc import Callable

from sr_edge.bench import preferred_runtime
from sr_edge.cli.output import StageProgress
from sr_edge.errors import TileError
from sr_edge.export.tile_choice import TileCost, candidate_tiles, choose_tile, measure_tile
from sr_edge.models import LoadedModel
from sr_edge.spec import TileSpec

AUTO = "auto"
STAGE = "choosing the tile"
MAX_PIXELS = 1 << 22


def requested_tile(text: str | None) -> TileSpec | None:
    """The tile that --tile names; None where it was left out, and for "auto", which needs the network first.

    Raises:
        TileError: unreadable, or too large.
    """
    if text is None or text.strip().lower() == AUTO:
        return None
    tile = TileSpec.parse(text)
    if tile.height * tile.width > MAX_PIXELS:
        raise TileError(
            f"tile {tile} is above the limit of {MAX_PIXELS:,} pixels",
            found=tile,
            wanted=MAX_PIXELS,
            remedy="choose a smaller one: pictures of any size are cut into tiles",
        )
    return tile


def chosen_tile(
    text: str | None,
    model: LoadedModel,
    progress: StageProgress,
    measure: Callable[[LoadedModel, TileSpec, str], TileCost] = measure_tile,
) -> TileSpec:
    """The tile to deploy at; "auto" is the one of least time per pixel in the first runtime that works here.

    Left out, it is the usual one, or where the network does not take that, one that it takes.

    Raises:
        TileError: unreadable, too large, or it does not fit the network.
    """
    if text is None:
        return model.tile or model.card.default_tile
    tile = requested_tile(text)
    if tile is not None:
        model.card.require_tile(tile)
        return tile
    candidates = candidate_tiles(model.card)
    runtime = preferred_runtime()

    def cost(tile: TileSpec) -> TileCost:
        progress(STAGE, candidates.index(tile), len(candidates))
        return measure(model, tile, runtime)

    chosen = choose_tile(model.card, cost, candidates).tile
    progress(STAGE, len(candidates), len(candidates))
    return chosen
