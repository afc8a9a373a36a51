"""Odd networks through the whole export: warnings, refusing targets, the traced form where there is no static one."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from sr_edge.errors import NotDeployable, NotStatic, UnknownNameError
from sr_edge.export import TARGET_NAMES, Form, derive_onnx, export_best_form, export_onnx
from sr_edge.models import LoadedModel
from sr_edge.spec import FrameFormat, ModelCard, TileSpec
from tests.expected_errors import raises
from tests.export.odd_networks import (
    CumulativeNetwork,
    EinsumNetwork,
    HighRankNetwork,
    RankingNetwork,
    SharedLayerNetwork,
    ThreeFactorNetwork,
    UnknownShapeNetwork,
    Upscaling,
)

REWRITES: dict[type[nn.Module], tuple[str, ...]] = {
    EinsumNetwork: ("einsum", "linear-folding"),
    CumulativeNetwork: ("cumulative sum", "linear-folding"),
    HighRankNetwork: ("merge axes",),
}
TILE_FOR_RANKING = TileSpec(32, 32)


def loaded(network: type[nn.Module]) -> LoadedModel:
    torch.manual_seed(0)
    return LoadedModel(network().eval(), ModelCard(name="odd", scale=2, parameters=1))


@pytest.mark.parametrize("network", [EinsumNetwork, CumulativeNetwork, HighRankNetwork])
def test_what_compilers_optimize_badly_is_rewritten(network: type[nn.Module], tile: TileSpec, tmp_path: Path) -> None:
    targets = ("tensorrt-10.3", "tensorrt-11.4", "tensorrt-rtx", "openvino", "onnxruntime")
    report = export_onnx(loaded(network), tile, tmp_path / "net.onnx", targets=targets)
    assert (report.warnings, report.metadata.form) == ((), Form.STATIC)
    assert report.passes == REWRITES[network]
    assert {"Einsum", "CumSum"}.isdisjoint(node.op_type for node in onnx.load(report.path).graph.node)


def test_what_only_costs_time_is_a_warning(tile: TileSpec, tmp_path: Path) -> None:
    report = export_onnx(loaded(ThreeFactorNetwork), tile, tmp_path / "net.onnx", targets=["openvino", "onnxruntime"])
    assert [warning for warning in report.warnings if "Einsum" in warning]
    derived = derive_onnx(report, tmp_path / "uint8.onnx", io=FrameFormat.UINT8_NHWC)
    assert derived.warnings == report.warnings


def test_a_sound_network_has_no_warnings(tile: TileSpec, tmp_path: Path) -> None:
    report = export_best_form(loaded(Upscaling), tile, tmp_path / "net.onnx")
    assert (report.warnings, report.form_reason, report.metadata.form) == ((), "", Form.STATIC)
    assert report.passes == ()


def test_what_a_target_refuses_is_a_warning_unless_it_was_asked_for(tmp_path: Path) -> None:
    model, path = loaded(RankingNetwork), tmp_path / "net.onnx"
    for form in Form:
        with raises(NotDeployable, wanted=("tensorrt-10.3",)):
            export_onnx(model, TILE_FOR_RANKING, path, form=form, targets=["tensorrt-10.3"])
    with raises(NotDeployable, wanted=("tensorrt-10.3",)):
        export_best_form(model, TILE_FOR_RANKING, path, targets=["tensorrt-10.3"])
    assert list(tmp_path.iterdir()) == []
    report = export_onnx(model, TILE_FOR_RANKING, path, targets=["onnxruntime"])
    assert any("TopK" in warning and "TensorRT" in warning for warning in report.warnings)
    with raises(NotDeployable, wanted=("tensorrt-10.3",)):
        derive_onnx(report, tmp_path / "other.onnx", io=FrameFormat.UINT8_NHWC, targets=["tensorrt-10.3"])


def test_an_unknown_target_is_refused_before_any_work(tile: TileSpec, tmp_path: Path) -> None:
    steps: list[str] = []
    with raises(UnknownNameError, found="tensorrt-8.6", wanted=list(TARGET_NAMES)):
        export_onnx(loaded(Upscaling), tile, tmp_path / "n.onnx", targets=["tensorrt-8.6"], progress=steps.append)
    assert steps == []


@pytest.mark.parametrize(("network", "wanted"), [(UnknownShapeNetwork, "constant shapes"), (SharedLayerNetwork, 1)])
def test_without_a_static_form_the_traced_one_is_written_and_the_reason_given(
    network: type[nn.Module], wanted: object, tile: TileSpec, tmp_path: Path
) -> None:
    model = loaded(network)
    with raises(NotStatic, wanted=wanted) as caught:
        export_onnx(model, tile, tmp_path / "static.onnx")
    assert "--form traced" in str(caught.value.remedy)
    report = export_best_form(model, tile, tmp_path / "net.onnx")
    assert report.metadata.form is Form.TRACED
    assert report.form_reason and "--form" not in report.form_reason
    assert report.parity.max_abs_error < 1e-4
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    assert derive_onnx(report, tmp_path / "uint8.onnx", io=FrameFormat.UINT8_NHWC).metadata.form is Form.TRACED


def test_a_form_that_was_asked_for_is_written_or_refused(tile: TileSpec, tmp_path: Path) -> None:
    report = export_best_form(loaded(Upscaling), tile, tmp_path / "net.onnx", form=Form.TRACED)
    assert (report.metadata.form, report.form_reason) == (Form.TRACED, "")
    with raises(NotStatic):
        export_best_form(loaded(UnknownShapeNetwork), tile, tmp_path / "other.onnx", form=Form.STATIC)
    assert not (tmp_path / "other.onnx").exists()
