"""Swin's windows without partition and roll: all layers but the attention work pixel by pixel on the feature map.

A window, shifted or not, is a list of runs of pixels along the rows. A run is the longest that no window splits: half
the width of a window, or the whole width without a shift. One Gather of runs collects all windows, another one puts
them back. Shifted windows wrap around as in Swin.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def run_px(window: int, shift: int) -> int:
    """The longest run of pixels that lies in one window, shifted or not; 1 for shifted windows of odd width."""
    return math.gcd(window, shift)


def window_runs(height: int, width: int, window: int, shift: int) -> Tensor:
    """Indices of the runs of a feature map, row by row, in the order in which (shifted, wrapping) windows read them."""
    run = run_px(window, shift)
    index = torch.arange(height * width // run).reshape(height, width // run)
    index = torch.roll(index, (-shift, -(shift // run)), (0, 1))
    tiles = index.reshape(height // window, window, width // window, window // run)
    return tiles.transpose(1, 2).flatten()


class Windows(nn.Module):
    """Converts between a feature map (1, channels, height, width) and its windows (windows, window², channels)."""

    into: Tensor
    back: Tensor

    def __init__(self, height: int, width: int, window: int, shift: int) -> None:
        super().__init__()
        self.height, self.width, self.tokens, self.run = height, width, window**2, run_px(window, shift)
        into = window_runs(height, width, window, shift)
        self.register_buffer("into", into)
        self.register_buffer("back", torch.argsort(into))

    def cut(self, plane: Tensor) -> Tensor:
        channels = plane.shape[1]
        runs = plane.permute(0, 2, 3, 1).reshape(-1, self.run * channels)
        return runs[self.into].reshape(-1, self.tokens, channels)

    def join(self, windows: Tensor) -> Tensor:
        channels = windows.shape[2]
        runs = windows.reshape(-1, self.run * channels)[self.back]
        return runs.reshape(1, self.height, self.width, channels).permute(0, 3, 1, 2)
