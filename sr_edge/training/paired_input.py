"""RealNet in training, where each of its branches reads a picture with its own degradation."""

from __future__ import annotations

from torch import Tensor, nn

from sr_edge.models.realnet import RealNet


class PairedInput(nn.Module):
    """Takes one picture as `network` does, or two of one place side by side in channels, denoising branch's first.

    The bicubic path, which has no branch, gets the mean of the two.
    """

    def __init__(self, network: RealNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] == 3:
            return self.network(x)
        noisy, blurred = x.chunk(2, dim=1)
        return self.network.restore(noisy, blurred, (noisy + blurred) / 2)
