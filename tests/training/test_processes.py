"""Several processes, started by torch's own launcher, learn what one process does with the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sr_edge.errors import UsageError
from sr_edge.models import build_network
from sr_edge.training import Recipe, train_model
from sr_edge.training.loop import CHECKPOINT
from sr_edge.training.processes import Processes, join_processes
from tests.expected_errors import raises

RECIPE = '{"steps": 4, "patch_px": 16, "mixed_precision": false, "validate_every": 4, "ema_decay": 0.5}'


def test_two_processes_learn_as_one_does(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(RECIPE)
    command = [
        *("-m", "sr_edge", "train", "convnet-tiny", "--scale", "2", "--data", str(pictures), "--val", str(pictures)),
        *("--recipe", str(tmp_path / "recipe.json"), "--device", "cpu", "--threads", "1", "--json"),
    ]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(out: str, *launched: str) -> dict[str, torch.Tensor]:
        arguments = [sys.executable, *launched, *command, "--output", str(tmp_path / out)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count('"mean_psnr_db"') == 1
        return load_file(tmp_path / out / "weights.safetensors")

    alone, shared = run("alone"), run("shared", *launcher)
    assert (tmp_path / "shared" / CHECKPOINT).is_file()
    fresh = build_network("convnet-tiny", 2).state_dict()
    assert alone.keys() == shared.keys() == fresh.keys()
    # The mean of two halves rounds otherwise than the mean of the whole, and weights are kept as float16.
    assert all(torch.allclose(alone[key].float(), shared[key].float(), atol=1e-3) for key in alone)


def test_a_batch_that_cannot_be_shared() -> None:
    with raises(UsageError, found=3, wanted=2):
        Processes(torch.device("cpu"), 0, 2).require_batch(3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there() -> None:
    with raises(UsageError, found="cuda", wanted="cpu"), join_processes("cuda"):
        pass
    with raises(UsageError, found="tpu", wanted=("cpu", "cuda")), join_processes("tpu"):
        pass


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_cuda(pictures: Path, tmp_path: Path) -> None:
    recipe = Recipe(steps=4, patch_px=16, validate_every=2, checkpoint_every=2)
    report = train_model("convnet-tiny", 2, pictures, pictures, tmp_path / "out", recipe, device="cuda")
    assert report.mean_psnr_db > 10
    assert all(value.device.type == "cpu" for value in load_file(report.weights).values())
