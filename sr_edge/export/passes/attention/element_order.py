"""Which element of a source tensor each element of a moved tensor is, for chains of operators that only move data.

An axis of the moved tensor is a list of digits, from the slowest to the fastest, as in a number of mixed base. The
position of an element in the source is the sum of several arrays, each of which depends on a few of the digits. An axis
of the source is one digit at first, and its array contains multiples of the stride. Reshape regroups and splits digits,
Transpose reorders them, Slice and Gather select from an array, and Concat joins arrays. So a cyclic shift of 1024 rows
is an array of 1024 numbers, however many elements a row has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]
MOST_POSITIONS = 2**22
"""Numbers in one array: 32 MiB."""

Digit = tuple[Any, ...]
"""The identity of a digit: equal operators on equal digits give digits of equal identity."""


@dataclass(frozen=True)
class Term:
    """An array of the sum, with the digit of each of its axes."""

    digits: tuple[Digit, ...]
    positions: Positions

    def size(self, digit: Digit) -> int:
        return int(self.positions.shape[self.digits.index(digit)])

    def last(self, digit: Digit) -> Positions:
        """The array with the axis of a digit moved to the end."""
        return np.moveaxis(self.positions, self.digits.index(digit), -1)


@dataclass(frozen=True)
class ElementOrder:
    """The order in which a tensor contains elements of a source.

    Attributes:
        source: the name of the source.
        shape: the shape of the tensor.
        axes: the digits of each axis; digits of size 1 may be absent.
        terms: the arrays whose sum is the position in the source; each digit belongs to exactly one.
    """

    source: str
    shape: tuple[int, ...]
    axes: tuple[tuple[Digit, ...], ...]
    terms: tuple[Term, ...]

    @classmethod
    def of_source(cls, source: str, shape: Sequence[int]) -> ElementOrder:
        """The order of the source itself."""
        digits = [(axis,) for axis in range(len(shape))]
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        terms = tuple(
            Term((digit,), np.arange(size, dtype=np.int64) * stride)
            for digit, size, stride in zip(digits, shape, strides, strict=True)
        )
        return cls(source, tuple(shape), tuple((digit,) for digit in digits), terms)

    @property
    def digits(self) -> tuple[Digit, ...]:
        """All digits of more than one value, from the slowest to the fastest."""
        return tuple(digit for axis in self.axes for digit in axis if self.size(digit) > 1)

    def term(self, digit: Digit) -> Term:
        return next(term for term in self.terms if digit in term.digits)

    def size(self, digit: Digit) -> int:
        return self.term(digit).size(digit)

    def reshaped(self, shape: Sequence[int]) -> ElementOrder | None:
        """The order after a Reshape; None where the new axes cut a digit into parts of unequal size."""
        order, waiting, axes = self, list(reversed(self.digits)), []
        for size in shape:
            axis: list[Digit] = []
            while size > 1:
                if not waiting:
                    return None
                digit = waiting.pop()
                count = order.size(digit)
                if count > size:
                    if count % size:
                        return None
                    order, (outer, inner) = order._split(digit, size)
                    waiting.append(inner)
                    digit, count = outer, size
                if size % count:
                    return None
                axis.append(digit)
                size //= count
            axes.append(tuple(axis))
        return replace(order, shape=tuple(shape), axes=tuple(axes))

    def transposed(self, permutation: Sequence[int]) -> ElementOrder:
        """The order after a Transpose."""
        shape = tuple(self.shape[axis] for axis in permutation)
        return replace(self, shape=shape, axes=tuple(self.axes[axis] for axis in permutation))

    def selected(self, axis: int, indices: Positions) -> ElementOrder | None:
        """The order after a selection along one axis; None where the array for it would be too large.

        Args:
            axis: the axis.
            indices: the selected indices, (new size,), or a scalar, which removes the axis.
        """
        shape = (*self.shape[:axis], *indices.shape, *self.shape[axis + 1 :])
        digits = self.axes[axis]
        if self.shape[axis] == 1 and indices.size == 1:  # the axis has no digit, or digits of size 1
            axes = (*self.axes[:axis], *([digits] if indices.ndim else []), *self.axes[axis + 1 :])
            return replace(self, shape=shape, axes=axes)
        if len(digits) > 1:
            merged = self._with_one_digit(axis)
            return merged and merged.selected(axis, indices)
        if len(digits) != 1 or indices.ndim > 1:
            return None
        term = self.term(digits[0])
        positions = np.take(term.positions, indices, axis=term.digits.index(digits[0]))
        kept = term.digits if indices.ndim else tuple(digit for digit in term.digits if digit != digits[0])
        axes = (*self.axes[:axis], *([digits] if indices.ndim else []), *self.axes[axis + 1 :])
        return replace(self, shape=shape, axes=axes, terms=self._with(term, Term(kept, positions)))

    def joined(self, others: Sequence[ElementOrder], axis: int) -> ElementOrder | None:
        """The order after a Concat; None unless the parts differ in one digit of that axis only."""
        if any(other.source != self.source or other.axes != self.axes for other in others) or not self.axes[axis]:
            return None
        if len(self.axes[axis]) > 1:
            merged = [part._with_one_digit(axis) for part in (self, *others)]
            known = [part for part in merged if part is not None]
            return known[0].joined(known[1:], axis) if len(known) == len(merged) else None
        digits = self.axes[axis]
        term, terms = self.term(digits[0]), [other.term(digits[0]) for other in others]
        if any(each.digits != term.digits for each in terms) or not all(map(self._agrees(term), others)):
            return None
        along = term.digits.index(digits[0])
        positions = np.concatenate([term.positions, *(each.positions for each in terms)], axis=along)
        size = self.shape[axis] + sum(other.shape[axis] for other in others)
        shape = (*self.shape[:axis], size, *self.shape[axis + 1 :])
        return replace(self, shape=shape, terms=self._with(term, Term(term.digits, positions)))

    def _agrees(self, term: Term) -> Callable[[ElementOrder], bool]:
        """Whether another order has the same terms except for one."""
        fixed = {each.digits: each.positions for each in self.terms if each is not term}

        def agrees(other: ElementOrder) -> bool:
            theirs = {each.digits: each.positions for each in other.terms if each.digits != term.digits}
            return theirs.keys() == fixed.keys() and all(
                np.array_equal(theirs[digits], positions) for digits, positions in fixed.items()
            )

        return agrees

    def _with_one_digit(self, axis: int) -> ElementOrder | None:
        """The same order with all digits of an axis in one; None where the array for it would be too large."""
        digits = self.axes[axis]
        terms = [term for term in self.terms if any(digit in term.digits for digit in digits)]
        names = [digit for term in terms for digit in term.digits if digit not in digits] + list(digits)
        if math.prod(self.size(digit) for digit in names) > MOST_POSITIONS:
            return None
        total: Positions = np.zeros((1,) * len(names), np.int64)
        for term in terms:
            total = total + _spread(term, names)
        merged: Digit = ("merged", *digits)
        shape = total.shape[: len(names) - len(digits)]
        whole = Term((*names[: -len(digits)], merged), total.reshape(*shape, self.shape[axis]))
        axes = (*self.axes[:axis], (merged,), *self.axes[axis + 1 :])
        others = tuple(term for term in self.terms if all(term is not one for one in terms))
        return replace(self, axes=axes, terms=(*others, whole))

    def _split(self, digit: Digit, outer: int) -> tuple[ElementOrder, tuple[Digit, Digit]]:
        """Splits a digit into one of `outer` values and the faster rest."""
        term = self.term(digit)
        at = term.digits.index(digit)
        parts: tuple[Digit, Digit] = ((*digit, outer, 0), (*digit, outer, 1))
        shape = term.positions.shape
        positions = term.positions.reshape(*shape[:at], outer, shape[at] // outer, *shape[at + 1 :])
        split = Term((*term.digits[:at], *parts, *term.digits[at + 1 :]), positions)
        axes = tuple(tuple(new for old in axis for new in (parts if old == digit else (old,))) for axis in self.axes)
        return replace(self, axes=axes, terms=self._with(term, split)), parts

    def _with(self, old: Term, new: Term) -> tuple[Term, ...]:
        return tuple(new if term is old else term for term in self.terms)


@dataclass(frozen=True)
class Strided:
    """Digits whose positions are `start` plus multiples of one stride each, from the slowest to the fastest.

    Attributes:
        start: the position of the first element.
        steps: the number of values and the stride of each digit, for every axis of the tensor.
    """

    start: int
    steps: tuple[tuple[tuple[int, int], ...], ...]


def strided(order: ElementOrder) -> Strided | None:
    """The strides of an order, with digits of an axis merged where they can be; None if it is not strided."""
    start, strides = 0, {}
    for term in order.terms:
        origin = int(term.positions.flat[0])
        start += origin
        expected = np.full((1,) * term.positions.ndim, origin, np.int64)
        for axis, digit in enumerate(term.digits):
            size = term.positions.shape[axis]
            first = np.moveaxis(term.positions, axis, 0).reshape(size, -1)[:, 0]
            strides[digit] = int(first[1] - first[0]) if size > 1 else 0
            along = np.arange(size, dtype=np.int64) * strides[digit]
            expected = expected + along.reshape(-1, *(1,) * (term.positions.ndim - axis - 1))
        if not np.array_equal(expected, term.positions):
            return None
    if any(stride <= 0 for digit, stride in strides.items() if order.size(digit) > 1):
        return None
    digits = [[(order.size(digit), strides[digit]) for digit in axis if order.size(digit) > 1] for axis in order.axes]
    return Strided(start, tuple(merged_steps(axis) for axis in digits))


def merged_steps(steps: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Merges neighbouring digits that count through the source as one."""
    merged: list[tuple[int, int]] = []
    for size, stride in steps:
        if merged and merged[-1][1] == size * stride:
            merged[-1] = (merged[-1][0] * size, stride)
        else:
            merged.append((size, stride))
    return tuple(merged)


