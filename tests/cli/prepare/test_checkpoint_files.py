"""A checkpoint where a model is named: from the file to a graph or a bundle, by one command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sr_edge.bundle import open_bundle
from sr_edge.model_sources import open_session
from sr_edge.models import build_network

SrEdge = Callable[..., Any]
"""The fixture of conftest.py; it gives code, stdout, stderr and the one error line."""

NETWORK = """
from torch import nn

class Wrapped(nn.Module):
    \"\"\"All its keys begin with `{name}.`, which trainers put there, too.\"\"\"

    def __init__(self):
        super().__init__()
        self.{name} = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, x):
        return self.{name}(x)
"""

FOREIGN = """
from torch import nn
from torch.nn import functional

class Diffusion(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 8, 3, 2, 1), nn.ConvTranspose2d(8, 3, 2, 2)
        self.time = nn.Linear(1, 8)

    def forward(self, sample, timestep, encoder_hidden_states=None):
        return self.up(self.down(sample) + self.time(timestep)[..., None, None])

class Video(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(15, 12, 3, padding=1)

    def forward(self, frames):
        batch, count, channels, height, width = frames.shape
        return functional.pixel_shuffle(self.conv(frames.reshape(batch, count * channels, height, width)), 2)
"""

BLOCKED = """
import sys
from sr_edge.cli.app import app
from sr_edge.cli.failures import run_command

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "spandrel":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
sys.exit(run_command(app, sys.argv[1:]))
"""
"""The command line where spandrel is not installed."""

QUICK = ("--tile", "24", "--runs", "1", "--no-memory", "--no-tile-needs", "--precisions", "fp32")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    state = build_network("convnet-tiny", 2).state_dict()
    path = tmp_path / "mine.pth"
    torch.save({"params": state, "params_ema": {f"module.{key}": value for key, value in state.items()}}, path)
    return path


def test_export_takes_a_file(sr_edge: SrEdge, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.onnx"
    outcome = sr_edge("export", checkpoint, "--tile", "24x32", "-o", out, "--json")
    assert outcome.code == 0, outcome.stderr
    document = json.loads(outcome.stdout)
    assert document["metadata"]["card"]["name"] == "convnet-tiny"
    assert any("params_ema" in remark for remark in document["remarks"])
    outcome = sr_edge("export", checkpoint, "--tile", "24x32", "-o", out, "--blend", f"{checkpoint}=0.25")
    assert outcome.code == 0, outcome.stderr
    assert "params_ema" in outcome.stdout


def test_deploy_takes_a_file(sr_edge: SrEdge, checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.sredge"
    outcome = sr_edge("deploy", checkpoint, *QUICK, "--runtimes", "torch", "--images", pictures, "-o", out, "--json")
    assert outcome.code == 0, outcome.stderr
    assert any("params_ema" in note for note in json.loads(outcome.stdout)["notes"])
    with open_bundle(out) as bundle:
        assert bundle.manifest.card.weights_source == "mine.pth, params_ema"


def test_calibrate_takes_a_file(sr_edge: SrEdge, checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.int8.onnx"
    options = ("--tile", "24", "--patches", "4", "--method", "min-max", "--runtime", "none")
    outcome = sr_edge("calibrate", checkpoint, "--images", pictures, "-o", out, *options)
    assert outcome.code == 0, outcome.stderr
    assert out.exists()
    assert "params_ema" in " ".join(outcome.stdout.split())


@pytest.mark.parametrize("name", ["model", "module"])
def test_a_network_whose_keys_begin_like_a_trainers_works_end_to_end(
    sr_edge: SrEdge, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    module = f"wrapped_in_{name}"
    (tmp_path / f"{module}.py").write_text(NETWORK.format(name=name))
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(5)
    layers = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))
    weights = tmp_path / "weights.pth"
    torch.save({f"{name}.{key}": value for key, value in layers.state_dict().items()}, weights)
    out, arch = tmp_path / "own.sredge", f"{module}:Wrapped"
    common = ("--runtimes", "torch,onnxruntime", "--images", pictures, "-o", out)
    outcome = sr_edge("deploy", "--arch", arch, "--weights", weights, *QUICK, *common)
    assert outcome.code == 0, outcome.stderr
    picture = torch.rand(1, 3, 24, 24)
    with open_session(out, runtime="torch", options={"architecture": arch}) as session:
        (upscaled,) = session.run(picture.numpy())
    torch.testing.assert_close(torch.from_numpy(upscaled)[None], layers(picture).detach(), atol=1e-6, rtol=0)


def test_the_output_is_not_the_checkpoint(sr_edge: SrEdge, checkpoint: Path) -> None:
    outcome = sr_edge("export", checkpoint, "-o", checkpoint)
    assert outcome.code == 2
    assert torch.load(checkpoint)["params"]


@pytest.mark.parametrize("command", ["export", "deploy", "calibrate"])
@pytest.mark.parametrize("kind", ["classifier", "nan", "empty", "folder", "absent"])
def test_bad_files_leave_nothing_behind(
    sr_edge: SrEdge, pictures: Path, tmp_path: Path, command: str, kind: str
) -> None:
    path = tmp_path / "bad.pth"
    state = build_network("convnet-tiny", 2).state_dict()
    if kind == "classifier":
        torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3), "classifier.weight": torch.zeros(10, 64)}, path)
    elif kind == "nan":
        torch.save({key: value * float("nan") for key, value in state.items()}, path)
    elif kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    out = tmp_path / ("out.sredge" if command == "deploy" else "out.onnx")
    images = () if command == "export" else ("--images", pictures)
    outcome = sr_edge(command, path, *images, "-o", out)
    assert outcome.code in (1, 2)
    assert str(path) in outcome.error
    assert not out.exists()


def outputs_of(command: str, folder: Path, pictures: Path) -> tuple[Path, list[str | Path]]:
    out = folder / ("out.sredge" if command == "deploy" else "out.onnx")
    return out, [*(() if command == "export" else ("--images", pictures)), "-o", out]


@pytest.mark.parametrize("command", ["export", "deploy", "calibrate"])
@pytest.mark.parametrize(("factory", "word"), [("Diffusion", "timestep"), ("Video", "frames")])
def test_networks_that_take_more_than_a_picture_leave_nothing_behind(
    sr_edge: SrEdge,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    factory: str,
    word: str,
) -> None:
    (tmp_path / "networks_of_other_inputs.py").write_text(FOREIGN)
    monkeypatch.chdir(tmp_path)
    out, options = outputs_of(command, tmp_path, pictures)
    before = set(tmp_path.iterdir())
    outcome = sr_edge(command, "--arch", f"networks_of_other_inputs:{factory}", *options)
    assert outcome.code == 2
    assert word in outcome.error
    assert {path for path in tmp_path.iterdir() if path.name != "__pycache__"} == before
    assert not out.exists()


@pytest.mark.parametrize("command", ["export", "deploy", "calibrate"])
def test_a_whole_pickled_module_leaves_nothing_behind(
    sr_edge: SrEdge, pictures: Path, tmp_path: Path, command: str
) -> None:
    path = tmp_path / "whole.pth"
    torch.save(build_network("convnet-tiny", 2), path)
    _, options = outputs_of(command, tmp_path, pictures)
    outcome = sr_edge(command, path, *options)
    assert outcome.code == 1
    assert "state_dict" in outcome.error
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("command", ["export", "deploy", "calibrate"])
def test_a_family_whose_code_is_missing_leaves_nothing_behind(pictures: Path, tmp_path: Path, command: str) -> None:
    shapes = {"0.weight": (8, 3, 3, 3), "0.bias": (8,), "1.weight": (8,), "2.weight": (12, 8, 3, 3), "2.bias": (12,)}
    path = tmp_path / "compact.pth"
    torch.save({f"module.body.{key}": torch.zeros(shape) for key, shape in shapes.items()}, path)
    _, options = outputs_of(command, tmp_path, pictures)
    arguments = [sys.executable, "-c", BLOCKED, command, path, *options]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("sr-edge: ")]
    assert "Compact" in line and "spandrel" in line
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_and_weights_are_one_too_many(sr_edge: SrEdge, checkpoint: Path, tmp_path: Path) -> None:
    outcome = sr_edge("export", checkpoint, "--weights", checkpoint, "-o", tmp_path / "out.onnx")
    assert outcome.code == 2
    assert "--weights" in outcome.error
