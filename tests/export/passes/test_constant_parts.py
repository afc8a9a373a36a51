"""Networks whose plain trace fails or is wrong are exported with what does not depend on the picture as constants."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from sr_edge.export.checks.parity import compare_with_network
from sr_edge.export.export import export_onnx
from sr_edge.export.graph.patches import check_patches
from sr_edge.export.passes.constant_parts import WithConstantParts
from sr_edge.export.passes.simplify import simplify
from sr_edge.export.passes.tracing import trace
from sr_edge.models import LoadedModel
from sr_edge.spec import ModelCard, TileSpec

TILE = TileSpec(24, 16)


class Upscaling(nn.Module):
    """Doubles what `changed` makes of a picture."""

    def changed(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(self.changed(x), scale_factor=2.0)


class MaskBySlices(Upscaling):
    """As Swin-like networks make the mask of shifted windows for a size that is not the training size."""

    def changed(self, x: Tensor) -> Tensor:
        _, _, height, width = x.shape
        mask = torch.zeros((1, height, width, 1))
        number = 0
        for rows in (slice(0, -8), slice(-8, -4), slice(-4, None)):
            for columns in (slice(0, -8), slice(-8, -4), slice(-4, None)):
                mask[:, rows, columns, :] = number
                number += 1
        return x * (mask / 9.0).permute(0, 3, 1, 2)


class PooledToAComputedSize(Upscaling):
    """As SAFMN pools its features to a share of the picture's size."""

    def changed(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        coarse = nn.functional.adaptive_max_pool2d(x, (height // 8, width // 8))
        return x * nn.functional.interpolate(coarse, size=(height, width), mode="nearest")


class FoldsItsWeights(Upscaling):
    """As re-parameterised convolutions fold their branches whenever they run."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)

    def changed(self, x: Tensor) -> Tensor:
        weight = self.wide.weight + nn.functional.pad(self.narrow.weight, (1, 1, 1, 1))
        return nn.functional.conv2d(x, weight, self.wide.bias, padding=1)


class SortsByAnyOrder(Upscaling):
    def changed(self, x: Tensor) -> Tensor:
        rows, _ = torch.sort(x, dim=-1, stable=False)
        return rows


class WritesIntoATable(Upscaling):
    """A constant that the picture is written into is no constant afterwards."""

    def changed(self, x: Tensor) -> Tensor:
        table = torch.zeros_like(x)
        table[..., ::2] = x[..., 1::2]
        return table.add_(x)


NETWORKS = (MaskBySlices, PooledToAComputedSize, FoldsItsWeights, SortsByAnyOrder, WritesIntoATable)


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_trace_with_constant_parts_is_the_network(kind: type[Upscaling]) -> None:
    torch.manual_seed(0)
    network = kind().eval().requires_grad_(False)
    graph = simplify(trace(WithConstantParts(network), TILE)).model
    assert compare_with_network(graph, network, check_patches(TILE)).passed
    operators = Counter(node.op_type for node in graph.graph.node)
    assert not {"Shape", "ConstantOfShape", "Range", "NonZero", "If"} & set(operators)


def test_folded_weights_are_one_constant() -> None:
    torch.manual_seed(0)
    graph = trace(WithConstantParts(FoldsItsWeights().eval()), TILE)
    assert [node.op_type for node in graph.graph.node if node.op_type in ("Conv", "Pad", "Add")] == ["Conv"]


@pytest.mark.parametrize("kind", [FoldsItsWeights, SortsByAnyOrder])
def test_export_takes_it_where_the_plain_trace_fails_and_says_so(kind: type[Upscaling], tmp_path: Path) -> None:
    model = LoadedModel(kind().eval().requires_grad_(False), ModelCard(name="net", scale=2, parameters=0))
    report = export_onnx(model, TILE, tmp_path / "net.onnx")
    assert report.parity.passed
    assert any("before tracing" in remark for remark in report.remarks)


def test_export_leaves_a_network_alone_whose_plain_trace_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = LoadedModel(PooledToAComputedSize().eval(), ModelCard(name="net", scale=2, parameters=0))
    report = export_onnx(model, TILE, tmp_path / "net.onnx")
    assert report.remarks == ()
    assert report.nodes == len(onnx.load(report.path).graph.node)


def test_the_modules_parameters_and_the_callers_modes_are_as_before() -> None:
    network = MaskBySlices().eval()
    trace(WithConstantParts(network), TILE)
    assert not torch.onnx.is_in_onnx_export()
    assert torch._C._get_tracing_state() is None


class WritesThroughAView(Upscaling):
    def changed(self, x: Tensor) -> Tensor:
        table = torch.zeros((1, 3, 24, 16))
        table[:, :, ::2][..., ::2] = x[:, :, ::2, ::2]
        return x + table


def test_what_is_written_through_a_view_is_never_exported_as_a_constant(tmp_path: Path) -> None:
    """The recording cannot follow it; comparing with PyTorch refuses such a graph, and the plain trace is right."""
    network = WritesThroughAView().eval()
    assert not compare_with_network(
        simplify(trace(WithConstantParts(network), TILE)).model, network, check_patches(TILE)
    ).passed
    model = LoadedModel(network, ModelCard(name="net", scale=2, parameters=0))
    assert export_onnx(model, TILE, tmp_path / "net.onnx").parity.passed
