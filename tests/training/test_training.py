"""Training learns, continues after a stop as if there had been none, and refuses what it cannot use."""

from __future__ import annotations

import csv
import errno
import math
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file

from sr_edge.errors import TrainingError, TrainingInterrupted, UsageError
from sr_edge.models import build_network
from sr_edge.models.layers.swin import initialize_swin
from sr_edge.resize import resize_bicubic
from sr_edge.training import Recipe, train_model
from sr_edge.training.data import PairSet
from sr_edge.training.log import LOG
from sr_edge.training.loop import CHECKPOINT, WEIGHTS, train
from sr_edge.training.losses.objective import PixelLoss
from sr_edge.training.recipe import OptimizerName
from sr_edge.training.run import CURVE
from sr_edge.training.validation import mean_psnr_db
from tests.expected_errors import raises
from tests.training.short_runs import RECIPE, ask_to_stop, network, training


def test_training_learns(pictures: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=60, validate_every=60)
    student = network()
    pairs = PairSet.from_folder(pictures, 2)
    before = mean_psnr_db(student, pairs)
    train(student, training(pictures, tmp_path / "out", recipe))
    assert mean_psnr_db(student, pairs) > before + 1.5


def test_a_killed_run_continues_identically(pictures: Path, tmp_path: Path) -> None:
    whole = train(network(), training(pictures, tmp_path / "whole"))

    class KilledError(Exception):
        pass

    def kill_at_eight(progress: object) -> None:
        if getattr(progress, "step", 0) == 8:
            raise KilledError

    with pytest.raises(KilledError):
        train(network(), training(pictures, tmp_path / "parts", RECIPE, kill_at_eight))
    parts = train(network(), training(pictures, tmp_path / "parts"))
    first, second = load_file(whole), load_file(parts)
    assert all(torch.equal(first[key], second[key]) for key in first)
    with (tmp_path / "parts" / LOG).open(newline="") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [6, 12]


@pytest.mark.parametrize("step", [1, 2, 7, 12])
def test_ctrl_c_saves_every_step_and_the_continuation_is_identical(pictures: Path, tmp_path: Path, step: int) -> None:
    whole = train(network(), training(pictures, tmp_path / "whole"))
    before = signal.getsignal(signal.SIGINT)
    with raises(TrainingInterrupted, found=step, wanted=12) as stopped:
        train(network(), training(pictures, tmp_path / "parts", RECIPE, ask_to_stop(signal.SIGINT, step)))
    assert stopped.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) is before
    seen: list[int] = []
    parts = train(network(), training(pictures, tmp_path / "parts", RECIPE, lambda now: seen.append(now.step)))
    assert seen == list(range(step + 1, 13))
    first, second = load_file(whole), load_file(parts)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture
def ctrl_c_heard() -> Iterator[None]:
    """As in a terminal: a shell starts background jobs, CI among them, deaf to Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_heard")
def test_a_second_ctrl_c_stops_at_once(pictures: Path, tmp_path: Path) -> None:

    def twice(_progress: object) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(network(), training(pictures, tmp_path, RECIPE, twice))
    assert list(tmp_path.glob("*.part")) == []


def test_being_terminated_saves_too_and_then_ends_as_the_program_would(pictures: Path, tmp_path: Path) -> None:
    class TerminatedError(Exception):
        pass

    def terminate(_number: int, _frame: object) -> None:
        raise TerminatedError

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        with pytest.raises(TerminatedError):
            train(network(), training(pictures, tmp_path / "out", RECIPE, ask_to_stop(signal.SIGTERM, 1)))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (tmp_path / "out" / CHECKPOINT).is_file()


def test_training_works_in_another_thread_where_signals_cannot_be_caught(pictures: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(train, network(), training(pictures, tmp_path)).result().is_file()


def test_the_loss_of_pixels_is_the_sum_of_its_parts() -> None:
    target = torch.zeros(1, 3, 4, 4)
    for weights, wanted in (((1.0, 0.0), 0.5), ((0.0, 4.0), 1.0), ((2.0, 4.0), 2.0)):
        assert PixelLoss(*weights).loss(target + 0.5, target).item() == wanted


def test_squared_error_alone_is_learnt(pictures: Path, tmp_path: Path) -> None:
    actual, absolute = (
        train_model(
            "convnet-tiny", 2, pictures, pictures, tmp_path / str(l2), replace(RECIPE, l1_weight=1 - l2, l2_weight=l2)
        )
        for l2 in (1.0, 0.0)
    )
    assert actual.recipe.l2_weight == 1.0 and actual.recipe.l1_weight == 0.0
    assert actual.weights.read_bytes() != absolute.weights.read_bytes()


@pytest.fixture
def disk_full_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Makes the n-th file of a name get no further than its first bytes."""
    write, seen = Path.write_bytes, []

    def fill(name: str, number: int) -> None:
        def full(path: Path, content: bytes) -> int:
            seen.append(name in path.name)
            if name in path.name and sum(seen) == number:
                write(path, b"half")
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(path, content)

        monkeypatch.setattr(Path, "write_bytes", full)

    return fill


