"""`sr-edge train`: what it says of wrong requests, of pictures that it skips, and of weights to begin from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from safetensors.torch import load_file

from sr_edge.models.registry import SCALES, bundled_weights, model_names
from sr_edge.training.data import PairSet
from sr_edge.training.validation import mean_bicubic_psnr_db

SrEdge = Callable[..., Any]
RECIPE = {"steps": 2, "patch_px": 16, "mixed_precision": False, "validate_every": 2, "learning_rate": 1e-5}


@pytest.fixture
def request_of(pictures: Path, tmp_path: Path) -> Callable[..., list[str | Path]]:
    """The arguments of a training of two steps; `recipe` changes its file."""

    def arguments(name: str, scale: int, data: Path = pictures, **recipe: object) -> list[str | Path]:
        file = tmp_path / "recipe.json"
        file.write_text(json.dumps({**RECIPE, **recipe}))
        folders: list[str | Path] = ["--data", data, "--val", pictures, "--output", tmp_path / "out"]
        return ["train", name, "--scale", str(scale), *folders, "--recipe", file, "--device", "cpu", "--json"]

    return arguments


def as_text(arguments: list[str | Path]) -> list[str | Path]:
    return [argument for argument in arguments if argument != "--json"]


def test_a_recipe_with_a_wrong_key_names_the_nearest(sr_edge: SrEdge, request_of: Any, tmp_path: Path) -> None:
    outcome = sr_edge(*request_of("convnet-tiny", 2, warmup=3))
    assert outcome.code == 2
    assert all(part in outcome.error for part in ("recipe.json", "'warmup'", "warm_up_steps"))
    assert not (tmp_path / "out").exists()


def test_options_stand_above_the_file(sr_edge: SrEdge, request_of: Any) -> None:
    outcome = sr_edge(*request_of("convnet-tiny", 2), "--steps", "1", "--degradation", "blind-gaussian")
    assert outcome.code == 0, outcome.stderr
    report = json.loads(outcome.stdout)
    assert report["recipe"]["steps"] == 1 and report["recipe"]["patch_px"] == 16
    assert report["degradation"] == "blind-gaussian" and len(report["psnr_db"]) == 8 * 3


def test_an_unknown_degradation(sr_edge: SrEdge, request_of: Any) -> None:
    outcome = sr_edge(*request_of("convnet-tiny", 2), "--degradation", "snow")
    assert outcome.code == 2 and "'snow'" in outcome.error and "bicubic, blind-gaussian, realnet" in outcome.error


def test_weights_for_a_loss_that_the_recipe_does_not_have_are_refused(
    sr_edge: SrEdge, request_of: Any, tmp_path: Path
) -> None:
    outcome = sr_edge(*request_of("convnet-tiny", 2), "--vgg", tmp_path / "recipe.json")
    assert outcome.code == 2 and "--vgg" in outcome.error
    assert not (tmp_path / "out").exists()


def test_a_picture_cut_short_is_skipped_counted_and_named(
    sr_edge: SrEdge, request_of: Any, pictures: Path, tmp_path: Path
) -> None:
    data = copytree(pictures, tmp_path / "data")
    broken = data / "waves1.png"
    broken.write_bytes(broken.read_bytes()[:200])
    outcome = sr_edge(*as_text(request_of("convnet-tiny", 2, data)))
    assert outcome.code == 0, outcome.stderr
    assert f"skipped: {broken} is damaged" in outcome.stdout
    assert "1 of 3 training images were skipped" in outcome.stdout


def test_fine_tuning_begins_with_the_bundled_weights(sr_edge: SrEdge, request_of: Any) -> None:
    """Two steps at a rate of 1e-5 leave what was learnt in place; a start of one's own is far from it."""
    path = bundled_weights("convnet-tiny", 2)
    assert path is not None
    bundled = load_file(path)

    def farthest_from_bundled(*options: str) -> float:
        report = json.loads(sr_edge(*request_of("convnet-tiny", 2), *options).stdout)
        learned = load_file(report["weights"])
        (Path(report["weights"]).parent / "checkpoint.pt").unlink()
        return max(float((learned[key].float() - bundled[key].float()).abs().max()) for key in bundled)

    assert farthest_from_bundled() > 0.1
    assert farthest_from_bundled("--from-bundled") < 1e-3


