"""Channel attention: each channel of a plane is scaled by a factor in (0, 1) computed from the whole plane.

    A(x) = x ∘ sigmoid(U relu(D mean(x))),   D: C -> C/16,  U: C/16 -> C

Source: Hu et al., "Squeeze-and-Excitation" (2018); used by STEA, LabNet and RealNet (arXiv 2408.00470).
"""

from __future__ import annotations

from torch import Tensor, nn

SQUEEZE = 16


class GlobalMean(nn.Module):
    """Mean over the plane: (batch, C, h, w) -> (batch, C, 1, 1).

    It is a module of its own, so that upscaling in tiles can find every global statistic of a network by its type and
    replace it by that of the whole image.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)


class Excitation(nn.Sequential):
    """sigmoid(U relu(D p)) of a pooled vector p: (batch, C, 1, 1) -> the same, in (0, 1)."""

    def __init__(self, channels: int) -> None:
        squeezed = max(1, channels // SQUEEZE)
        super().__init__(nn.Conv2d(channels, squeezed, 1), nn.ReLU(), nn.Conv2d(squeezed, channels, 1), nn.Sigmoid())


class ChannelAttention(nn.Module):
    """A(x) of the module's docstring: (batch, C, h, w) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = GlobalMean()
        self.excitation = Excitation(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.excitation(self.mean(x))
