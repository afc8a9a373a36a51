"""Compares two models on the same patches: their difference, the worst patch, and the first layer that differs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import cast

import numpy as np

from sr_edge.bench.compare.compared_layers import LayerReport, no_layers, report_layers
from sr_edge.bench.compare.compared_models import (
    ComparisonOptions,
    ModelProperties,
    OpenModel,
    ResolvedModel,
    common_tile,
    open_model,
    resolve_models,
)
from sr_edge.bench.compare.model_spec import ModelSpec
from sr_edge.bench.golden import frames_psnr_db
from sr_edge.bench.protocol import no_progress
from sr_edge.calibration import calibration_patches
from sr_edge.calibration.data.patches import Warn
from sr_edge.channels import picture_of
from sr_edge.errors import EngineError
from sr_edge.frames import Batch, Picture, Uint8Frame, batch_from_frame, frame_from_batch, rgb_frame
from sr_edge.image_files import require_format_supports, write_picture
from sr_edge.metrics import psnr_y_db
from sr_edge.spec import FrameFormat, StageProgress, TileSpec

PICTURES = Path(str(resources.files("sr_edge.bench") / "pictures"))
"""The images to compare on where the user gives none (docs/compare.md has their sources)."""

SHOWN_PATCH_PX = 384
"""Least height of the worst patch in the image that shows it; each pixel is repeated as a square."""

_GAP_PX = 8
_MOST_AMPLIFIED = 2**20


@dataclass(frozen=True)
class PatchDifference:
    """Difference of the two outputs for one patch, on a range of 0 to 1.

    `psnr_db` is that of all channels of 8-bit frames, `psnr_y_db` that of luma without a border of `scale` pixels.
    Where an output is not finite, the PSNR is minus infinity and the error is infinite.
    """

    psnr_db: float
    psnr_y_db: float
    max_abs_error: float


@dataclass(frozen=True)
class Comparison:
    """The difference of two models on patches of `tile`; PSNR and error are over all patches taken together.

    Attributes:
        patches: the differences patch by patch.
        worst: index of the patch with the lowest PSNR.
        amplification: factor that the image of the worst patch's difference is multiplied by.
        picture: file of that image.
        layers: comparison of the layers on that patch.
        warnings: images that were skipped, and the like.
    """

    reference: ModelProperties
    candidate: ModelProperties
    tile: TileSpec
    scale: int
    psnr_db: float
    psnr_y_db: float
    max_abs_error: float
    patches: tuple[PatchDifference, ...]
    worst: int
    amplification: int
    picture: Path | None
    layers: LayerReport
    warnings: tuple[str, ...] = ()

    def require_at_least(self, min_psnr_db: float) -> None:
        """Raises EngineError if the PSNR is lower than `min_psnr_db`."""
        if not self.psnr_db >= min_psnr_db:
            where = self.layers.first_apart
            advice = f"examine the layer {where.name} first" if where else "compare with --json to see each patch"
            raise EngineError(
                f"the PSNR of {self.candidate.name} against {self.reference.name} is {self.psnr_db:.2f} dB, "
                f"below the required {min_psnr_db:g} dB",
                found=self.psnr_db,
                wanted=min_psnr_db,
                remedy=advice,
            )


@dataclass(frozen=True)
class ComparePlan:
    """What to compare on: `images` None for the images of the package; `tolerance` None for one by precision."""

    images: Path | None = None
    patches: int = 16
    tile: TileSpec | None = None
    picture: Path | None = None
    with_layers: bool = True
    tolerance: float | None = None


def compare_models(
    reference: str, candidate: str, plan: ComparePlan, options: ComparisonOptions, progress: StageProgress = no_progress
) -> Comparison:
    """Runs two models on the same patches, and compares their layers on the patch where they differ most.

    Args:
        reference: the model to compare with, as `ModelSpec.parse` reads it.
        candidate: the model to compare, in the same form.
        plan: images, patches and tile, and the file for the image of the worst patch.
        options: how the models are loaded and opened.
        progress: called with (stage, steps done, steps in all).

    Raises:
        UsageError: the models do not match each other or the options.
        SrEdgeError: a model or an image does not exist, or cannot be opened or run.
    """
    names = ModelSpec.parse(reference), ModelSpec.parse(candidate)
    if plan.picture is not None:
        require_format_supports(plan.picture, Picture(np.zeros((1, 1, 3), np.uint8)))
    with ExitStack() as stack:
        resolved = resolve_models(*names, options, stack)
        tile = common_tile(*resolved, plan.tile)
        warnings: list[str] = []
        patches = _patches(resolved, tile, plan, warnings.append)
        progress("opening models", 0, 2)
        reference_model, candidate_model = (open_model(model, tile, options.controls, stack) for model in resolved)
        progress("opening models", 2, 2)
        outputs = _outputs(reference_model, candidate_model, patches, progress)
        differences = tuple(_difference(*pair, reference_model.card.scale) for pair in outputs)
        worst = min(range(len(patches)), key=lambda at: (differences[at].psnr_db, -differences[at].max_abs_error))
        amplification = _amplification(*outputs[worst])
        if plan.picture is not None:
            write_picture(plan.picture, Picture(side_by_side(*outputs[worst], amplification)))
        layers = no_layers("not requested")
        if plan.with_layers:
            layers = report_layers(reference_model, candidate_model, patches[worst], plan.tolerance, progress)
        return Comparison(
            reference_model.properties,
            candidate_model.properties,
            tile,
            reference_model.card.scale,
            _pooled_frames_db(outputs),
            _pooled_db([difference.psnr_y_db for difference in differences]),
            max(difference.max_abs_error for difference in differences),
            differences,
            worst,
            amplification,
            plan.picture,
            layers,
            tuple(warnings) if plan.images else (),
        )


def _patches(resolved: Sequence[ResolvedModel], tile: TileSpec, plan: ComparePlan, warn: Warn) -> list[Batch]:
    """The patches to compare on, with 8-bit levels where a model takes uint8 frames, so that both get the same."""
    channels = resolved[0].request.card.channels
    patches = calibration_patches(plan.images or PICTURES, tile, plan.patches, channels=channels, warn=warn)
    if any(model.request.io is FrameFormat.UINT8_NHWC for model in resolved):
        return [batch_from_frame(frame_from_batch(patch)) for patch in patches]
    return patches


def _outputs(
    reference: OpenModel, candidate: OpenModel, patches: Sequence[Batch], progress: StageProgress
) -> list[tuple[Batch, Batch]]:
    outputs = []
    for index, patch in enumerate(patches):
        progress("comparing", index, len(patches))
        outputs.append((reference.run(patch), candidate.run(patch)))
    progress("comparing", len(patches), len(patches))
    return outputs


def _difference(reference: Batch, candidate: Batch, scale: int) -> PatchDifference:
    if not (np.isfinite(reference).all() and np.isfinite(candidate).all()):
        return PatchDifference(-math.inf, -math.inf, math.inf)
    frames = _frame(reference), _frame(candidate)
    largest = float(np.abs(reference.astype(np.float64) - candidate).max())
    colours = [picture_of(frame).pixels for frame in frames]
    return PatchDifference(frames_psnr_db([frames[1]], [frames[0]]), psnr_y_db(colours[1], colours[0], scale), largest)


def _frame(batch: Batch) -> Uint8Frame:
    """The output as an 8-bit frame; NaN becomes black."""
    return cast(Uint8Frame, frame_from_batch(np.nan_to_num(batch, posinf=1.0, neginf=0.0)))


def _rgb(frame: Uint8Frame) -> Uint8Frame:
    """A gray frame, or one with alpha, as RGB."""
    return rgb_frame(picture_of(frame))


def _pooled_frames_db(outputs: Sequence[tuple[Batch, Batch]]) -> float:
    if not all(np.isfinite(batch).all() for pair in outputs for batch in pair):
        return -math.inf
    return frames_psnr_db(
        [_frame(candidate) for _, candidate in outputs], [_frame(reference) for reference, _ in outputs]
    )


def _pooled_db(values_db: Sequence[float]) -> float:
    """The PSNR of patches of one size taken together, from the PSNR of each."""
    mean = math.fsum(10.0 ** (-value / 10.0) for value in values_db) / len(values_db)
    return -10.0 * math.log10(mean) if mean else math.inf


def _amplification(reference: Batch, candidate: Batch) -> int:
    """The power of two that brings the largest difference to at least half of the range; 1 if there is none."""
    largest = float(np.nan_to_num(np.abs(reference - candidate), nan=1.0, posinf=1.0).max())
    return min(_MOST_AMPLIFIED, 2 ** max(0, math.floor(-math.log2(largest)))) if largest else 1


def side_by_side(reference: Batch, candidate: Batch, amplification: int) -> Uint8Frame:
    """Reference, candidate and their amplified absolute difference in one uint8 HWC frame, magnified."""
    difference = np.nan_to_num(np.abs(reference - candidate) * np.float32(amplification), nan=1.0, posinf=1.0)
    panels = [_rgb(_frame(batch)) for batch in (reference, candidate, difference)]
    times = max(1, SHOWN_PATCH_PX // panels[0].shape[0])
    large = [panel.repeat(times, axis=0).repeat(times, axis=1) for panel in panels]
    gap = np.full((large[0].shape[0], _GAP_PX, 3), 255, np.uint8)
    return np.concatenate([large[0], gap, large[1], gap, large[2]], axis=1)
