"""Counted multiply-accumulates against counts by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sr_edge.models import ARCHITECTURES, build_network
from sr_edge.models.macs import count_layer_macs, count_macs


class Product(nn.Module):
    """x times its own transpose, per channel."""

    def forward(self, x: Tensor) -> Tensor:
        return x @ x.transpose(-1, -2)


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Conv2d(6, 8, 3, padding=1), (1, 6, 5, 7), 5 * 7 * 8 * 6 * 9),
        (nn.Conv2d(6, 8, 3, padding=1, groups=2), (1, 6, 5, 7), 5 * 7 * 8 * 3 * 9),
        (nn.Conv2d(6, 6, 5, padding=6, dilation=3, groups=6), (1, 6, 5, 7), 5 * 7 * 6 * 25),
        (nn.Conv2d(6, 8, 2, stride=2), (2, 6, 4, 4), 2 * 4 * 8 * 6 * 4),
        (nn.Linear(6, 8), (2, 5, 6), 2 * 5 * 6 * 8),
        (nn.Linear(6, 8).double(), (2, 5, 6), 2 * 5 * 6 * 8),
        (Product(), (1, 3, 4, 5), 3 * 4 * 4 * 5),
        (nn.GELU(), (1, 3, 4, 5), 0),
    ],
)
def test_counts_by_hand(layer: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    assert count_layer_macs(layer, torch.Size(shape)) == macs


def test_a_network_by_hand() -> None:
    """convnet-tiny: 3 -> 32, four of 32 -> 32, 32 -> 12, all 3x3."""
    assert count_macs(build_network("convnet-tiny", 2), 10, 12) == 120 * 9 * (3 * 32 + 4 * 32 * 32 + 32 * 12)


@pytest.mark.parametrize("name", [f"{architecture.name}-{architecture.sizes[-1]}" for architecture in ARCHITECTURES])
def test_every_architecture_can_be_counted_and_stays_as_it_was(name: str) -> None:
    with torch.device("meta"):
        network = build_network(name, 2)
    learned = [parameter.requires_grad for parameter in network.parameters()]
    count = count_macs(network, 96, 96)
    assert count > 1e6
    assert count_macs(network, 96, 192) > 1.9 * count
    assert [parameter.requires_grad for parameter in network.parameters()] == learned
