"""Mixed precision is for devices that have bfloat16; others train in float32, say so, and go on as they began."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sr_edge.models import build_network
from sr_edge.spec import Precision
from sr_edge.training import Recipe
from sr_edge.training.data import CropSource, Originals, PairSet
from sr_edge.training.loop import CHECKPOINT, Training, TrainingResult, run_training
from sr_edge.training.precision import choose_precision, has_bfloat16

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
MIXED = Recipe(steps=4, batch=2, patch_px=16, warm_up_steps=1, ema_decay=0.5, validate_every=4, checkpoint_every=2)
SINGLE = replace(MIXED, mixed_precision=False)
FP32, BF16 = Precision.FP32, Precision.BF16


@pytest.mark.parametrize(
    ("flags", "onednn", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16 sse", True, True),
        ("flags\t\t: fpu amx_bf16", True, True),
        ("Features\t: fp asimd bf16 i8mm", True, True),
        ("flags\t\t: fpu avx2 avx512f", True, False),
        ("flags\t\t: avx512_bf16", False, False),
        (None, True, False),
    ],
)
def test_a_cpu_has_bfloat16_where_its_flags_and_onednn_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str | None, onednn: bool, expected: bool
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(f"processor\t: 0\n{flags}\n")
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)
    assert has_bfloat16(CPU, cpuinfo) is expected


@pytest.mark.parametrize("there", [True, False])
def test_a_cuda_device_is_asked_for_bfloat16_that_it_does_not_emulate(
    monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: there or including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "GeForce GTX 1080")
    assert has_bfloat16(CUDA) is there
    assert choose_precision(MIXED, CUDA)[0] is (BF16 if there else FP32)
    assert (
        there or "GeForce GTX 1080 does not support bfloat16: training in float32" in choose_precision(MIXED, CUDA)[1]
    )


@pytest.mark.parametrize(
    ("recipe", "there", "kept", "expected", "result"),
    [
        (MIXED, True, None, BF16, ""),
        (MIXED, True, BF16, BF16, ""),
        (MIXED, False, None, FP32, "this CPU does not support bfloat16: training in float32, without mixed precision"),
        (MIXED, False, BF16, FP32, "(the previous steps were made in bfloat16)"),
        (MIXED, False, FP32, FP32, ""),
        (MIXED, True, FP32, FP32, "training continues in float32, as before, although this CPU supports bfloat16"),
        (SINGLE, True, None, FP32, ""),
        (SINGLE, False, FP32, FP32, ""),
    ],
)
def test_the_precision_kept_stays_where_the_device_has_it(
    recipe: Recipe, there: bool, kept: Precision | None, expected: Precision, result: str
) -> None:
    actual, remark = choose_precision(recipe, CPU, kept, lambda _: there)
    assert actual is expected
    assert result in remark and bool(result) is bool(remark)


class KilledError(Exception):
    pass


@pytest.fixture
def trained(pictures: Path, tmp_path: Path) -> Trainer:
    return Trainer(pictures, tmp_path)


class Trainer:
    """Trains a small network on a device that has bfloat16 or not; `events` are those of the last training."""

    def __init__(self, pictures: Path, folder: Path) -> None:
        self.pictures, self.folder = pictures, folder
        self.events: list[str] = []

    def __call__(self, out: str, recipe: Recipe, there: bool, kill_at: int = 0) -> TrainingResult:
        def kill(progress: object) -> None:
            if getattr(progress, "step", 0) == kill_at:
                raise KilledError

        self.events = []
        torch.manual_seed(3)
        crops, pairs = CropSource(Originals.from_folder(self.pictures, 2, 16)), PairSet.from_folder(self.pictures, 2)
        training = Training(
            crops,
            pairs,
            self.folder / out,
            recipe,
            kill,
            on_event=self.events.append,
            supports_bfloat16=lambda _: there,
        )
        return run_training(build_network("convnet-tiny", 2), training)

    def kept(self, out: str) -> dict[str, object]:
        actual: dict[str, object] = torch.load(self.folder / out / CHECKPOINT, weights_only=True)
        return actual

    def change(self, out: str, **entries: object) -> None:
        torch.save({**self.kept(out), **entries}, self.folder / out / CHECKPOINT)


def same(first: TrainingResult, second: TrainingResult) -> bool:
    ours, theirs = load_file(first.weights), load_file(second.weights)
    return all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_without_bfloat16_the_default_recipe_trains_in_float32_says_so_and_goes_on_so(trained: Trainer) -> None:
    single = trained("single", SINGLE, there=True)
    mixed = trained("mixed", MIXED, there=False)
    assert trained.events == ["this CPU does not support bfloat16: training in float32, without mixed precision"]
    assert same(single, mixed) and mixed.precision is FP32
    assert trained.kept("mixed")["precision"] == "fp32" and trained.kept("mixed")["recipe"] == MIXED.document()
    with pytest.raises(KilledError):
        trained("parts", MIXED, there=False, kill_at=3)
    parts = trained("parts", MIXED, there=True)
    assert len(trained.events) == 1 and "continues in float32, as before" in trained.events[0]
    assert parts.steps == 2 and same(single, parts)


def test_with_bfloat16_it_is_used_and_kept_also_for_checkpoints_that_do_not_tell(trained: Trainer) -> None:
    whole = trained("whole", MIXED, there=True)
    assert whole.precision is BF16 and trained.events == []
    assert not same(whole, trained("single", SINGLE, there=True))
    with pytest.raises(KilledError):
        trained("parts", MIXED, there=True, kill_at=3)
    content = trained.kept("parts")
    assert content.pop("precision") == "bf16" and content.pop("device") == "cpu"
    torch.save(content, trained.folder / "parts" / CHECKPOINT)
    parts = trained("parts", MIXED, there=True)
    assert trained.events == [] and parts.steps == 2 and same(whole, parts)


def test_another_kind_of_device_is_told_unless_there_is_nothing_left_to_train(trained: Trainer) -> None:
    with pytest.raises(KilledError):
        trained("out", SINGLE, there=True, kill_at=3)
    trained.change("out", device="cuda")
    trained("out", SINGLE, there=True)
    assert trained.events == ["the first 2 steps ran on cuda, the remaining ones run on cpu"]
    trained.change("out", device="cuda")
    assert trained("out", SINGLE, there=True).steps == 0 and trained.events == []
