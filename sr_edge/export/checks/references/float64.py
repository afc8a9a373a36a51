"""Runs a PyTorch network in float64, as the reference for the rounding of its float32 arithmetic."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from sr_edge.models.controlled import control_tensors, controls_of

_NARROW = (torch.float32, torch.float16, torch.bfloat16)


def run_float64(
    module: nn.Module, batch: npt.NDArray[np.float32], controls: Mapping[str, float]
) -> npt.NDArray[np.float64]:
    """Runs `module` with its float32 weights and with every operator computed in float64.

    Args:
        module: the network, in eval mode; it is not modified.
        batch: float32 (1, channels, height, width).
        controls: the values of the network's controls.

    Raises:
        Exception: whatever the network raises where it accepts float32 only.
    """
    module = _copied(module)
    scalars = control_tensors(controls_of(module), controls)
    inputs = tuple(value.double() for value in (torch.from_numpy(batch), *scalars))
    # No inference mode: in it, a dispatch mode gets compound operators, whose parts would be computed in float32.
    with torch.no_grad(), _default_float64(), _InFloat64():  # type: ignore[no-untyped-call]
        if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
            output = module.double()(*inputs)  # functional_call cannot replace the parameters of a script
        else:
            state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
            output = functional_call(module, {name: _widened(value) for name, value in state.items()}, inputs)
    return np.asarray(output.numpy(), dtype=np.float64)


def _copied(module: nn.Module) -> nn.Module:
    """A copy, so that tables that the network caches for a size stay float32; the module itself if it has no copy."""
    try:
        return copy.deepcopy(module)
    except Exception:  # whatever an attribute raises that cannot be copied, such as a lock
        return module


class _InFloat64(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own class is untyped
    """Widens every floating-point operand to float64, and every floating-point dtype that the network names."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        widened = tree_map(_widened, args)
        result = func(*widened, **tree_map(_widened, kwargs or {}))
        for formal, given, wide in zip(func._schema.arguments, args, widened, strict=False):
            if formal.alias_info is not None and formal.alias_info.is_write and wide is not given:
                given.copy_(wide)  # the operator wrote to the widened copy of a float32 tensor of the network
        return result


def _widened(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.double() if value.dtype in _NARROW else value
    return torch.float64 if value in _NARROW and isinstance(value, torch.dtype) else value


@contextmanager
def _default_float64() -> Iterator[None]:
    """Makes float64 the default dtype, for tensors that the network creates in its forward pass."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
