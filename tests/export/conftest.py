"""Small seeded networks that have what breaks exports: statistics, softmax, a pixel shuffle, shape arithmetic."""

from __future__ import annotations

import onnx
import pytest
import torch
from torch import Tensor, nn

from sr_edge.export.passes.simplify import simplify
from sr_edge.export.passes.tracing import trace
from sr_edge.export.twins.registry import to_static
from sr_edge.models import LoadedModel
from sr_edge.models.architectures.taylor_swinir import TaylorSwinIR
from sr_edge.models.layers.swin import SwinConfig, Upsampler
from sr_edge.spec import ModelCard, TileSpec

TILE = TileSpec(12, 16)
TAYLOR_TILE = TileSpec(32, 32)
# Small enough for a test, large enough to shift its windows and to attend efficiently.
SMALL_TAYLOR = SwinConfig(8, (2,), 2, 16, 2, Upsampler.PIXELSHUFFLE_DIRECT)


class PlaneNorm(nn.Module):
    """LayerNorm over the channels of a plane, written out as users write it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(channels, 1, 1) + 0.5)
        self.bias = nn.Parameter(torch.randn(channels, 1, 1) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        variance = centred.pow(2).mean(1, keepdim=True)
        return centred / torch.sqrt(variance + 1e-5) * self.weight + self.bias


class AttentionNet(nn.Module):
    """conv -> norm -> cosine attention over all pixels -> conv -> pixel shuffle, with activations times `gain`."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain
        self.head = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = PlaneNorm(8)
        self.qkv = nn.Conv2d(8, 24, 1)
        self.token_norm = nn.LayerNorm(8)
        self.tail = nn.Conv2d(8, 12, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        features = self.head(x) * self.gain
        q, k, v = (part.flatten(2) for part in self.qkv(self.norm(features)).chunk(3, 1))
        q = q / q.pow(2).sum(1, keepdim=True).sqrt().clamp_min(1e-6)
        tokens = v @ torch.softmax(q.transpose(1, 2) @ k, -1).transpose(1, 2)
        tokens = self.token_norm(tokens.transpose(1, 2)).transpose(1, 2)
        return self.shuffle(self.tail(features / self.gain + tokens.reshape(batch, 8, height, width)))


class ShuffleNet(nn.Module):
    """A conv net of any input size."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 12, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(self.last(self.first(x).relu()))


@pytest.fixture(scope="session")
def tile() -> TileSpec:
    return TILE


@pytest.fixture(scope="session")
def attention_net() -> nn.Module:
    torch.manual_seed(0)
    return AttentionNet().eval()


@pytest.fixture(scope="session")
def hot_attention_net() -> nn.Module:
    """The same network with features in the thousands, whose squares float16 cannot hold."""
    torch.manual_seed(0)
    return AttentionNet(gain=5000.0).eval()


@pytest.fixture(scope="session")
def shuffle_net() -> nn.Module:
    torch.manual_seed(0)
    return ShuffleNet().eval()


def small_taylor_network() -> TaylorSwinIR:
    torch.manual_seed(0)
    return TaylorSwinIR(SMALL_TAYLOR).eval()


@pytest.fixture(scope="session")
def small_taylor() -> LoadedModel:
    card = ModelCard(name="taylor", scale=2, parameters=1, multiple_px=SMALL_TAYLOR.window)
    return LoadedModel(small_taylor_network(), card)


@pytest.fixture(scope="session")
def taylor_tile() -> TileSpec:
    return TAYLOR_TILE


@pytest.fixture(scope="session")
def hot_taylor_graph() -> onnx.ModelProto:
    """The static twin of TaylorSwinIR with features times 1000 inside, which the last convolution takes back."""
    network = small_taylor_network()
    (last,) = (layer for layer in network.upsample.modules() if isinstance(layer, nn.Conv2d))
    with torch.no_grad():
        network.conv_first.weight.mul_(1000.0)
        last.weight.div_(1000.0)
    return simplify(trace(to_static(network, TAYLOR_TILE.height, TAYLOR_TILE.width), TAYLOR_TILE)).model


@pytest.fixture(scope="session")
def attention_graph(attention_net: nn.Module) -> onnx.ModelProto:
    return simplify(trace(attention_net, TILE)).model


@pytest.fixture(scope="session")
def hot_attention_graph(hot_attention_net: nn.Module) -> onnx.ModelProto:
    return simplify(trace(hot_attention_net, TILE)).model


@pytest.fixture(scope="session")
def shuffle_graph(shuffle_net: nn.Module) -> onnx.ModelProto:
    return simplify(trace(shuffle_net, TILE)).model
