"""Whether calibration patches show what a network will see: refused where they show nothing, warned of where little."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sr_edge.calibration.patch import Batch, digest_of
from sr_edge.errors import CalibrationError

FEW_PATCHES = 16
"""Forty varied patches are enough and eight are not; below this a warning says so."""

FLAT = 0.5 / 255.0
"""Standard deviation below which a patch shows one colour."""

NATURAL_CORRELATION = 0.7
"""Neighbouring pixels of natural pictures correlate by more than 0.9, those of noise by 0."""

DARK = 0.25


def require_usable(batches: Sequence[Batch]) -> tuple[str, ...]:
    """What to warn of, in words with the numbers that show it.

    Raises:
        CalibrationError: all patches are flat, or all are the same but for mirroring and rotation.
    """
    if not batches:
        return ()
    spreads = np.array([float(batch.std(axis=(2, 3)).max()) for batch in batches])
    shown = spreads > FLAT
    if not shown.any():
        level = float(np.mean([batch.mean() for batch in batches]))
        raise CalibrationError(
            f"all {len(batches)} calibration patches show a single colour (mean {level:.3f}, largest standard "
            f"deviation {spreads.max():.4f}), so nothing can be measured on them",
            found=float(spreads.max()),
            wanted=f"a standard deviation above {FLAT:.4f}",
            remedy="pass pictures like those that the network will see",
        )
    distinct = len({_digest_of_any_rotation(batch) for batch in batches})
    if distinct == 1 and len(batches) > 1:
        raise CalibrationError(
            f"all {len(batches)} calibration patches are the same, up to mirroring and rotation",
            found=distinct,
            wanted=2,
            remedy="pass several pictures, or larger ones",
        )
    return tuple(
        warning
        for warning in (_few(distinct), _flat(shown), _noisy(batches), _dark(batches), _gray(batches))
        if warning
    )


def _digest_of_any_rotation(batch: Batch) -> str:
    """The same for a patch and its mirrored and rotated copies."""
    rotations = [np.rot90(batch, quarters, (2, 3)) for quarters in range(4)]
    return min(digest_of(turned) for rotation in rotations for turned in (rotation, rotation[..., ::-1]))


def _few(distinct: int) -> str:
    if distinct >= FEW_PATCHES:
        return ""
    return f"only {distinct} different calibration patches; 40 varied ones are enough, 8 are not"


def _flat(shown: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> str:
    flat = int((~shown).sum())
    return f"{flat} of {len(shown)} calibration patches show one colour only" if 2 * flat > len(shown) else ""


def _noisy(batches: Sequence[Batch]) -> str:
    correlations = [_neighbour_correlation(batch) for batch in batches]
    typical = float(np.median(correlations))
    if typical >= NATURAL_CORRELATION:
        return ""
    return (
        f"the calibration patches look like noise, not like pictures: neighbouring pixels correlate by {typical:.2f}, "
        "those of natural pictures by more than 0.9"
    )


def _dark(batches: Sequence[Batch]) -> str:
    brightest = float(np.max([batch.max() for batch in batches]))
    if brightest >= DARK:
        return ""
    return f"the calibration patches are dark: the brightest sample is {brightest:.2f} of white"


def _gray(batches: Sequence[Batch]) -> str:
    if batches[0].shape[1] != 3 or any(np.ptp(batch, axis=1).max() > FLAT for batch in batches):
        return ""
    return "all calibration patches are gray; colours will meet ranges that were not measured on any"


def _neighbour_correlation(batch: Batch) -> float:
    plane = batch[0].mean(axis=0, dtype=np.float64)
    left, right = plane[:, :-1].ravel(), plane[:, 1:].ravel()
    spread = float(left.std() * right.std())
    return 1.0 if spread < FLAT**2 else float(np.mean((left - left.mean()) * (right - right.mean()))) / spread
