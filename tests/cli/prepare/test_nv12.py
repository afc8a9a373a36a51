"""`--io nv12` of `deploy` and `export`."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from sr_edge.export import read_metadata
from sr_edge.nv12.colour import Nv12Colour
from sr_edge.spec import FrameFormat
from tests.command_line import SrEdge

NETWORK = ("convnet-tiny", "--scale", "2")


@pytest.mark.parametrize(
    ("words", "colour"),
    [((), Nv12Colour.BT709_LIMITED), (("--nv12-colour", "bt601-full"), Nv12Colour.BT601_FULL)],
)
def test_export_writes_a_graph_for_nv12_frames(
    sr_edge: SrEdge, tmp_path: Path, words: tuple[str, ...], colour: Nv12Colour
) -> None:
    out = tmp_path / "out.onnx"
    outcome = sr_edge("export", *NETWORK, "--tile", "24x32", "--io", "nv12", *words, "-o", str(out))
    assert outcome.code == 0, outcome.stderr
    assert str(colour) in outcome.stdout
    model = onnx.load(out)
    metadata = read_metadata(model)
    assert (metadata.io, metadata.nv12_colour) == (FrameFormat.NV12, colour)
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [1, 48, 40, 1]


@pytest.mark.parametrize(
    "words",
    [
        ("--nv12-colour", "bt709-full"),
        ("--io", "uint8", "--nv12-colour", "bt709-full"),
        ("--io", "nv12", "--nv12-colour", "bt2020"),
        ("--io", "nv12", "--tile", "24x31"),
    ],
    ids=["no format", "another format", "unknown", "odd"],
)
@pytest.mark.parametrize("command", ["deploy", "export"])
def test_what_cannot_be_is_refused_in_one_line(
    sr_edge: SrEdge, tmp_path: Path, command: str, words: tuple[str, ...]
) -> None:
    out = tmp_path / ("out.onnx" if command == "export" else "out.sredge")
    outcome = sr_edge(command, *NETWORK, *words, "-o", str(out))
    assert outcome.code != 0
    assert outcome.error
    assert not out.exists()


def test_a_dynamic_graph_is_refused(sr_edge: SrEdge, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    outcome = sr_edge("export", *NETWORK, "--io", "nv12", "--dynamic", "-o", str(out), "--json")
    assert outcome.code != 0
    assert "--dynamic" in json.loads(outcome.stdout)["error"]["remedy"]
    assert not out.exists()


def test_an_nv12_file_is_no_picture_network(sr_edge: SrEdge, tmp_path: Path) -> None:
    out = tmp_path / "nv12.onnx"
    assert sr_edge("export", *NETWORK, "--tile", "24x32", "--io", "nv12", "-o", str(out)).code == 0
    outcome = sr_edge("upscale", str(out), "examples/pictures/calibration/coffee.png", str(tmp_path / "large.png"))
    assert outcome.code != 0
    assert outcome.error
