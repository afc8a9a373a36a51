"""Where learning begins: a network that already enlarges, so that only what is missing has to be learnt."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from sr_edge.models.labnet import LabNet
from sr_edge.models.lcoan import LCoAN
from sr_edge.models.realnet import RealNet
from sr_edge.models.swin import SwinSkeleton, Upsampler


def start_as_enlarger(network: nn.Module) -> None:
    """Sets weights so that the network enlarges its picture before the first step.

    A short training reaches in hundreds of steps what takes thousands from random weights. LabNet and RealNet give
    bicubic pictures, since that is what they add to their last convolution, which starts at zero. SwinIR-like
    networks give nearest-neighbour ones: the first three features become the colours, the last convolution repeats
    them scale² times, and the deep branch starts at zero; LCoAN's colours pass through its upsampling stages in the
    same way. Networks of another kind, and those with the longer upsampler, are left as they are.
    """
    if isinstance(network, LCoAN):
        _start_lcoan(network)
        return
    if isinstance(network, (LabNet, RealNet)):
        nn.init.zeros_(network.reconstruct.last.weight)
        nn.init.zeros_(cast("Tensor", network.reconstruct.last.bias))
        return
    if not isinstance(network, SwinSkeleton) or network.config.upsampler is not Upsampler.PIXELSHUFFLE_DIRECT:
        return
    first, deep, last = (
        cast("nn.Conv2d", layer) for layer in (network.conv_first, network.conv_after_body, network.upsample[0])
    )
    with torch.no_grad():
        for conv in (first, deep, last):
            conv.bias = nn.Parameter(torch.zeros(conv.out_channels))
        deep.weight.zero_()
        last.weight.mul_(0.1)
        for colour in range(3):
            first.weight[colour] = 0
            first.weight[colour, colour, 1, 1] = 1
            copies = slice(colour * network.scale**2, (colour + 1) * network.scale**2)
            last.weight[copies, :3] = 0
            last.weight[copies, colour, 1, 1] = 1


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
