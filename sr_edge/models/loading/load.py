"""Loads a network with its model card, from a registered name, a checkpoint, or a factory of the user."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from sr_edge.bundle import sha256_of
from sr_edge.errors import UsageError
from sr_edge.models.checkpoints import SUFFIXES, Blend, read_checkpoint
from sr_edge.models.controlled import controls_of
from sr_edge.models.loaded import LoadedModel, ScaledRange, bake, innermost, with_unit_input_range
from sr_edge.models.loading.factories import RANDOM_SEED, call_factory
from sr_edge.models.loading.from_checkpoint import input_range_error, load_file, load_weights, registered_card
from sr_edge.models.probing import prepare_network, probe_network, probe_sizes, require_image_only
from sr_edge.models.probing.probe import SCALES
from sr_edge.models.recognition.families import SPANDREL_PREFIX
from sr_edge.models.registry import SCALES as REGISTERED_SCALES
from sr_edge.models.registry import (
    build_network,
    bundled_weights,
    find_architecture,
    model_names,
    require_scale,
)
from sr_edge.spec import Control, ModelCard, TileSpec

__all__ = ["LoadedModel", "ScaledRange", "bake", "innermost", "load_model", "names_checkpoint", "reopen_model"]


def load_model(
    name: str | None = None,
    scale: int | None = None,
    weights: Path | None = None,
    random_weights: bool = False,
    arch: str | None = None,
    input_range: float = 1.0,
    *,
    blend: Sequence[Blend] = (),
    tile: TileSpec | str | None = None,
) -> LoadedModel:
    """Builds a network and loads its weights.

    Args:
        name: a registered name such as "taylor-swinir-tiny", or the path of a checkpoint, which is the same as
            `weights`; None detects the network from `weights`.
        scale: upscaling factor; None detects it from `weights`, or by running the network of `arch`.
        weights: a checkpoint; None takes the bundled weights, or those with which `arch` returns its network.
        random_weights: use seeded random weights instead, for latency measurements; the card records it.
        arch: "package.module:factory" of a network that is not registered; called without arguments.
        input_range: largest value of that network's input, 1 or 255.
        blend: other checkpoints of the same network, which are added to `weights` with their shares.
        tile: the tile with which a network that is not registered is run; None takes the usual one, or a larger one
            where the network needs it.

    Raises:
        UnknownNameError: there is no registered network of that name.
        UsageError: the scale, the factory or the combination of arguments is wrong, or no weights are bundled.
        TileError: the network does not support this tile.
        WeightsError: the checkpoint is unreadable, unsafe or does not fit, or the network cannot be deployed.
    """
    tile = None if tile is None else TileSpec.of(tile)
    if name is not None and names_checkpoint(name):
        if weights is not None:
            raise UsageError(
                f"{name} and --weights {weights} both select a checkpoint",
                found=[Path(name), weights],
                wanted="one checkpoint",
                remedy="omit one of them (--blend averages a checkpoint with others)",
            )
        weights, name = Path(name), None
    _check_arguments(name, scale, weights, random_weights, arch, input_range, blend)
    if arch is not None:
        return _load_factory(arch, scale, weights, random_weights, input_range, blend, tile)
    if random_weights:
        return _load_random(name, scale, input_range)
    return load_file(weights or _require_bundled(name, scale), name, scale, input_range, blend, tile)


def _check_arguments(
    name: str | None,
    scale: int | None,
    weights: Path | None,
    random_weights: bool,
    arch: str | None,
    input_range: float,
    blend: Sequence[Blend],
) -> None:
    """Raises UsageError for arguments of `load_model` that are out of range or contradict each other."""
    if arch is not None and name is not None:
        raise UsageError(
            f"{name} and --arch {arch} both select a network",
            found=[name, arch],
            wanted="one network",
            remedy="omit one of them",
        )
    if (
        name is None and scale is not None and scale not in SCALES
    ):  # the scales of a registered network are checked later
        raise UsageError(
            f"scale {scale} is not supported",
            found=scale,
            wanted=SCALES,
            remedy=f"choose one of: {', '.join(map(str, SCALES))}",
        )
    if not (math.isfinite(input_range) and input_range > 0.0):
        raise UsageError(
            f"an input range of {input_range:g} is not possible",
            found=input_range,
            wanted=(1, 255),
            remedy="give 1 for values from 0 to 1, or 255 for values from 0 to 255",
        )
    if weights is not None and random_weights:
        raise UsageError(
            "--weights and --random-weights exclude each other", found=weights, remedy="leave one of them out"
        )
    if blend and (random_weights or (weights is None and arch is not None)):
        raise UsageError(
            "--blend averages a checkpoint with a base checkpoint, but no base checkpoint was given",
            found=[other.path for other in blend],
            wanted="a base checkpoint",
            remedy="pass the base checkpoint with --weights",
        )


def names_checkpoint(name: str) -> bool:
    """Whether a MODEL argument is a path: no registered name, and an existing file or a checkpoint's file name."""
    return name not in model_names() and (Path(name).suffix in SUFFIXES or Path(name).exists())


