"""Chooses the tile of a deployment (`--tile auto`) from measurements: time per new output pixel, within memory.

A tile that overlaps its neighbours by `overlap_px` contributes only (height - overlap) x (width - overlap) new
pixels, so small tiles waste work; large ones fall out of the caches and hold more memory. What a tile costs depends
on the runtime and the device, so it is measured by whoever calls, never guessed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sr_edge.errors import TileError
from sr_edge.export import export_best_form
from sr_edge.models import LoadedModel
from sr_edge.runtimes import SessionRequest, measure_latency, measure_memory, open_request
from sr_edge.spec import ModelCard, Precision, TileSpec

SIDES_PX = (48, 64, 96, 128, 144, 192, 240, 256)
RUNS, WARM_UP = 5, 2
CLOSE = 1.03  # within 3 % two tiles are equally fast, and the one that needs less memory is better


@dataclass(frozen=True)
class TileCost:
    """Median latency of one tile and the memory that its engine adds."""

    tile: TileSpec
    latency_ms: float
    memory_bytes: int


@dataclass(frozen=True)
class TileChoice:
    """The tile chosen, and every measurement that led to it, in the order of measuring."""

    tile: TileSpec
    costs: tuple[TileCost, ...]


def candidate_tiles(card: ModelCard, sides_px: Sequence[int] = SIDES_PX) -> tuple[TileSpec, ...]:
    """The square tiles among `sides_px` that fit the network and are larger than twice its overlap.

    Raises:
        TileError: none does.
    """
    fitting = [side for side in sides_px if side % card.multiple_px == 0 and side > 2 * card.overlap_px]
    if not fitting:
        raise TileError(
            f"none of the tile sizes {', '.join(map(str, sides_px))} is a multiple of {card.multiple_px} above "
            f"{2 * card.overlap_px} pixels, twice the overlap",
            found=tuple(sides_px),
            wanted=f"a multiple of {card.multiple_px} above {2 * card.overlap_px}",
            remedy="choose a tile size with --tile",
        )
    return tuple(TileSpec(side, side) for side in fitting)


def choose_tile(
    card: ModelCard,
    measure: Callable[[TileSpec], TileCost],
    candidates: Sequence[TileSpec] | None = None,
    memory_limit_bytes: int | None = None,
) -> TileChoice:
    """Measures every candidate once and takes the least time per new output pixel within the memory limit.

    Args:
        card: gives the legal multiples, the overlap and the scale.
        measure: exports, opens and times one tile.
        candidates: tiles to try; None takes `candidate_tiles(card)`.
        memory_limit_bytes: the most memory that an engine may add; None for no limit.

    Raises:
        TileError: a candidate does not fit the network, or none stays within the limit.
    """
    tiles = candidate_tiles(card) if candidates is None else tuple(candidates)
    for tile in tiles:
        card.require_tile(tile)
        new_output_pixels(tile, card)
    costs = tuple(measure(tile) for tile in tiles)
    allowed = [cost for cost in costs if memory_limit_bytes is None or cost.memory_bytes <= memory_limit_bytes]
    if not allowed:
        least = min(costs, key=lambda cost: cost.memory_bytes, default=None)
        tried = f"{least.tile}, which needs least, needs {least.memory_bytes}" if least else "no tile was tried"
        raise TileError(
            f"no tile stays within {memory_limit_bytes} bytes of memory ({tried})",
            found=least.memory_bytes if least else None,
            wanted=memory_limit_bytes,
            remedy="allow more memory, or pass --tile",
        )
    fastest = min(time_per_pixel_ns(cost, card) for cost in allowed)
    close = [cost for cost in allowed if time_per_pixel_ns(cost, card) <= fastest * CLOSE]
    return TileChoice(min(close, key=lambda cost: cost.memory_bytes).tile, costs)


def time_per_pixel_ns(cost: TileCost, card: ModelCard) -> float:
    """Nanoseconds for each output pixel that the tile adds to a large picture."""
    return cost.latency_ms * 1e6 / new_output_pixels(cost.tile, card)


def new_output_pixels(tile: TileSpec, card: ModelCard) -> int:
    """Output pixels that a tile inside a large picture adds; raises TileError when the overlap leaves none."""
    rows, columns = tile.height - card.overlap_px, tile.width - card.overlap_px
    if rows < 1 or columns < 1:
        raise TileError(
            f"tile {tile} is not larger than the overlap of {card.overlap_px} pixels",
            found=min(tile.height, tile.width),
            wanted=card.overlap_px + 1,
            remedy="pass a larger --tile",
        )
    return rows * columns * card.scale**2


def measure_tile(model: LoadedModel, tile: TileSpec, runtime: str) -> TileCost:
    """Exports the fp32 graph at this tile into a temporary folder; median latency and added memory.

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
