"""Adaptive pooling to any constant size, written with operators that both exporters of torch know.

torch's exporters write adaptive pooling only where the output size divides the input size. Otherwise its windows have
several sizes; those of each axis begin and end at constant positions (`torch/aten/src/ATen/native/AdaptivePooling.h`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def average_by_size(x: Tensor, output_size: Any) -> Tensor:
    """`adaptive_avg_pool2d` as a product with a constant matrix for each axis, since its windows are rectangles."""
    for axis, count in zip((-2, -1), _sizes(x, output_size), strict=True):
        length = int(x.shape[axis])
        shares = np.zeros((count, length))
        for row, (start, end) in zip(shares, _windows(length, count), strict=True):
            row[start:end] = 1.0 / (end - start)
        weights = torch.from_numpy(shares).to(x)
        x = torch.matmul(weights, x) if axis == -2 else torch.matmul(x, weights.T)
    return x


def maximum_by_size(x: Tensor, output_size: Any) -> Tensor:
    """`adaptive_max_pool2d` by gathering the windows of each axis, of which short ones repeat their last element."""
    for axis, count in zip((-2, -1), _sizes(x, output_size), strict=True):
        windows = _windows(int(x.shape[axis]), count)
        longest = max(end - start for start, end in windows)
        positions = [min(start + step, end - 1) for start, end in windows for step in range(longest)]
        gathered = x.index_select(axis, torch.tensor(positions, device=x.device))
        x = torch.unflatten(gathered, axis, (count, longest)).amax(axis)
    return x


def _sizes(x: Tensor, output_size: Any) -> list[int]:
    """The two output sizes; None means that of the input."""
    wanted: Sequence[int | None] = output_size if isinstance(output_size, Sequence) else (output_size, output_size)
    return [int(x.shape[axis] if size is None else size) for axis, size in zip((-2, -1), wanted, strict=True)]


def _windows(length: int, count: int) -> list[tuple[int, int]]:
    return [(index * length // count, -(-(index + 1) * length // count)) for index in range(count)]


def pooled(func: Any, args: Any, kwargs: Any) -> Tensor | None:
    """The result of an adaptive pooling of torch whose windows have several sizes; None for any other function."""
    replacement = _REPLACEMENTS.get(func)
    if replacement is None or not args or args[0].dim() < 3:
        return None
    x, output_size = args[0], args[1] if len(args) > 1 else kwargs["output_size"]
    if kwargs.get("return_indices") or all(
        int(size) % count == 0 for size, count in zip(x.shape[-2:], _sizes(x, output_size), strict=True)
    ):
        return None
    return replacement(x, output_size)


_REPLACEMENTS: Mapping[Any, Callable[[Tensor, Any], Tensor]] = {
    functional.adaptive_avg_pool2d: average_by_size,
    functional.adaptive_max_pool2d: maximum_by_size,
}
