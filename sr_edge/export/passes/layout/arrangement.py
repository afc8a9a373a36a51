"""How the elements of a tensor are arranged, compared with a channel-first tensor of the same elements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from sr_edge.export.graph.view import Constant

BATCH, CHANNELS, HEIGHT, WIDTH = range(4)
"""The axes of a channel-first tensor."""

Groups = list[tuple[int, ...]]
"""For each axis of a tensor, the axes of the channel-first tensor that it consists of, without those of size 1."""

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Arrangement:
    """The same elements as in a channel-first tensor, with the axes in another order, and any of them merged.

    A tensor of shape (1, 4096, 60), for example, may have the sizes (1, 60, 64, 64) in the order (2, 3, 1).

    Attributes:
        sizes: batch, channels, height and width.
        order: those axes of the channel-first tensor that have more than one element, in the order in memory.
    """

    sizes: tuple[int, ...]
    order: tuple[int, ...]

    @classmethod
    def of(cls, sizes: Sequence[int], order: Sequence[int]) -> Arrangement:
        """The arrangement of these sizes in this order of axes, which may name axes of one element."""
        return cls(tuple(sizes), tuple(axis for axis in order if sizes[axis] > 1))

    @property
    def is_channel_first(self) -> bool:
        """Whether the elements are in the order of the channel-first tensor."""
        return list(self.order) == sorted(self.order)

    def groups(self, shape: Sequence[int]) -> Groups | None:
        """The axes that each axis of a tensor of this shape consists of; None if the shape splits an axis."""
        remaining, groups = list(self.order), []
        for size in shape:
            group: list[int] = []
            while math.prod(self.sizes[axis] for axis in group) < size and remaining:
                group.append(remaining.pop(0))
            if math.prod(self.sizes[axis] for axis in group) != size:
                return None
            groups.append(tuple(group))
        return None if remaining else groups

    def resized(self, axis: int, size: int) -> Arrangement | None:
        """The arrangement of a tensor that differs in the size of one axis; None where that axis has no position."""
        if axis not in self.order:
            return None
        sizes = [size if at == axis else old for at, old in enumerate(self.sizes)]
        return Arrangement.of(sizes, self.order)


def channel_first(sizes: Sequence[int]) -> Arrangement:
    """The arrangement of a channel-first tensor."""
    return Arrangement.of(sizes, range(4))


def from_groups(groups: Groups, sizes: Sequence[int]) -> Arrangement:
    """The arrangement in which each axis of a tensor consists of these axes; all others have one element."""
    order = [axis for group in groups for axis in group]
    return Arrangement.of([size if axis in order else 1 for axis, size in enumerate(sizes)], order)


def channel_first_constant(
    value: np.ndarray[Any, np.dtype[Scalar]], groups: Groups, sizes: Sequence[int]
) -> Constant | None:
    """A constant that is broadcast with a tensor, for the channel-first form of that tensor.

    Args:
        value: the constant.
        groups: the axes that each axis of the tensor consists of.
        sizes: the sizes of the channel-first tensor.

    Returns:
        The constant with four axes, or the constant itself if it is one number; None if it has more axes than the
        tensor, or if it is broadcast along a part of an axis.
    """
    if value.size == 1:
        return value if value.ndim <= 4 else value.reshape(())
    if value.ndim > len(groups):
        return None
    shape = (1,) * (len(groups) - value.ndim) + value.shape
    full = [group if size > 1 else () for group, size in zip(groups, shape, strict=True)]
    order = [axis for group in full for axis in group]
    if [math.prod(sizes[axis] for axis in group) for group in full] != list(shape):
        return None
    split = value.reshape([sizes[axis] for axis in order]).transpose(np.argsort(order))
    return split.reshape([size if axis in order else 1 for axis, size in enumerate(sizes)])
