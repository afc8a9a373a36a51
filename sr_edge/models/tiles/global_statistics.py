"""Means over the whole plane inside a network: recorded during a forward pass, and replaced by given values.

Networks compute every such mean by a `GlobalMean`. Forward hooks record the weighted sum that each of them averages, so
the sums of all tiles add up to the statistics of the image, and can replace its output by a given mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sr_edge.models.layers.channel_attention import GlobalMean

GlobalStatistics = tuple[Tensor, ...]
"""The outputs of all GlobalMean layers of a network in the order of their calls, (1, C, 1, 1) each."""


@dataclass(frozen=True)
class WeightedSum:
    """Contribution of one tile to one statistic: weighted sum over its plane, (1, C, 1, 1), and sum of the weights."""

    total: Tensor
    weight: Tensor


def has_global_statistics(network: nn.Module) -> bool:
    """Whether an output pixel depends on the whole image through a GlobalMean."""
    return any(isinstance(layer, GlobalMean) for layer in network.modules())


@contextmanager
def recorded_statistics(
    network: nn.Module, replacements: GlobalStatistics | None = None, weights: Tensor | None = None
) -> Iterator[list[WeightedSum]]:
    """Records the global statistics of one forward pass, as a context manager.

    Args:
        network: runs once inside the block, on a batch of one.
        replacements: outputs of the GlobalMean layers, in the order of their calls; None keeps their own.
        weights: (1, 1, h, w), the weights of the input's pixels, resampled to each plane; None weights all alike.

    Returns:
        One weighted sum for each call of a GlobalMean; the list is filled during the forward pass.
    """
    sums: list[WeightedSum] = []

    def record(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        (plane,) = arguments
        sums.append(_weighted_sum(plane, weights))
        return None if replacements is None else replacements[len(sums) - 1]

    layers = [layer for layer in network.modules() if isinstance(layer, GlobalMean)]
    hooks = [layer.register_forward_hook(record) for layer in layers]
    try:
        yield sums
    finally:
        for hook in hooks:
            hook.remove()


def _weighted_sum(plane: Tensor, weights: Tensor | None) -> WeightedSum:
    height, width = plane.shape[-2:]
    on_plane = plane.new_ones(1, 1, height, width)
    if weights is not None:
        on_plane = nn.functional.adaptive_avg_pool2d(weights.to(plane), (height, width))
    return WeightedSum((plane * on_plane).sum((2, 3), keepdim=True), on_plane.sum())


def combine_statistics(passes: Sequence[Sequence[WeightedSum]]) -> GlobalStatistics:
    """The means over several forward passes together.

    Args:
        passes: the recorded sums of each forward pass, for example one entry for each tile of an image.
    """
    return tuple(
        torch.stack([part.total for part in parts]).sum(0) / torch.stack([part.weight for part in parts]).sum()
        for parts in zip(*passes, strict=True)
    )


def largest_change(after: GlobalStatistics, before: GlobalStatistics) -> float:
    """The largest difference of any mean, relative to the largest mean of its layer."""
    pairs = zip(after, before, strict=True)
    return max((float((new - old).abs().max() / new.abs().max().clamp_min(1e-12)) for new, old in pairs), default=0.0)
