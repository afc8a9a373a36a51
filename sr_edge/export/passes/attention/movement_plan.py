"""The fewest operators that bring the elements of a tensor into another order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sr_edge.export.passes.attention.element_order import (
    ElementOrder,
    Runs,
    Strided,
    merged_steps,
    runs_of,
    strided,
)
from sr_edge.export.passes.rewrites.edit import NodeChain

MOST_AXES = 5
"""Tensors that are transposed have at most this number of axes."""

SHORTEST_RUN = 8
"""Elements; runs that are shorter are not gathered, because each is copied on its own."""

MOST_RUNS = 2**20
"""More runs are not gathered: their indices would be 8 MiB of the file."""


@dataclass(frozen=True)
class MovementPlan:
    """A Reshape, a Slice, a Transpose and a Reshape, each only where it has an effect, or a Gather of runs.

    Attributes:
        source: the tensor to begin with.
        source_shape: its shape.
        split: the shape of the first Reshape.
        begins, ends, steps: the slice of each of these axes.
        permutation: of the Transpose.
        runs: the runs to gather from the rows of `split`; None for the other operators.
        shape: the shape of the result.
    """

    source: str
    source_shape: tuple[int, ...]
    split: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    steps: tuple[int, ...]
    permutation: tuple[int, ...]
    shape: tuple[int, ...]
    runs: Runs | None = None

    @property
    def _sliced(self) -> tuple[int, ...]:
        return tuple(
            -(-(end - begin) // step) for begin, end, step in zip(self.begins, self.ends, self.steps, strict=True)
        )

    @property
    def _slices(self) -> bool:
        return self._sliced != self.split

    @property
    def _transposes(self) -> bool:
        return self.permutation != tuple(range(len(self.permutation)))

    @property
    def moves(self) -> int:
        """How often an element is copied."""
        return 1 if self.runs is not None else self._slices + self._transposes

    def columns(self, count: int) -> tuple[int, int] | None:
        """The first column and the one after the last that are selected of a matrix of `count` columns, if any are.

        None unless the plan slices one axis, and from that axis on the source has the columns of the matrix.
        """
        axes = [axis for axis, size in enumerate(self.split) if size != self._sliced[axis]]
        if self.runs is not None or len(axes) != 1 or self.steps[axes[0]] != 1:
            return None
        inner = math.prod(self.split[axes[0] + 1 :])
        if self.split[axes[0]] * inner != count:
            return None
        return self.begins[axes[0]] * inner, self.ends[axes[0]] * inner

    def write(self, chain: NodeChain, shared: dict[tuple[object, ...], str], output: str) -> None:
        """Adds the operators.

        Args:
            chain: where they are added.
            shared: tensors of earlier plans that are reused, by what was done; they are extended.
            output: name of the result.
        """
        if self.moves == 0 and self.shape == self.source_shape:
            chain.pass_on(self.source, output)
            return
        tensor = self._reshaped(chain, shared)
        if self.runs is not None:
            indices = chain.constant(self.runs.starts() // self.runs.length, "runs")
            self._finish(
                chain, chain.add("Gather", [tensor, indices], axis=0), (self.runs.count, self.runs.length), output
            )
            return
        if self._slices:
            tensor = self._cut(chain, tensor)
        if not self._transposes:
            self._finish(chain, tensor, self._sliced, output)
            return
        shape = tuple(self._sliced[axis] for axis in self.permutation)
        if shape == self.shape:
            chain.transpose(tensor, self.permutation, output=output)
        else:
            self._finish(chain, chain.transpose(tensor, self.permutation), shape, output)

    def _reshaped(self, chain: NodeChain, shared: dict[tuple[object, ...], str]) -> str:
        if self.split == self.source_shape:
            return self.source
        key = ("Reshape", self.source, self.split)
        if key not in shared:
            shared[key] = chain.reshape(self.source, self.split)
        return shared[key]

    def _cut(self, chain: NodeChain, tensor: str) -> str:
        axes = [axis for axis, size in enumerate(self.split) if size != self._sliced[axis]]
        bounds = [
            chain.constant(np.array([numbers[axis] for axis in axes], np.int64), name)
            for name, numbers in (("begins", self.begins), ("ends", self.ends), ("axes", range(len(self.split))))
        ]
        steps = [self.steps[axis] for axis in axes]
        if any(step != 1 for step in steps):
            bounds.append(chain.constant(np.array(steps, np.int64), "steps"))
        return chain.add("Slice", [tensor, *bounds])

    def _finish(self, chain: NodeChain, tensor: str, shape: Sequence[int], output: str) -> None:
        """Gives the result its shape and name."""
        last = chain.nodes[-1] if chain.nodes else None
        if tuple(shape) == self.shape and last is not None and last.output[0] == tensor and last.op_type != "Reshape":
            last.output[0] = output
        else:
            chain.reshape(tensor, self.shape, output=output)


def plan_movement(order: ElementOrder, source_shape: Sequence[int]) -> MovementPlan | None:
    """The plan with the fewest copies; None where neither strides nor runs describe the order well."""
    whole = tuple(source_shape)
    order_strides = strided(order)
    if order_strides is not None:
        plan = _transposition(order_strides, order, whole)
        if plan is not None:
            return plan
    return _gathering(order, whole)


def _gathering(order: ElementOrder, source_shape: tuple[int, ...]) -> MovementPlan | None:
    runs = runs_of(order)
    elements = math.prod(source_shape)
    if runs.length < SHORTEST_RUN or runs.count > MOST_RUNS or elements % runs.length:
        return None
    if np.any(runs.starts() % runs.length):
        return None
    split = (elements // runs.length, runs.length)
    return MovementPlan(order.source, source_shape, split, (0, 0), split, (1, 1), (0, 1), order.shape, runs)


def _transposition(order_strides: Strided, order: ElementOrder, source_shape: tuple[int, ...]) -> MovementPlan | None:
    """The plan without a Gather; with the axes of the result where each of them is one digit."""
    merged = merged_steps([step for axis in order_strides.steps for step in axis])
    if all(len(axis) <= 1 for axis in order_strides.steps) and len(merged) > 1:
        direct = [axis[0] if axis else (1, 0) for axis in order_strides.steps]
        plan = _with_axes(direct, order_strides.start, order, source_shape)
        if plan is not None:
            return plan
    return _with_axes(merged, order_strides.start, order, source_shape)


def _with_axes(
    steps: Sequence[tuple[int, int]], start: int, order: ElementOrder, source_shape: tuple[int, ...]
) -> MovementPlan | None:
    """The plan for a result with these axes, of size and stride; those of size 1 stay where they are."""
    elements = math.prod(source_shape)
    moving = sorted((axis for axis, (size, _) in enumerate(steps) if size > 1), key=lambda axis: -steps[axis][1])
    axes: list[tuple[int, int, int, int]] = []  # size of the whole axis, begin, end, step
    outer = elements
    for number, axis in enumerate(moving):
        size, stride = steps[axis]
        step = stride if number == len(moving) - 1 else 1
        unit = stride // step
        if outer % unit:
            return None
        whole = outer // unit
        begin = start // unit % whole
        if begin + (size - 1) * step >= whole:
            return None
        axes.append((whole, begin, begin + (size - 1) * step + 1, step))
        start -= begin * unit
        outer = stride
    if start or not moving:
        return None
    placed = dict(zip(moving, axes, strict=True))
    sources = list(moving)
    for axis, (size, _) in enumerate(steps):
        if size == 1:
            sources.insert(min(axis, len(sources)), axis)
            placed[axis] = (1, 0, 1, 1)
    if len(sources) > MOST_AXES and sources != sorted(sources):
        return None
    permutation = tuple(sources.index(axis) for axis in range(len(steps)))
    columns = list(zip(*(placed[axis] for axis in sources), strict=True))
    split, begins, ends, strides = (tuple(column) for column in columns)
    return MovementPlan(order.source, source_shape, split, begins, ends, strides, permutation, order.shape)
