"""Where learning begins: a network that already enlarges, so that only what is missing has to be learnt."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from sr_edge.models.swin import SwinSkeleton, Upsampler


def start_as_enlarger(network: nn.Module) -> None:
    """Sets the first, last and skip weights of a SwinIR-like network so that it gives nearest-neighbour pictures.

    The first three features become the colours, the last convolution repeats them scale² times, and the deep
    branch starts at zero. A short training reaches in hundreds of steps what takes thousands from random weights.
    Networks of another kind, and those with the longer upsampler, are left as they are.
    """
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
