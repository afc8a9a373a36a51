"""PSNR-Y and SSIM-Y against values computed by hand, a direct evaluation, and published results."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sr_edge.errors import FrameError
from sr_edge.image_files import list_pictures, read_picture
from sr_edge.metrics import fidelity, flicker_levels, luma, psnr_y_db, ssim_y
from sr_edge.resize import crop_to_multiple, resize_bicubic
from tests.expected_errors import raises


def noise(seed: int, *shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def test_luma_of_the_corners_of_the_colour_cube() -> None:
    corners = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    np.testing.assert_allclose(luma(corners), [[16, 235, 81.481, 144.553, 40.966]], atol=1e-9)


def test_gray_and_16_bit_pictures_have_the_luma_of_their_8_bit_rgb() -> None:
    gray = noise(0, 4, 5, 1)
    np.testing.assert_allclose(luma(gray), luma(np.repeat(gray, 3, axis=2)), atol=1e-9)
    near = gray.astype(np.uint16) * 257 + np.uint16(100) * (gray < 255)
    np.testing.assert_allclose(luma(near), luma(gray), atol=1e-9)


def test_psnr_of_a_known_luma_difference() -> None:
    dark = np.full((8, 8, 1), 100, np.uint8)
    one_level = 219 / 255
    assert psnr_y_db(dark, dark + np.uint8(1), 0) == pytest.approx(20 * math.log10(255 / one_level), abs=1e-9)


def test_the_border_does_not_count() -> None:
    reference = noise(1, 12, 14, 3)
    spoilt = reference.copy()
    spoilt[:2], spoilt[-2:], spoilt[:, :2], spoilt[:, -2:] = 0, 0, 0, 0
    assert psnr_y_db(spoilt, reference, 2) == math.inf
    assert psnr_y_db(spoilt, reference, 1) < 30


def test_the_same_picture_is_infinitely_near_and_wholly_similar() -> None:
    picture = noise(2, 20, 20, 3)
    assert psnr_y_db(picture, picture, 4) == math.inf
    assert ssim_y(picture, picture, 4) == pytest.approx(1, abs=1e-12)


def test_ssim_equals_its_definition_window_by_window() -> None:
    first, second = noise(3, 17, 15, 3), noise(4, 17, 15, 3)
    assert ssim_y(first, second, 1) == pytest.approx(direct_ssim(luma(first)[1:-1, 1:-1], luma(second)[1:-1, 1:-1]))


def direct_ssim(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    gauss = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(gauss, gauss) / gauss.sum() ** 2
    values = []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a, b = (plane[top : top + 11, left : left + 11] for plane in (x, y))
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            variances = (window * (a - mean_a) ** 2).sum() + (window * (b - mean_b) ** 2).sum()
            covariance = (window * (a - mean_a) * (b - mean_b)).sum()
            c1, c2 = 2.55**2, 7.65**2
            likeness = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
            values.append(likeness / ((mean_a**2 + mean_b**2 + c1) * (variances + c2)))
    return float(np.mean(values))


@pytest.mark.parametrize("metric", [psnr_y_db, ssim_y])
def test_pictures_of_different_size_are_refused(metric: Any) -> None:
    with raises(FrameError, found=(20, 30), wanted=(21, 30)):
        metric(noise(0, 20, 30, 3), noise(0, 21, 30, 3), 2)


def test_a_border_that_leaves_nothing_is_refused() -> None:
    with raises(FrameError, found=(4, 0), wanted=1):
        psnr_y_db(noise(0, 8, 4, 3), noise(0, 8, 4, 3), 2)
    with raises(FrameError, found=(10, 26), wanted=11):
        ssim_y(noise(0, 14, 30, 3), noise(0, 14, 30, 3), 2)


@pytest.mark.parametrize(("scale", "published_db"), [(2, 33.66), (3, 30.39), (4, 28.42)])
def test_bicubic_on_set5_has_its_published_psnr(shared_data: Path, scale: int, published_db: float) -> None:
    scores = []
    for path in list_pictures(shared_data / "test" / "set5" / "hr"):
        hr = crop_to_multiple(read_picture(path).pixels, scale)
        lr = read_picture(shared_data / "test" / "set5" / f"lr_x{scale}" / path.name).pixels
        scores.append(psnr_y_db(resize_bicubic(lr, scale), hr, scale))
    assert len(scores) == 5
    assert np.mean(scores) == pytest.approx(published_db, abs=0.02)


@pytest.mark.parametrize(("scale", "published_db"), [(2, 33.66), (3, 30.39), (4, 28.42)])
def test_the_protocol_behind_the_published_figures_gives_them_to_the_last_digit(
    shared_data: Path, scale: int, published_db: float
) -> None:
    """Dong et al. 2014 resize the 8-bit luma itself, without rounding in between."""
    scores = []
    for path in list_pictures(shared_data / "test" / "set5" / "hr"):
        hr = np.floor(luma(crop_to_multiple(read_picture(path).pixels, scale)) + 0.5)
        enlarged = np.floor(resize_bicubic(resize_bicubic(hr, 1 / scale), scale) + 0.5)
        difference = (enlarged - hr)[scale:-scale, scale:-scale]
        scores.append(10 * math.log10(255**2 / np.mean(difference**2)))
    assert np.mean(scores) == pytest.approx(published_db, abs=0.005)


@pytest.mark.parametrize(("scale", "published"), [(2, 0.9299), (3, 0.8682), (4, 0.8104)])
def test_bicubic_on_set5_has_its_published_ssim(shared_data: Path, scale: int, published: float) -> None:
    scores = []
    for path in list_pictures(shared_data / "test" / "set5" / "hr"):
        hr = crop_to_multiple(read_picture(path).pixels, scale)
        lr = read_picture(shared_data / "test" / "set5" / f"lr_x{scale}" / path.name).pixels
        scores.append(ssim_y(resize_bicubic(lr, scale), hr, scale))
    assert np.mean(scores) == pytest.approx(published, abs=0.001)


class TestFidelity:
    """The fidelity of an output in a lower precision to the float output, which decides if a precision is used."""

    picture = np.random.default_rng(5).uniform(0.1, 0.9, (1, 3, 24, 24)).astype(np.float32)

    def test_equal_pictures_have_no_flaw(self) -> None:
        kept = fidelity(self.picture, self.picture)
        assert (kept.psnr_db, kept.color_shift, kept.flaw) == (math.inf, 0.0, "")
        assert kept.ssim == pytest.approx(1.0)

    def test_it_is_about_the_ssim_of_luma(self) -> None:
        frames = [noise(6, 24, 24, 3), noise(7, 24, 24, 3)]
        batches = [(frame.transpose(2, 0, 1)[np.newaxis] / 255).astype(np.float32) for frame in frames]
        first, second = frames
        assert fidelity(*batches).ssim == pytest.approx(ssim_y(first, second, 0), abs=0.02)

    def test_a_tint_is_a_flaw_and_noise_of_that_size_is_none(self) -> None:
        tinted, noisy = self.picture.copy(), self.picture.copy()
        tinted[:, 2] += np.float32(0.75 / 255)
        noisy[:, 2] += (0.75 / 255 * (-1.0) ** np.indices((24, 24)).sum(0)).astype(np.float32)
        assert fidelity(tinted, self.picture).flaw
        assert not fidelity(noisy, self.picture).flaw

    def test_lost_detail_is_a_flaw(self) -> None:
        smoothed = np.full_like(self.picture, self.picture.mean())
        assert fidelity(smoothed, self.picture).ssim < 0.5
        assert fidelity(smoothed, self.picture).flaw

    def test_what_is_beyond_white_does_not_count(self) -> None:
        assert fidelity(np.full_like(self.picture, 3.0), np.ones_like(self.picture)).psnr_db == math.inf

    def test_a_number_that_is_not_finite_is_infinitely_far(self) -> None:
        broken = self.picture.copy()
        broken[0, 1, 2, 3] = np.inf
        assert fidelity(broken, self.picture).psnr_db == -math.inf
        assert fidelity(broken, self.picture).flaw

    def test_a_picture_smaller_than_the_window_has_one_window(self) -> None:
        small = self.picture[:, :1, :5, :4]
        assert fidelity(small, small).ssim == pytest.approx(1.0)


def still(count: int, scale: int = 2) -> list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]:
    """Equal frames with equal outputs."""
    frame = noise(1, 6, 8, 3)
    return [(frame.copy(), frame.repeat(scale, 0).repeat(scale, 1)) for _ in range(count)]


def test_a_still_output_does_not_flicker() -> None:
    assert flicker_levels(still(3), 2) == 0.0


def test_flicker_is_the_mean_difference_from_frame_to_frame() -> None:
    frames = still(3)
    frames[1][1][:6] ^= 1
    assert flicker_levels(frames, 2) == pytest.approx(0.5), "half of the samples differ by one level, in both steps"
    sixteen = [(before, after.astype(np.uint16) * 257) for before, after in frames]
    assert flicker_levels(sixteen, 2) == pytest.approx(0.5), "in 8-bit levels"


def test_flicker_does_not_count_what_depends_on_a_change_of_the_input() -> None:
    frames = still(2)
    frames[1][0][2, 3, 0] ^= 1
    changed = frames[1][1]
    changed[4:6, 6:8] ^= 1
    assert flicker_levels(frames, 2) == 0.0
    changed[2:8, 4:10] ^= 1
    assert (flicker_levels(frames, 2) or 0) > 0
    assert flicker_levels(frames, 2, reach_px=1) == 0.0
    assert flicker_levels(frames, 2, reach_px=8) is None, "nothing is out of reach of the change"


def test_flicker_of_frames_that_do_not_match_is_refused() -> None:
    small, large = still(2)
    with raises(FrameError):
        flicker_levels([small, (large[0][:4], large[1])], 2)
    with raises(FrameError):
        flicker_levels([small, large], 3)
    with raises(FrameError):
        flicker_levels([small, (large[0], large[1].astype(np.uint16))], 2)
