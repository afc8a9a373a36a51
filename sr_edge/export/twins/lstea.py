"""Static twins of the LSTEA block and of the layers between the blocks of LabNet and RealNet.

They are exact in float64; each docstring says what its twin saves. STEA, MLFR and GDFN have modules of their own.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_edge.export.twins.affine import Affine, ConcatenatedConv, biases, sum_of_maps, with_weights
from sr_edge.export.twins.feed_forward import HalvedGelu, StaticGDFN
from sr_edge.export.twins.mlfr import MLFRFeatures
from sr_edge.export.twins.stea import STEAFeatures
from sr_edge.models.architectures.labnet import Downsample
from sr_edge.models.architectures.realnet import Adapter
from sr_edge.models.layers.channel_attention import ChannelAttention, GlobalMean
from sr_edge.models.layers.lstea import LSTEA, ChannelLayerNorm
from sr_edge.models.layers.mlfr import MLFR
from sr_edge.models.layers.stea import STEA
from sr_edge.models.layers.upsampling import Reconstruction


class CentredNorm(nn.Module):
    """LayerNorm over the channels of NCHW without gamma and beta: no transposes, and the variance of centred values."""

    mean_weights: Tensor

    def __init__(self, norm: ChannelLayerNorm) -> None:
        super().__init__()
        channels = norm.weight.numel()
        self.register_buffer("mean_weights", torch.full((1, channels, 1, 1), 1 / channels, dtype=norm.weight.dtype))
        self.eps = norm.eps

    def forward(self, x: Tensor) -> Tensor:
        centred = x - functional.conv2d(x, self.mean_weights)
        return centred * (1 / torch.sqrt(functional.conv2d(centred * centred, self.mean_weights) + self.eps))


class StaticNorm(nn.Module):
    """LayerNorm with gamma and beta, in front of a zero-padded convolution, which cannot take beta into its bias."""

    gain: Tensor
    offset: Tensor

    def __init__(self, norm: ChannelLayerNorm) -> None:
        super().__init__()
        self.fp32_centred = CentredNorm(norm)
        for name, parameter in (("gain", norm.weight), ("offset", norm.bias)):
            self.register_buffer(name, parameter.detach().clone()[None, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return self.fp32_centred(x) * self.gain + self.offset


class StaticChannelAttention(nn.Module):
    """Channel attention whose statistics are named so that they stay in float32, in INT8 graphs too."""

    def __init__(self, layer: ChannelAttention) -> None:
        super().__init__()
        self.fp32_mean = GlobalMean()
        self.fp32_excitation = copy.deepcopy(layer.excitation)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fp32_excitation(self.fp32_mean(x))


class StaticLSTEA(nn.Module):
    """An LSTEA block: its fuse includes the tail of the large-scale branch, and GDFN the gamma and beta of norm2."""

    def __init__(self, block: LSTEA, input_shape: torch.Size) -> None:
        super().__init__()
        self.norm1 = StaticNorm(block.norm1)
        first, _, second = copy.deepcopy(block.local)
        self.local = nn.Sequential(first, HalvedGelu(), second)
        self.before, self.planes, tail = _large_scale(block.large_scale, block.fuse.out_channels)
        local, large = Affine.from_layer(block.fuse).split([block.fuse.out_channels] * 2)
        self.fuse = sum_of_maps([local, large.after(tail)]).to_conv(block.fuse.weight.dtype)
        self.attention = StaticChannelAttention(block.attention)
        self.fp32_norm2 = CentredNorm(block.norm2)
        gain, offset = (parameter.detach().double() for parameter in (block.norm2.weight, block.norm2.bias))
        self.gdfn = StaticGDFN(block.gdfn, Affine(torch.diag(gain), offset))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        planes = self.planes(self.before(normed))
        x = x + self.attention(self.fuse(torch.cat([self.local(normed), *planes], dim=1)))
        return x + self.gdfn(self.fp32_norm2(x))


class SingleFeatureMap(nn.Module):
    """The list of feature maps of a branch without layers: its input."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [x]


