"""Two sides on the same patches: how far their pictures are apart, where most, and the first layer that differs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import cast

import numpy as np

from sr_edge.bench.golden import psnr_rgb_db
from sr_edge.bench.protocol import StageProgress, no_progress
from sr_edge.bench.side_layers import LayerReport, no_layers, report_layers
from sr_edge.bench.side_names import ModelSpec
from sr_edge.bench.sides import ComparisonOptions, ModelProperties, OpenModel, common_tile, open_model, resolve_models
from sr_edge.calibration import calibration_patches
from sr_edge.errors import EngineError
from sr_edge.frames import Picture, frame_from_batch
from sr_edge.image_files import require_format_supports, write_picture
from sr_edge.metrics import psnr_y_db
from sr_edge.runtimes.session import Batch, Frame
from sr_edge.spec import TileSpec

PICTURES = Path(str(resources.files("sr_edge.bench") / "pictures"))
"""What is compared on where the user gives no pictures (docs/compare.md says whose they are)."""

SHOWN_PATCH_PX = 384
"""The worst patch is shown at least so high, each pixel as a square."""

_GAP_PX = 8
_MOST_AMPLIFIED = 2**20


@dataclass(frozen=True)
class PatchDifference:
    """One patch; 8-bit PSNR, luma with `scale` pixels of border left out, and the largest error (white is 1).

    Where one side is not finite the PSNRs are minus infinity and the error is infinite.
    """

    psnr_rgb_db: float
    psnr_y_db: float
    max_abs_error: float


@dataclass(frozen=True)
class Comparison:
    """What two sides differ by on patches of `tile`; the totals are over all patches taken together.

    `worst` is the position of the patch with the lowest PSNR. `amplification` is by how much the picture of its
    difference is brightened. `layers` says what was found inside, on that patch.
    """

    reference: ModelProperties
    candidate: ModelProperties
    tile: TileSpec
    scale: int
    psnr_rgb_db: float
    psnr_y_db: float
    max_abs_error: float
    patches: tuple[PatchDifference, ...]
    worst: int
    amplification: int
    picture: Path | None
    layers: LayerReport

    def require_at_least(self, min_psnr_db: float) -> None:
        """Raises EngineError where the RGB PSNR is lower."""
        if not self.psnr_rgb_db >= min_psnr_db:
            where = self.layers.first_apart
            advice = f"look at layer {where.name} first" if where else "compare with --json to see each patch"
            raise EngineError(
                f"the RGB PSNR of {self.candidate.name} against {self.reference.name} is {self.psnr_rgb_db:.2f} dB, "
                "below the "
                f"required {min_psnr_db:g} dB",
                found=self.psnr_rgb_db,
                wanted=min_psnr_db,
                remedy=advice,
            )


@dataclass(frozen=True)
class ComparePlan:
    """What to compare on: `images` None takes the pictures that come along; `tolerance` None goes by precision."""

    images: Path | None = None
    patches: int = 16
    tile: TileSpec | None = None
    picture: Path | None = None
    with_layers: bool = True
    tolerance: float | None = None


def compare_models(
    reference: str, candidate: str, plan: ComparePlan, options: ComparisonOptions, progress: StageProgress = no_progress
) -> Comparison:
    """Runs both sides on the same patches, and compares their layers on the one where they differ most.

    Args:
        reference, candidate: as `ModelSpec.parse` reads them; the first is the measure.
        plan: pictures, patches and tile; where to write the picture of the worst patch.
        options: what the sides are made and opened with.
        progress: called with (stage, steps done, steps in all).

    Raises:
        UsageError: the sides do not fit each other or the options.
        SrEdgeError: a side or a picture is not there, or cannot be opened or run.
    """
    names = ModelSpec.parse(reference), ModelSpec.parse(candidate)
    if plan.picture is not None:
        require_format_supports(plan.picture, Picture(np.zeros((1, 1, 3), np.uint8)))
    with ExitStack() as stack:
        resolved = resolve_models(*names, options, stack)
        tile = common_tile(*resolved, plan.tile)
        patches = calibration_patches(plan.images or PICTURES, tile, plan.patches)
        progress("opening", 0, 2)
        ours, theirs = (open_model(compared, tile, options.controls, stack) for compared in resolved)
        progress("opening", 2, 2)
        outputs = _outputs(ours, theirs, patches, progress)
        differences = tuple(_difference(*pair, ours.card.scale) for pair in outputs)
        worst = min(range(len(patches)), key=lambda at: (differences[at].psnr_rgb_db, -differences[at].max_abs_error))
        amplification = _amplification(*outputs[worst])
        if plan.picture is not None:
            write_picture(plan.picture, Picture(side_by_side(*outputs[worst], amplification)))
        layers = no_layers("not asked for")
        if plan.with_layers:
            layers = report_layers(ours, theirs, patches[worst], plan.tolerance, progress)
        return Comparison(
            ours.properties,
            theirs.properties,
            tile,
            ours.card.scale,
            _rgb_db(outputs),
            _pooled_db([difference.psnr_y_db for difference in differences]),
            max(difference.max_abs_error for difference in differences),
            differences,
            worst,
            amplification,
            plan.picture,
            layers,
        )


def _outputs(
    ours: OpenModel, theirs: OpenModel, patches: Sequence[Batch], progress: StageProgress
) -> list[tuple[Batch, Batch]]:
    outputs = []
    for index, patch in enumerate(patches):
        progress("comparing", index, len(patches))
        outputs.append((ours.run(patch), theirs.run(patch)))
    progress("comparing", len(patches), len(patches))
    return outputs


def _difference(ours: Batch, theirs: Batch, scale: int) -> PatchDifference:
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return PatchDifference(-math.inf, -math.inf, math.inf)
    frames = _frame(ours), _frame(theirs)
    largest = float(np.abs(ours.astype(np.float64) - theirs).max())
    return PatchDifference(psnr_rgb_db([frames[1]], [frames[0]]), psnr_y_db(frames[1], frames[0], scale), largest)


def _frame(batch: Batch) -> Frame:
    """8 bits; what is not a number is black, as a screen would show it."""
    return cast(Frame, frame_from_batch(np.nan_to_num(batch, posinf=1.0, neginf=0.0)))


def _rgb_db(outputs: Sequence[tuple[Batch, Batch]]) -> float:
    if not all(np.isfinite(batch).all() for pair in outputs for batch in pair):
        return -math.inf
    return psnr_rgb_db([_frame(theirs) for _, theirs in outputs], [_frame(ours) for ours, _ in outputs])


def _pooled_db(values_db: Sequence[float]) -> float:
    """The PSNR of patches of one size taken together, from the PSNR of each."""
    mean = math.fsum(10.0 ** (-value / 10.0) for value in values_db) / len(values_db)
    return -10.0 * math.log10(mean) if mean else math.inf


def _amplification(ours: Batch, theirs: Batch) -> int:
    """The power of two that brings the largest difference to half of white or above; 1 where there is none."""
    largest = float(np.nan_to_num(np.abs(ours - theirs), nan=1.0, posinf=1.0).max())
    return min(_MOST_AMPLIFIED, 2 ** max(0, math.floor(-math.log2(largest)))) if largest else 1


def side_by_side(ours: Batch, theirs: Batch, amplification: int) -> Frame:
    """First, second and their amplified absolute difference, uint8 (height, 3 widths and gaps, 3), enlarged."""
    difference = np.nan_to_num(np.abs(ours - theirs) * np.float32(amplification), nan=1.0, posinf=1.0)
    panels = [_frame(batch) for batch in (ours, theirs, difference)]
    times = max(1, SHOWN_PATCH_PX // panels[0].shape[0])
    large = [panel.repeat(times, axis=0).repeat(times, axis=1) for panel in panels]
    gap = np.full((large[0].shape[0], _GAP_PX, 3), 255, np.uint8)
    return np.concatenate([large[0], gap, large[1], gap, large[2]], axis=1)
