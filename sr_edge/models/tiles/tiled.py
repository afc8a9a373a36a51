"""Upscaling of whole images in tiles with a PyTorch network, whose global statistics come from one of three sources.

A network that takes means over the whole plane computes other means in every tile. Each tile can use its own (fast, and
what a deployed graph does). All tiles can use those of the whole image, downscaled to fit into one tile (approximate,
since detail is lost). Or they can use those of all tiles together, which are computed layer by layer: the first layer's
means are exact after one pass over all tiles, the second layer's after another pass that is given the first, and so on.
As many passes as there are such layers give the statistics of the whole image, apart from effects at the edges of
tiles. A few passes usually suffice, and they end when the statistics no longer change.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

import torch
from torch import Tensor, nn

from sr_edge.frames import Frame, batch_from_frame, frame_from_batch
from sr_edge.models.tiles.global_statistics import (
    GlobalStatistics,
    WeightedSum,
    combine_statistics,
    has_global_statistics,
    largest_change,
    recorded_statistics,
)
from sr_edge.spec import TileSpec
from sr_edge.tiling import Span, TilePlan, plan_tiles, upscale_frame

CONVERGED_CHANGE = 1e-4
"""Relative change of the statistics below which they count as converged, since no output value would differ."""


class TileStatistics(str, Enum):
    """Source of the global statistics with which the tiles of an image are upscaled."""

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
    """Upscales a frame of any size with all controls at their defaults.

    Args:
        network: the network, in eval mode.
        frame_hwc: uint8 or uint16 (height, width, channels of the network).
        tile: size of the network's input.
        scale: upscaling factor of the network.
        overlap_px: the least overlap of neighbouring tiles, in low-resolution pixels.
        statistics: source of the global statistics; it makes no difference for a network without any.

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
    """The statistics of all tiles of an image together, after every layer was given those of the layers before it."""
    return _Tiles(network, frame_hwc, tile, scale, overlap_px).synchronous()[1]


def reference_statistics(network: nn.Module, frame_hwc: Frame, tile: TileSpec) -> GlobalStatistics:
    """The statistics of the whole image, downscaled by antialiased bicubic interpolation to fit into one tile."""
    batch = torch.from_numpy(batch_from_frame(frame_hwc))
    height, width = batch.shape[-2:]
    factor = min(1.0, tile.height / height, tile.width / width)
    size = [max(1, round(length * factor)) for length in (height, width)]
    small = nn.functional.interpolate(batch, size=size, mode="bicubic", antialias=True) if factor < 1.0 else batch
    with torch.inference_mode(), recorded_statistics(network) as sums:
        network(small.clamp(0.0, 1.0))
    return combine_statistics([sums])


class _Tiles:
    """The tiles of one image, which record their contributions to the global statistics when they are upscaled."""

    def __init__(self, network: nn.Module, frame_hwc: Frame, tile: TileSpec, scale: int, overlap_px: int) -> None:
        self.network = network
        self.frame_hwc = frame_hwc
        self.tile = tile
        self.scale = scale
        self.overlap_px = overlap_px
        self.plan = plan_tiles(*frame_hwc.shape[:2], tile, overlap_px)

    def upscaled(self, replacements: GlobalStatistics | None) -> tuple[Frame, GlobalStatistics]:
        """The upscaled image, and the statistics of all its tiles together."""
        passes: list[list[WeightedSum]] = []
        weights = owned_weights(self.plan)

        def run(tile_hwc: Frame) -> Frame:
            with torch.inference_mode(), recorded_statistics(self.network, replacements, next(weights)) as sums:
                batch = self.network(torch.from_numpy(batch_from_frame(tile_hwc)))
            passes.append(sums)
            return frame_from_batch(batch.numpy(), tile_hwc.dtype)

        frame = upscale_frame(self.frame_hwc, run, tile=self.tile, scale=self.scale, overlap_px=self.overlap_px)
        return frame, combine_statistics(passes)

    def synchronous(self) -> tuple[Frame, GlobalStatistics]:
        """The upscaled image, and the statistics that its tiles were given in the last pass."""
        frame, measured = self.upscaled(None)
        replacements = measured
        for _ in range(len(measured)):
            replacements = measured
            frame, measured = self.upscaled(replacements)
            if largest_change(measured, replacements) < CONVERGED_CHANGE:
                break
        return frame, replacements


def owned_weights(plan: TilePlan) -> Iterator[Tensor]:
    """Masks of the pixels that each tile owns, (1, 1, height, width), in the order of the plan.

    Overlaps are divided in the middle, so exactly one tile owns each pixel of the image.
    """
    rows, columns = owned_spans(plan.rows, plan.height), owned_spans(plan.columns, plan.width)
    for row, column in plan.places():
        weights = torch.zeros(1, 1, plan.tile.height, plan.tile.width)
        weights[..., rows[row], columns[column]] = 1.0
        yield weights


def owned_spans(spans: tuple[Span, ...], size: int) -> dict[Span, slice]:
    """The range of pixels that each tile owns along one axis, counted from the tile's first pixel."""
    firsts = [span.first + span.blended // 2 for span in spans]
    ends = [*firsts[1:], size]
    return {
        span: slice(first - span.start, end - span.start) for span, first, end in zip(spans, firsts, ends, strict=True)
    }