def test_a_full_disk_names_the_checkpoint_and_leaves_nothing(
    pictures: Path, tmp_path: Path, disk_full_at: Callable[[str, int], None]
) -> None:
    disk_full_at(CHECKPOINT, 1)
    with raises(TrainingError, found=tmp_path / "out" / CHECKPOINT) as caught:
        train(network(), training(pictures, tmp_path / "out"))
    assert os.strerror(errno.ENOSPC) in caught.value.problem
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(("name", "number", "step"), [(CHECKPOINT, 3, 6), (WEIGHTS, 2, 9)])
def test_a_disk_that_fills_up_during_a_run_keeps_the_checkpoint_before(
    pictures: Path, tmp_path: Path, disk_full_at: Callable[[str, int], None], name: str, number: int, step: int
) -> None:
    whole = train(network(), training(pictures, tmp_path / "whole"))
    disk_full_at(name, number)
    with raises(TrainingError, found=tmp_path / "out" / name):
        train(network(), training(pictures, tmp_path / "out"))
    assert torch.load(tmp_path / "out" / CHECKPOINT, weights_only=True)["step"] == step
    parts = train(network(), training(pictures, tmp_path / "out"))
    first, second = load_file(whole), load_file(parts)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert log_rows(tmp_path / "out") == log_rows(tmp_path / "whole")


def test_a_full_disk_spares_the_curve_and_the_weights(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_figure: Figure, picture: Path, **_options: object) -> None:
        picture.write_bytes(b"")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(picture))

    monkeypatch.setattr(Figure, "savefig", full)
    with raises(TrainingError, found=tmp_path / CURVE):
        train_model("convnet-tiny", 2, pictures, pictures, tmp_path, RECIPE)
    left = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert left == {CHECKPOINT, LOG, WEIGHTS}


def log_rows(out: Path) -> list[tuple[str, ...]]:
    """Step, loss and PSNR of every line."""
    with (out / LOG).open(newline="") as file:
        return [(row["step"], row["loss"], row["psnr_db"]) for row in csv.DictReader(file)]


def test_a_run_killed_after_a_validation_leaves_no_traces_when_it_goes_on(pictures: Path, tmp_path: Path) -> None:
    """Its log is ahead of its checkpoint and cut short, and what it was writing has not got its name yet."""
    recipe = replace(RECIPE, validate_every=2, checkpoint_every=4)
    train(network(), training(pictures, tmp_path / "whole", recipe))
    out = tmp_path / "parts"

    class KilledError(Exception):
        pass

    def kill_at_seven(progress: object) -> None:
        if getattr(progress, "step", 0) == 7:
            raise KilledError

    with pytest.raises(KilledError):
        train(network(), training(pictures, out, recipe, kill_at_seven))
    with (out / LOG).open("a") as file:
        file.write("8,0.")
    (out / f".{CHECKPOINT}.sr-edge.part").write_bytes(b"half")
    train(network(), training(pictures, out, recipe))
    assert log_rows(out) == log_rows(tmp_path / "whole")
    assert {path.name for path in out.iterdir()} == {CHECKPOINT, LOG, WEIGHTS}


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA"), RuntimeError("... DefaultCPUAllocator: not enough memory")]
)
def test_too_little_memory_says_what_to_make_smaller(pictures: Path, tmp_path: Path, error: Exception) -> None:
    with raises(TrainingError, found="2 crops of 16x16") as caught:
        train(network(), training(pictures, tmp_path), FailingLoss(error))
    assert "patch_px" in (caught.value.remedy or "")


