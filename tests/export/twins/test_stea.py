"""Static twins of STEA, MLFR, LSTEA, LabNet and RealNet: equal in float64, static, sound in float16 and INT8."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import onnx
import pytest
import torch
from torch import Tensor, nn

from sr_edge.calibration.graph.candidates import find_quantizable_ops
from sr_edge.export.checks.rules import check_graph
from sr_edge.export.export import export_onnx
from sr_edge.export.passes.simplify import simplify
from sr_edge.export.passes.tracing import trace
from sr_edge.export.twins.affine import Affine, sum_of_maps
from sr_edge.export.twins.lstea import StaticReconstruction
from sr_edge.export.twins.registry import to_static
from sr_edge.models import LoadedModel
from sr_edge.models.architectures.labnet import Downsample, LabNet, LabNetConfig
from sr_edge.models.architectures.realnet import RealNet, RealNetConfig
from sr_edge.models.layers.channel_attention import GlobalMean
from sr_edge.models.layers.lstea import LSTEA, ChannelLayerNorm, LargeScale
from sr_edge.models.layers.mlfr import MLFR
from sr_edge.models.layers.stea import STEA
from sr_edge.models.layers.upsampling import Reconstruction
from sr_edge.models.macs import count_layer_macs, count_macs
from sr_edge.spec import ModelCard, Precision, TileSpec
from tests.export.twins.equal_twins import EXACT, randomised

Layer = TypeVar("Layer", bound=nn.Module)

HEIGHT, WIDTH = 12, 16
LABNET = LabNetConfig(16, (1, 1, 1, 1))
DEEP_LABNET = LabNetConfig(16, (1, 1, 1, 1, 1, 1), scale=3)
REALNET = RealNetConfig(16, 2, 1, scale=2)


class OneLayer(nn.Module):
    """A layer of `channels` between two convolutions, so that it is found inside a network."""

    def __init__(self, channels: int, layer: nn.Module, out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.layer = layer
        self.last = nn.Conv2d(out, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(self.first(x)))


LAYERS = {
    "stea": (16, STEA(16), 16),
    "stea, order 1": (16, STEA(16, order=1), 16),
    "stea, order 3": (16, STEA(16, order=3), 16),
    "stea, as printed": (16, STEA(16, use_output_proj=False), 16),
    "stea, no DWC": (16, STEA(16, use_dwc=False), 16),
    "stea, as printed, no DWC": (16, STEA(16, order=1, use_output_proj=False, use_dwc=False), 16),
    "mlfr": (16, MLFR(16), 16),
    "mlfr, two groups": (32, MLFR(32, (6, 4)), 32),
    "downsample": (16, Downsample(16), 32),
    "reconstruction x2": (16, Reconstruction(16, 8, 2), 3),
    "reconstruction x3": (16, Reconstruction(16, 8, 3), 3),
    "reconstruction x4": (16, Reconstruction(16, 8, 4), 3),
    **{f"lstea, {kind.value}": (16, LSTEA(16, kind), 16) for kind in LargeScale},
    "lstea, unaligned": (24, LSTEA(24), 24),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_equals_its_training_form(name: str) -> None:
    network = randomised(OneLayer(*LAYERS[name]), 0.3)
    twin = to_static(network, HEIGHT, WIDTH)
    assert type(twin.get_submodule("layer")) is not type(network.layer)
    x = torch.rand(1, 3, HEIGHT, WIDTH, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(twin(x), network(x), rtol=0, atol=EXACT)


@pytest.mark.parametrize("config", [LABNET, DEEP_LABNET, replace(LABNET, large_scale=LargeScale.STEA)])
def test_labnet_equals_its_training_form(config: LabNetConfig) -> None:
    network = randomised(LabNet(config), 0.3)
    x = torch.rand(1, 3, HEIGHT, WIDTH, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(to_static(network, HEIGHT, WIDTH)(x), network(x), rtol=0, atol=EXACT)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.25, 1.75), (0.0, 2.0)])
def test_realnet_equals_its_training_form_at_every_setting(alpha: float, beta: float) -> None:
    network = randomised(RealNet(REALNET), 0.3)
    x = torch.rand(1, 3, HEIGHT, WIDTH, dtype=torch.float64)
    controls = torch.tensor([alpha]), torch.tensor([beta])
    with torch.inference_mode():
        torch.testing.assert_close(
            to_static(network, HEIGHT, WIDTH)(x, *controls), network(x, *controls), rtol=0, atol=EXACT
        )


def test_near_misses_and_twins_are_left_alone() -> None:
    class OtherSTEA(STEA):
        """A user's own attention, of which no twin is known."""

    network = OneLayer(16, OtherSTEA(16), 16)
    assert type(to_static(network, HEIGHT, WIDTH).get_submodule("layer")) is OtherSTEA
    once = to_static(LabNet(LABNET), HEIGHT, WIDTH)
    twice = to_static(once, HEIGHT, WIDTH)
    assert [type(part) for part in twice.modules()] == [type(part) for part in once.modules()]


