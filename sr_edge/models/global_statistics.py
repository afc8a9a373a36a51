"""The means over the whole plane inside a network: heard while it runs, and given in their place.

Every such mean goes through a `GlobalMean`. While a tap is on, each of them may answer with a mean that is given
instead of its own, and what it would have answered is noted, weighted, so that the tiles of a picture add up to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sr_edge.models.channel_attention import GlobalMean

GlobalStatistics = tuple[Tensor, ...]
"""What every GlobalMean of a network gave: (1, C, 1, 1) each, in the order of the calls."""


@dataclass(frozen=True)
class Share:
    """What one tile adds to one statistic: its weighted sum over the plane (1, C, 1, 1), and the weights' sum."""

    total: Tensor
    weight: Tensor


def has_global_statistics(network: nn.Module) -> bool:
    """Whether an output pixel depends on the whole picture through a GlobalMean."""
    return any(isinstance(layer, GlobalMean) for layer in network.modules())


@contextmanager
def tapped(
    network: nn.Module, given: GlobalStatistics | None = None, weights: Tensor | None = None
) -> Iterator[list[Share]]:
    """Listens to one forward pass.

    Args:
        network: runs once, on a batch of one, inside the block.
        given: answers for every GlobalMean; None leaves them their own.
        weights: (1, 1, h, w) of the input's pixels, resampled to each plane; None weighs all alike.

    Returns:
        The shares that the pass adds, filled while it runs.
    """
    heard: list[Share] = []

    def answer(layer: nn.Module, arguments: tuple[Tensor, ...], own: Tensor) -> Tensor | None:
        (plane,) = arguments
        heard.append(_share(plane, weights))
        return None if given is None else given[len(heard) - 1]

    layers = [layer for layer in network.modules() if isinstance(layer, GlobalMean)]
    hooks = [layer.register_forward_hook(answer) for layer in layers]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def _share(plane: Tensor, weights: Tensor | None) -> Share:
    height, width = plane.shape[-2:]
    on_plane = plane.new_ones(1, 1, height, width)
    if weights is not None:
        on_plane = nn.functional.adaptive_avg_pool2d(weights.to(plane), (height, width))
    return Share((plane * on_plane).sum((2, 3), keepdim=True), on_plane.sum())


def statistics_of(shares: Sequence[Sequence[Share]]) -> GlobalStatistics:
    """The means over all passes together; `shares` has one entry a pass."""
    columns = zip(*shares, strict=True)
    return tuple(
        torch.stack([share.total for share in column]).sum(0) / torch.stack([share.weight for share in column]).sum()
        for column in columns
    )


def largest_change(found: GlobalStatistics, before: GlobalStatistics) -> float:
    """The largest difference of any mean, as a multiple of the largest mean of its layer."""
    pairs = zip(found, before, strict=True)
    return max((float((new - old).abs().max() / new.abs().max().clamp_min(1e-12)) for new, old in pairs), default=0.0)
