"""Swin's windows without partitions and rolls: everything but the attention works pixel by pixel in the ordinary plane.

A window, shifted or not, is a list of runs of pixels along the rows, the longest that no window cuts: half a window's
width (whole width without shift). One gather of runs collects all windows, one puts them back. Shifted windows wrap
around as in Swin.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def run_px(window: int, shift: int) -> int:
    """The longest run of pixels that lies in one window, shifted or not; 1 for shifted windows of odd width."""
    return math.gcd(window, shift)


def window_runs(height: int, width: int, window: int, shift: int) -> Tensor:
    """Numbers of the runs of a plane, rows first, in the order in which (shifted, wrapping) windows hold them."""
    run = run_px(window, shift)
    number = torch.arange(height * width // run).reshape(height, width // run)
    number = torch.roll(number, (-shift, -(shift // run)), (0, 1))
    tiles = number.reshape(height // window, window, width // window, window // run)
    return tiles.transpose(1, 2).flatten()


class Windows(nn.Module):
    """Between a plane (1, channels, height, width) and its windows (windows, window², channels)."""

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