def reopen_model(architecture: str, card: ModelCard, weights: Path) -> LoadedModel:
    """Rebuilds a network that was deployed before, from its own file of weights, without probing it again.

    Args:
        architecture: `LoadedModel.architecture`; a factory given as "package.module:factory" is called.
        card: the network's card.
        weights: its state as safetensors, with the keys of the network itself.

    Raises:
        WeightsError: the file is unreadable or does not fit.
        UsageError: the factory cannot be called, or its network has other controls.
    """
    checkpoint = read_checkpoint(weights)
    if architecture.startswith(SPANDREL_PREFIX):
        from sr_edge.models.loading.spandrel_networks import load_family

        network = load_family(architecture, checkpoint.sets[0].state, card.hyper_parameters)
    else:
        built = call_factory(architecture) if ":" in architecture else build_network(architecture, card.scale)
        network, _ = prepare_network(built)
        load_weights(network, checkpoint, exact_keys=True)
    prepare_network(network)
    module = network if architecture in model_names() else with_unit_input_range(network, card.input_range).eval()
    controls = controls_of(module)
    _require_controls(architecture, controls, card)
    return LoadedModel(module, dataclasses.replace(card, controls=controls, baked={}), architecture)


def _require_controls(architecture: str, controls: tuple[Control, ...], card: ModelCard) -> None:
    """Raises UsageError unless a network declares the controls of its card, including those made constant."""
    scalars = tuple(control for control in controls if control.name not in card.baked)
    if scalars != card.controls or len(scalars) + len(card.baked) != len(controls):
        declared, wanted = [*map(str, controls)], [*map(str, card.controls), *card.baked]
        raise UsageError(
            f"{architecture} declares {', '.join(declared) or 'no controls'}, but was deployed with "
            f"{', '.join(wanted) or 'none'}, so its code was changed",
            found=declared,
            wanted=wanted,
            remedy="deploy it again",
        )


def _load_random(name: str | None, scale: int | None, input_range: float) -> LoadedModel:
    if name is None or scale is None:
        raise UsageError(
            "random weights need the name of a model and its scale",
            found=(name, scale),
            wanted="MODEL --scale SCALE",
            remedy="pass both, for example taylor-swinir-tiny --scale 2",
        )
    if input_range != 1.0:
        raise input_range_error(input_range)
    with torch.random.fork_rng():
        torch.manual_seed(RANDOM_SEED)
        module = build_network(name, scale)
    source = f"random, seed {RANDOM_SEED}"
    return LoadedModel(
        module.requires_grad_(False),
        registered_card(name, scale, module, random_weights=True, weights_source=source),
        architecture=name,
    )


def _require_bundled(name: str | None, scale: int | None) -> Path:
    if name is None:
        raise UsageError(
            "no model was given",
            wanted="MODEL, a checkpoint or --arch",
            remedy="give a name (see `sr-edge models`), the path of a checkpoint, or --arch package.module:factory",
        )
    find_architecture(name)
    if scale is None:
        raise UsageError(f"no scale was given for {name}", wanted=REGISTERED_SCALES, remedy="pass --scale 2, 3 or 4")
    require_scale(name, scale)
    path = bundled_weights(name, scale)
    if path is None:
        raise UsageError(
            f"no weights of {name} x{scale} are bundled",
            found=f"{name} x{scale}",
            wanted="--weights or --random-weights",
            remedy="pass --weights FILE, or --random-weights for a latency study (`sr-edge models` lists what is "
            "bundled)",
        )
    return path


def _load_factory(
    arch: str,
    scale: int | None,
    weights: Path | None,
    random_weights: bool,
    input_range: float,
    blend: Sequence[Blend],
    tile: TileSpec | None,
) -> LoadedModel:
    network, remarks = prepare_network(call_factory(arch))
    require_image_only(network, arch)
    source, licence = f"random, seed {RANDOM_SEED}" if random_weights else arch, ""
    if weights is not None:
        loaded = load_weights(network, read_checkpoint(weights), blend)
        source, licence, remarks = loaded.source, loaded.licence, (*remarks, *loaded.remarks)
    module = with_unit_input_range(network, input_range).eval()
    probe = probe_sizes(module, arch, probe_network(module, arch, tile, scale))
    card = dataclasses.replace(
        probe.card(arch, network, input_range),
        random_weights=random_weights,
        weights_source=source,
        weights_sha256=sha256_of(weights) if weights else "",
        licence=licence,
        controls=controls_of(network),
    )
    prepare_network(module)  # again, since the network may have stored tensors during its first runs
    return LoadedModel(module, card, arch, (*remarks, *probe.remarks), tile=probe.tile)
