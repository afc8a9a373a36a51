"""A checkpoint where a model is named: from the file to a graph or a bundle, by one command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sr_edge.bundle import open_bundle
from sr_edge.models import build_network
from sr_edge.runtimes import open_session

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
    assert "params_ema" in document["remarks"][0]
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


def test_a_path_and_weights_are_one_too_many(sr_edge: SrEdge, checkpoint: Path, tmp_path: Path) -> None:
    outcome = sr_edge("export", checkpoint, "--weights", checkpoint, "-o", tmp_path / "out.onnx")
    assert outcome.code == 2
    assert "--weights" in outcome.error
