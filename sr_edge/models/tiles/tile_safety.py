"""Measures how a network tolerates tiling: its receptive field, and how the result changes in tiles."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sr_edge.errors import SrEdgeError, TileError, WeightsError
from sr_edge.frames import Frame, batch_from_frame, frame_from_batch, max_sample_value
from sr_edge.models.checkpoints.bounds import first_line
from sr_edge.models.loaded import LoadedModel
from sr_edge.models.tiles.global_statistics import (
    GlobalStatistics,
    combine_statistics,
    has_global_statistics,
    recorded_statistics,
)
from sr_edge.models.tiles.tiled import TileStatistics, upscale_in_tiles
from sr_edge.spec import RGB, TileNeeds, TileSpec

LARGEST_OVERLAP_SHARE = 0.25
"""Largest overlap as a share of the tile: with it, 56 % of the computed pixels are new ones."""

SMALLEST_OVERLAP_PX = 4
"""Overlap where no change spreads visibly, because it was measured on one image only."""

VISIBLE_CHANGE = 1 / 255
SMALLEST_CHANGE = 2.0**-20
"""Share of the value range; differences by float32 rounding alone stay below it."""

LARGEST_DB = 99.0


@dataclass(frozen=True)
class ReceptiveField:
    """How far a change of one input pixel spreads, in low-resolution pixels.

    Args:
        reach_px: distance up to which any value changes; None: up to the edge of the image.
        halo_px: distance up to which a value changes visibly; None: up to the edge of the image.
    """

    reach_px: int | None
    halo_px: int | None


@dataclass(frozen=True)
class UntiledRun:
    """One forward pass without tiles.

    Args:
        network: the network, in eval mode.
        batch: the image, (1, channels, h, w).
        output: the upscaled image.
        statistics: the global statistics of the pass.
    """

    network: nn.Module
    batch: Tensor
    output: Tensor
    statistics: GlobalStatistics

    @property
    def scale(self) -> int:
        return self.output.shape[-1] // self.batch.shape[-1]


def run_untiled(network: nn.Module, frame_hwc: Frame) -> UntiledRun:
    """Upscales a frame as one tile, whatever its size."""
    batch = torch.from_numpy(batch_from_frame(frame_hwc))
    return UntiledRun(network, batch, *_run(network, batch))


def with_tile_needs(model: LoadedModel, tile: TileSpec, frame_hwc: Frame | None = None) -> LoadedModel:
    """Measures the receptive field, sets the overlap by it, measures the effect of tiles, and records all in the card.

    The overlap is twice the halo, with which seams are invisible, but at most a quarter of the tile.

    Args:
        model: the network; it is not changed.
        tile: larger than the overlap.
        frame_hwc: image to measure on, with the channels of the network; None takes a synthetic one of `measured_size`.

    Raises:
        TileError: the tile is not larger than the overlap.
        WeightsError: the network cannot run on an image of that size.
    """
    size = measured_size(tile, SMALLEST_OVERLAP_PX, model.card.multiple_px)
    frame = synthetic_frame(size.height, size.width, model.card.channels) if frame_hwc is None else frame_hwc
    try:
        needs = measure_tile_needs(model, tile, None, frame)
    except SrEdgeError:
        raise
    except Exception as error:  # a user's network that supports some sizes only may raise anything
        size_of_frame = TileSpec(*frame.shape[:2])
        raise WeightsError(
            f"{model.card.name} cannot run on an image of {size_of_frame}, with which its tiles are compared "
            f"({first_line(error)})",
            found=size_of_frame,
            remedy="leave the measurement out with --no-tile-needs",
        ) from error
    card = dataclasses.replace(model.card, tile_needs=needs, overlap_px=needs.overlap_px)
    return dataclasses.replace(model, card=card)


def largest_overlap_px(tile: TileSpec) -> int:
    """The largest overlap for which tiles of this size are efficient."""
    return int(LARGEST_OVERLAP_SHARE * min(tile.height, tile.width))


def overlap_for(halo_px: int | None, tile: TileSpec) -> int:
    """Twice the halo, within the limits for tiles of this size; the largest overlap if the halo is unknown."""
    limit_px = largest_overlap_px(tile)
    return limit_px if halo_px is None else min(limit_px, max(SMALLEST_OVERLAP_PX, 2 * halo_px))


def overlap_note(needs: TileNeeds | None) -> str:
    """A sentence if the tile is too small for the overlap that the halo requires; empty otherwise."""
    if needs is None or (needs.halo_px is not None and 2 * needs.halo_px <= needs.overlap_px):
        return ""
    halo = "up to the edge of the measured image" if needs.halo_px is None else f"{needs.halo_px} px far"
    return (
        f"the overlap of tiles is {needs.overlap_px} px, a quarter of the tile {needs.tile}, although a pixel visibly "
        f"changes others {halo}: seams may be visible; choose a larger tile, or a larger overlap when upscaling"
    )


def measured_size(tile: TileSpec, overlap_px: int, multiple_px: int = 1) -> TileSpec:
    """The size of the smallest supported image that has a seam, which is two tiles side by side.

    Raises:
        TileError: the tile is not larger than the overlap.
    """
    if min(tile.height, tile.width) <= overlap_px:
        raise TileError(
            f"tile {tile} is not larger than the overlap of {overlap_px} pixels, so the effect of tiles cannot be "
            f"measured",
            found=tile,
            wanted=overlap_px + 1,
            remedy=f"pass a --tile of more than {overlap_px} pixels in height and width",
        )
    least_width = 2 * tile.width - overlap_px
    return TileSpec(tile.height, -(-least_width // multiple_px) * multiple_px)


def measure_tile_needs(model: LoadedModel, tile: TileSpec, overlap_px: int | None, frame_hwc: Frame) -> TileNeeds:
    """Measures receptive field, effect of the global statistics, and PSNR of the tiled result against the untiled one.

    Computes about five times the pixels of `frame_hwc`, and with global statistics those of every tile and pass.

    Args:
        model: the network.
        tile: size of the tiles.
        overlap_px: the least overlap of neighbouring tiles, in low-resolution pixels. None derives it from the halo and
            crops the image, so that two tiles have no larger overlap.
        frame_hwc: image to measure on, with the channels of the network.
    """
    # 16 bits, since rounding both results to 8 bits would by itself limit the PSNR to 56 dB.
    frame_uint16 = frame_from_batch(batch_from_frame(frame_hwc), np.uint16)
    whole = run_untiled(model.module, frame_uint16)
    field = measure_receptive_field(whole, model.card.multiple_px // 2)
    if overlap_px is None:
        overlap_px = overlap_for(field.halo_px, tile)
        frame_uint16 = frame_uint16[:, : measured_size(tile, overlap_px, model.card.multiple_px).width]
        whole = run_untiled(model.module, frame_uint16)
    reference = frame_from_batch(whole.output.numpy(), frame_uint16.dtype)
    decibels = {
        source: psnr_db(
            upscale_in_tiles(model.module, frame_uint16, tile, model.card.scale, overlap_px, source), reference
        )
        for source in (TileStatistics if has_global_statistics(model.module) else (TileStatistics.OWN,))
    }
    return TileNeeds(
        TileSpec(*frame_uint16.shape[:2]),
        tile,
        overlap_px,
        field.reach_px,
        field.halo_px,
        measure_statistics_change(whole),
        decibels[TileStatistics.OWN],
        decibels.get(TileStatistics.REFERENCE),
        decibels.get(TileStatistics.SYNCHRONOUS),
    )


def measure_receptive_field(whole: UntiledRun, window_step_px: int = 0) -> ReceptiveField:
    """Measures how far a change of one pixel spreads while the global statistics are held constant.

    Args:
        whole: a forward pass without tiles.
        window_step_px: half a window, for a network with windows: its receptive field depends on the position within
            the window, and positions half a window apart are the extremes. The pixel at the centre of the image is
            changed, and another one that far before it.
    """
    height, width = whole.batch.shape[-2:]
    distances_by_threshold = []
    for step in sorted({0, window_step_px}):
        row, column = height // 2 - step, width // 2 - step
        changed = whole.batch.clone()
        changed[..., row, column] = (changed[..., row, column] < 0.5).float()
        change = _run(whole.network, changed, whole.statistics)[0] - whole.output
        distances_by_threshold.append(
            [_farthest(change, whole.scale, row, column, threshold) for threshold in (SMALLEST_CHANGE, VISIBLE_CHANGE)]
        )
    reach, halo = (max(distances) for distances in zip(*distances_by_threshold, strict=True))
    return ReceptiveField(*(None if math.isinf(distance) else int(distance) for distance in (reach, halo)))


def measure_statistics_change(whole: UntiledRun) -> float:
    """Largest change in the right quarter when the left half is inverted and acts through the statistics only.

    Returns:
        A share of the value range; 0 for a network without global statistics.
    """
    if not has_global_statistics(whole.network):
        return 0.0
    changed = whole.batch.clone()
    half = changed.shape[-1] // 2
    changed[..., :half] = 1.0 - changed[..., :half]
    change = _run(whole.network, changed)[0] - _run(whole.network, changed, whole.statistics)[0]
    return float(change[..., 3 * change.shape[-1] // 4 :].abs().max())


def psnr_db(candidate_hwc: Frame, reference_hwc: Frame) -> float:
    """PSNR in dB over all samples of two frames of one type, at most LARGEST_DB."""
    error = (candidate_hwc.astype(np.float64) - reference_hwc) / max_sample_value(candidate_hwc.dtype)
    squared = float(np.mean(np.square(error)))
    return LARGEST_DB if squared == 0.0 else min(LARGEST_DB, -10.0 * math.log10(squared))


def synthetic_frame(height: int, width: int, channels: int = RGB) -> Frame:
    """A deterministic test image, uint8, of smooth waves with noise, for use where no image was given."""
    generator = np.random.default_rng(0)
    rows, columns = np.indices((height, width))[..., np.newaxis]
    waves = sum(
        np.sin(rows * generator.normal(0, rate, channels) + columns * generator.normal(0, rate, channels))
        for rate in (0.02, 0.1, 0.5)
    )
    noisy = 0.5 + 0.15 * waves + generator.normal(0, 0.02, (height, width, channels))
    return (noisy.clip(0, 1) * 255).astype(np.uint8)


def _run(
    network: nn.Module, batch: Tensor, replacements: GlobalStatistics | None = None
) -> tuple[Tensor, GlobalStatistics]:
    with torch.inference_mode(), recorded_statistics(network, replacements) as sums:
        return network(batch), combine_statistics([sums])


def _farthest(change: Tensor, scale: int, row: int, column: int, threshold: float) -> float:
    """Chebyshev distance of the farthest low-resolution pixel that changed; infinite if one at the edge did."""
    pixels = nn.functional.max_pool2d(change.abs().amax(1), scale)[0] >= threshold
    edge = pixels.clone()
    edge[1:-1, 1:-1] = False
    if edge.any():
        return math.inf
    rows, columns = torch.nonzero(pixels, as_tuple=True)
    return float(max(((rows - row).abs().max(), (columns - column).abs().max()))) if len(rows) else 0.0
