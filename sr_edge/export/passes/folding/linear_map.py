"""A linear map from one feature map to another: a convolution with zero padding, and a constant.

    y[o, i, j] = sum over c, a, b of kernel[o, c, a, b] * x[c, i * s - top + a, j * s - left + b]  +  constant[o, i, j]

with x = 0 outside its borders. Sums of such maps, concatenations, and convolutions of them are such maps again, with
one exception: zero padding of a map's output. Outside its borders the output is zero, whereas the formula goes on with
the values that the kernel still sees of x. It is exact only where that is nothing, as after a 1x1 convolution. A bias
in front of zero padding is in the constant, which then differs at the borders. ECB (Zhang et al., ACM MM 2021) and DBB
(arXiv:2103.13425) avoid that by padding with the bias, which is assigned to the border after zero padding.

All values are float64; they are rounded once, when they are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Pair = tuple[int, int]

MAX_ELEMENTS = 2**24
"""Kernels with more elements are not folded: a depthwise one of many channels is large as a dense one."""


@dataclass(frozen=True)
class LinearMap:
    """A convolution and a constant.

    Attributes:
        kernel: (output channels, input channels, rows, columns), without groups and dilations.
        offset: rows and columns of zero padding at the top and at the left.
        strides: of rows and columns.
        source: height and width of the input.
        size: height and width of the output.
        constant: (output channels, 1, 1), or (output channels, height, width) if it differs between pixels.
    """

    kernel: Array
    offset: Pair
    strides: Pair
    source: Pair
    size: Pair
    constant: Array

    @classmethod
    def identity(cls, channels: int, size: Pair) -> LinearMap:
        kernel = np.eye(channels)[:, :, np.newaxis, np.newaxis]
        return cls(kernel, (0, 0), (1, 1), size, size, np.zeros((channels, 1, 1)))

    @property
    def channels(self) -> int:
        return int(self.kernel.shape[0])

    @cached_property
    def ends(self) -> Pair:
        """Zero padding at the bottom and at the right; negative if the map does not read the last pixels."""
        rows, columns = (
            (count - 1) * stride + length - offset - source
            for count, stride, length, offset, source in zip(
                self.size, self.strides, self.kernel.shape[2:], self.offset, self.source, strict=True
            )
        )
        return rows, columns

    def scaled(self, factors: Array) -> LinearMap:
        """The map times a factor for each output channel, or one for all; `factors` has the shape (n, 1, 1)."""
        return replace(self, kernel=self.kernel * factors[..., np.newaxis], constant=self.constant * factors)

    def shifted(self, constant: Array) -> LinearMap:
        """The map plus a constant that broadcasts to its output."""
        return replace(self, constant=_without_copies(self.constant + constant))

    def plus(self, other: LinearMap) -> LinearMap | None:
        """The sum of two maps of the same input; None if their strides or sizes differ."""
        pair = _aligned((self, other))
        if pair is None or self.channels != other.channels:
            return None
        kernel = pair[0].kernel + pair[1].kernel
        return replace(pair[0], kernel=kernel, constant=_without_copies(self.constant + other.constant))

    @staticmethod
    def concatenated(maps: Sequence[LinearMap]) -> LinearMap | None:
        """All output channels of several maps of the same input; None if their strides or sizes differ."""
        aligned = _aligned(maps)
        if aligned is None:
            return None
        size = aligned[0].size if any(one.constant.shape[1:] != (1, 1) for one in aligned) else (1, 1)
        constants = [np.broadcast_to(one.constant, (one.channels, *size)) for one in aligned]
        kernel = np.concatenate([one.kernel for one in aligned])
        return replace(aligned[0], kernel=kernel, constant=_without_copies(np.concatenate(constants)))

    def padded(self, starts: Pair, ends: Pair) -> LinearMap | None:
        """The map with zeros around its output; None if the formula would give other values there."""
        if not any((*starts, *ends)):
            return self
        if min(*starts, *ends) < 0:
            return None
        size = (starts[0] + self.size[0] + ends[0], starts[1] + self.size[1] + ends[1])
        offset = (self.offset[0] + starts[0] * self.strides[0], self.offset[1] + starts[1] * self.strides[1])
        border = np.ones(size, bool)
        border[starts[0] : starts[0] + self.size[0], starts[1] : starts[1] + self.size[1]] = False
        grown = replace(self, offset=offset, size=size, constant=np.zeros((self.channels, 1, 1)))
        if np.any(border & grown._seen):
            return None
        if not np.any(self.constant):
            return grown
        inner = np.broadcast_to(self.constant, (self.channels, *self.size))
        around = [(0, 0), (starts[0], ends[0]), (starts[1], ends[1])]
        return replace(grown, constant=np.pad(inner, around))

    def assigned(self, mask: npt.NDArray[np.bool_], values: Array) -> LinearMap | None:
        """The map with constants at some places of its output; None if the kernel sees anything of the input there.

        Args:
            mask: (output channels, height, width), True where a constant is.
            values: of the same shape.
        """
        if np.any(mask & self._seen):
            return None
        return replace(self, constant=_without_copies(np.where(mask, values, self.constant)))

    def convolved(self, weight: Array, starts: Pair, ends: Pair, strides: Pair) -> LinearMap | None:
        """A convolution of the output, without groups and dilations; None if it is not exact or too large."""
        inner = self.padded(starts, ends)
        if inner is None:
            return None
        length = [(own - 1) * stride + rows for own, stride, rows in zip(
            weight.shape[2:], inner.strides, inner.kernel.shape[2:], strict=True
        )]  # fmt: skip
        if weight.shape[0] * inner.kernel.shape[1] * length[0] * length[1] > MAX_ELEMENTS:
            return None
        size = _output_size(inner.size, weight.shape[2:], strides)
        if min(size) < 1:
            return None
        return LinearMap(
            kernel=_composed(weight, inner.kernel, inner.strides, length),
            offset=inner.offset,
            strides=(inner.strides[0] * strides[0], inner.strides[1] * strides[1]),
            source=inner.source,
            size=size,
            constant=_convolved_constant(weight, inner.constant, strides, size),
        )

    @cached_property
    def _seen(self) -> npt.NDArray[np.bool_]:
        """(height, width): whether an output pixel depends on any pixel of the input."""
        rows = _sees(
            np.any(self.kernel != 0, axis=(0, 1, 3)), self.offset[0], self.strides[0], self.source[0], self.size[0]
        )
        columns = _sees(
            np.any(self.kernel != 0, axis=(0, 1, 2)), self.offset[1], self.strides[1], self.source[1], self.size[1]
        )
        return rows[:, np.newaxis] & columns


def dilated(weight: Array, dilations: Sequence[int]) -> Array:
    """A kernel with zeros between its elements in place of dilations."""
    rows, columns = ((length - 1) * step + 1 for length, step in zip(weight.shape[2:], dilations, strict=True))
    wide = np.zeros((*weight.shape[:2], rows, columns))
    wide[:, :, :: dilations[0], :: dilations[1]] = weight
    return wide


def dense(weight: Array, groups: int) -> Array:
    """A kernel for all input channels in place of one for groups."""
    outputs, inputs, *size = weight.shape
    blocks = np.zeros((groups, outputs // groups, groups, inputs, *size))
    for group, block in enumerate(weight.reshape(groups, outputs // groups, inputs, *size)):
        blocks[group, :, group] = block
    return blocks.reshape(outputs, groups * inputs, *size)


def grouped(kernel: Array, groups: int) -> Array | None:
    """The inverse of `dense`; None if the kernel connects channels of different groups."""
    outputs, inputs, *size = kernel.shape
    if outputs % groups or inputs % groups:
        return None
    blocks = kernel.reshape(groups, outputs // groups, groups, inputs // groups, *size)
    weight = np.stack([blocks[group, :, group] for group in range(groups)]).reshape(outputs, -1, *size)
    return weight if np.array_equal(dense(weight, groups), kernel) else None


def _aligned(maps: Sequence[LinearMap]) -> list[LinearMap] | None:
    """The maps with kernels of one size and one offset; None if they read or write other grids."""
    if len({(one.strides, one.size, one.source) for one in maps}) != 1:
        return None
    offset = tuple(max(one.offset[axis] for one in maps) for axis in (0, 1))
    after = [max(one.kernel.shape[2 + axis] - one.offset[axis] for one in maps) for axis in (0, 1)]
    aligned = []
    for one in maps:
        ends = [after[axis] - (one.kernel.shape[2 + axis] - one.offset[axis]) for axis in (0, 1)]
        around = [(0, 0), (0, 0), *((offset[axis] - one.offset[axis], ends[axis]) for axis in (0, 1))]
        aligned.append(replace(one, kernel=np.pad(one.kernel, around), offset=(offset[0], offset[1])))
    return aligned


def _composed(weight: Array, kernel: Array, strides: Pair, length: Sequence[int]) -> Array:
    """The kernel of a convolution with `weight` after one with `kernel`, whose output has the strides `strides`."""
    rows, columns = kernel.shape[2:]
    composed = np.zeros((weight.shape[0], kernel.shape[1], *length))
    for a, b in np.ndindex(*weight.shape[2:]):
        top, left = a * strides[0], b * strides[1]
        composed[:, :, top : top + rows, left : left + columns] += np.tensordot(weight[:, :, a, b], kernel, 1)
    return composed


def _convolved_constant(weight: Array, constant: Array, strides: Pair, size: Pair) -> Array:
    if constant.shape[1:] == (1, 1):
        return np.tensordot(weight.sum(axis=(2, 3)), constant, 1)
    convolved = np.zeros((weight.shape[0], *size))
    for a, b in np.ndindex(*weight.shape[2:]):
        rows = slice(a, a + (size[0] - 1) * strides[0] + 1, strides[0])
        columns = slice(b, b + (size[1] - 1) * strides[1] + 1, strides[1])
        convolved += np.tensordot(weight[:, :, a, b], constant[:, rows, columns], 1)
    return _without_copies(convolved)


def _output_size(size: Pair, lengths: Sequence[int], strides: Pair) -> Pair:
    rows, columns = (
        (count - length) // stride + 1 for count, length, stride in zip(size, lengths, strides, strict=True)
    )
    return rows, columns


def _without_copies(constant: Array) -> Array:
    """A constant that is the same for all pixels as one of shape (channels, 1, 1)."""
    first = constant[:, :1, :1]
    return first.copy() if np.array_equal(constant, np.broadcast_to(first, constant.shape)) else constant


def _sees(used: npt.NDArray[Any], offset: int, stride: int, source: int, count: int) -> npt.NDArray[np.bool_]:
    """For each output index of one axis, whether a used element of the kernel is at an index of the input."""
    positions = np.arange(count)[:, np.newaxis] * stride - offset + np.flatnonzero(used)
    return np.any((positions >= 0) & (positions < source), axis=1)
