"""A network that lacks its normalization loads every weight, and its output is gray: a remark says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sr_edge.export.export import export_onnx
from sr_edge.models import LoadedModel
from sr_edge.spec import ModelCard, TileSpec


class Upscaling(nn.Module):
    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x * self.gain, scale_factor=2.0, mode="bilinear")


@pytest.mark.parametrize(("gain", "has_remark"), [(1.0, False), (0.9, False), (1 / 255, True), (255.0, True)])
def test_an_output_that_does_not_resemble_the_input_gets_a_remark(
    gain: float, has_remark: bool, tmp_path: Path
) -> None:
    model = LoadedModel(Upscaling(gain).eval(), ModelCard(name="net", scale=2, parameters=0))
    report = export_onnx(model, TileSpec(32, 32), tmp_path / "net.onnx")
    assert bool(report.remarks) is has_remark
    assert torch.is_inference_mode_enabled() is False
