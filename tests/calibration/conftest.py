"""Small seeded graphs and patches for calibration tests, with every kind of quantizable layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]  # ships no types
import pytest
import torch
from torch import nn

from sr_edge.export.passes.tracing import trace
from sr_edge.frames import Batch
from tests.calibration.graphs import TILE, PsnrDb, Run


class MixedNet(nn.Module):
    """x2: plain, grouped, depthwise and transposed Conv, Linear, Concat, channel attention, one conv used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 16, 3, padding=1)
        self.shared = nn.Conv2d(16, 16, 3, padding=1, groups=2)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.fuse = nn.Conv2d(32, 16, 1)
        self.squeeze = nn.Conv2d(16, 16, 1)
        self.token = nn.Linear(16, 16)
        self.up = nn.ConvTranspose2d(16, 16, 2, stride=2)
        self.tail = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x0 = self.head(x).relu()
        x1 = nn.functional.gelu(self.shared(x0))
        x2 = self.depthwise(self.shared(x1)).relu()
        fused = self.fuse(torch.cat([x1, x2], 1)) + x0
        fused = fused * torch.sigmoid(self.squeeze(fused.mean((2, 3), keepdim=True)))
        fused = fused + self.token(fused.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        picture: torch.Tensor = self.tail(self.up(fused)) + nn.functional.interpolate(x, scale_factor=2)
        return picture


@pytest.fixture(scope="session")
def mixed_graph() -> onnx.ModelProto:
    torch.manual_seed(1)
    return trace(MixedNet(), TILE)


@pytest.fixture(scope="session")
def mixed_file(mixed_graph: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graphs") / "mixed.onnx"
    onnx.save(mixed_graph, path)
    return path


@pytest.fixture(scope="session")
def batches() -> list[Batch]:
    """Eight smooth-plus-noise patches of 24x24."""
    generator = np.random.default_rng(0)
    ramp = np.linspace(0.0, 0.7, 24, dtype=np.float32)
    return [(ramp * generator.random() + 0.3 * generator.random((1, 3, 24, 24))).astype(np.float32) for _ in range(8)]


@pytest.fixture(scope="session")
def run_as_written() -> Run:
    """ONNX Runtime without any graph optimisation: every operator is computed as it is in the file."""
    return lambda model, batch: _run(model, batch, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)


@pytest.fixture(scope="session")
def run_optimized() -> Run:
    return lambda model, batch: _run(model, batch, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)


@pytest.fixture(scope="session")
def run_openvino(openvino_core: Any) -> Run:
    """OpenVINO on the CPU with float32 float layers."""

    def run(model: onnx.ModelProto, batch: Batch) -> Batch:
        network = openvino_core.read_model(model.SerializeToString())
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 2}
        compiled = openvino_core.compile_model(network, "CPU", settings)
        return np.array(compiled([batch, *scalars(len(compiled.inputs) - 1)])[0])

    return run


@pytest.fixture(scope="session")
def psnr_db() -> PsnrDb:
    """PSNR in dB of the unclipped values, with a peak of 1."""

    def psnr(output: Batch, reference: Batch) -> float:
        error = float(np.mean((output.astype(np.float64) - reference) ** 2))
        return float("inf") if error == 0.0 else -10.0 * float(np.log10(error))

    return psnr


def scalars(count: int) -> list[Batch]:
    """The inputs of run-time controls, at their defaults."""
    return [np.ones(1, np.float32)] * count


def _run(model: onnx.ModelProto, batch: Batch, level: onnxruntime.GraphOptimizationLevel) -> Batch:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 3
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    return np.asarray(session.run(None, dict(zip(names, [batch, *scalars(len(names) - 1)], strict=True)))[0])
