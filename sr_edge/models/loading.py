"""From a name, weights or a factory of the user's to a network with its card."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sr_edge.controls import Controls
from sr_edge.errors import UsageError, WeightsError
from sr_edge.models.controlled import Baked, controls_of
from sr_edge.models.registry import build_network, bundled_weights, count_parameters, find_architecture
from sr_edge.models.weights import detect, fit_weights, read_weights
from sr_edge.spec import ModelCard

RANDOM_SEED = 0
BUNDLED_LICENCE = "Apache-2.0"


@dataclass(frozen=True)
class LoadedModel:
    """A network in eval mode that maps RGB (batch, 3, h, w) in [0, 1] to `card.scale` times the size.

    `architecture` is what PyTorch rebuilds the network from, with its weights; "" where nothing can.
    """

    module: nn.Module
    card: ModelCard
    architecture: str = ""


class ScaledRange(nn.Module):
    """Lets a network that works in [0, input_range] be used in [0, 1]."""

    def __init__(self, network: nn.Module, input_range: float) -> None:
        super().__init__()
        self.network = network
        self.input_range = input_range
        self.controls = controls_of(network)

    def forward(self, x: Tensor, *controls: Tensor) -> Tensor:
        return self.network(x * self.input_range, *controls) / self.input_range


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
    while isinstance(module, (ScaledRange, Baked)):
        module = module.network
    return module


def load_model(
    name: str | None,
    scale: int | None,
    weights: Path | None = None,
    random_weights: bool = False,
    arch: str | None = None,
    input_range: float = 1.0,
) -> LoadedModel:
    """Builds a network and fills it.

    Args:
        name: a registered name such as "taylor-swinir-tiny"; None detects it from `weights`.
        scale: magnification; None detects it from `weights`.
        weights: a checkpoint (.pth, .pt, .safetensors); None takes the bundled weights, or those that `arch` gives.
        random_weights: seeded random weights instead, for latency studies; marked in the card.
        arch: "package.module:factory" of a network that is not registered; called without arguments.
        input_range: what that network's input ranges up to (1 or 255).

    Raises:
        UnknownNameError, UsageError: the name, scale or factory is wrong, or there are no bundled weights.
        WeightsError: the checkpoint is unreadable, unsafe or does not fit.
    """
    if weights is not None and random_weights:
        raise UsageError("--weights and --random-weights exclude each other; leave one out")
    if arch is not None:
        return _load_foreign(arch, scale, weights, random_weights, input_range)
    if input_range != 1.0:
        raise UsageError("--input-range is for networks of your own (--arch); registered ones take [0, 1]")
    if random_weights:
        return _load_random(name, scale)
    if weights is None:
        weights = _require_bundled(name, scale)
    state = read_weights(weights)
    name, scale = detect(state, name, scale)
    module = build_network(name, scale)
    fit_weights(module, state, str(weights))
    bundled = weights == bundled_weights(name, scale)
    return LoadedModel(
        module,
        _card(
            name,
            scale,
            module,
            weights_source="bundled" if bundled else weights.name,
            weights_sha256=_digest(weights),
            licence=BUNDLED_LICENCE if bundled else "",
        ),
        name,
    )


def _load_random(name: str | None, scale: int | None) -> LoadedModel:
    if name is None or scale is None:
        raise UsageError("random weights need a model name and --scale, for example taylor-swinir-tiny --scale 2")
    with torch.random.fork_rng():
        torch.manual_seed(RANDOM_SEED)
        module = build_network(name, scale)
    source = f"random, seed {RANDOM_SEED}"
    return LoadedModel(module, _card(name, scale, module, random_weights=True, weights_source=source), name)


def _require_bundled(name: str | None, scale: int | None) -> Path:
    if name is None:
        raise UsageError("say which model: a name (see `sr-edge models`), --weights FILE, or --arch module:factory")
    find_architecture(name)
    if scale is None:
        raise UsageError(f"say which magnification {name} is for: pass --scale 2, 3 or 4")
    path = bundled_weights(name, scale)
    if path is None:
        raise UsageError(
            f"no weights of {name} x{scale} are bundled; pass --weights FILE, "
            f"or --random-weights for a latency study (`sr-edge models` lists what is bundled)"
        )
    return path


def _load_foreign(
    arch: str, scale: int | None, weights: Path | None, random_weights: bool, input_range: float
) -> LoadedModel:
    if scale is None:
        raise UsageError(f"say the magnification of {arch}: pass --scale")
    with torch.random.fork_rng():
        torch.manual_seed(RANDOM_SEED)
        network = _call_factory(arch)
    if weights is not None:
        fit_weights(network, read_weights(weights), str(weights))
    module = network if input_range == 1.0 else ScaledRange(network, input_range)
    card = ModelCard(
        name=arch,
        scale=scale,
        parameters=count_parameters(network),
        input_range=input_range,
        random_weights=random_weights,
        weights_source=weights.name if weights else f"random, seed {RANDOM_SEED}" if random_weights else arch,
        weights_sha256=_digest(weights) if weights else "",
        controls=controls_of(network),
    )
    _require_scale(module, card)
    return LoadedModel(module.eval(), card, arch)


def _call_factory(arch: str) -> nn.Module:
    module_name, _, factory_name = arch.partition(":")
    if not module_name or not factory_name:
        raise UsageError(f"cannot read {arch!r} as a factory; write package.module:factory")
    sys.path.insert(0, str(Path.cwd()))
    try:
        network = getattr(importlib.import_module(module_name), factory_name)()
    except Exception as error:  # whatever the user's code raises
        raise UsageError(
            f"cannot call {arch}: {type(error).__name__}: {error}; it must be importable and take no arguments"
        ) from error
    finally:
        sys.path.remove(str(Path.cwd()))
    if not isinstance(network, nn.Module):
        raise UsageError(f"{arch} gave a {type(network).__name__}; it must return a torch.nn.Module")
    return network


def _require_scale(module: nn.Module, card: ModelCard) -> None:
    side = 48
    try:
        with torch.inference_mode():
            answer = module.eval()(torch.zeros(1, 3, side, side))
    except Exception as error:  # whatever the user's code raises
        raise WeightsError(f"{card.name} cannot run on a 1x3x{side}x{side} picture: {error}") from error
    if not isinstance(answer, Tensor):
        raise UsageError(f"{card.name} gave a {type(answer).__name__}; it must return one tensor, the picture")
    found = tuple(answer.shape)
    wanted = (1, 3, side * card.scale, side * card.scale)
    if found != wanted:
        raise UsageError(f"{card.name} turns 1x3x{side}x{side} into {found}, not {wanted}; check --scale {card.scale}")


def _card(
    name: str,
    scale: int,
    module: nn.Module,
    random_weights: bool = False,
    weights_source: str = "",
    weights_sha256: str = "",
    licence: str = "",
) -> ModelCard:
    architecture, _ = find_architecture(name)
    return ModelCard(
        name=name,
        scale=scale,
        parameters=count_parameters(module),
        multiple_px=architecture.multiple_px,
        overlap_px=architecture.overlap_px,
        global_statistics=architecture.global_statistics,
        random_weights=random_weights,
        weights_source=weights_source,
        weights_sha256=weights_sha256,
        licence=licence,
        controls=controls_of(module),
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
