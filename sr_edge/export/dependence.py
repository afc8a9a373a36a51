"""Which tensors depend on the inputs of a network, followed from function to function through their storages."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.overrides import resolve_name

_QUERIES = frozenset({"size", "numel", "dim", "ndimension", "stride", "nelement", "__len__", "is_contiguous"})
"""Methods whose result depends on sizes alone."""

_SIZE_ATTRIBUTES = frozenset({"torch.Tensor.shape.__get__", "torch.Tensor.ndim.__get__", "torch.Tensor.dtype.__get__"})


class Dependence:
    """The storages that hold what depends on the inputs.

    A storage may be freed and its place taken by another one, which then counts as dependent, too. `keep_alive` rules
    that out and needs the memory of all of them.
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
        """Notes that a tensor, or all in a nested container, depend on the inputs."""
        if isinstance(value, Tensor):
            self._storages.add(_storage(value))
            if self._kept is not None:
                self._kept.append(value)
        elif isinstance(value, dict):
            self.mark(list(value.values()))
        elif isinstance(value, (list, tuple)):
            for part in value:
                self.mark(part)

    def follow(self, func: Any, args: Any, result: object) -> None:
        """Notes what a function that was given something dependent has made or written."""
        self.mark(result)
        if _writes_in_place(func):
            self.mark(args[:1])


def asks_for_a_size(func: Any) -> bool:
    """Whether a torch function tells a size or a type, which all pictures of a tile share."""
    return getattr(func, "__name__", "") in _QUERIES or resolve_name(func) in _SIZE_ATTRIBUTES


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _writes_in_place(func: Any) -> bool:
    name = getattr(func, "__name__", "")
    return name == "__setitem__" or (name.endswith("_") and not name.endswith("__")) or name in ("__iadd__", "__imul__")
