"""Networks with controls, which are scalar inputs at run time: their declaration, and making them constant.

A network declares `controls: tuple[Control, ...]` on its class and takes them in that order after the image:
`forward(self, x, alpha=None, beta=None)`. They are float32 tensors of shape [1]; one that is left out has its default.
"""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn

from sr_edge.controls import Controls, control_values
from sr_edge.errors import UsageError
from sr_edge.spec import Control

IMAGE_TENSOR_NAMES = ("input", "output")


class Baked(nn.Module):
    """A network with some of its controls fixed; the remaining ones are passed to `forward` in their order.

    Args:
        network: a network that declares controls.
        values: the controls to fix, by name.

    Raises:
        UsageError: the network has no control of that name, or a value is out of range.
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

    def forward(self, x: Tensor, *scalars: Tensor) -> Tensor:
        scalars = scalars or control_tensors(self.controls, device=x.device)
        by_name = dict(zip((control.name for control in self.controls), scalars, strict=True))
        return self.network(x, *(by_name[n] if n in by_name else self.get_buffer(f"baked_{n}") for n in self._names))


def controls_of(module: nn.Module) -> tuple[Control, ...]:
    """The controls that a network declares; most networks declare none.

    Raises:
        UsageError: they are not a tuple of Control, two share a name, or `forward` does not take them in that order.
    """
    declared = getattr(module, "controls", ())
    class_name = type(module).__name__
    if not isinstance(declared, tuple) or not all(isinstance(control, Control) for control in declared):
        raise UsageError(
            f"{class_name}.controls is {declared!r}, which is not a tuple of sr_edge.spec.Control",
            found=declared,
            wanted="tuple[sr_edge.spec.Control, ...]",
            remedy="declare the controls as such a tuple",
        )
    names = [control.name for control in declared]
    if len(set(names)) < len(names) or set(names) & set(IMAGE_TENSOR_NAMES):
        raise UsageError(
            f"{class_name} declares the controls {', '.join(names)}, whose names are not unique",
            found=names,
            wanted=f"unique names other than {' and '.join(IMAGE_TENSOR_NAMES)}",
            remedy=f"give every control a name of its own, other than {' and '.join(IMAGE_TENSOR_NAMES)}",
        )
    _require_forward_parameters(module, names)
    return declared


def control_tensors(
    controls: tuple[Control, ...], values: Controls | None = None, device: torch.device | None = None
) -> tuple[Tensor, ...]:
    """Tensors for `forward`, float32 of shape [1], in the order of `controls`.

    Args:
        controls: what the network declares.
        values: values by name; a control that is left out has its default.
        device: device of the tensors; None is the CPU.
    """
    checked = control_values(controls, values)
    return tuple(torch.tensor([value], dtype=torch.float32, device=device) for value in checked.values())


def _require_forward_parameters(module: nn.Module, names: list[str]) -> None:
    parameters = list(inspect.signature(module.forward).parameters.values())[1:]
    if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        return
    accepted = [parameter.name for parameter in parameters[: len(names)]]
    if accepted != names:
        raise UsageError(
            f"{type(module).__name__} declares the controls {', '.join(names)}, but its forward takes "
            f"{', '.join(accepted) or 'none'} after the image",
            found=accepted,
            wanted=names,
            remedy="let forward take the declared controls in the declared order",
        )
