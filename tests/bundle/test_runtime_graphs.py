"""Graphs for certain runtimes and the record of passes in a manifest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sr_edge.bundle import Artifact, ArtifactKind, PassMeasurement, open_bundle
from sr_edge.errors import BundleError
from sr_edge.runtimes.artifact_choice import first_fitting
from sr_edge.spec import FrameFormat, Precision
from tests.bundle.bundles import edit_manifest, write
from tests.expected_errors import raises

FP32, ONNX = Precision.FP32, ArtifactKind.ONNX
SHARED = Artifact("model.onnx", ONNX, FP32, FP32, None, FrameFormat.FLOAT_NCHW, (1, 3, 8, 8), "0" * 64)
UINT8 = replace(SHARED, file="model.uint8.onnx", io=FrameFormat.UINT8_NHWC)
OWN = replace(SHARED, file="model.openvino.onnx", runtimes=("openvino",), passes=("channel-first",))
OTHER = replace(SHARED, file="model.onnxruntime.onnx", runtimes=("onnxruntime",))


@pytest.mark.parametrize(
    "runtime, io, file",
    [
        ("openvino", None, "model.openvino.onnx"),
        ("openvino", FrameFormat.UINT8_NHWC, "model.uint8.onnx"),
        ("onnxruntime", None, "model.onnxruntime.onnx"),
        ("tensorrt", None, "model.onnx"),
        ("", None, "model.onnx"),
    ],
)
def test_a_runtime_prefers_its_own_graph_and_never_takes_that_of_another(
    runtime: str, io: FrameFormat | None, file: str
) -> None:
    artifacts = (OTHER, SHARED, OWN, UINT8)
    chosen = first_fitting(artifacts, ONNX, FP32, io=io, runtime=runtime)
    assert chosen is not None
    assert chosen.file == file


def test_nothing_is_chosen_where_only_another_runtime_has_a_graph() -> None:
    assert first_fitting((OTHER,), ONNX, FP32, runtime="openvino") is None


def test_a_graph_for_a_runtime_needs_one_for_all_of_them(tmp_path: Path) -> None:
    bundle = write(tmp_path / "x.sredge")
    edit_manifest(bundle, lambda document: document["artifacts"][0].update(runtimes=["openvino"]))
    with raises(BundleError, found=("openvino",)):
        open_bundle(bundle)


def test_the_artifact_that_a_bundle_finds_is_for_all_runtimes(tmp_path: Path) -> None:
    bundle = write(tmp_path / "x.sredge")
    with open_bundle(bundle) as opened:
        found = opened.find(FP32)
    assert found is not None
    assert (found.runtimes, found.passes) == ((), ())


@pytest.mark.parametrize(
    "change",
    [
        {"time_ratio": 0.0, "interval": [0.0, 0.6]},
        {"time_ratio": 0.7},
        {"interval": [0.6, 0.4]},
        {"rounds": -1},
    ],
    ids=["ratio of zero", "ratio outside its interval", "interval reversed", "negative rounds"],
)
def test_impossible_measurements_are_refused(change: dict[str, Any]) -> None:
    values: dict[str, Any] = {
        "runtime": "openvino",
        "precision": FP32,
        "passes": ("channel-first",),
        "base": (),
        "time_ratio": 0.5,
        "interval": (0.4, 0.6),
        "rounds": 60,
        "cpu": "A CPU",
        "version": "1",
    }
    assert "0.50" in str(PassMeasurement(**values))
    with pytest.raises(BundleError):
        PassMeasurement(**{**values, **change})
