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
from types import SimpleNamespace

import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file
from torch import nn

from sr_edge.errors import FrameError, TrainingError, TrainingInterrupted, UnknownNameError, UsageError
from sr_edge.frames import Picture
from sr_edge.image_files import write_picture
from sr_edge.models import build_network, model_names
from sr_edge.models.layers.swin import initialize_swin
from sr_edge.resize import resize_bicubic
from sr_edge.training import Recipe, train_model
from sr_edge.training.checkpoint import ENTRIES, REMEDY, WANTED
from sr_edge.training.data import CropSource, Originals, PairSet
from sr_edge.training.log import LOG
from sr_edge.training.loop import CHECKPOINT, WEIGHTS, Training, TrainingProgress, run_training, train
from sr_edge.training.losses.objective import PixelLoss
from sr_edge.training.recipe import OptimizerName
from sr_edge.training.run import CURVE
from sr_edge.training.validation import mean_psnr_db
from tests.expected_errors import raises

RECIPE = Recipe(
    steps=12,
    batch=2,
    patch_px=16,
    warm_up_steps=2,
    ema_decay=0.5,
    mixed_precision=False,
    compile=False,
    validate_every=6,
    checkpoint_every=3,
)


def training(
    pictures: Path, out: Path, recipe: Recipe = RECIPE, progress: Callable[[TrainingProgress], None] = lambda _: None
) -> Training:
    crops = CropSource(Originals.from_folder(pictures, 2, 16))
    return Training(crops, PairSet.from_folder(pictures, 2), out, recipe, progress)


def network() -> nn.Module:
    torch.manual_seed(3)
    return build_network("convnet-tiny", 2)


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


def ask_to_stop(number: signal.Signals, at_step: int) -> Callable[[object], None]:
    """A progress callback that sends this process a signal after one step."""

    def send(progress: object) -> None:
        if getattr(progress, "step", 0) == at_step:
            signal.raise_signal(number)

    return send


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
