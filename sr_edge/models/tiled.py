"""Whole pictures through a network in training form, in tiles, with its global statistics taken in one of three ways.

A network that takes means over the whole plane sees other means in every tile. Each tile may keep its own (fast, and
what a deployed graph does); all may share those of the whole picture, shrunk until it is one tile (approximate: less
detail is left in it); or those that the tiles have together. These follow from each other layer by layer: the first
is exact after one pass over all tiles, the second after another one that is given the first, and so on. So as many
passes as there are such layers give the whole picture's statistics, up to what the tiles' edges cannot see; mostly
a few suffice, and the passes end when nothing changes any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

import torch
from torch import Tensor, nn

from sr_edge.frames import Frame, batch_from_frame, frame_from_batch
from sr_edge.models.global_statistics import (
    GlobalStatistics,
    Share,
    has_global_statistics,
    largest_change,
    statistics_of,
    tapped,
)
from sr_edge.spec import TileSpec
from sr_edge.tiling import Span, TilePlan, plan_tiles, upscale_frame

SETTLED = 1e-4
"""A change of the statistics, as a share of the layer's largest, that no picture shows."""


class TileStatistics(str, Enum):
    """Where the tiles of a picture take their global statistics from."""

    OWN = "own"
    REFERENCE = "reference"
    SYNCHRONOUS = "synchronous"

    def __str__(self) -> str:
        return self.value


def upscale_in_tiles(
    network: nn.Module,
    frame_hwc: Frame,
    tile: TileSpec,
    scale: int,
    overlap_px: int,
    statistics: TileStatistics = TileStatistics.OWN,
) -> Frame:
    """Upscales a frame of any size, uint8 or uint16 RGB, controls at their defaults.

    Args:
        network: in eval mode.
        tile: what the network is given at a time.
        overlap_px: the least overlap of neighbours, in low-resolution pixels.
        statistics: for a network without global statistics all three are the same.

    Raises:
        FrameError, TileError: as `sr_edge.tiling.upscale_frame`.
    """
    tiles = _Tiles(network, frame_hwc, tile, scale, overlap_px)
    if statistics is TileStatistics.OWN or not has_global_statistics(network):
        return tiles.upscaled(None)[0]
    if statistics is TileStatistics.REFERENCE:
        return tiles.upscaled(reference_statistics(network, frame_hwc, tile))[0]
    return tiles.synchronous()[0]


def synchronous_statistics(
    network: nn.Module, frame_hwc: Frame, tile: TileSpec, scale: int, overlap_px: int
) -> GlobalStatistics:
    """The statistics that the tiles of a picture have together, once every layer has been given those before it."""
    return _Tiles(network, frame_hwc, tile, scale, overlap_px).synchronous()[1]


def reference_statistics(network: nn.Module, frame_hwc: Frame, tile: TileSpec) -> GlobalStatistics:
    """The statistics of the whole picture, shrunk by antialiased bicubic to fit into one tile."""
    batch = torch.from_numpy(batch_from_frame(frame_hwc))
    height, width = batch.shape[-2:]
    factor = min(1.0, tile.height / height, tile.width / width)
    size = [max(1, round(side * factor)) for side in (height, width)]
    small = nn.functional.interpolate(batch, size=size, mode="bicubic", antialias=True) if factor < 1.0 else batch
    with torch.inference_mode(), tapped(network) as heard:
        network(small.clamp(0.0, 1.0))
    return statistics_of([heard])


class _Tiles:
    """One picture's tiles, each run with its share of the statistics noted."""

    def __init__(self, network: nn.Module, frame_hwc: Frame, tile: TileSpec, scale: int, overlap_px: int) -> None:
        self.network = network
        self.frame_hwc = frame_hwc
        self.tile = tile
        self.scale = scale
        self.overlap_px = overlap_px
        self.plan = plan_tiles(*frame_hwc.shape[:2], tile, overlap_px)

    def upscaled(self, given: GlobalStatistics | None) -> tuple[Frame, GlobalStatistics]:
        """The picture, and the statistics that its tiles have together."""
        shares: list[list[Share]] = []
        owned = owned_weights(self.plan)

        def run(tile_hwc: Frame) -> Frame:
            with torch.inference_mode(), tapped(self.network, given, next(owned)) as heard:
                batch = self.network(torch.from_numpy(batch_from_frame(tile_hwc)))
            shares.append(heard)
            return frame_from_batch(batch.numpy(), tile_hwc.dtype)

        frame = upscale_frame(self.frame_hwc, run, tile=self.tile, scale=self.scale, overlap_px=self.overlap_px)
        return frame, statistics_of(shares)

    def synchronous(self) -> tuple[Frame, GlobalStatistics]:
        """The picture, and the statistics that it was given."""
        frame, found = self.upscaled(None)
        given = found
        for _ in range(len(found)):
            given = found
            frame, found = self.upscaled(given)
            if largest_change(found, given) < SETTLED:
                break
        return frame, given


def owned_weights(plan: TilePlan) -> Iterator[Tensor]:
    """(1, 1, height, width) for every tile: 1 where it owns a pixel. Seams are parted in the middle, so that every
    pixel of the picture has one owner."""
    rows, columns = owned_spans(plan.rows, plan.height), owned_spans(plan.columns, plan.width)
    for row, column in plan.places():
        weights = torch.zeros(1, 1, plan.tile.height, plan.tile.width)
        weights[..., rows[row], columns[column]] = 1.0
        yield weights


def owned_spans(spans: tuple[Span, ...], size: int) -> dict[Span, slice]:
    """Which of its pixels each tile owns along one axis."""
    firsts = [span.first + span.blended // 2 for span in spans]
    ends = [*firsts[1:], size]
    return {
        span: slice(first - span.start, end - span.start) for span, first, end in zip(spans, firsts, ends, strict=True)
    }
