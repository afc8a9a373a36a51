"""Refuses calibration patches that all have a single colour or are identical, and warns about unsuitable ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sr_edge.calibration.data.patch import digest_of
from sr_edge.errors import CalibrationError
from sr_edge.frames import Batch

FEW_PATCHES = 16
"""Below this number of different patches there is a warning; about 40 varied patches are recommended."""

FLAT = 0.5 / 255.0
"""The standard deviation below which a patch shows a single colour."""

NATURAL_CORRELATION = 0.7
"""Below this correlation of neighbouring pixels, patches look like noise: natural images have more than 0.9."""

_COLOURS = 3
"""The first channels of RGB with alpha are its colours."""

DARK = 0.25
"""Below this largest sample, patches are dark."""


def require_usable(batches: Sequence[Batch]) -> tuple[str, ...]:
    """Checks patches in [0, 1]; returns warnings with the measured numbers.

    Raises:
        CalibrationError: All patches show a single colour, or all are the same up to mirroring and rotation.
    """
    if not batches:
        return ()
    spreads = np.array([float(batch.std(axis=(2, 3)).max()) for batch in batches])
    is_varied = spreads > FLAT
    if not is_varied.any():
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
        for warning in (_few(distinct), _flat(is_varied), _noisy(batches), _dark(batches), _gray(batches))
        if warning
    )


def _digest_of_any_rotation(batch: Batch) -> str:
    """The digest of a patch that its mirrored and rotated copies have as well."""
    rotations = [np.rot90(batch, quarters, (2, 3)) for quarters in range(4)]
    return min(digest_of(turned) for rotation in rotations for turned in (rotation, rotation[..., ::-1]))


def _few(distinct: int) -> str:
    if distinct >= FEW_PATCHES:
        return ""
    return f"there are only {distinct} different calibration patches; 40 varied ones are enough, 8 are not"


def _flat(is_varied: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> str:
    flat = int((~is_varied).sum())
    return f"{flat} of {len(is_varied)} calibration patches show a single colour" if 2 * flat > len(is_varied) else ""


def _noisy(batches: Sequence[Batch]) -> str:
    correlations = [_neighbour_correlation(batch) for batch in batches]
    typical = float(np.median(correlations))
    if typical >= NATURAL_CORRELATION:
        return ""
    return (
        f"the calibration patches look like noise: the correlation of neighbouring pixels is {typical:.2f}, but "
        "natural images have more than 0.9"
    )


def _dark(batches: Sequence[Batch]) -> str:
    brightest = float(np.max([batch[:, :_COLOURS].max() for batch in batches]))
    if brightest >= DARK:
        return ""
    return f"the calibration patches are dark: the largest sample is {brightest:.2f} in a range of 0 to 1"


def _gray(batches: Sequence[Batch]) -> str:
    if batches[0].shape[1] == 1 or any(np.ptp(batch[:, :_COLOURS], axis=1).max() > FLAT for batch in batches):
        return ""
    return "all calibration patches are gray, so the INT8 ranges may be too small for colours"


def _neighbour_correlation(batch: Batch) -> float:
    plane = batch[0, :_COLOURS].mean(axis=0, dtype=np.float64)
    left, right = plane[:, :-1].ravel(), plane[:, 1:].ravel()
    spread = float(left.std() * right.std())
    return 1.0 if spread < FLAT**2 else float(np.mean((left - left.mean()) * (right - right.mean()))) / spread
