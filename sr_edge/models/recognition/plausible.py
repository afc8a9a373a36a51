"""Bounds on what a state may make spandrel build, so that a small file cannot ask for much time or memory.

spandrel reads sizes from shapes and numbers of blocks from keys, and builds the network before it compares anything. A
file of a kilobyte can hold a tensor that claims terabytes, or a key such as `body.999999999.weight`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

GIBIBYTE = 2**30
_LARGEST_ITEM_BYTES = 8
_MEMORY_FACTOR = 4
_INDEX_FACTOR, _INDEX_MARGIN = 4, 16
_LONGEST_INDEX = 9


class ImplausibleState(Exception):
    """A state that no network of its size has."""


def require_plausible(state: Mapping[str, Tensor]) -> None:
    """Raises ImplausibleState for a tensor larger than its memory, or an index far beyond the number of tensors."""
    highest = _INDEX_FACTOR * len(state) + _INDEX_MARGIN
    for key, tensor in state.items():
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ImplausibleState(f"{key} claims the shape {tuple(tensor.shape)} and stores less data")
        indices = (part for part in key.split(".") if part.isdecimal())
        if any(len(index) > _LONGEST_INDEX or int(index) > highest for index in indices):
            raise ImplausibleState(f"{key} has an index far beyond the number of tensors, {len(state)}")


def memory_limit_bytes(state: Mapping[str, Tensor]) -> int:
    """What building the network of `state` may take: several times its weights, and the tables that come with them."""
    return GIBIBYTE + _MEMORY_FACTOR * _LARGEST_ITEM_BYTES * sum(tensor.numel() for tensor in state.values())


class MemoryLimit(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses, before they take memory, tensors above `limit_bytes`, each alone or all new ones together.

    A tensor counts with the shape that its operation is given, or to which its operands broadcast.
    """

    def __init__(self, limit_bytes: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.limit_bytes = limit_bytes
        self.created_bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        shapes = [argument.shape for argument in args if isinstance(argument, Tensor)]
        if shapes:
            self._require(_broadcast_numel(shapes) * _LARGEST_ITEM_BYTES)
        elif args and isinstance(args[0], (list, tuple)) and all(isinstance(side, int) for side in args[0]):
            self.created_bytes += math.prod(args[0]) * _LARGEST_ITEM_BYTES
            self._require(self.created_bytes)
        return func(*args, **(kwargs or {}))

    def _require(self, wanted_bytes: int) -> None:
        if wanted_bytes > self.limit_bytes:
            raise ImplausibleState(
                f"its shapes ask for {wanted_bytes / GIBIBYTE:,.0f} GiB, far more than its weights have"
            )


def _broadcast_numel(shapes: list[torch.Size]) -> int:
    """Elements of the result if the operands broadcast, else of the largest operand."""
    sides = max(len(shape) for shape in shapes)
    aligned = [(1,) * (sides - len(shape)) + tuple(shape) for shape in shapes]
    columns = list(zip(*aligned, strict=True))
    if all(len({side for side in column if side != 1}) <= 1 for column in columns):
        return math.prod(max(column) if min(column) else 0 for column in columns)
    return max(math.prod(shape) for shape in shapes)
