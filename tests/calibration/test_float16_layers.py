"""INT8 graphs with fp16 float layers stay finite where features exceed float16, which the structure does not show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from sr_edge.calibration import calibrate, quantize_onnx
from sr_edge.export import export_onnx
from sr_edge.export.checks.float16 import run_float16
from sr_edge.export.graph.onnxruntime_run import run_onnxruntime
from sr_edge.export.passes.fp16 import to_fp16
from sr_edge.models import LoadedModel
from sr_edge.spec import ActivationType, ModelCard, Precision, TileSpec

TILE = TileSpec(12, 16)
HOT = 2.0**18


class HotNet(nn.Module):
    """Four convolutions with features of a million between the first and the last."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.third = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 12, 3, padding=1)
        with torch.no_grad():
            self.first.weight.mul_(HOT)
            self.last.weight.div_(HOT)

    def forward(self, x: Tensor) -> Tensor:
        features = self.first(x).relu()
        features = features + self.third(self.second(features).relu())
        return nn.functional.pixel_shuffle(self.last(features), 2)


def test_an_fp16_rest_keeps_what_leaves_float16_in_fp32(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = LoadedModel(HotNet().eval(), ModelCard(name="hot", scale=2, parameters=1))
    full = export_onnx(model, TILE, tmp_path / "full.onnx").path
    batches = [np.random.default_rng(seed).random((1, 3, 12, 16), np.float32) for seed in range(4)]
    calibration = calibrate(full, batches, method="min-max")
    plain = quantize_onnx(full, calibration, tmp_path / "int8.onnx", ActivationType.INT8, Precision.FP32)
    mixed = quantize_onnx(full, calibration, tmp_path / "int8-fp16.onnx", ActivationType.INT8, Precision.FP16)
    feed = {"input": batches[0]}
    reference = run_onnxruntime(plain, feed)["output"]
    output = run_float16(onnx.load(mixed), feed)
    assert output.first_overflow == ""
    assert float(np.abs(output.outputs["output"] - reference).max()) < 0.05 * float(np.abs(reference).max())
    control = run_float16(to_fp16(onnx.load(plain)).model, feed)
    assert control.first_overflow != ""
