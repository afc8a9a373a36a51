"""LabNet: published size, the shapes of its U-Net, the blocks' ablations, recognised checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sr_edge.models import build_network, load_model
from sr_edge.models.architectures.labnet import LABNET_SIZES, LabNet, UNet, initialize_labnet
from sr_edge.models.layers.channel_attention import ChannelAttention, GlobalMean
from sr_edge.models.layers.lstea import GDFN, LSTEA, ChannelLayerNorm, LargeScale
from sr_edge.models.macs import count_macs
from sr_edge.models.registry import count_parameters

CEILINGS = {"light": 1_000_000, "tiny": 200_000}


def test_work_of_table_i() -> None:
    with torch.device("meta"):
        network = build_network("labnet-m", 4)
    assert count_macs(network, 64, 64) == pytest.approx(49e9, rel=0.03)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_sizes_for_devices(scale: int) -> None:
    with torch.device("meta"):
        for size, ceiling in CEILINGS.items():
            assert count_parameters(build_network(f"labnet-{size}", scale)) <= ceiling


def test_modules_from_left_to_right() -> None:
    with torch.device("meta"):
        unet = UNet(LABNET_SIZES["m"])
    modules = [*unet.encoders, unet.bottleneck, *unet.decoders, unet.refinement]
    actual = [(len(module), module[0].fuse.out_channels) for module in modules]
    assert actual == [(6, 64), (8, 128), (10, 256), (6, 128), (8, 128), (8, 128)]


def test_any_size_is_padded_and_cut() -> None:
    network = build_network("labnet-tiny", 3)
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 13, 10)).shape == (1, 3, 39, 30)


def test_a_network_whose_last_convolution_is_silent_enlarges_bicubically() -> None:
    network = LabNet(LABNET_SIZES["tiny"]).eval()
    initialize_labnet(network)
    x = torch.rand(1, 3, 12, 14)
    with torch.inference_mode():
        assert torch.equal(network(x), network.bicubic(x))


def test_every_switch_of_the_large_scale_branch() -> None:
    x = torch.randn(1, 16, 9, 10)
    counts = []
    for kind in LargeScale:
        block = LSTEA(16, kind).eval()
        assert block(x).shape == x.shape
        counts.append(count_parameters(block))
    assert counts[0] < counts[1] < counts[2] < counts[3]


def test_every_global_statistic_is_one_module_type() -> None:
    """One mean for STEA and one for channel attention, in every block."""
    network = build_network("labnet-tiny", 2)
    blocks = sum(isinstance(part, LSTEA) for part in network.modules())
    assert sum(isinstance(part, GlobalMean) for part in network.modules()) == 2 * blocks == 8


def test_channel_norm_is_layer_norm_of_each_pixel() -> None:
    norm = ChannelLayerNorm(6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 6, 3, 4) * 3 + 1
    pixel = x[1, :, 2, 3]
    wanted = (pixel - pixel.mean()) / (pixel.var(unbiased=False) + 1e-5).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(norm(x)[1, :, 2, 3], wanted)


def test_channel_attention_and_gdfn_by_hand() -> None:
    """A plane of one pixel, where the mean is the pixel and a depthwise 3x3 convolution is its middle weight."""
    torch.manual_seed(0)
    x = torch.randn(1, 16, 1, 1)
    attention, gdfn = ChannelAttention(16), GDFN(16)
    down, up = (layer for layer in attention.excitation if isinstance(layer, nn.Conv2d))
    hidden = (down.weight[:, :, 0, 0] @ x[0, :, 0, 0] + down.state_dict()["bias"]).clamp_min(0)
    factor = 1 / (1 + (-(up.weight[:, :, 0, 0] @ hidden + up.state_dict()["bias"])).exp())
    torch.testing.assert_close(attention(x)[0, :, 0, 0], x[0, :, 0, 0] * factor)
    both = gdfn.project_in.weight[:, :, 0, 0] @ x[0, :, 0, 0] * gdfn.depthwise.weight[:, 0, 1, 1]
    gate, value = both[:42], both[42:]
    gated = gate * (1 + torch.erf(gate / 2**0.5)) / 2 * value
    torch.testing.assert_close(gdfn(x)[0, :, 0, 0], gdfn.project_out.weight[:, :, 0, 0] @ gated)


@pytest.mark.parametrize(("name", "scale"), [("labnet-tiny", 3), ("realnet-tiny", 2)])
def test_checkpoints_are_recognised(name: str, scale: int, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(build_network(name, scale).state_dict(), path)
    card = load_model(None, None, path).card
    assert (card.name, card.scale, card.global_statistics) == (name, scale, True)
