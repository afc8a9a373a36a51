"""What a network needs of its tiles, measured and not derived: how far it looks, and what tiling does to a picture."""

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
from sr_edge.models.global_statistics import GlobalStatistics, has_global_statistics, statistics_of, tapped
from sr_edge.models.loading import LoadedModel
from sr_edge.models.tiled import TileStatistics, upscale_in_tiles
from sr_edge.spec import TileNeeds, TileSpec

VISIBLE = 1 / 255
ANY = 2.0**-20
"""Of white: what float32 rounds differently where nothing else changed stays below."""

LARGEST_DB = 99.0


@dataclass(frozen=True)
class Reach:
    """How far one pixel of the input is seen, in low-resolution pixels; None: up to the picture's edge."""

    reach_px: int | None
    halo_px: int | None


@dataclass(frozen=True)
class WholeRun:
    """A network in eval mode, a picture (1, 3, h, w), and what the one makes of the other in one piece."""

    network: nn.Module
    batch: Tensor
    output: Tensor
    statistics: GlobalStatistics

    @property
    def scale(self) -> int:
        return self.output.shape[-1] // self.batch.shape[-1]


def run_whole(network: nn.Module, frame_hwc: Frame) -> WholeRun:
    """Runs the network on an RGB frame as it is, without tiles."""
    batch = torch.from_numpy(batch_from_frame(frame_hwc))
    return WholeRun(network, batch, *_run(network, batch))


def with_tile_needs(model: LoadedModel, tile: TileSpec, frame_hwc: Frame | None = None) -> LoadedModel:
    """The same network with a card that holds what tiles of this size do to it, at the card's overlap.

    Args:
        model: left alone.
        tile: larger than the overlap.
        frame_hwc: RGB picture to measure on; None takes waves of `measured_size`.

    Raises:
        TileError: the tile is not larger than the overlap.
        WeightsError: the network cannot run on a picture of that size.
    """
    overlap_px = model.card.overlap_px
    size = measured_size(tile, overlap_px, model.card.multiple_px)
    frame = wave_frame(size.height, size.width) if frame_hwc is None else frame_hwc
    try:
        needs = measure_tile_needs(model, tile, overlap_px, frame)
    except SrEdgeError:
        raise
    except Exception as error:  # whatever a user's network raises that takes some sizes only
        size_of_frame = TileSpec(*frame.shape[:2])
        raise WeightsError(
            f"{model.card.name} cannot run on a picture of {size_of_frame}, with which its tiles are compared "
            f"({first_line(error)})",
            found=size_of_frame,
            remedy="leave the measurement out with --no-tile-needs",
        ) from error
    return dataclasses.replace(model, card=dataclasses.replace(model.card, tile_needs=needs))


