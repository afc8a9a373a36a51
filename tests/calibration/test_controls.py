"""INT8 of a network with controls: ranges are valid at every setting, and the graph keeps its control inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from sr_edge.calibration import calibrate, quantize_onnx
from sr_edge.calibration.graph.probe import InstrumentedGraph
from sr_edge.errors import UsageError
from sr_edge.export import export_onnx
from sr_edge.frames import Batch
from sr_edge.models import LoadedModel
from sr_edge.models.controlled import control_tensors
from sr_edge.spec import ActivationType, Control, ModelCard, Precision, TileSpec
from tests.expected_errors import raises

CONTROLS = (Control("gain", 1.0, 0.0, 2.0), Control("offset", 0.0, -1.0, 1.0))


class GainNet(nn.Module):
    controls = CONTROLS

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.middle = nn.Conv2d(16, 16, 3, padding=1)
        self.last = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: Tensor, gain: Tensor | None = None, offset: Tensor | None = None) -> Tensor:
        if gain is None or offset is None:
            gain, offset = control_tensors(self.controls)
        return self.last(self.middle(gain * self.first(x).relu()).relu() + offset)


@pytest.fixture(scope="module")
def gain_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    model = LoadedModel(GainNet().eval(), ModelCard("gain", 1, 100, controls=CONTROLS))
    return export_onnx(model, TileSpec(24, 24), tmp_path_factory.mktemp("gain") / "gain.onnx").path


def test_ranges_span_the_extremes(gain_file: Path, batches: list[Batch]) -> None:
    model = onnx.load(gain_file)
    names = [node.input[0] for node in model.graph.node if node.op_type == "Conv"]
    steps: list[tuple[int, int]] = []
    ranges = calibrate(gain_file, batches, progress=lambda *step: steps.append(step)).ranges
    assert len(steps) == 2 * len(batches) + len(names)
    graph = InstrumentedGraph(model, names)
    at_default = [np.abs(np.stack(values)).max() for values in zip(*map(graph.run, batches), strict=True)]
    assert ranges[names[0]].highest == at_default[0]
    assert ranges[names[1]].highest > 1.5 * at_default[1]
    assert ranges[names[2]].lowest == -1.0


def test_equal_calls_give_equal_calibrations(gain_file: Path, batches: list[Batch]) -> None:
    assert calibrate(gain_file, batches) == calibrate(gain_file, batches)


@pytest.mark.parametrize("activation_type", list(ActivationType))
@pytest.mark.parametrize("float_precision", [Precision.FP32, Precision.FP16])
def test_int8_follows_the_float_graph_at_every_setting(
    gain_file: Path, batches: list[Batch], tmp_path: Path, activation_type: ActivationType, float_precision: Precision
) -> None:
    out = quantize_onnx(
        gain_file, calibrate(gain_file, batches), tmp_path / "int8.onnx", activation_type, float_precision
    )
    floats, int8 = InstrumentedGraph(onnx.load(gain_file)), InstrumentedGraph(onnx.load(out))
    for setting in ({}, {"gain": 2.0}, {"gain": 0.0, "offset": 1.0}, {"offset": -1.0}):
        reference, output = floats.run(batches[0], setting)[0], int8.run(batches[0], setting)[0]
        assert np.abs(output - reference).max() < 0.05 * np.abs(reference).max()


def test_a_setting_out_of_range_is_refused(gain_file: Path, batches: list[Batch]) -> None:
    with raises(UsageError, found=3.0):
        InstrumentedGraph(onnx.load(gain_file)).run(batches[0], {"gain": 3.0})
