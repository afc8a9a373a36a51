"""Networks with run-time scalars: what they declare, and how a scalar becomes a constant.

A network declares `controls: tuple[Control, ...]` on its class and takes them, in that order, behind the picture:
`forward(self, x, alpha=None, beta=None)`, float32 tensors of shape [1], its defaults where they are left out.
"""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn

from sr_edge.controls import Controls, control_values
from sr_edge.errors import UsageError
from sr_edge.spec import Control

PICTURE_NAMES = ("input", "output")


class Baked(nn.Module):
    """`network` with some of its controls fixed; the others are still given, in their order.

    Args:
        network: a network that declares controls.
        values: what to fix, by name.

    Raises:
        UsageError: a name that the network has not, or a value out of range.
    """

    def __init__(self, network: nn.Module, values: Controls) -> None:
        super().__init__()
        declared = controls_of(network)
        checked = control_values(declared, values)
        self.network = network
        self.controls = tuple(control for control in declared if control.name not in values)
        self._names = [control.name for control in declared]
        for name in values:
            self.register_buffer(f"baked_{name}", torch.tensor([checked[name]]), persistent=False)

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        scalars = given or control_tensors(self.controls, device=x.device)
        known = dict(zip((control.name for control in self.controls), scalars, strict=True))
        return self.network(x, *(known[n] if n in known else self.get_buffer(f"baked_{n}") for n in self._names))


def controls_of(module: nn.Module) -> tuple[Control, ...]:
    """The controls that a network declares, none for most.

    Raises:
        UsageError: they are no tuple of Control, two have one name, or `forward` does not take them in their order.
    """
    declared = getattr(module, "controls", ())
    kind = type(module).__name__
    if not isinstance(declared, tuple) or not all(isinstance(control, Control) for control in declared):
        raise UsageError(
            f"{kind}.controls is {declared!r}, which is not a tuple of sr_edge.spec.Control",
            found=declared,
            wanted="tuple[sr_edge.spec.Control, ...]",
            remedy="declare the controls as such a tuple",
        )
    names = [control.name for control in declared]
    if len(set(names)) < len(names) or set(names) & set(PICTURE_NAMES):
        raise UsageError(
            f"{kind} declares the controls {', '.join(names)}, whose names are not unique",
            found=names,
            wanted=f"unique names other than {' and '.join(PICTURE_NAMES)}",
            remedy=f"give every control a name of its own, other than {' and '.join(PICTURE_NAMES)}",
        )
    _require_taken(module, names)
    return declared


def control_tensors(
    controls: tuple[Control, ...], values: Controls | None = None, device: torch.device | None = None
) -> tuple[Tensor, ...]:
    """Values, or the defaults, as `forward` takes them: float32 [1], in the order of `controls`."""
    checked = control_values(controls, values)
    return tuple(torch.tensor([value], dtype=torch.float32, device=device) for value in checked.values())


def _require_taken(module: nn.Module, names: list[str]) -> None:
    parameters = list(inspect.signature(module.forward).parameters.values())[1:]
    if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        return
    taken = [parameter.name for parameter in parameters[: len(names)]]
    if taken != names:
        raise UsageError(
            f"{type(module).__name__} declares the controls {', '.join(names)}, but its forward takes "
            f"{', '.join(taken) or 'none'} after the picture",
            found=taken,
            wanted=names,
            remedy="let forward take the declared controls in the declared order",
        )
