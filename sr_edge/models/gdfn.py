"""GDFN, the gated depthwise feed-forward network: one half of the hidden channels gates the other.

    [g, v] = dw3x3(P_in x),   out = P_out (gelu(g) ∘ v)

No bias anywhere; hidden width int(2.66 C). Source: Zamir et al., "Restormer" (2022), equation 2; used by LabNet and
RealNet (arXiv 2408.00470).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

EXPANSION = 2.66


class GDFN(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = int(channels * EXPANSION)
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=False)
        self.depthwise = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.depthwise(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(functional.gelu(gate) * value)
