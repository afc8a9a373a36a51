"""Patches that show nothing are refused; for those that show little there are warnings with numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sr_edge.calibration.data.patch_checks import require_usable
from sr_edge.errors import CalibrationError
from sr_edge.frames import Batch
from tests.expected_errors import raises


def natural(count: int = 20, brightest: float = 1.0) -> list[Batch]:
    """Smooth coloured waves, all different."""
    rows, columns = np.indices((24, 24), np.float32)
    batches = []
    for index in range(count):
        phases = np.array([0.0, 1.0, 2.0], np.float32).reshape(3, 1, 1) + index
        waves = 0.5 + 0.5 * np.sin(rows / 4 + columns / 5 + phases)
        batches.append((brightest * waves[np.newaxis]).astype(np.float32))
    return batches


def test_natural_patches_pass_without_a_word() -> None:
    assert require_usable(natural()) == ()


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_flat_patches_are_refused(level: float) -> None:
    batches = [np.full((1, 3, 24, 24), level, np.float32)] * 10
    with raises(CalibrationError, found=0.0) as caught:
        require_usable(batches)
    assert f"{level:.3f}" in caught.value.problem


def test_copies_of_one_patch_are_refused() -> None:
    with raises(CalibrationError, found=1, wanted=2):
        require_usable(natural(1) * 10)


@pytest.mark.parametrize(
    "turned", [lambda p: p[..., ::-1], lambda p: p[..., ::-1, :], lambda p: np.rot90(p, 1, (2, 3)), np.copy]
)
def test_mirrored_and_rotated_copies_are_copies(turned: Callable[[Batch], Batch]) -> None:
    (batch,) = natural(1)
    with raises(CalibrationError, found=1, wanted=2):
        require_usable([batch, turned(batch)])
    with raises(CalibrationError, found=1, wanted=2):
        require_usable([batch[..., 8:], turned(batch[..., 8:])])


def test_few_patches_are_counted_without_their_copies() -> None:
    (warning,) = require_usable(natural(8) * 5)
    assert warning == "there are only 8 different calibration patches; 40 varied ones are enough, 8 are not"


def test_mostly_flat_patches_are_counted() -> None:
    flat = [np.full((1, 3, 24, 24), index / 40, np.float32) for index in range(24)]
    assert "24 of 40 calibration patches show a single colour" in require_usable([*natural(16), *flat])


def test_noise_is_no_picture() -> None:
    generator = np.random.default_rng(0)
    noise = [generator.random((1, 3, 24, 24)).astype(np.float32) for _ in range(20)]
    (warning,) = require_usable(noise)
    assert "look like noise: the correlation of neighbouring pixels is" in warning


def test_dark_patches_say_how_dark() -> None:
    (warning,) = require_usable(natural(brightest=0.1))
    assert warning == "the calibration patches are dark: the largest sample is 0.10 in a range of 0 to 1"


def test_gray_patches_for_a_colour_network_are_noticed() -> None:
    gray = [np.repeat(batch[:, :1], 3, axis=1) for batch in natural()]
    (warning,) = require_usable(gray)
    assert "are gray" in warning
    assert require_usable([batch[:, :1] for batch in natural()]) == ()