def test_other_errors_of_torch_are_not_taken_for_too_little_memory(pictures: Path, tmp_path: Path) -> None:
    error = RuntimeError("shapes")
    with pytest.raises(RuntimeError) as caught:
        train(network(), training(pictures, tmp_path), FailingLoss(error))
    assert caught.value is error


class FailingLoss(PixelLoss):
    """Raises an error instead of giving a loss."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def loss(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        raise self.error


@pytest.mark.parametrize(("name", "scale"), [("labnet-tiny", 2), ("realnet-tiny", 4)])
def test_networks_learn_from_their_papers_degradation(pictures: Path, tmp_path: Path, name: str, scale: int) -> None:
    recipe = replace(RECIPE, steps=2, validate_every=2, patch_px=8, optimizer=OptimizerName.ADAMW, weight_decay=0.01)
    report = train_model(name, scale, pictures, pictures, tmp_path / "out", recipe)
    assert report.degradation == {"labnet-tiny": "blind-gaussian", "realnet-tiny": "realnet"}[name]
    assert len(report.psnr_db) == (24 if name == "labnet-tiny" else 3) and report.mean_psnr_db > 10


def test_an_empty_log_gets_its_heading(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / LOG).touch()
    train(network(), training(pictures, tmp_path))
    with (tmp_path / LOG).open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["6", "12"]


def test_a_diverging_loss_stops_the_run(pictures: Path, tmp_path: Path) -> None:
    student = network()
    with torch.no_grad():
        next(student.parameters()).fill_(float("nan"))
    with raises(TrainingError, found=0, wanted="a finite loss"):
        train(student, training(pictures, tmp_path))
    assert not (tmp_path / WEIGHTS).exists()


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_run_that_diverges_leaves_the_last_good_weights(pictures: Path, tmp_path: Path, where: str) -> None:
    seen: list[int] = []

    class Diverging(PixelLoss):
        def loss(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            seen.append(1)
            loss = super().loss(prediction, target)
            if len(seen) <= 8:
                return loss
            return loss * math.nan if where == "loss" else loss + (prediction - prediction.detach()).abs().sqrt().sum()

    with raises(TrainingError, found=8, wanted=f"a finite {where}") as caught:
        train(network(), training(pictures, tmp_path / "out"), Diverging())
    assert f"--weights {tmp_path / 'out' / WEIGHTS}" in (caught.value.remedy or "")
    kept = load_file(tmp_path / "out" / WEIGHTS)
    assert kept and all(value.isfinite().all() for value in kept.values())
    start = dict(network().state_dict())
    assert any(not torch.equal(kept[key].float(), start[key].half().float()) for key in kept)


def test_recipes_are_checked() -> None:
    with raises(UsageError, found={"steps": 0}):
        Recipe(steps=0)
    rates = [Recipe(steps=100, warm_up_steps=10).learning_rate_at(step) for step in range(100)]
    assert rates[0] < rates[9] > rates[50] > rates[99] > 0


def test_the_report_measures_the_written_weights(pictures: Path, tmp_path: Path) -> None:
    report = train_model("convnet-tiny", 2, pictures, pictures, tmp_path / "out", RECIPE)
    assert report.weights.stat().st_size < 100_000 and report.pictures == 2
    assert set(report.psnr_db) == {"0.png", "1.png", "2.png"}
    assert (tmp_path / "out" / "curve.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("name", "scale"),
    [("taylor-swinir-tiny", 2), ("taylor-swinir-tiny", 3), ("taylor-swinir-tiny", 4), ("ups-tiny", 2)],
)
def test_a_transformer_starts_as_a_bicubic_enlarger(name: str, scale: int) -> None:
    torch.manual_seed(0)
    student = build_network(name, scale)
    initialize_swin(student)
    student.get_parameter("upsample.0.weight").data[:, 27:] = 0  # its small random part
    picture = torch.rand(1, 3, 48, 48)
    with torch.inference_mode():
        actual = student(picture)[0].permute(1, 2, 0).numpy()
    bicubic = resize_bicubic(picture[0].permute(1, 2, 0).numpy(), scale)
    inside = slice(2 * scale, -2 * scale)  # zeros lie around the picture
    assert np.abs(actual - bicubic)[inside, inside].max() < 1e-5
