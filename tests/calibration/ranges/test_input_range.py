"""A network for 0 to 255 that is calibrated with patches in 0 to 1 is noticed by its output."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from sr_edge.calibration import CalibrationConfig, HeldOut, calibrate_within
from sr_edge.calibration.graph.load import load_graph
from sr_edge.calibration.ranges.input_range import range_warning
from sr_edge.export.passes.uint8_io import wrap_uint8
from tests.calibration.graphs import parsed, photo_like, random_weight, with_input_range_255
from tests.calibration.networks import NETWORKS, export


@pytest.mark.parametrize("name", NETWORKS)
def test_the_input_range_of_a_network_is_seen_from_its_output(name: str, tmp_path: Path) -> None:
    export(name, tmp_path / "float.onnx")
    model, patches = load_graph(tmp_path / "float.onnx"), photo_like(4, NETWORKS[name].colours)
    assert range_warning(model, patches, 1.0) == ""
    large = with_input_range_255(model)
    assert range_warning(large, patches, 255.0) == ""
    assert "seems to be 0 to 255, not 0 to 1: " in range_warning(large, patches, 1.0)


def test_the_report_warns_with_the_numbers_and_the_option(tmp_path: Path) -> None:
    export("residual", tmp_path / "float.onnx")
    onnx.save(with_input_range_255(onnx.load(tmp_path / "float.onnx")), tmp_path / "range255.onnx")
    patches = photo_like(20, 3)
    held_out = [HeldOut(patch) for patch in patches[16:]]
    (warning,) = calibrate_within(tmp_path / "range255.onnx", patches[:16], held_out, CalibrationConfig()).warnings
    assert "0 to 255, not 0 to 1" in warning
    assert warning.endswith("calibrate again with --input-range 255")
    assert (
        calibrate_within(
            tmp_path / "range255.onnx", patches[:16], held_out, CalibrationConfig(input_range=255.0)
        ).warnings
        == ()
    )


@pytest.mark.parametrize(
    "body",
    [
        "y = Conv<pads = [1,1,1,1]>(x, w)",
        "y = Mul(x, zero)",
        "y = ReduceMean<axes = [2, 3]>(x)",
        "y = Conv(x, gray)",
        "y = Slice(x, one, two, axes)",
    ],
)
def test_what_makes_no_picture_of_its_input_warns_of_nothing(body: str) -> None:
    constants = {
        "w": random_weight(3, 3, 3, 3),
        "gray": random_weight(1, 3, 1, 1),
        "zero": np.float32(0.0),
        "one": [1],
        "two": [24],
        "axes": [2],
    }
    assert range_warning(parsed(body, constants), photo_like(4, 3), 1.0) == ""


def test_a_uint8_graph_has_no_range_to_choose(mixed_graph: onnx.ModelProto) -> None:
    assert range_warning(wrap_uint8(mixed_graph).model, photo_like(4, 3), 255.0) == ""
