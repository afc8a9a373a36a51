"""Runs of a user's network on inputs that it may refuse, limited in number and in time."""

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
    """When trying ends: the next run would be one more than `runs`, or `seconds` are over.

    Args:
        runs: forward passes in all.
        seconds: after which no further run is begun.
        clock: tells the seconds.
    """

    runs: int = 40
    seconds: float = 20.0
    clock: Callable[[], float] = time.monotonic


class Trials:
    """Tries one network; once the limit is reached, every further answer is that it does not run."""

    def __init__(self, network: nn.Module, limit: TrialLimit) -> None:
        self._network = network
        self._limit = limit
        self._begin = limit.clock()
        self.runs = 0

    @property
    def ended(self) -> bool:
        return self.runs >= self._limit.runs or self._limit.clock() - self._begin >= self._limit.seconds

    def answer(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """The shape of the picture, or row of them, that the network gives for an input of this shape, if it does."""
        if self.ended:
            return None
        self.runs += 1
        try:
            with torch.no_grad():
                answer = self._network(torch.zeros(shape))
        except Exception:  # whatever the network's code raises
            return None
        return tuple(answer.shape) if isinstance(answer, Tensor) and answer.dim() >= 4 else None

    def upscales(self, tile: TileSpec, scale: int | None = None) -> bool:
        """Whether the network takes a picture of this size; with a scale, whether it gives exactly that many pixels."""
        if tile.height * tile.width > MAX_TRIAL_PIXELS:
            return False
        answer = self.answer((1, 3, tile.height, tile.width))
        if scale is None:
            return answer is not None
        return answer == (1, 3, scale * tile.height, scale * tile.width)
