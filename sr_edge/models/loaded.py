"""A loaded network with its model card, and the wrappers that change its input range or make controls constant."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from sr_edge.controls import Controls
from sr_edge.models.controlled import Baked, controls_of
from sr_edge.spec import ModelCard, TileSpec


@dataclass(frozen=True)
class LoadedModel:
    """A network in eval mode that maps (batch, card.channels, h, w) in [0, 1] to `card.scale` times the size.

    Args:
        module: the network.
        card: its properties and requirements.
        architecture: the name from which the network is rebuilt for a file of its weights: a registered name,
            "package.module:factory", or "spandrel/FAMILY"; empty if it cannot be rebuilt.
        remarks: notes for the user on how it was loaded, one sentence each.
        state: the weights from which `architecture` is rebuilt, where their keys are not those of the module.
        tile: a tile with which a network that is not registered was run successfully; None for registered networks.
    """

    module: nn.Module
    card: ModelCard
    architecture: str = ""
    remarks: tuple[str, ...] = ()
    state: Mapping[str, Tensor] | None = None
    tile: TileSpec | None = None

    def __repr__(self) -> str:
        card = self.card
        weights = "random weights" if card.random_weights else f"weights: {card.weights_source or 'unknown'}"
        return f"<LoadedModel {card.name} x{card.scale}, {card.parameters:,} parameters, {weights}>"


class ScaledRange(nn.Module):
    """A network that works on [0, input_range], wrapped so that it takes and returns values in [0, 1]."""

    def __init__(self, network: nn.Module, input_range: float) -> None:
        super().__init__()
        self.network = network
        self.input_range = input_range
        self.controls = controls_of(network)

    def forward(self, x: Tensor, *controls: Tensor) -> Tensor:
        return self.network(x * self.input_range, *controls) / self.input_range


class ClonedInput(nn.Module):
    """Passes a network a copy of its input, since some networks write into theirs and the caller's must not change."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.controls = controls_of(network)

    def forward(self, x: Tensor, *controls: Tensor) -> Tensor:
        return self.network(x.clone(), *controls)


def with_unit_input_range(network: nn.Module, input_range: float) -> nn.Module:
    """Wraps a user's network so that it works on values in [0, 1] and does not change its input."""
    return ClonedInput(network) if input_range == 1.0 else ScaledRange(network, input_range)


def bake(model: LoadedModel, values: Controls) -> LoadedModel:
    """Makes controls of a network constant, and records them in its card.

    Args:
        model: the network; it is not changed.
        values: the controls to make constant, by name.

    Raises:
        UsageError: the network has no control of that name, or a value is out of range.
    """
    if not values:
        return model
    module = Baked(model.module, values).eval()
    baked = {**model.card.baked, **values}
    card = dataclasses.replace(model.card, controls=module.controls, baked=baked)
    return dataclasses.replace(model, module=module, card=card)


def innermost(module: nn.Module) -> nn.Module:
    """The network itself, whose weights a checkpoint contains, without the wrappers around it."""
    while isinstance(module, (ScaledRange, ClonedInput, Baked)):
        module = module.network
    return module
