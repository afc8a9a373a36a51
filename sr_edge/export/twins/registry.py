"""`to_static`: a network for one input shape, with every layer that compilers dislike replaced by its static twin.

A twin is an `nn.Module` built from the trained layer and the shape of its input, equal to it in float64 to 1e-10. A
module of twins lists them in `TWINS`, and an architecture names the modules that it needs in its entry of
`sr_edge.models.registry.ARCHITECTURES`.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from sr_edge.errors import ExportError
from sr_edge.export.twins.taylor import StaticTaylorAttention
from sr_edge.models.registry import ARCHITECTURES
from sr_edge.spec import RGB

Twin = Callable[[Any, torch.Size], nn.Module]


def _rewrites() -> tuple[tuple[type[nn.Module], Twin], ...]:
    """The twins of all architectures, from the modules beside this one that their entries name."""
    names = dict.fromkeys(name for architecture in ARCHITECTURES for name in architecture.static_twins)
    modules = [importlib.import_module(f"{__package__}.{name}") for name in names]
    return tuple(pair for module in modules for pair in module.TWINS)


REWRITES = _rewrites()
"""Each type of layer that has a static twin, and the twin. Types are compared exactly, so the order has no effect."""


def to_static(module: nn.Module, height: int, width: int, channels: int = RGB) -> nn.Module:
    """The static form of `module` for inputs of (1, channels, height, width), in eval mode; `module` is not changed.

    A network in which no layer has a twin is its own static form: the module itself is returned, not a copy.

    Args:
        module: The network.
        height: Height of the input.
        width: Width of the input.
        channels: Number of channels of the input.

    Raises:
        TileError: The network does not take this size.
        ExportError: A layer that needs a twin receives inputs of several shapes.
    """
    shapes = _input_shapes(module, (1, channels, height, width))
    return _rewritten(module, shapes).eval() if shapes else module.eval()


def forms_of(static: nn.Module) -> dict[str, str]:
    """Describes the form of attention that each layer of a static network uses, by module name."""
    return {
        name: f"{layer.form.value}, {layer.cells} cells of {layer.cell_tokens} tokens"
        for name, layer in static.named_modules()
        if isinstance(layer, StaticTaylorAttention)
    }


def _twin_of(module: nn.Module) -> Twin | None:
    return next((twin for layer_type, twin in REWRITES if type(module) is layer_type), None)


def _outermost(module: nn.Module) -> list[nn.Module]:
    """The modules with a twin that are not part of another module with a twin."""
    if _twin_of(module):
        return [module]
    return [layer for child in module.children() for layer in _outermost(child)]


def _input_shapes(module: nn.Module, shape: tuple[int, ...]) -> dict[nn.Module, torch.Size]:
    """Runs `module` once and records the input shape of each module with a twin."""
    layers = _outermost(module)
    if not layers:
        return {}
    if layers[0] is module:
        return {module: torch.Size(shape)}
    shapes: dict[nn.Module, set[torch.Size]] = {layer: set() for layer in layers}
    hooks = [layer.register_forward_pre_hook(lambda m, args: shapes[m].add(args[0].shape)) for layer in layers]
    try:
        with torch.inference_mode():
            module(torch.zeros(shape, dtype=next(module.parameters()).dtype))
    finally:
        for hook in hooks:
            hook.remove()
    for layer, received in shapes.items():
        if len(received) != 1:
            raise ExportError(
                f"a layer of type {type(layer).__name__} receives inputs of {len(received)} different shapes in one "
                "pass, whereas its static form is made for exactly one",
                found=len(received),
                wanted=1,
                remedy="use a layer object of its own for each place in the network",
            )
    return {layer: received.pop() for layer, received in shapes.items()}


def _rewritten(module: nn.Module, shapes: dict[nn.Module, torch.Size]) -> nn.Module:
    if module in shapes:
        twin = _twin_of(module)
        if twin is not None:
            return twin(module, shapes[module])
    replaced = {id(layer): _rewritten(layer, shapes) for layer in shapes if layer is not module}
    return copy.deepcopy(module, replaced)
