"""What tests of static twins share: networks as training leaves them, and the comparison of both forms."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from sr_edge.export.twins.registry import to_static

EXACT = 1e-10

Network = TypeVar("Network", bound=nn.Module)


def randomised(network: Network, mean: float = 0.1) -> Network:
    """In float64, weights as after training: no gamma of one, no beta of zero, temperatures apart.

    Args:
        mean: of biases, gammas and the like.
    """
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "temperature" in name:
                parameter.uniform_(0.3, 2.0)
            elif parameter.ndim == 1:
                parameter.normal_(mean, 0.3)
            else:
                parameter.normal_(0, parameter[0].numel() ** -0.5)
    return network.double().eval()


def require_equal_twin(network: nn.Module, height: int, width: int) -> None:
    """Fails unless the static form of that size gives what `network` does, which is left as it was."""
    before = {key: value.clone() for key, value in network.state_dict().items()}
    static = to_static(network, height, width)
    x = torch.rand(1, 3, height, width, dtype=torch.float64)
    with torch.inference_mode():
        difference = (static(x) - network(x)).abs().max()
    assert difference <= EXACT
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
