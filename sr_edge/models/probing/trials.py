"""Trial runs of a user's network on inputs that it may not support, limited in number and time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sr_edge.spec import TileSpec

MAX_TRIAL_PIXELS = 512 * 512


@dataclass(frozen=True)
class TrialLimit:
    """When trials end: after `runs` forward passes, or once `seconds` have passed.

    Args:
        runs: largest number of forward passes.
        seconds: time after which no further run is started.
        clock: returns the time in seconds.
    """

    runs: int = 40
    seconds: float = 20.0
    clock: Callable[[], float] = time.monotonic


class Trials:
    """Runs one network; once the limit is reached, every further input counts as unsupported.

    Args:
        network: the network, in eval mode.
        limit: limit of the trials.
        channels: number of channels of the network.
    """

    def __init__(self, network: nn.Module, limit: TrialLimit, channels: int = 3) -> None:
        self._network = network
        self._limit = limit
        self._channels = channels
        self._started_at = limit.clock()
        self.runs = 0

    @property
    def ended(self) -> bool:
        """Whether the limit is reached."""
        return self.runs >= self._limit.runs or self._limit.clock() - self._started_at >= self._limit.seconds

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """The shape of the network's output for an input of this shape; None if it fails or returns no image."""
        if self.ended:
            return None
        self.runs += 1
        try:
            with torch.no_grad():
                output = self._network(torch.zeros(shape))
        except Exception:  # the network's code may raise anything
            return None
        return tuple(output.shape) if isinstance(output, Tensor) and output.dim() >= 4 else None

    def upscales(self, tile: TileSpec, scale: int | None = None) -> bool:
        """Whether the network supports an image of this size and, given a scale, upscales it by exactly that."""
        if tile.height * tile.width > MAX_TRIAL_PIXELS:
            return False
        shape = self.output_shape((1, self._channels, tile.height, tile.width))
        if scale is None:
            return shape is not None
        return shape == (1, self._channels, scale * tile.height, scale * tile.width)
