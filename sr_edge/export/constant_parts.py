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
from torch.overrides import TorchFunctionMode

from sr_edge.export.dependence import Dependence, asks_for_a_size
from sr_edge.models.controlled import controls_of


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
        self._dependence = Dependence(*inputs, keep_alive=True)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = _plain_sort(func, kwargs or {})
        if asks_for_a_size(func) or not self._dependence.is_dependent((args, kwargs)):
            with _recording_paused():
                return func(*args, **kwargs)
        result = func(*args, **kwargs)
        self._dependence.follow(func, args, result)
        return result


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
