"""Networks that sort equal values are compared with one order of them, and with no other result."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sr_edge.export.checks.parity import compare_with_network
from sr_edge.export.checks.references.tie_order import TIES_REMARK, StableOrder
from sr_edge.export.graph.patches import check_patches
from sr_edge.export.passes.tracing import trace
from sr_edge.spec import TileSpec
from tests.export.odd_networks import Upscaling

TILE = TileSpec(32, 32)
CALLS = {
    "sort": lambda x: torch.sort(x).indices,
    "sort of the method": lambda x: x.sort(-1, False)[1],
    "descending": lambda x: torch.sort(x, dim=1, descending=True).indices,
    "not stable": lambda x: torch.sort(x, dim=-1, stable=False)[1],
    "argsort": lambda x: torch.argsort(x, -1),
    "argsort of the method": lambda x: x.argsort(dim=-1, descending=False),
    "topk": lambda x: x.topk(x.shape[1])[1],
    "topk of the smallest": lambda x: torch.topk(x, 200, dim=1, largest=False).indices,
}


@pytest.mark.parametrize("call", list(CALLS.values()), ids=list(CALLS))
def test_equal_values_stay_in_the_order_of_their_positions(call) -> None:  # type: ignore[no-untyped-def]
    values = torch.randint(0, 3, (2, 1024), generator=torch.Generator().manual_seed(0))
    plain = call(values)
    with StableOrder() as order:
        stable = call(values)
    for row in range(2):
        sorted_values = values[row][stable[row]]
        assert torch.equal(sorted_values, values[row][plain[row]])
        same = sorted_values[1:] == sorted_values[:-1]
        assert bool((stable[row][1:] > stable[row][:-1])[same].all())
    assert order.has_ties is not torch.equal(plain, stable)


def test_without_ties_nothing_is_said() -> None:
    with StableOrder() as order:
        torch.sort(torch.randperm(1024))
    assert not order.has_ties


class Grouping(Upscaling):
    """Sorts the pixels by a category of which there are four, and subtracts from each what follows it in that order."""

    def __init__(self, shift: int = 1) -> None:
        super().__init__()
        self.shift = shift

    def transform(self, features: Tensor) -> Tensor:
        pixels = features.flatten(2)
        order = torch.sort(pixels.argmax(1), dim=-1).indices[:, None].expand_as(pixels)
        grouped = pixels.gather(2, order)
        return torch.zeros_like(pixels).scatter(2, order, grouped - grouped.roll(self.shift, 2)).view_as(features)


def network(shift: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return Grouping(shift).eval()


def test_a_network_of_ties_is_compared_with_the_order_that_the_graph_has() -> None:
    parity = compare_with_network(trace(network(), TILE), network(), check_patches(TILE))
    parity.require_within("")
    assert parity.excused == ()
    assert TIES_REMARK in parity.remarks


def test_another_result_is_refused_although_the_network_has_ties() -> None:
    """Neighbours in the other direction are what another order of equal values looks like, and are wrong."""
    assert not compare_with_network(trace(network(), TILE), network(-1), check_patches(TILE)).passed
