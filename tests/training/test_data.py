"""Crops follow from the seed, and pictures that cannot be used are skipped or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest
import torch
from torch import nn

from sr_edge.errors import FrameError, TrainingError, UnknownNameError, UsageError
from sr_edge.frames import Picture
from sr_edge.image_files import write_picture
from sr_edge.models import model_names
from sr_edge.training import train_model
from sr_edge.training.data import CropSource, Originals, PairSet
from tests.expected_errors import raises
from tests.training.short_runs import RECIPE


def test_batches_follow_from_seed_and_step_alone(pictures: Path) -> None:
    crops = CropSource(Originals.from_folder(pictures, 2, 16))
    first, again, other = (crops.batch(step, 4, 16, seed=1) for step in (7, 7, 8))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert first[0].shape == (4, 3, 16, 16) and first[1].shape == (4, 3, 32, 32)


def test_crops_of_a_pair_show_the_same_place(pictures: Path) -> None:
    lr, hr = CropSource(Originals.from_folder(pictures, 2, 16)).batch(0, 8, 16, seed=0)
    reduced = nn.functional.avg_pool2d(hr, 2)
    assert (lr - reduced).abs().mean() < 0.01 < (lr - reduced.flip(-1)).abs().mean()


def test_small_pictures_to_validate_on_are_skipped_and_told_before_the_first_step(
    pictures: Path, tmp_path: Path
) -> None:
    """A picture that the network or the measure cannot take would stop the run at its first validation."""
    report = train_model("ups-tiny", 2, pictures, pictures, tmp_path / "ups", replace(RECIPE, steps=1))
    assert report.skipped_validation == () and set(report.psnr_db) == {"0.png", "1.png", "2.png"}
    write_picture(pictures / "3.png", Picture(np.zeros((5, 9, 3), np.uint8)))
    (skipped,) = PairSet.from_folder(pictures, 2).skipped
    assert skipped.endswith("3.png is 9x5 pixels; 6x6 are needed for validation")
    out = tmp_path / "taylor"
    with raises(UsageError, found=16, wanted=25):
        train_model("taylor-swinir-tiny", 2, pictures, pictures, out, RECIPE)
    recipe = replace(RECIPE, steps=1, patch_px=32)
    report = train_model("taylor-swinir-tiny", 2, pictures, pictures, out, recipe)
    assert set(report.psnr_db) == {"0.png", "1.png"} and len(report.skipped_validation) == 2
    assert "2.png is 20x20 pixels; 50x50 are needed for validation" in report.skipped_validation[0]


def test_more_pictures_than_memory_holds(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this the system would end the program, and say nothing."""
    first_two = 3 * (64**2 + 72**2)
    for free_bytes, is_enough in ((int(first_two / 0.7) + 3, True), (int(first_two / 0.7) - 3, False)):
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free_bytes: SimpleNamespace(available=free))
        if is_enough:
            assert len(Originals.from_folder(pictures, 2, 16).pictures) == 2
        else:
            with raises(TrainingError, found=first_two, wanted=first_two - 3):
                Originals.from_folder(pictures, 2, 16)


def test_small_pictures_are_skipped_and_named(pictures: Path) -> None:
    originals = Originals.from_folder(pictures, 2, 16)
    assert len(originals.pictures) == 2
    assert originals.skipped[0].endswith("2.png is 20x20 pixels; 32x32 are needed for training")


@pytest.mark.parametrize("kind", ["empty", "broken"])
def test_folders_without_a_usable_picture(tmp_path: Path, kind: str) -> None:
    if kind == "broken":
        (tmp_path / "a.png").write_bytes(b"no picture")
    with raises(TrainingError, found=tmp_path, wanted="images for validation") as caught:
        PairSet.from_folder(tmp_path, 2)
    assert ("a.png" in caught.value.problem) is (kind == "broken")


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with raises(FrameError) as caught:
        PairSet.from_folder(tmp_path / "missing", 2)
    assert str(tmp_path / "missing") in str(caught.value)


def test_what_is_refused_leaves_no_folder(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    with raises(UnknownNameError, found="nonsense", wanted=model_names()):
        train_model("nonsense", 2, pictures, pictures, out, RECIPE)
    with raises(UsageError, found=pictures / "0.png", wanted="a folder"):
        train_model("convnet-tiny", 2, pictures, pictures, pictures / "0.png" / "out", RECIPE)
    assert not out.parent.exists()


@pytest.mark.parametrize(("empty", "purpose"), [("data", "for training"), ("val", "for validation")])
def test_the_error_tells_which_folder_has_no_picture(pictures: Path, tmp_path: Path, empty: str, purpose: str) -> None:
    folders = {"data": pictures, "val": pictures, empty: tmp_path / empty}
    (tmp_path / empty).mkdir()
    with raises(TrainingError, found=tmp_path / empty, wanted=f"images {purpose}"):
        train_model("convnet-tiny", 2, folders["data"], folders["val"], tmp_path / "out", RECIPE)
