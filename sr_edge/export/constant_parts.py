"""Keeps what does not depend on the picture out of a trace: sizes, masks, tables, folded weights.

torch's exporter records every operator that a network calls, also those that build an attention mask from zeros or
compute a pooling size from the height. It then has no ONNX form for some of them (adaptive pooling to a computed size),
or writes a wrong one (a mask that is filled slice by slice). For one tile size all of this is constant. A
`ConstantParts` mode computes it with the recording paused, so that the trace holds the results.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from sr_edge.models.controlled import controls_of

_QUERIES = frozenset({"size", "numel", "dim", "ndimension", "stride", "nelement", "__len__", "is_contiguous"})
"""Methods whose result depends on sizes alone; recorded, they become tensors."""

_SIZE_ATTRIBUTES = frozenset({"torch.Tensor.shape.__get__", "torch.Tensor.ndim.__get__", "torch.Tensor.dtype.__get__"})


class WithConstantParts(nn.Module):
    """A network to be traced for one tile size, its constant parts computed beside the trace."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.controls = controls_of(network)

    def forward(self, x: Tensor, *controls: Tensor) -> Tensor:
        with ConstantParts(x, *controls):
            return self.network(x, *controls)


class ConstantParts(TorchFunctionMode):
    """Pauses the recording for every function that is given nothing that depends on the inputs.

    Args:
        inputs: the tensors that the trace is a function of.
    """

    def __init__(self, *inputs: Tensor) -> None:
        super().__init__()
        self._kept: list[Tensor] = []  # alive, so that no other tensor gets one of the storages below
        self._dependent: set[int] = set()  # by storage: what is written through a view is written
        self._mark(inputs)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = _plain_sort(func, kwargs or {})
        if _asks_for_a_size(func) or not self._depends((args, kwargs)):
            with _recording_paused():
                return func(*args, **kwargs)
        result = func(*args, **kwargs)
        self._mark(result)
        if _writes_in_place(func):
            self._mark(args[:1])
        return result

    def _depends(self, value: object) -> bool:
        if isinstance(value, Tensor):
            return _storage(value) in self._dependent
        if isinstance(value, dict):
            return any(map(self._depends, value.values()))
        return isinstance(value, (list, tuple)) and any(map(self._depends, value))

    def _mark(self, value: object) -> None:
        if isinstance(value, Tensor):
            self._kept.append(value)
            self._dependent.add(_storage(value))
        elif isinstance(value, dict):
            self._mark(list(value.values()))
        elif isinstance(value, (list, tuple)):
            for part in value:
                self._mark(part)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _asks_for_a_size(func: Any) -> bool:
    return getattr(func, "__name__", "") in _QUERIES or resolve_name(func) in _SIZE_ATTRIBUTES


def _writes_in_place(func: Any) -> bool:
    name = getattr(func, "__name__", "")
    return name == "__setitem__" or (name.endswith("_") and not name.endswith("__")) or name in ("__iadd__", "__imul__")


def _plain_sort(func: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """`stable=False` is what sorting does by default; written out, the exporter has no form for it."""
    if getattr(func, "__name__", "") in ("sort", "argsort") and kwargs.get("stable") is False:
        return {name: value for name, value in kwargs.items() if name != "stable"}
    return kwargs


@contextmanager
def _recording_paused() -> Iterator[None]:
    state = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]  # its stub leaves it out
    try:
        with torch.no_grad():
            yield
    finally:
        torch._C._set_tracing_state(state)  # type: ignore[attr-defined]
