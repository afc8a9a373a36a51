"""A network with its card, and what is wrapped around it: another range of values, controls made constants."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from sr_edge.controls import Controls
from sr_edge.models.controlled import Baked, controls_of
from sr_edge.spec import ModelCard


@dataclass(frozen=True)
class LoadedModel:
    """A network in eval mode that maps RGB (batch, 3, h, w) in [0, 1] to `card.scale` times the size.

    Args:
        module: the network.
        card: what it is and needs.
        architecture: what rebuilds the network for a file of its weights: a registered name, "package.module:factory",
            or "spandrel/FAMILY"; empty where nothing does.
        remarks: what its user should know of how it was read, one sentence each.
        state: the weights from which `architecture` is rebuilt, where their keys are not those of the module.
    """

    module: nn.Module
    card: ModelCard
    architecture: str = ""
    remarks: tuple[str, ...] = ()
    state: Mapping[str, Tensor] | None = None


class ScaledRange(nn.Module):
    """Lets a network that works in [0, input_range] be used in [0, 1]."""

    def __init__(self, network: nn.Module, input_range: float) -> None:
        super().__init__()
        self.network = network
        self.input_range = input_range
        self.controls = controls_of(network)

    def forward(self, x: Tensor, *controls: Tensor) -> Tensor:
        return self.network(x * self.input_range, *controls) / self.input_range


class PrivateInput(nn.Module):
    """Gives a network a copy of its input: some write into it, and the caller's picture must stay what it is."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.controls = controls_of(network)

    def forward(self, x: Tensor, *controls: Tensor) -> Tensor:
        return self.network(x.clone(), *controls)


def in_unit_range(network: nn.Module, input_range: float) -> nn.Module:
    """A user's network as one that works in [0, 1] and leaves its input alone."""
    return PrivateInput(network) if input_range == 1.0 else ScaledRange(network, input_range)


def bake(model: LoadedModel, values: Controls) -> LoadedModel:
    """The same network with these controls as constants, and a card that says so; `model` is left alone.

    Raises:
        UsageError: a name that the network has not, or a value out of range.
    """
    if not values:
        return model
    module = Baked(model.module, values).eval()
    baked = {**model.card.baked, **values}
    card = dataclasses.replace(model.card, controls=module.controls, baked=baked)
    return dataclasses.replace(model, module=module, card=card)


def innermost(module: nn.Module) -> nn.Module:
    """The network itself, whose weights a checkpoint holds, without what was wrapped around it."""
    while isinstance(module, (ScaledRange, PrivateInput, Baked)):
        module = module.network
    return module
