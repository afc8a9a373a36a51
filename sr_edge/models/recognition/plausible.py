"""Limits on the networks that spandrel builds for given weights, so that a small file cannot exhaust the memory.

spandrel reads sizes from shapes and numbers of blocks from keys, and builds the network before it compares anything. A
file of a kilobyte can contain a tensor that claims terabytes, or a key such as `body.999999999.weight`.
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
    """The keys or shapes are impossible for a network of this number of weights."""


def require_plausible(state: Mapping[str, Tensor]) -> None:
    """Raises ImplausibleState for a tensor larger than its storage, or an index far beyond the number of tensors."""
    highest = _INDEX_FACTOR * len(state) + _INDEX_MARGIN
    for key, tensor in state.items():
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ImplausibleState(f"{key} claims the shape {tuple(tensor.shape)} and stores less data")
        indices = (part for part in key.split(".") if part.isdecimal())
        if any(len(index) > _LONGEST_INDEX or int(index) > highest for index in indices):
            raise ImplausibleState(f"{key} has an index far beyond the number of tensors, {len(state)}")


def memory_limit_bytes(state: Mapping[str, Tensor]) -> int:
    """Memory that building the network may take: several times its weights, and the tables that belong to them."""
    return GIBIBYTE + _MEMORY_FACTOR * _LARGEST_ITEM_BYTES * sum(tensor.numel() for tensor in state.values())


class MemoryLimit(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses tensors above a limit before they are allocated, each alone or all new ones together.

    The size of a tensor is that of the shape passed to its operation, or of the broadcast operands.

    Args:
        limit_bytes: the limit.
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
        elif args and isinstance(args[0], (list, tuple)) and all(isinstance(length, int) for length in args[0]):
            self.created_bytes += math.prod(args[0]) * _LARGEST_ITEM_BYTES
            self._require(self.created_bytes)
        return func(*args, **(kwargs or {}))

    def _require(self, needed_bytes: int) -> None:
        if needed_bytes > self.limit_bytes:
            raise ImplausibleState(f"its shapes require {needed_bytes / GIBIBYTE:,.0f} GiB, far more than its weights")


def _broadcast_numel(shapes: list[torch.Size]) -> int:
    """Elements of the result if the operands broadcast, else of the largest operand."""
    rank = max(len(shape) for shape in shapes)
    aligned = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    axes = list(zip(*aligned, strict=True))
    if all(len({length for length in axis if length != 1}) <= 1 for axis in axes):
        return math.prod(max(axis) if min(axis) else 0 for axis in axes)
    return max(math.prod(shape) for shape in shapes)
