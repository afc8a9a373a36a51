"""Loads the network of a checkpoint: a registered one, else one that spandrel recognises, or a TorchScript program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from sr_edge.errors import UsageError
from sr_edge.models.checkpoints import (
    Blend,
    Candidate,
    Checkpoint,
    ScriptNetwork,
    read_checkpoint,
)
from sr_edge.models.controlled import controls_of
from sr_edge.models.loaded import LoadedModel, with_unit_input_range
from sr_edge.models.loading.recognized import load_recognized
from sr_edge.models.loading.weight_selection import select_weights
from sr_edge.models.loading.weights import copy_weights, detect_registered, matching_candidate
from sr_edge.models.probing import prepare_network, probe_network, probe_sizes, require_image_only
from sr_edge.models.registry import build_network, bundled_weights, count_parameters, find_architecture
from sr_edge.spec import ModelCard, TileSpec


def load_file(
    path: Path,
    name: str | None,
    scale: int | None,
    input_range: float,
    blend: Sequence[Blend],
    tile: TileSpec | None,
) -> LoadedModel:
    """Loads the network whose weights are in a file; arguments and errors are those of `load_model`."""
    checkpoint = read_checkpoint(path)
    if checkpoint.script is not None:
        return _load_script(checkpoint, name, scale, input_range, blend, tile)
    candidates = list(checkpoint.candidates())
    registered = detect_registered(candidates, name, scale)
    if registered is not None:
        if input_range != 1.0:
            raise input_range_error(input_range)
        return _load_registered(checkpoint, *registered, blend)
    return load_recognized(checkpoint, candidates, scale, input_range, blend, tile)


def input_range_error(input_range: float) -> UsageError:
    """The error for an input range other than 0 to 1 that was given for a registered network."""
    return UsageError(
        f"--input-range {input_range:g} is not possible for a registered network, whose input ranges from 0 to 1",
        found=input_range,
        wanted=1.0,
        remedy="leave --input-range out, since it is for networks of your own, such as those of --arch",
    )


@dataclass(frozen=True)
class LoadedWeights:
    """Properties of the weights that were copied into a network, for its card, and remarks on how they were loaded."""

    source: str
    licence: str
    remarks: tuple[str, ...]


def load_weights(
    network: nn.Module, checkpoint: Checkpoint, blend: Sequence[Blend] = (), exact_keys: bool = False
) -> LoadedWeights:
    """Copies the weights of a checkpoint into a network, whose keys and shapes they must match exactly.

    Args:
        network: the network, in float32.
        checkpoint: its sets of weights are tried in order, each with its keys as they are first.
        blend: checkpoints to blend with it.
        exact_keys: try only the first set with its keys as they are, without removing prefixes.

    Raises:
        WeightsError: no set matches; the differences are listed.
    """
    candidates = list(checkpoint.candidates())[: 1 if exact_keys else None]
    candidate = matching_candidate(candidates, network.state_dict(), str(checkpoint.path))
    weights = select_weights(checkpoint, candidate, candidate.load(), blend)
    copy_weights(network, weights.state, str(checkpoint.path))
    return LoadedWeights(weights.source, weights.licence, weights.remarks)


def registered_card(
    name: str,
    scale: int,
    module: nn.Module,
    random_weights: bool = False,
    weights_source: str = "",
    weights_sha256: str = "",
    licence: str = "",
) -> ModelCard:
    """The model card of a registered network."""
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


def _load_registered(
    checkpoint: Checkpoint, candidate: Candidate, name: str, scale: int, blend: Sequence[Blend]
) -> LoadedModel:
    module = build_network(name, scale).requires_grad_(False)
    bundled = bundled_weights(name, scale)
    weights = select_weights(checkpoint, candidate, candidate.load(), blend, bundled)
    copy_weights(module, weights.state, str(checkpoint.path))
    card = registered_card(
        name,
        scale,
        module,
        weights_source="bundled" if checkpoint.path == bundled and not blend else weights.source,
        weights_sha256=checkpoint.sha256,
        licence=weights.licence,
    )
    recognized = () if checkpoint.path == bundled else (f"{checkpoint.path.name} is recognised as {name} x{scale}",)
    return LoadedModel(module, card, name, (*recognized, *weights.remarks))


def _load_script(
    checkpoint: Checkpoint,
    name: str | None,
    scale: int | None,
    input_range: float,
    blend: Sequence[Blend],
    tile: TileSpec | None,
) -> LoadedModel:
    path, script = checkpoint.path, checkpoint.script
    if name is not None or blend or script is None:
        raise UsageError(
            f"{path} is a TorchScript program, which is a complete network: neither a model name nor --blend applies",
            found=name if name is not None else [other.path for other in blend],
            remedy="leave the model's name and --blend out",
        )
    network, remarks = prepare_network(ScriptNetwork(script))
    require_image_only(network, str(path))
    module = with_unit_input_range(network, input_range).eval()
    probe = probe_sizes(module, str(path), probe_network(module, str(path), tile, scale))
    card = replace(
        probe.card(path.stem, network, input_range),
        weights_source=f"{path.name}, a TorchScript program",
        weights_sha256=checkpoint.sha256,
    )
    remark = f"{path.name} is a TorchScript program: it is traced as it is, and no file of weights can rebuild it"
    return LoadedModel(module, card, "", (remark, *remarks, *probe.remarks), tile=probe.tile)
