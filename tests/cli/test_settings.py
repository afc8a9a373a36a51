"""`--set` at run time and `--bake` at export: their effect, and the values that they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from sr_edge.cli.options import read_settings
from sr_edge.errors import UsageError
from sr_edge.image_files import read_picture
from tests.command_line import SrEdge
from tests.expected_errors import raises

DIAL = """
import torch
from torch import nn

from sr_edge.spec import Control


class Dial(nn.Module):
    controls = (Control("alpha", 1.0, 0.0, 2.0), Control("beta", 1.0, 0.0, 2.0))

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 12, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x, alpha=None, beta=None):
        alpha, beta = (torch.ones(1) if given is None else given for given in (alpha, beta))
        return self.shuffle(alpha * self.first(x)) + beta * 0.25


def network():
    return Dial()
"""
ARCH = ("--arch", "cli_dial:network", "--scale", "2", "--random-weights")


@pytest.fixture(autouse=True)
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cli_dial.py").write_text(DIAL)
    monkeypatch.chdir(tmp_path)


def deployed(sr_edge: SrEdge, pictures: Path, *more: str) -> Any:
    fixed = ("--tile", "24", "--runs", "1", "--no-memory", "--runtimes", "onnxruntime", "--precisions", "fp32")
    options = ("--passes", "structure", "--images", pictures, "-o", "dial.sredge", "--json")
    outcome = sr_edge("deploy", *ARCH, *fixed, *options, *more)
    assert outcome.code == 0, outcome.stderr
    return json.loads(outcome.stdout)


def test_settings_are_read_and_wrong_ones_refused() -> None:
    assert read_settings(["alpha=0.5", " beta = 2 "]) == {"alpha": 0.5, "beta": 2.0}
    for wrong in ("alpha", "alpha=", "alpha=much", "=1"):
        with raises(UsageError, found=wrong, wanted="NAME=NUMBER"):
            read_settings([wrong])
    with raises(UsageError, found="alpha=2", wanted="each name once"):
        read_settings(["alpha=1", "alpha=2"])


def test_set_changes_the_picture_and_what_cannot_be_set_is_one_line(sr_edge: SrEdge, pictures: Path) -> None:
    deployed(sr_edge, pictures)
    source = pictures / "waves0.png"
    for target, settings in (("plain.png", ()), ("one.png", ("--set", "beta=1")), ("two.png", ("--set", "beta=2"))):
        assert sr_edge("upscale", "dial.sredge", source, target, *settings).code == 0
    plain, one, two = (read_picture(Path(name)).pixels.astype(int) for name in ("plain.png", "one.png", "two.png"))
    assert np.array_equal(plain, one)
    assert np.median(two - plain) == 64
    for wrong, expected in (("beta=3", "from 0 to 2"), ("gamma=1", "alpha, beta"), ("beta", "NAME=NUMBER")):
        for command in (("upscale", "dial.sredge", source, "no.png"), ("bench", "dial.sredge")):
            outcome = sr_edge(*command, "--set", wrong)
            assert outcome.code == 2
            assert expected in outcome.error
    assert not Path("no.png").exists()


def test_evaluate_and_bench_work_at_a_setting(sr_edge: SrEdge, pictures: Path) -> None:
    deployed(sr_edge, pictures)
    scores = []
    for value in ("0", "1"):
        arguments = ("--hr", pictures, "--runtimes", "onnxruntime", "--precisions", "fp32", "--set", f"beta={value}")
        document = json.loads(sr_edge("evaluate", "dial.sredge", *arguments, "--json").stdout)
        scores.append(document["rows"][0]["quality"]["hr"]["psnr_y_db"])
    assert scores[0] != scores[1]
    timed = ("--runtimes", "onnxruntime", "--precisions", "fp32", "--runs", "1", "--no-memory", "--set", "beta=0")
    assert sr_edge("bench", "dial.sredge", *timed).code == 0


def test_baked_controls_are_shown_and_cannot_be_set(sr_edge: SrEdge, pictures: Path) -> None:
    manifest = deployed(sr_edge, pictures, "--bake", "alpha=0.5")["manifest"]
    assert manifest["card"]["baked"] == {"alpha": 0.5}
    output = sr_edge("inspect", "dial.sredge").stdout
    assert "beta from 0 to 2 (1), alpha is 0.5, a constant" in output
    outcome = sr_edge("upscale", "dial.sredge", pictures / "waves0.png", "no.png", "--set", "alpha=1")
    assert outcome.code == 2
    assert "'alpha'" in outcome.error and "beta" in outcome.error


def test_export_bakes_and_says_what_is_left(sr_edge: SrEdge) -> None:
    outcome = sr_edge("export", *ARCH, "--tile", "16", "-o", "dial.onnx", "--bake", "alpha=2")
    assert outcome.code == 0, outcome.stderr
    assert "controls: beta from 0 to 2 (1)" in outcome.stdout
    assert [value.name for value in onnx.load("dial.onnx").graph.input] == ["input", "beta"]
    assert sr_edge("export", *ARCH, "--tile", "16", "-o", "no.onnx", "--bake", "alpha=9").code == 2
