"""Tracks which tensors depend on the inputs of a network, from one torch function to the next, by their storages."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.overrides import resolve_name

_QUERIES = frozenset({
    "size", "numel", "dim", "ndimension", "stride", "nelement", "__len__", "is_contiguous", "get_device",
    "element_size", "is_floating_point", "is_complex", "is_signed", "storage_offset",
})  # fmt: skip
"""Methods whose result depends on shape, data type and device alone."""

_SIZE_ATTRIBUTES = frozenset({"torch.Tensor.shape.__get__", "torch.Tensor.ndim.__get__", "torch.Tensor.dtype.__get__"})


class Dependence:
    """The storages of all tensors that depend on the inputs.

    When a storage is freed, another one may get its address and then counts as dependent, too.

    Args:
        inputs: the inputs of the network.
        keep_alive: keeps every dependent tensor, which rules such errors out and takes the memory of all of them.
    """

    def __init__(self, *inputs: Tensor, keep_alive: bool = False) -> None:
        self._kept: list[Tensor] | None = [] if keep_alive else None
        self._storages: set[int] = set()
        self.mark(inputs)

    def is_dependent(self, value: object) -> bool:
        """Whether a tensor, or one in a nested container, depends on the inputs."""
        if isinstance(value, Tensor):
            return _storage(value) in self._storages
        if isinstance(value, dict):
            return any(map(self.is_dependent, value.values()))
        return isinstance(value, (list, tuple)) and any(map(self.is_dependent, value))

    def mark(self, value: object) -> None:
        """Marks a tensor, or all tensors in a nested container, as dependent on the inputs."""
        if isinstance(value, Tensor):
            self._storages.add(_storage(value))
            if self._kept is not None:
                self._kept.append(value)
        elif isinstance(value, dict):
            self.mark(list(value.values()))
        elif isinstance(value, (list, tuple)):
            for part in value:
                self.mark(part)

    def propagate(self, func: Any, args: Any, result: object) -> None:
        """Marks the result of a function with a dependent argument, and the tensor that it wrote in place."""
        self.mark(result)
        if _writes_in_place(func):
            self.mark(args[:1])


def is_shape_query(func: Any) -> bool:
    """Whether a torch function returns a size or a data type, which is the same for all images of a tile."""
    return getattr(func, "__name__", "") in _QUERIES or resolve_name(func) in _SIZE_ATTRIBUTES


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _writes_in_place(func: Any) -> bool:
    name = getattr(func, "__name__", "")
    return name == "__setitem__" or (name.endswith("_") and not name.endswith("__")) or name in ("__iadd__", "__imul__")