def test_every_global_mean_is_still_one_and_in_the_same_order() -> None:
    """So that tiles can be given the whole picture's statistics in either form."""
    network = randomised(LabNet(LABNET), 0.3)
    twin = to_static(network, HEIGHT, WIDTH)
    x = torch.rand(1, 3, HEIGHT, WIDTH, dtype=torch.float64)
    heard: list[list[Tensor]] = []
    for form in (network, twin):
        means: list[Tensor] = []
        for layer in form.modules():
            if isinstance(layer, GlobalMean):
                layer.register_forward_hook(lambda module, arguments, mean, kept=means: kept.append(mean))
        with torch.inference_mode():
            form(x)
        heard.append(means)
    assert len(heard[0]) == 8
    for trained, static in zip(*heard, strict=True):
        torch.testing.assert_close(static, trained, rtol=0, atol=EXACT)


def test_work_that_the_twins_save() -> None:
    shape = torch.Size((1, 64, 48, 48))
    ratios = []
    for layer in (STEA(64), MLFR(64)):
        twin = to_static(OneLayer(64, layer, 64), 48, 48).get_submodule("layer")
        ratios.append(count_layer_macs(twin, shape) / count_layer_macs(layer, shape))
    assert ratios[0] < 0.70 and ratios[1] < 0.82
    network = LabNet(LabNetConfig(64, (1, 1, 1, 1), scale=4))
    assert count_macs(to_static(network, 48, 48), 48, 48) < 0.85 * count_macs(network, 48, 48)


def test_reconstruction_is_one_convolution() -> None:
    layer = Reconstruction(16, 8, 3)
    twin = StaticReconstruction(layer, torch.Size((1, 16, 4, 4)))
    assert [type(part) for part in twin.children()] == [nn.Conv2d, nn.PixelShuffle]
    assert twin.conv.weight.shape == (27, 16, 3, 3)


def test_affine_maps_compose() -> None:
    torch.manual_seed(0)
    first, second = nn.Conv2d(4, 6, 1).double(), nn.Conv2d(6, 3, 1).double()
    x, y = torch.randn(2, 1, 4, 2, 2, dtype=torch.float64)
    whole = Affine.from_layer(nn.Sequential(first, second))
    torch.testing.assert_close(whole.to_conv(torch.float64)(x), second(first(x)))
    summed = sum_of_maps([whole, Affine.from_layer(second).after(Affine.from_layer(first))]).to_conv(torch.float64)
    torch.testing.assert_close(summed(torch.cat([x, y], 1)), second(first(x)) + second(first(y)))
    parts = whole.split([1, 3])
    torch.testing.assert_close(sum_of_maps(parts).to_conv(torch.float64)(x), second(first(x)))


def small_models() -> dict[str, LoadedModel]:
    models = {}
    for name, network in (("labnet", LabNet(LABNET)), ("realnet", RealNet(REALNET))):
        controls = getattr(network, "controls", ())
        card = ModelCard(name=name, scale=2, parameters=1, multiple_px=4, controls=controls)
        torch.manual_seed(0)
        for layer in network.modules():
            if isinstance(layer, ChannelLayerNorm):
                nn.init.normal_(layer.weight, 1.0, 0.3)
                nn.init.normal_(layer.bias, 0.0, 0.3)
        models[name] = LoadedModel(network.eval(), card)
    return models


@pytest.mark.parametrize("name", ["labnet", "realnet"])
def test_exports_are_static_and_survive_half_precision(name: str, tmp_path: Path) -> None:
    """`export_onnx` compares with PyTorch, scans the graph, and runs the fp16 one in real float16 arithmetic."""
    report = export_onnx(small_models()[name], TileSpec(12, 12), tmp_path / "half.onnx", precision=Precision.FP16)
    assert report.float16 is not None and report.float16.psnr_db > 60.0
    model = onnx.load(report.path)
    assert not check_graph(model)
    kept = {node.name for node in model.graph.node if "fp32" in node.name}
    assert kept and not [node.op_type for node in model.graph.node if node.op_type in ("Einsum", "CumSum", "Shape")]


def test_statistics_can_never_become_int8() -> None:
    network = small_models()["labnet"].module
    graph = simplify(trace(to_static(network, 24, 24), TileSpec(24, 24))).model
    ops = find_quantizable_ops(graph)
    free = [op.node for op in ops if not op.obstacle]
    assert free and not [name for name in free if "fp32" in name]
    means = [node for node in graph.graph.node if node.op_type in ("ReduceMean", "GlobalAveragePool")]
    assert len(means) == 8 and all("fp32_mean" in node.name for node in means)
