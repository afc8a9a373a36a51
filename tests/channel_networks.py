"""Small networks with one, three and four channels, and their bundles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_edge.calibration.ranges.search import SEARCH
from sr_edge.deploy import DeployPlan, deploy_network
from sr_edge.frames import Picture
from sr_edge.image_files import write_picture
from sr_edge.models import LoadedModel
from sr_edge.spec import ModelCard, PassChoice, Precision, TileSpec

TILE = TileSpec(20, 28)
SCALES = {1: 3, 3: 1, 4: 2}
"""A scale for each number of channels."""


class SubPixel(nn.Module):
    """1x1 convolutions, which give the same output in tiles, and a pixel shuffle, added to the repeated pixels."""

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 8, 1)
        self.last = nn.Conv2d(8, channels * scale**2, 1)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        detail = functional.pixel_shuffle(self.last(torch.relu(self.first(x))), self.scale)
        return functional.interpolate(x, scale_factor=float(self.scale)) + 0.2 * detail


def network(channels: int) -> SubPixel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(channels)
        return SubPixel(channels, SCALES[channels]).eval().requires_grad_(False)


def deployed(channels: int, folder: Path) -> Path:
    """Writes a bundle to `folder`; that of one channel has INT8 graphs, too."""
    rows, columns = np.indices((40, 60))[..., np.newaxis]
    waves = 127.5 + 127.5 * np.sin(rows / 5 + columns / np.array([4, 5, 6]))
    alpha = np.broadcast_to(np.linspace(0, 255, 60), (40, 60)).astype(np.uint8)
    write_picture(folder / "waves.png", Picture(waves.astype(np.uint8), alpha))
    card = ModelCard("net", SCALES[channels], 1, overlap_px=4, input_channels=channels, output_channels=channels)
    precisions = (Precision.FP32, Precision.INT8) if channels == 1 else (Precision.FP32,)
    runtimes = ("onnxruntime", "openvino") if channels == 1 else ("onnxruntime",)
    method = "min-max" if Precision.INT8 in precisions else SEARCH
    plan = DeployPlan(
        TILE, runtimes, precisions, method=method, rounds=1, with_memory=False, passes=PassChoice.STRUCTURE
    )
    out = folder / f"{channels}.sredge"
    report = deploy_network(LoadedModel(network(channels), card), folder / "waves.png", out, plan)
    assert not report.failed and not report.manifest.left_out
    return out
