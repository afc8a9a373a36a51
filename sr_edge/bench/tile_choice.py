"""Chooses the tile size of a deployment (`--tile auto`) by the measured time per new output pixel and the memory.

A tile that overlaps its neighbours by `overlap_px` contributes only (height - overlap) x (width - overlap) new pixels,
so small tiles waste computation; large ones do not fit the caches and need more memory. The cost of a tile depends
on the runtime and the device and is therefore always measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sr_edge.errors import TileError
from sr_edge.export import export_best_form
from sr_edge.files.unfinished import temporary_folder
from sr_edge.models import LoadedModel
from sr_edge.runtimes import SessionRequest, measure_latency, measure_memory, open_request
from sr_edge.spec import ModelCard, Precision, TileSpec

TILE_SIZES_PX = (48, 64, 96, 128, 144, 192, 240, 256)
RUNS, WARM_UP = 5, 2
EQUAL_TIME_RATIO = 1.03  # tiles within 3 % count as equally fast, and the one that needs less memory is chosen


@dataclass(frozen=True)
class TileCost:
    """Median latency of one tile, and the memory that its engine adds to the process."""

    tile: TileSpec
    latency_ms: float
    memory_bytes: int


@dataclass(frozen=True)
class TileChoice:
    """The chosen tile and all measurements, in the order in which they were made."""

    tile: TileSpec
    costs: tuple[TileCost, ...]


def candidate_tiles(card: ModelCard, sizes_px: Sequence[int] = TILE_SIZES_PX) -> tuple[TileSpec, ...]:
    """The square tiles among `sizes_px` that fit the network and are larger than twice its overlap.

    Raises:
        TileError: None of them does.
    """
    fitting = [size for size in sizes_px if size % card.multiple_px == 0 and size > 2 * card.overlap_px]
    if not fitting:
        raise TileError(
            f"none of the tile sizes {', '.join(map(str, sizes_px))} is a multiple of {card.multiple_px} above "
            f"{2 * card.overlap_px} pixels, twice the overlap",
            found=tuple(sizes_px),
            wanted=f"a multiple of {card.multiple_px} above {2 * card.overlap_px}",
            remedy="choose a tile size with --tile",
        )
    return tuple(TileSpec(size, size) for size in fitting)


def choose_tile(
    card: ModelCard,
    measure: Callable[[TileSpec], TileCost],
    candidates: Sequence[TileSpec] | None = None,
    memory_limit_bytes: int | None = None,
) -> TileChoice:
    """Measures every candidate once and chooses the least time per new output pixel within the memory limit.

    Args:
        card: The model card, which has the multiple, the overlap and the scale.
        measure: Exports, opens and times one tile.
        candidates: The tiles to measure; None measures `candidate_tiles(card)`.
        memory_limit_bytes: The memory that an engine may add at most; None for no limit.

    Raises:
        TileError: A candidate does not fit the network, or none stays within the limit.
    """
    tiles = candidate_tiles(card) if candidates is None else tuple(candidates)
    for tile in tiles:
        card.require_tile(tile)
        new_output_pixels(tile, card)
    costs = tuple(measure(tile) for tile in tiles)
    allowed = [cost for cost in costs if memory_limit_bytes is None or cost.memory_bytes <= memory_limit_bytes]
    if not allowed:
        least = min(costs, key=lambda cost: cost.memory_bytes, default=None)
        measured = f"{least.tile}, which needs least, needs {least.memory_bytes}" if least else "no tile was measured"
        raise TileError(
            f"no tile stays within {memory_limit_bytes} bytes of memory ({measured})",
            found=least.memory_bytes if least else None,
            wanted=memory_limit_bytes,
            remedy="allow more memory, or pass --tile",
        )
    fastest = min(time_per_pixel_ns(cost, card) for cost in allowed)
    equally_fast = [cost for cost in allowed if time_per_pixel_ns(cost, card) <= fastest * EQUAL_TIME_RATIO]
    return TileChoice(min(equally_fast, key=lambda cost: cost.memory_bytes).tile, costs)


def time_per_pixel_ns(cost: TileCost, card: ModelCard) -> float:
    """Nanoseconds for each output pixel that the tile adds to a large image."""
    return cost.latency_ms * 1e6 / new_output_pixels(cost.tile, card)


def new_output_pixels(tile: TileSpec, card: ModelCard) -> int:
    """The output pixels that a tile inside a large image adds.

    Raises:
        TileError: The overlap leaves none.
    """
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
    """Exports the fp32 graph for this tile to a temporary folder and measures its median latency and added memory.

    Raises:
        SrEdgeError: The export or the runtime failed.
    """
    with temporary_folder("tile") as folder:
        report = export_best_form(model, tile, folder / "model.onnx")
        request = SessionRequest(report.path, report.metadata.card, tile, Precision.FP32)
        memory = measure_memory(runtime, request)
        with open_request(runtime, request) as session:
            latency = measure_latency(session, RUNS, WARM_UP)
    return TileCost(tile, latency.total.p50_ms, memory.added_bytes)
