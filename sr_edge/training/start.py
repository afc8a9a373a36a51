"""Where learning begins: a network that already enlarges, so that only what is missing has to be learnt."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from sr_edge.models.labnet import LabNet
from sr_edge.models.lcoan import LCoAN
from sr_edge.models.realnet import RealNet
from sr_edge.models.swin import SwinSkeleton, Upsampler
from sr_edge.resize import resize_bicubic


def initialize_as_bicubic(network: nn.Module) -> None:
    """Sets weights so that the network enlarges its picture before the first step.

    A short training reaches in hundreds of steps what takes thousands from random weights. LabNet and RealNet give
    bicubic pictures, since that is what they add to their last convolution, which starts at zero. SwinIR-like
    networks give bicubic ones too: the first features become the colours of a pixel and its eight neighbours, the
    last convolution weighs them, and the deep branch starts at zero. LCoAN's colours pass through its upsampling
    stages, which repeats every pixel. Networks of another kind, and those with the longer upsampler, are left as they
    are.
    """
    if isinstance(network, LCoAN):
        _start_lcoan(network)
        return
    if isinstance(network, (LabNet, RealNet)):
        nn.init.zeros_(network.reconstruct.last.weight)
        nn.init.zeros_(cast("Tensor", network.reconstruct.last.bias))
        return
    if isinstance(network, SwinSkeleton) and network.config.upsampler is Upsampler.PIXELSHUFFLE_DIRECT:
        _start_swin(network)


@torch.no_grad()
def _start_swin(network: SwinSkeleton) -> None:
    first, deep, last = (
        cast("nn.Conv2d", layer) for layer in (network.conv_first, network.conv_after_body, network.upsample[0])
    )
    for conv in (first, deep, last):
        conv.bias = nn.Parameter(torch.zeros(conv.out_channels))
    deep.weight.zero_()
    last.weight.mul_(0.1)
    last.weight[:, : 3 * 9] = 0
    for colour in range(3):
        neighbours = slice(colour * 9, (colour + 1) * 9)
        phases = slice(colour * network.scale**2, (colour + 1) * network.scale**2)
        first.weight[neighbours] = 0
        first.weight[neighbours, colour] = torch.eye(9).reshape(9, 3, 3)
        last.weight[phases, neighbours] = bicubic_of_neighbours(network.scale)


def bicubic_of_neighbours(scale: int) -> Tensor:
    """The 3x3 convolution that enlarges bicubically, given each pixel's 3x3 neighbours as channels.

    Together the two reach the 5x5 pixels that bicubic enlargement weighs. Where several neighbours of neighbours are
    the same pixel, they share its weight equally.

    Returns:
        (scale², 9, 3, 3): by place within the enlarged pixel, channel, row, column.
    """
    impulse = np.zeros((9, 9))
    impulse[4, 4] = 1
    response = resize_bicubic(impulse, scale).reshape(9, scale, 9, scale)
    weights = torch.from_numpy(response[6:1:-1, :, 6:1:-1].transpose(1, 3, 0, 2).copy())
    step = torch.arange(3)
    offset = step[:, None] + step
    share = (1 / torch.bincount(offset.flatten()))[offset]
    row, column = offset[:, None, :, None], offset[None, :, None, :]
    shared = weights[:, :, row, column] * share[:, None, :, None] * share[None, :, None, :]
    return shared.reshape(scale**2, 9, 3, 3).float()


@torch.no_grad()
def _start_lcoan(network: LCoAN) -> None:
    stages = [layer for layer in cast("nn.Sequential", network.tail[0]) if isinstance(layer, nn.Conv2d)]
    nn.init.zeros_(cast("Tensor", network.m_conv[0].weight))
    nn.init.zeros_(cast("Tensor", network.m_conv[0].bias))
    for conv in (network.head[0], *stages, network.tail[1]):
        _pass_colours(cast("nn.Conv2d", conv))


def _pass_colours(conv: nn.Conv2d) -> None:
    """Makes the first three channels the colours that come in, each as often as a pixel shuffle behind needs it."""
    copies = max(1, conv.out_channels // conv.in_channels) if conv.in_channels > 3 else 1
    nn.init.zeros_(cast("Tensor", conv.bias))
    for output in range(3 * copies):
        conv.weight[output] = 0
        conv.weight[output, output // copies, 1, 1] = 1
