"""Runs a PyTorch network with equal values sorted in the order of their positions, as ONNX's TopK sorts them.

torch.sort without stable=True, and torch.topk, leave the order of equal values open: on one CPU it depends on the
length of the axis. A network that sorts whole numbers, such as the category of each pixel, and then attends in groups
of sorted pixels has several correct results, of which the graph gives one. It is compared with that one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

TIES_REMARK = (
    "the network sorts equal values, whose order torch leaves open; the graph keeps them in the order of their "
    "positions, as torch.sort does with stable=True, with which it was compared"
)


class StableOrder(TorchFunctionMode):
    """Makes sort, argsort and topk stable in the block.

    Attributes:
        has_ties: whether that made a difference, because torch has another order of equal values.
    """

    def __init__(self) -> None:
        super().__init__()
        self.has_ties = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        stable = _STABLE.get(resolve_name(func) or "")
        if stable is None or (kwargs or {}).get("out") is not None:
            return result
        ordered = stable(*args, **(kwargs or {}))
        self.has_ties |= not torch.equal(_positions(result), _positions(ordered))
        return ordered


def _positions(result: Any) -> Tensor:
    return result if isinstance(result, Tensor) else result[1]


def _sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool | None = True) -> Any:
    return torch.sort(input, dim=dim, descending=descending, stable=True)


def _argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool | None = True) -> Tensor:
    return torch.sort(input, dim=dim, descending=descending, stable=True).indices


def _topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    values, positions = torch.sort(input, dim=dim, descending=largest, stable=True)
    return torch.return_types.topk((values.narrow(dim, 0, k), positions.narrow(dim, 0, k)))


_STABLE: Mapping[str, Callable[..., Any]] = {
    "torch.sort": _sort,
    "torch.Tensor.sort": _sort,
    "torch.argsort": _argsort,
    "torch.Tensor.argsort": _argsort,
    "torch.topk": _topk,
    "torch.Tensor.topk": _topk,
}