def measured_size(tile: TileSpec, overlap_px: int, multiple_px: int = 1) -> TileSpec:
    """The smallest picture of a legal size that has a seam: two tiles side by side.

    Raises TileError where they cannot overlap.
    """
    if min(tile.height, tile.width) <= overlap_px:
        raise TileError(
            f"tile {tile} leaves nothing beside the {overlap_px} pixels by which tiles overlap, so that the effect of "
            f"tiles cannot be measured",
            found=tile,
            wanted=overlap_px + 1,
            remedy=f"pass a --tile of more than {overlap_px} pixels in height and width",
        )
    least = 2 * tile.width - overlap_px
    return TileSpec(tile.height, -(-least // multiple_px) * multiple_px)


def measure_tile_needs(model: LoadedModel, tile: TileSpec, overlap_px: int, frame_hwc: Frame) -> TileNeeds:
    """Runs about five times the pixels of `frame_hwc`, and those of each tile and pass with global statistics."""
    # 16 bits, as rounding whole and tiled pictures to 8 would by itself bring them down to 56 dB.
    deep = frame_from_batch(batch_from_frame(frame_hwc), np.uint16)
    whole = run_whole(model.module, deep)
    reach = measure_reach(whole, model.card.multiple_px // 2)
    wanted = frame_from_batch(whole.output.numpy(), deep.dtype)
    decibels = {
        way: psnr_rgb_db(upscale_in_tiles(model.module, deep, tile, model.card.scale, overlap_px, way), wanted)
        for way in (TileStatistics if has_global_statistics(model.module) else (TileStatistics.OWN,))
    }
    return TileNeeds(
        TileSpec(*frame_hwc.shape[:2]),
        tile,
        overlap_px,
        reach.reach_px,
        reach.halo_px,
        measure_statistics_change(whole),
        decibels[TileStatistics.OWN],
        decibels.get(TileStatistics.REFERENCE),
        decibels.get(TileStatistics.SYNCHRONOUS),
    )


def measure_reach(whole: WholeRun, window_step_px: int = 0) -> Reach:
    """Turns the central pixel black or white, and another one `window_step_px` before it, global statistics held.

    Networks with windows see unequally far from within a window; half a window apart lie the two extremes.
    """
    height, width = whole.batch.shape[-2:]
    found = []
    for step in sorted({0, window_step_px}):
        row, column = height // 2 - step, width // 2 - step
        changed = whole.batch.clone()
        changed[..., row, column] = (changed[..., row, column] < 0.5).float()
        change = _run(whole.network, changed, whole.statistics)[0] - whole.output
        found.append([_farthest(change, whole.scale, row, column, threshold) for threshold in (ANY, VISIBLE)])
    reach, halo = (max(distances) for distances in zip(*found, strict=True))
    return Reach(*(None if math.isinf(distance) else int(distance) for distance in (reach, halo)))


def measure_statistics_change(whole: WholeRun) -> float:
    """How much the right quarter changes, of white, when the left half is inverted and acts through statistics only."""
    if not has_global_statistics(whole.network):
        return 0.0
    changed = whole.batch.clone()
    half = changed.shape[-1] // 2
    changed[..., :half] = 1.0 - changed[..., :half]
    change = _run(whole.network, changed)[0] - _run(whole.network, changed, whole.statistics)[0]
    return float(change[..., 3 * change.shape[-1] // 4 :].abs().max())


def psnr_rgb_db(found_hwc: Frame, wanted_hwc: Frame) -> float:
    """PSNR over all samples of two frames of one type, white as the peak, LARGEST_DB at most."""
    error = (found_hwc.astype(np.float64) - wanted_hwc) / max_sample_value(found_hwc.dtype)
    squared = float(np.mean(np.square(error)))
    return LARGEST_DB if squared == 0.0 else min(LARGEST_DB, -10.0 * math.log10(squared))


def wave_frame(height: int, width: int) -> Frame:
    """Soft waves with noise, uint8 RGB, always the same: where no picture is at hand."""
    generator = np.random.default_rng(0)
    rows, columns = np.indices((height, width))[..., np.newaxis]
    waves = sum(
        np.sin(rows * generator.normal(0, rate, 3) + columns * generator.normal(0, rate, 3))
        for rate in (0.02, 0.1, 0.5)
    )
    noisy = 0.5 + 0.15 * waves + generator.normal(0, 0.02, (height, width, 3))
    return (noisy.clip(0, 1) * 255).astype(np.uint8)


def _run(network: nn.Module, batch: Tensor, given: GlobalStatistics | None = None) -> tuple[Tensor, GlobalStatistics]:
    with torch.inference_mode(), tapped(network, given) as heard:
        return network(batch), statistics_of([heard])


def _farthest(change: Tensor, scale: int, row: int, column: int, threshold: float) -> float:
    """Chebyshev distance of the farthest low-resolution pixel that changed; infinite where an edge one did."""
    pixels = nn.functional.max_pool2d(change.abs().amax(1), scale)[0] >= threshold
    edge = pixels.clone()
    edge[1:-1, 1:-1] = False
    if edge.any():
        return math.inf
    rows, columns = torch.nonzero(pixels, as_tuple=True)
    return float(max(((rows - row).abs().max(), (columns - column).abs().max()))) if len(rows) else 0.0
