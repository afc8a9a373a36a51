"""Measures what it costs to place tiles around changed areas, for the table of `--reuse DB`.

In a frame of four tiles that overlap by half, an object appears at a random place. The output of the frame without the
object stands for the kept results, and the object's end is the change: a tile is placed around it as it is in streams.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable

import numpy as np

from sr_edge.frames import Frame, Region
from sr_edge.metrics import psnr_y_db
from sr_edge.reuse_table import BLOCK_PX, PlacementLoss, PlacementTable
from sr_edge.spec import ModelCard, TileSpec
from sr_edge.tiling import Span, cut_tile, plan_tiles, upscale_frame
from sr_edge.upscaler.placement import PlacementRule, lay_over
from sr_edge.upscaler.tile_change import block_change

LEAST_CORE_PX = 2 * BLOCK_PX
"""Margins that leave less, wherever an aligned tile lies, are not measured."""

LARGEST_DB = 99.0
"""PSNR of outputs that equal the original."""

_OBJECT_SHARE = 2
"""The core is so many times as high and wide as the object."""


class PlacementFigures:
    """The figures of all pictures so far."""

    def __init__(self, card: ModelCard, tile: TileSpec) -> None:
        """Begins without figures.

        Args:
            card: The model card. Where the size of tiles is bound to multiples, as for networks with windows, tiles
                whose origins differ by such multiples are measured, too.
            tile: The tile.
        """
        self._tile, self._scale, self._overlap_px = tile, card.scale, card.overlap_px
        self._rules = placement_rules(card, tile)
        self._losses_db: defaultdict[PlacementRule, list[float]] = defaultdict(list)
        self._local_errors: defaultdict[PlacementRule, list[float]] = defaultdict(list)

    @property
    def frame_size(self) -> TileSpec:
        """Size of the frames, in low resolution."""
        align_px = max((rule.align_px for rule in self._rules), default=1)
        height, width = (edge + edge // 2 // align_px * align_px for edge in (self._tile.height, self._tile.width))
        return TileSpec(height, width)

    def add(self, original: Frame, now: Frame, run: Callable[[Frame], Frame], generator: np.random.Generator) -> None:
        """Places tiles around an object, once with each rule.

        Args:
            original: The picture in high resolution, uint8 (height, width, channels).
            now: The same as a camera sends it, of `frame_size`.
            run: Upscales a tile.
            generator: Chooses where the object is.
        """
        outputs: dict[bytes, Frame] = {}

        def run_once(tile: Frame) -> Frame:
            key = tile.tobytes()
            if key not in outputs:
                outputs[key] = run(tile)
            return outputs[key]

        def upscale(frame: Frame) -> Frame:
            return upscale_frame(frame, run_once, tile=self._tile, scale=self._scale, overlap_px=self._overlap_px)

        plan = plan_tiles(*now.shape[:2], self._tile, self._overlap_px)
        computed = upscale(now)
        for rule in self._rules:
            box = _object(rule, now, generator)
            area = rule.around(box, plan)
            if area is None:
                continue
            before = now.copy()
            box.cut(before)[...] = box.cut(now[::-1, ::-1])
            placed = upscale(before)
            rows, columns = Span(area.top, area.height, 0, 0, 0), Span(area.left, area.width, 0, 0, 0)
            lay_over(placed, run_once(cut_tile(now, self._tile, rows, columns)), area, rule, self._scale)
            parts = (area.cut(frame, self._scale)[..., :3] for frame in (placed, computed, original))
            self._losses_db[rule].append(_loss_db(*parts))
            self._local_errors[rule].append(block_change(computed, placed, BLOCK_PX * self._scale))

    def table(self) -> PlacementTable | None:
        """The table; None if nothing could be placed."""
        rows = tuple(
            PlacementLoss(
                rule.margin_px,
                rule.align_px,
                mean_db=float(np.mean(self._losses_db[rule])),
                worst_db=max(self._losses_db[rule]),
                local_error=max(self._local_errors[rule]),
            )
            for rule in self._rules
            if self._losses_db[rule]
        )
        return PlacementTable(self._tile.height, self._tile.width, rows) if rows else None


def placement_rules(card: ModelCard, tile: TileSpec) -> tuple[PlacementRule, ...]:
    """The rules that are measured: any origin before aligned ones, and the smaller margin first.

    None for a network with statistics over its input: each output of a tile depends on all of its samples.
    """
    if card.global_statistics:
        return ()
    shorter = min(tile.height, tile.width)
    margins = [margin for margin in (card.overlap_px // 2, card.overlap_px) if margin > 0]
    aligned = (card.multiple_px,) if 1 < card.multiple_px <= shorter // 4 else ()
    return tuple(
        PlacementRule(tile, margin_px, align_px)
        for align_px in (1, *aligned)
        for margin_px in margins
        if shorter - 2 * margin_px - (align_px - 1) >= LEAST_CORE_PX
    )


def _object(rule: PlacementRule, frame: Frame, generator: np.random.Generator) -> Region:
    """An object near the middle of a frame, where all tiles overlap."""
    sizes = [(edge - 2 * rule.margin_px) // _OBJECT_SHARE for edge in (rule.tile.height, rule.tile.width)]
    reach = [size // 4 for size in sizes]
    top, left = (
        (edge - size) // 2 + int(generator.integers(-most, most + 1))
        for edge, size, most in zip(frame.shape[:2], sizes, reach, strict=True)
    )
    return Region(left, top, sizes[1], sizes[0])


def _loss_db(placed: Frame, computed: Frame, original: Frame) -> float:
    """The PSNR that is lost, or would be if the whole difference from the computed output were an error."""
    placed_db, computed_db = (min(psnr_y_db(frame, original, 0), LARGEST_DB) for frame in (placed, computed))
    added_db = 10 * math.log10(1 + 10 ** ((computed_db - psnr_y_db(placed, computed, 0)) / 10))
    return max(computed_db - placed_db, added_db)
