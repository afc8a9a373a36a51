"""`--for` on export, deploy and calibrate, warnings as people read them, and the traced form where no static one is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from sr_edge.cli.output import SHOWN_WARNINGS, warning_lines
from sr_edge.export.graph.metadata import Form, read_metadata

SrEdge = Callable[..., Any]
"""The fixture of conftest.py; it gives code, stdout, stderr and the one error line."""

ODD = "tests.export.odd_networks"
TINY = ("convnet-tiny", "--scale", "2", "--random-weights", "--tile", "24")
QUICK = ("--runtimes", "onnxruntime", "--runs", "1", "--no-memory", "--no-tile-needs", "--passes", "structure")


def odd(network: str, tile: str = "24") -> tuple[str, ...]:
    return ("--arch", f"{ODD}:{network}", "--scale", "2", "--random-weights", "--tile", tile)


@pytest.mark.parametrize("command", ["export", "deploy", "calibrate"])
def test_an_unknown_target_is_wrong_usage_before_anything_starts(
    sr_edge: SrEdge, pictures: Path, tmp_path: Path, command: str
) -> None:
    images = () if command == "export" else ("--images", pictures)
    for names in ("tensorrt-8.6", "openvino,tensorrt"):
        outcome = sr_edge(
            command,
            *TINY,
            *images,
            "--for",
            names,
            "-o",
            tmp_path / ("out.sredge" if command == "deploy" else "out.onnx"),
        )
        assert outcome.code == 2
        assert "tensorrt-10.3" in outcome.error and "onnxruntime" in outcome.error
        assert "..." not in outcome.stderr  # no stage has begun
    assert list(tmp_path.iterdir()) == []


def test_a_sound_network_is_exported_for_every_target(sr_edge: SrEdge, tmp_path: Path) -> None:
    targets = "tensorrt-10.3,tensorrt-11.4,tensorrt-rtx,openvino,onnxruntime"
    outcome = sr_edge("export", *TINY, "--for", targets, "-o", tmp_path / "model.onnx")
    assert outcome.code == 0
    assert "warning" not in outcome.stdout


def test_what_only_costs_time_is_told_once_and_exported(sr_edge: SrEdge, tmp_path: Path) -> None:
    arguments = (*odd("ThreeFactorNetwork"), "--for", "onnxruntime,openvino", "-o", tmp_path / "model.onnx")
    outcome = sr_edge("export", *arguments)
    assert outcome.code == 0 and outcome.stdout.count("warning: ") == 1
    document = json.loads(sr_edge("export", *arguments, "--json").stdout)
    assert len(document["warnings"]) == 1 and document["warnings"][0] in outcome.stdout


def test_a_refusing_target_is_told_and_refuses_only_where_it_was_asked_for(sr_edge: SrEdge, tmp_path: Path) -> None:
    arguments = (*odd("RankingNetwork", "32"), "-o", tmp_path / "model.onnx")
    refused = sr_edge("export", *arguments, "--for", "onnxruntime,tensorrt-10.3")
    assert refused.code == 1
    assert "TopK" in refused.error and "tensorrt-10.3" in refused.error
    assert list(tmp_path.iterdir()) == []
    written = sr_edge("export", *arguments, "--for", "onnxruntime")
    assert written.code == 0 and "every TensorRT release" in written.stdout


def test_deploy_refuses_for_a_target_and_leaves_nothing(sr_edge: SrEdge, pictures: Path, tmp_path: Path) -> None:
    arguments = (*odd("RankingNetwork", "32"), *QUICK, "--precisions", "fp32", "--images", pictures)
    refused = sr_edge("deploy", *arguments, "--for", "tensorrt-rtx", "-o", tmp_path / "net.sredge")
    assert refused.code == 1 and "TopK" in refused.error
    assert list(tmp_path.iterdir()) == []


def test_deploy_takes_the_traced_form_where_there_is_no_static_one(
    sr_edge: SrEdge, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "net.sredge"
    arguments = (*odd("SharedLayerNetwork"), *QUICK, "--precisions", "fp32,int8", "--images", pictures)
    outcome = sr_edge("deploy", *arguments, "--for", "tensorrt-10.3,openvino", "-o", out, "--json")
    assert outcome.code == 0, outcome.stderr
    report = json.loads(outcome.stdout)
    assert "as traced" in report["exports"][0]["form_reason"]
    assert read_metadata(onnx.load(out / "model.onnx")).form is Form.TRACED


def test_export_keeps_to_the_form_and_names_the_other(sr_edge: SrEdge, tmp_path: Path) -> None:
    arguments = (*odd("SharedLayerNetwork"), "-o", tmp_path / "model.onnx")
    outcome = sr_edge("export", *arguments)
    assert outcome.code == 1 and "--form traced" in outcome.error
    assert sr_edge("export", *arguments, "--form", "traced").code == 0


def test_calibrate_falls_back_and_writes_for_the_target(sr_edge: SrEdge, pictures: Path, tmp_path: Path) -> None:
    arguments = (*odd("SharedLayerNetwork"), "--images", pictures, "--patches", "4", "--runtime", "none")
    arguments = (*arguments, "--method", "min-max", "--max-drop-db", "3")
    outcome = sr_edge("calibrate", *arguments, "--for", "openvino", "-o", tmp_path / "int8.onnx", "--json")
    assert outcome.code == 0, outcome.stderr
    document = json.loads(outcome.stdout)
    assert document["activation_type"] == "uint8" and "as traced" in document["remark"]


def test_targets_of_both_activation_types_are_refused(sr_edge: SrEdge, pictures: Path, tmp_path: Path) -> None:
    targets = "openvino,tensorrt-10.3"
    outcome = sr_edge("calibrate", *TINY, "--images", pictures, "--for", targets, "-o", tmp_path / "int8.onnx")
    assert outcome.code == 2
    assert "sr-edge deploy" in outcome.error
    assert list(tmp_path.iterdir()) == []


def test_calibrate_refuses_a_float_file_for_a_target_before_any_work(
    sr_edge: SrEdge, pictures: Path, tmp_path: Path
) -> None:
    source = tmp_path / "float.onnx"
    assert sr_edge("export", *odd("RankingNetwork", "32"), "-o", source).code == 0
    arguments = ("calibrate", source, "--images", pictures, "--for", "tensorrt-10.3", "-o", tmp_path / "int8.onnx")
    outcome = sr_edge(*arguments)
    assert outcome.code == 1 and "TopK" in outcome.error
    assert list(tmp_path.iterdir()) == [source]


def test_of_many_warnings_few_are_shown_each_once() -> None:
    assert warning_lines([]) == []
    assert warning_lines(["a", "b", "a"]) == ["warning: a", "warning: b"]
    lines = warning_lines(str(number) for number in range(SHOWN_WARNINGS + 3))
    assert len(lines) == SHOWN_WARNINGS + 1 and "3 more" in lines[-1]
