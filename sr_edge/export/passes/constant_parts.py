"""Constant folding while a network is traced: sizes, masks, tables and folded weights do not enter the trace.

torch's exporter records every operator that a network calls, also those that build an attention mask from zeros or
compute a pooling size from the height. Some of them it cannot express in ONNX (adaptive pooling to a computed size),
others it writes incorrectly (a mask that is filled slice by slice). For one tile size all of this is constant. The
`ConstantParts` mode computes it with tracing paused, so the trace contains only the results. Adaptive pooling to a size
that does not divide the input size, which no exporter expresses, is written with other operators (`adaptive_pooling`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sr_edge.export.passes.adaptive_pooling import pooled
from sr_edge.export.passes.dependence import Dependence, is_shape_query
from sr_edge.models.controlled import controls_of


class WithConstantParts(nn.Module):
    """Wraps a network so that a trace for one tile size contains its constant parts as results only."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.controls = controls_of(network)

    def forward(self, x: Tensor, *controls: Tensor) -> Tensor:
        with ConstantParts(x, *controls):
            return self.network(x, *controls)


class ConstantParts(TorchFunctionMode):
    """Pauses tracing in every torch function none of whose arguments depends on the inputs.

    Args:
        inputs: the inputs of the trace.
    """

    def __init__(self, *inputs: Tensor) -> None:
        super().__init__()
        self._dependence = Dependence(*inputs, keep_alive=True)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = _without_default_stable(func, kwargs or {})
        if is_shape_query(func) or not self._dependence.is_dependent((args, kwargs)):
            with _tracing_paused():
                return func(*args, **kwargs)
        result = pooled(func, args, kwargs)
        if result is None:
            result = func(*args, **kwargs)
        self._dependence.propagate(func, args, result)
        return result


def _without_default_stable(func: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Leaves `stable=False` out of a sort: it is the default, but the exporter cannot express it when it is given."""
    if getattr(func, "__name__", "") in ("sort", "argsort") and kwargs.get("stable") is False:
        return {name: value for name, value in kwargs.items() if name != "stable"}
    return kwargs


@contextmanager
def _tracing_paused() -> Iterator[None]:
    state = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]  # its stub leaves it out
    try:
        with torch.no_grad():
            yield
    finally:
        torch._C._set_tracing_state(state)  # type: ignore[attr-defined]
