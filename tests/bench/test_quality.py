"""Scores on test pictures: pairs are found and checked, means are means, bicubic is the published one."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from sr_edge.bench import FailedPicture, HrScores, PairFiles, PictureScore, pair_files
from sr_edge.bench.golden import frames_psnr_db
from sr_edge.bench.quality import bicubic, read_pair, score_upscalers
from sr_edge.errors import BundleError, FrameError, UsageError
from sr_edge.frames import Frame, Picture
from sr_edge.image_files import write_picture
from tests.expected_errors import raises


def picture(path: Path, height: int, width: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    write_picture(path, Picture(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)))
    return path


@pytest.mark.parametrize("half", ["bird.png", "birdx2.png"])
def test_halves_are_found_by_name(tmp_path: Path, half: str) -> None:
    original = picture(tmp_path / "hr" / "bird.webp", 24, 24)
    lr = picture(tmp_path / "lr" / half, 12, 12)
    assert pair_files(tmp_path / "hr", 2, tmp_path / "lr") == [PairFiles(original, lr)]


def test_an_original_without_its_half_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "hr" / "bird.png", 24, 24)
    picture(tmp_path / "lr" / "other.png", 12, 12)
    with raises(FrameError, found=tmp_path / "lr", wanted=("bird", "birdx2")):
        pair_files(tmp_path / "hr", 2, tmp_path / "lr")


def test_scale_1_needs_degraded_images(tmp_path: Path) -> None:
    original = picture(tmp_path / "hr" / "bird.png", 24, 24)
    with raises(UsageError, wanted="a folder of degraded images"):
        pair_files(tmp_path / "hr", 1)
    degraded = picture(tmp_path / "noisy" / "bird.png", 24, 24)
    assert pair_files(tmp_path / "hr", 1, tmp_path / "noisy") == [PairFiles(original, degraded)]
    with raises(FrameError, found=(24, 12), wanted=(24, 24), remedy="replace it"):
        read_pair(PairFiles(original, picture(tmp_path / "half.png", 12, 24)), 1)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with raises(FrameError, found=tmp_path):
        pair_files(tmp_path, 2)


def test_halves_of_another_scale_are_refused(tmp_path: Path) -> None:
    pair = PairFiles(picture(tmp_path / "hr.png", 24, 30), picture(tmp_path / "lr.png", 8, 10))
    with raises(FrameError, found=(10, 8), wanted=(15, 12)):
        read_pair(pair, 2)


def test_an_original_is_cropped_and_its_half_made(tmp_path: Path) -> None:
    lr, hr = read_pair(PairFiles(picture(tmp_path / "hr.png", 25, 31)), 3)
    assert (lr.shape, hr.shape) == ((8, 10, 3), (24, 30, 3))


def test_an_original_smaller_than_the_scale_is_refused(tmp_path: Path) -> None:
    with raises(FrameError, found=(31, 2), wanted=(3, 3)):
        read_pair(PairFiles(picture(tmp_path / "hr.png", 2, 31)), 3)


def test_means_are_over_pictures() -> None:
    scores = HrScores.from_pictures([PictureScore("a", 30.0, 0.9), PictureScore("b", 33.0, 0.7)])
    assert scores.psnr_y_db == pytest.approx(31.5)
    assert scores.ssim_y == pytest.approx(0.8)


def test_a_perfect_upscaler_beats_bicubic(tmp_path: Path) -> None:
    path = picture(tmp_path / "hr" / "noise.png", 40, 40)
    _, truth = read_pair(PairFiles(path), 2)
    baseline, perfect = score_upscalers([bicubic(2), lambda lr: truth], [PairFiles(path)], 2, lambda done, total: None)
    assert perfect.psnr_y_db == float("inf")
    assert perfect.ssim_y == pytest.approx(1.0)
    assert baseline.psnr_y_db < 30


def test_a_picture_that_fails_is_listed_and_the_others_go_on(tmp_path: Path) -> None:
    paths = [picture(tmp_path / f"{side}.png", side, side) for side in (40, 44, 48)]
    paths[2].write_bytes(b"no picture")

    def fails_on_22(lr: Frame) -> Frame:
        if lr.shape[0] == 22:
            raise FrameError("the network gave NaN")
        return bicubic(2)(lr)

    pairs = [PairFiles(path) for path in paths]
    baseline, weak = score_upscalers([bicubic(2), fails_on_22], pairs, 2, lambda done, total: None)
    assert [score.name for score in weak.pictures] == ["40.png"]
    assert weak.psnr_y_db == baseline.pictures[0].psnr_y_db
    assert [failed.name for failed in baseline.failed] == ["48.png"]
    assert weak.failed[0] == FailedPicture("44.png", "the network gave NaN")
    assert weak.failed[1].name == "48.png" and str(paths[2]) in weak.failed[1].reason


def test_means_of_nothing_are_no_numbers() -> None:
    assert math.isnan(HrScores.from_pictures([], [FailedPicture("a", "why")]).psnr_y_db)


@pytest.mark.parametrize(("scale", "psnr_db"), [(2, 33.66), (4, 28.42)])
def test_bicubic_on_set5_is_the_published_one(shared_data: Path, scale: int, psnr_db: float) -> None:
    pairs = pair_files(shared_data / "test" / "set5" / "hr", scale)
    (scores,) = score_upscalers([bicubic(scale)], pairs, scale, lambda done, total: None)
    assert scores.psnr_y_db == pytest.approx(psnr_db, abs=0.02)


def test_golden_frames_of_another_shape_are_refused() -> None:
    with raises(BundleError, found=(4, 6, 3), wanted=(4, 4, 3)):
        frames_psnr_db([np.zeros((4, 6, 3), np.uint8)], [np.zeros((4, 4, 3), np.uint8)])
