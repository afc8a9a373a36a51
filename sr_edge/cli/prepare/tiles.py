"""Parses --tile: a size, or `auto`, which measures several sizes on this machine."""

from __future__ import annotations

from collections.abc import Callable

from sr_edge.bench import preferred_runtime
from sr_edge.bench.tile_choice import TileCost, candidate_tiles, choose_tile, measure_tile
from sr_edge.errors import TileError
from sr_edge.export.graph.file_network import FileNetwork
from sr_edge.models import LoadedModel
from sr_edge.spec import StageProgress, TileSpec

AUTO = "auto"
STAGE = "choosing the tile"
MAX_PIXELS = 1 << 22


def requested_tile(text: str | None) -> TileSpec | None:
    """The tile size given with --tile; None if it was omitted or is "auto", which needs the network.

    Raises:
        TileError: the size cannot be parsed or is too large.
    """
    if text is None or text.strip().lower() == AUTO:
        return None
    tile = TileSpec.parse(text)
    if tile.height * tile.width > MAX_PIXELS:
        raise TileError(
            f"tile {tile} is above the limit of {MAX_PIXELS:,} pixels",
            found=tile,
            wanted=MAX_PIXELS,
            remedy="choose a smaller one: images of any size are cut into tiles",
        )
    return tile


def chosen_tile(
    text: str | None,
    model: LoadedModel,
    progress: StageProgress,
    measure: Callable[[LoadedModel, TileSpec, str], TileCost] = measure_tile,
) -> TileSpec:
    """The tile size to deploy with.

    Args:
        text: the option; None for the default size, or one that the network supports; "auto" for the size of least time
            per pixel in the preferred runtime, or the only size of an ONNX file that has one.
        model: the network.
        progress: called with (stage, steps done, steps in all).
        measure: measures the cost of one size.

    Raises:
        TileError: the size cannot be parsed, is too large, or is not one that the network supports.
    """
    if text is None:
        return model.tile or model.card.default_tile
    tile = requested_tile(text)
    if tile is not None:
        model.card.require_tile(tile)
        return tile
    if isinstance(model.module, FileNetwork) and model.module.file.fixed_tile is not None:
        return model.module.file.fixed_tile
    candidates = candidate_tiles(model.card)
    runtime = preferred_runtime("cpu")

    def cost(tile: TileSpec) -> TileCost:
        progress(STAGE, candidates.index(tile), len(candidates))
        return measure(model, tile, runtime)

    chosen = choose_tile(model.card, cost, candidates).tile
    progress(STAGE, len(candidates), len(candidates))
    return chosen
