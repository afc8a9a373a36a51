"""A training continues from its own checkpoint, and refuses damaged ones and those of other trainings."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sr_edge.errors import TrainingError, TrainingInterrupted
from sr_edge.models import build_network
from sr_edge.training.checkpoint import ENTRIES, REMEDY, WANTED
from sr_edge.training.loop import CHECKPOINT, run_training, train
from tests.expected_errors import raises
from tests.training.short_runs import RECIPE, ask_to_stop, network, training


def test_a_checkpoint_of_another_recipe_is_refused(pictures: Path, tmp_path: Path) -> None:
    train(network(), training(pictures, tmp_path))
    assert (tmp_path / CHECKPOINT).is_file()
    with raises(TrainingError, found={"seed": 0}, wanted={"seed": 5}):
        train(network(), training(pictures, tmp_path, replace(RECIPE, seed=5)))


def test_a_checkpoint_from_before_a_part_of_the_recipe_is_continued(pictures: Path, tmp_path: Path) -> None:
    whole = train(network(), training(pictures, tmp_path / "whole")).read_bytes()
    with pytest.raises(TrainingInterrupted):
        train(network(), training(pictures, tmp_path / "older", RECIPE, ask_to_stop(signal.SIGINT, 6)))
    content = torch.load(tmp_path / "older" / CHECKPOINT, weights_only=True)
    del content["recipe"]["l2_weight"]
    torch.save(content, tmp_path / "older" / CHECKPOINT)
    assert train(network(), training(pictures, tmp_path / "older")).read_bytes() == whole


@pytest.mark.parametrize(
    ("content", "actual", "wanted"),
    [
        (b"PK damaged", None, WANTED),
        (b"hello\n", None, WANTED),
        (b"", None, WANTED),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), None, WANTED),
        (bytes(range(256)), None, WANTED),
        ({"params": torch.zeros(1)}, ["params"], ENTRIES),
        (torch.zeros(2), "Tensor", ENTRIES),
        (None, None, "a readable file"),
    ],
)
def test_a_damaged_or_foreign_checkpoint_is_named(
    pictures: Path, tmp_path: Path, content: object, actual: object, wanted: object
) -> None:
    path = tmp_path / CHECKPOINT
    if content is None:
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with raises(TrainingError, found=actual or path, wanted=wanted, remedy=REMEDY) as caught:
        train(network(), training(pictures, tmp_path))
    assert str(path) in caught.value.problem


def test_a_checkpoint_cut_short_is_named(pictures: Path, tmp_path: Path) -> None:
    train(network(), training(pictures, tmp_path))
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-1000])
    with raises(TrainingError, found=path, wanted=WANTED):
        train(network(), training(pictures, tmp_path))


def test_a_checkpoint_of_another_scale_is_named(pictures: Path, tmp_path: Path) -> None:
    train(network(), training(pictures, tmp_path))
    with raises(TrainingError, found=tmp_path / CHECKPOINT, wanted="the weights of this network at this scale"):
        train(build_network("convnet-tiny", 3), training(pictures, tmp_path))


def test_a_checkpoint_that_does_not_tell_what_it_was_begun_from_is_continued(pictures: Path, tmp_path: Path) -> None:
    """As they were written at first; from then on it tells."""

    class KilledError(Exception):
        pass

    def kill_at_eight(progress: object) -> None:
        if getattr(progress, "step", 0) == 8:
            raise KilledError

    whole = train(network(), training(pictures, tmp_path / "whole"))
    with pytest.raises(KilledError):
        train(network(), training(pictures, tmp_path / "out", RECIPE, kill_at_eight))
    path = tmp_path / "out" / CHECKPOINT
    content = torch.load(path, weights_only=True)
    torch.save({name: content[name] for name in ENTRIES}, path)
    parts = run_training(network(), replace(training(pictures, tmp_path / "out"), origin={"data": "a"}))
    assert parts.steps == 6
    first, second = load_file(whole), load_file(parts.weights)
    assert all(torch.equal(first[key], second[key]) for key in first)
    with raises(TrainingError, found=["data"]):
        train(network(), replace(training(pictures, tmp_path / "out"), origin={"data": "b"}))


def test_a_finished_training_gives_its_weights_again(pictures: Path, tmp_path: Path) -> None:
    weights = train(network(), training(pictures, tmp_path))
    before = weights.read_bytes()
    weights.unlink()
    assert run_training(network(), training(pictures, tmp_path)).steps == 0
    assert weights.read_bytes() == before