def _large_scale(branch: nn.Sequential, channels: int) -> tuple[nn.Module, nn.Module, Affine]:
    """The layers before the last one, the feature maps of the last one, and its tail."""
    layers = list(branch.children())
    if not layers:
        return nn.Identity(), SingleFeatureMap(), Affine.identity(channels)
    features = [STEAFeatures(x) if isinstance(x, STEA) else MLFRFeatures(cast("MLFR", x)) for x in layers]
    *before, last = features
    dtype = next(branch.parameters()).dtype
    return nn.Sequential(*(ConcatenatedConv(planes, planes.tail, dtype) for planes in before)), last, last.tail


class StaticAdapter(nn.Module):
    """RealNet's adapter, in which the 3x3 convolution of the other scale includes its half of the fuse."""

    def __init__(self, layer: Adapter, input_shape: torch.Size) -> None:
        super().__init__()
        own, other = Affine.from_layer(layer.fuse).split([layer.read.out_channels] * 2)
        self.own = own.to_conv(layer.fuse.weight.dtype)
        weight = torch.einsum("oi,ijhw->ojhw", other.weight, layer.read.weight.double())
        self.other = with_weights(layer.read, weight, other.weight @ biases(layer.read))
        self.attention = StaticChannelAttention(layer.attention)

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        return own + self.attention(self.own(own) + self.other(other))


class StaticDownsample(nn.Module):
    """A 3x3 convolution followed by a pixel unshuffle, as one 4x4 convolution of stride 2 that moves no data."""

    def __init__(self, layer: Downsample, input_shape: torch.Size) -> None:
        super().__init__()
        conv = cast("nn.Conv2d", layer[0])
        weight = conv.weight.new_zeros(conv.out_channels, 2, 2, conv.in_channels, 4, 4)
        for i in range(2):
            for j in range(2):
                weight[:, i, j, :, i : i + 3, j : j + 3] = conv.weight.detach()
        self.conv = nn.Conv2d(conv.in_channels, 4 * conv.out_channels, 4, 2, 1, dtype=conv.weight.dtype)
        self.conv = with_weights(self.conv, weight.flatten(0, 2), biases(conv).repeat_interleave(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class StaticReconstruction(nn.Module):
    """Reconstruction as one 3x3 convolution at the low resolution and a pixel shuffle of 3 scale² channels."""

    def __init__(self, layer: Reconstruction, input_shape: torch.Size) -> None:
        super().__init__()
        scale, dtype = layer.scale, layer.last.weight.dtype
        self.conv = nn.Conv2d(layer.widen.in_channels, 3 * scale**2, 3, padding=1, dtype=dtype)
        self.conv = with_weights(
            self.conv, low_resolution_kernel(layer), biases(layer.last).repeat_interleave(scale**2)
        )
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(self.conv(x))


def low_resolution_kernel(layer: Reconstruction) -> Tensor:
    """The kernel (3 scale², C, 3, 3) in float64: the weights of the 3x3 input pixels for each output phase.

    Row i of a pixel's scale rows, offset by a of the last kernel's rows, is row (i + a) mod scale of the input pixel
    (i + a) div scale away.
    """
    scale = layer.scale
    last = layer.last.weight.detach().double()
    widen = layer.widen.weight.detach().double().reshape(-1, scale, scale, layer.widen.in_channels)
    kernel = torch.zeros(3, scale, scale, layer.widen.in_channels, 3, 3, dtype=torch.float64)
    steps = [(i, a, *divmod(i + a - 1, scale)) for i in range(scale) for a in range(3)]
    for i, a, down, row in steps:
        for j, b, right, column in steps:
            kernel[:, i, j, :, down + 1, right + 1] += last[:, :, a, b] @ widen[:, row, column]
    return kernel.flatten(0, 2)


TWINS = (
    (LSTEA, StaticLSTEA),
    (Adapter, StaticAdapter),
    (Downsample, StaticDownsample),
    (Reconstruction, StaticReconstruction),
)