def test_the_report_says_what_to_compare_with(sr_edge: SrEdge, request_of: Any, pictures: Path) -> None:
    result = sr_edge(*request_of("convnet-tiny", 2), "--from-bundled")
    report = json.loads(result.stdout)
    pairs = PairSet.from_folder(pictures, 2)
    assert report["bicubic_psnr_db"] == mean_bicubic_psnr_db(pairs) > 30  # smooth waves are easy
    assert report["first_psnr_db"] == pytest.approx(report["mean_psnr_db"], abs=0.5)  # two steps change little
    shown = sr_edge(*as_text(request_of("convnet-tiny", 2)), "--from-bundled").stdout
    before = f"the initial weights {report['first_psnr_db']:.2f} dB"
    assert f"for comparison: bicubic {report['bicubic_psnr_db']:.2f} dB, {before}\n" in shown


def test_a_finished_training_says_that_nothing_was_trained(
    sr_edge: SrEdge, request_of: Any, pictures: Path, tmp_path: Path
) -> None:
    first = sr_edge(*as_text(request_of("convnet-tiny", 2))).stdout
    assert "nothing was trained" not in first
    again = sr_edge(*as_text(request_of("convnet-tiny", 2))).stdout
    assert f"nothing was trained, since the checkpoint in {tmp_path / 'out'} has all 2 steps\n" in again
    assert json.loads(sr_edge(*request_of("convnet-tiny", 2)).stdout)["steps_trained"] == 0


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ("--data", "(--data)"),
        ("--val", "(--val)"),
        ("--from-bundled", "(--weights, --from-bundled)"),
        ("--degradation", "recipe"),
        ("model", "model"),
    ],
)
def test_a_training_begun_from_something_else_is_not_continued(
    sr_edge: SrEdge, request_of: Any, pictures: Path, tmp_path: Path, changed: str, named: str
) -> None:
    assert sr_edge(*request_of("convnet-tiny", 2)).code == 0
    before = (tmp_path / "out" / "weights.safetensors").read_bytes()
    fewer = copytree(pictures, tmp_path / "fewer")
    (fewer / "waves1.png").unlink()
    options: dict[str, list[str | Path]] = {
        "--from-bundled": ["--from-bundled"],
        "--degradation": ["--degradation", "blind-gaussian"],
        "model": [],
    }
    name = "convnet-light" if changed == "model" else "convnet-tiny"
    outcome = sr_edge(*request_of(name, 2), *options.get(changed, [changed, fewer]))
    assert outcome.code == 1 and named in outcome.error and "--output" in outcome.error
    assert (tmp_path / "out" / "weights.safetensors").read_bytes() == before


def test_a_training_that_ends_below_bicubic_warns_with_both_figures(sr_edge: SrEdge, request_of: Any) -> None:
    outcome = sr_edge(*request_of("convnet-tiny", 2, learning_rate=0.99))
    report = json.loads(outcome.stdout)
    both = f"warning: {report['mean_psnr_db']:.2f} dB is below the {report['bicubic_psnr_db']:.2f} dB of bicubic"
    assert outcome.code == 0 and both in outcome.stderr


def test_nothing_bundled_to_begin_from(sr_edge: SrEdge, request_of: Any) -> None:
    name, scale = next((n, s) for n in model_names() for s in SCALES if bundled_weights(n, s) is None)
    outcome = sr_edge(*request_of(name, scale), "--from-bundled")
    assert outcome.code == 2
    assert f"{name} x{scale}" in outcome.error and "--weights FILE" in outcome.error
