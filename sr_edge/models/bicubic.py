"""Bicubic enlargement by a whole factor, as one fixed convolution and a pixel shuffle.

Equal to `resize.resize_bicubic`, and so to MATLAB's `imresize` (Keys' kernel with a = -1/2, the border mirrored with
its edge pixel repeated), by which test pictures are made and bicubic figures are published; not to PyTorch's
bicubic, whose a is -3/4. A factor s has s phases, each a fixed set of at most 5 weights, so no resize operator,
whose settings runtimes read differently, is left in the graph.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_edge.resize import resize_bicubic

REACH = 2  # pixels on either side that Keys' kernel touches


class BicubicUpsampler(nn.Module):
    """RGB (batch, 3, h, w) -> (batch, 3, scale h, scale w), for sides of 2 pixels and more; without parameters."""

    kernel: Tensor

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.register_buffer("kernel", bicubic_kernel(scale).repeat(3, 1, 1, 1), persistent=False)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(functional.conv2d(mirrored(x), self.kernel, groups=3))


def bicubic_kernel(scale: int) -> Tensor:
    """(scale², 1, 5, 5): for every output phase, rows first, the weights of the input pixels around."""
    side = 2 * REACH + 1
    step = np.zeros((2 * side + 1, 2 * side + 1))
    step[side] = 1
    answer = resize_bicubic(step, float(scale))[:, side * scale].reshape(-1, scale)
    # Output row scale * p + phase sees input row `side` at offset side - p.
    phases = answer[side - REACH : side + REACH + 1][::-1].T
    return torch.from_numpy(np.einsum("ij,kl->ikjl", phases, phases).reshape(scale**2, 1, side, side)).float()


def mirrored(x: Tensor) -> Tensor:
    """Adds REACH pixels on every side: 1 0 | 0 1 2 … (ONNX has no such padding)."""
    for axis in (2, 3):
        size = x.shape[axis]
        head, tail = ([x.narrow(axis, at, 1) for at in order] for order in ((1, 0), (size - 1, size - 2)))
        x = torch.cat([*head, x, *tail], dim=axis)
    return x
