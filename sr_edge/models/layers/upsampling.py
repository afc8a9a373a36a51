"""The two upsampling layers at the end of LabNet and RealNet: fixed bicubic upsampling, and a learned reconstruction.

Bicubic upsampling by an integer factor is one fixed convolution and a pixel shuffle.
It is equal to `resize.resize_bicubic`, and so to MATLAB's `imresize` (Keys' kernel with a = -1/2, the border mirrored
with its edge pixel repeated), with which test images are made and bicubic figures are published; it differs from
PyTorch's bicubic, whose a is -3/4. A factor s has s phases, each a fixed set of at most 5 weights, so the graph
contains no resize operator, whose attributes runtimes interpret differently.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_edge.resize import resize_bicubic

REACH = 2  # radius of Keys' kernel in pixels


class BicubicUpsampler(nn.Module):
    """RGB (batch, 3, h, w) -> (batch, 3, scale h, scale w), for h and w of at least 2; without parameters."""

    kernel: Tensor

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.register_buffer("kernel", bicubic_kernel(scale).repeat(3, 1, 1, 1), persistent=False)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(functional.conv2d(pad_symmetric(x), self.kernel, groups=3))


def bicubic_kernel(scale: int) -> Tensor:
    """Weights of the neighbouring input pixels for every output phase, rows first: (scale², 1, 5, 5)."""
    size = 2 * REACH + 1
    impulse = np.zeros((2 * size + 1, 2 * size + 1))
    impulse[size] = 1
    response = resize_bicubic(impulse, float(scale))[:, size * scale].reshape(-1, scale)
    # Output row scale * p + phase reads input row `size` at offset size - p.
    phases = response[size - REACH : size + REACH + 1][::-1].T
    return torch.from_numpy(np.einsum("ij,kl->ikjl", phases, phases).reshape(scale**2, 1, size, size)).float()


def bicubic_of_neighbours(scale: int) -> Tensor:
    """Weights of a 3x3 convolution that upscales bicubically, given each pixel's 3x3 neighbours as channels.

    Together the two cover the 5x5 pixels that bicubic upsampling weights. Where several neighbours of neighbours are
    the same pixel, its weight is divided equally between them.

    Returns:
        (scale², 9, 3, 3): output phase, channel, row, column.
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


def pad_symmetric(x: Tensor) -> Tensor:
    """Pads REACH pixels on every side by reflection with the edge repeated, 1 0 | 0 1 2 …, which ONNX's Pad lacks."""
    for axis in (2, 3):
        size = x.shape[axis]
        head, tail = ([x.narrow(axis, at, 1) for at in order] for order in ((1, 0), (size - 1, size - 2)))
        x = torch.cat([*head, x, *tail], dim=axis)
    return x


class Reconstruction(nn.Module):
    """1x1 convolution, pixel shuffle and 3x3 convolution: (batch, C, h, w) -> RGB (batch, 3, scale h, scale w).

    The 1x1 convolution has no bias, which the 3x3 convolution would only pass on. The three layers are therefore one
    linear map of the plane, and are deployed as one convolution at the low resolution. Source: arXiv 2408.00470,
    sections II-C and II-D, which give the steps.

    Args:
        channels: C, the channels of the input.
        features: channels at the high resolution.
        scale: upsampling factor.
    """

    def __init__(self, channels: int, features: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.widen = nn.Conv2d(channels, features * scale**2, 1, bias=False)
        self.shuffle = nn.PixelShuffle(scale)
        self.last = nn.Conv2d(features, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.shuffle(self.widen(x)))

    @torch.no_grad()
    def initialize_to_zero(self) -> None:
        """Sets the last convolution to zero, so that a network that adds bicubic upsampling starts as that alone."""
        self.last.weight.zero_()
        if self.last.bias is not None:
            self.last.bias.zero_()
