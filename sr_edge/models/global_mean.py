"""The one place where a network looks at the whole picture: means of each channel over the plane."""

from __future__ import annotations

from torch import Tensor, nn


class GlobalMean(nn.Module):
    """(batch, C, h, w) -> (batch, C, 1, 1), the mean over the plane.

    A module of its own, so that whoever runs a picture in tiles can find every such statistic of a network by its
    type and give it the whole picture's value.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)