@dataclass(frozen=True)
class Runs:
    """The contiguous runs of equal length that an order consists of.

    Attributes:
        length: elements of a run.
        count: the number of runs.
    """

    length: int
    count: int
    _digits: tuple[Digit, ...]
    _terms: tuple[Term, ...]

    def starts(self) -> Positions:
        """The positions of the first elements of all runs, (count,)."""
        total: Positions = np.zeros((1,) * len(self._digits), np.int64)
        for term in self._terms:
            total = total + _spread(term, self._digits)
        return total.ravel()


def runs_of(order: ElementOrder) -> Runs:
    """The longest runs of an order."""
    length, waiting = 1, list(order.digits)
    terms: dict[tuple[Digit, ...], Term] = {}
    for term in order.terms:
        _add_term(terms, term)
    while waiting:
        digit = waiting[-1]
        term = next(term for term in terms.values() if digit in term.digits)
        others = tuple(other for other in term.digits if other != digit)
        positions = term.last(digit)
        block = _contiguous(positions, length)
        length *= block
        del terms[term.digits]
        if block < positions.shape[-1]:
            _add_term(terms, Term((*others, digit), positions[..., ::block]))
            break
        _add_term(terms, Term(others, positions[..., 0]))
        waiting.pop()
    return Runs(length, math.prod(order.shape) // length, tuple(waiting), tuple(terms.values()))


def _add_term(terms: dict[tuple[Digit, ...], Term], term: Term) -> None:
    """Adds a term to others, of which there is one for each tuple of digits."""
    other = terms.get(term.digits)
    terms[term.digits] = term if other is None else replace(term, positions=term.positions + other.positions)


def _spread(term: Term, digits: Sequence[Digit]) -> Positions:
    """The positions of a term with an axis for each of `digits`; other digits of the term have one value."""
    kept = [(digit, size) for digit, size in zip(term.digits, term.positions.shape, strict=True) if digit in digits]
    positions = term.positions.reshape([size for _, size in kept])
    order = sorted(range(len(kept)), key=lambda at: digits.index(kept[at][0]))
    sizes = dict(kept)
    return positions.transpose(order).reshape([sizes.get(digit, 1) for digit in digits])


def _contiguous(positions: Positions, stride: int) -> int:
    """The largest divisor of the last axis's size such that blocks of that length advance by `stride`."""
    size = positions.shape[-1]
    for length in sorted((part for part in range(2, size + 1) if size % part == 0), reverse=True):
        blocks = positions.reshape(*positions.shape[:-1], size // length, length)
        if np.array_equal(blocks, blocks[..., :1] + np.arange(length, dtype=np.int64) * stride):
            return length
    return 1
