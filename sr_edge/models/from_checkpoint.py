"""From a checkpoint to a network: our own registry is asked first, then spandrel; TorchScript is a network itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from sr_edge.models.chosen import chosen_weights
from sr_edge.models.controlled import controls_of
from sr_edge.models.loaded import LoadedModel, in_unit_range
from sr_edge.models.probing import prepared, probe_network, probe_sizes, require_picture_only
from sr_edge.models.recognised import load_recognised
from sr_edge.models.registry import build_network, bundled_weights, count_parameters, find_architecture
from sr_edge.models.weights import detect, fit_weights, fitting
from sr_edge.spec import ModelCard, TileSpec


def load_file(
    path: Path,
    name: str | None,
    scale: int | None,
    input_range: float,
    blend: Sequence[Blend],
    tile: TileSpec | None,
) -> LoadedModel:
    """The network whose weights are in a file; arguments and errors are those of `load_model`."""
    checkpoint = read_checkpoint(path)
    if checkpoint.script is not None:
        return _from_script(checkpoint, name, scale, input_range, blend, tile)
    candidates = list(checkpoint.candidates())
    registered = detect(candidates, name, scale)
    if registered is not None:
        if input_range != 1.0:
            raise range_of_registered(input_range)
        return _registered(checkpoint, *registered, blend)
    return load_recognised(checkpoint, candidates, scale, input_range, blend, tile)


def range_of_registered(input_range: float) -> UsageError:
    """The error for an input range that was asked for with a registered network."""
    return UsageError(
        f"--input-range {input_range:g} is not possible for a registered network, whose input ranges from 0 to 1",
        found=input_range,
        wanted=1.0,
        remedy="leave --input-range out, since it is for networks of your own, such as those of --arch",
    )


@dataclass(frozen=True)
class Filled:
    """What a network was filled with, for its card, and remarks on how it was read."""

    source: str
    licence: str
    remarks: tuple[str, ...]


def fill(
    network: nn.Module, checkpoint: Checkpoint, blend: Sequence[Blend] = (), keys_as_they_are: bool = False
) -> Filled:
    """Copies the weights of a checkpoint into a network that they must fit exactly.

    Args:
        network: in float32.
        checkpoint: its sets are tried in order, with their keys as they are first.
        blend: checkpoints to add.
        keys_as_they_are: whether no other reading of the keys is tried.

    Raises:
        WeightsError: nothing fits; what differs is listed.
    """
    candidates = list(checkpoint.candidates())[: 1 if keys_as_they_are else None]
    taken = fitting(candidates, network.state_dict(), str(checkpoint.path))
    weights = chosen_weights(checkpoint, taken, taken.load(), blend)
    fit_weights(network, weights.state, str(checkpoint.path))
    return Filled(weights.source, weights.licence, weights.remarks)


def registered_card(
    name: str,
    scale: int,
    module: nn.Module,
    random_weights: bool = False,
    weights_source: str = "",
    weights_sha256: str = "",
    licence: str = "",
) -> ModelCard:
    """The card of one of our own networks."""
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


def _registered(checkpoint: Checkpoint, taken: Candidate, name: str, scale: int, blend: Sequence[Blend]) -> LoadedModel:
    module = build_network(name, scale).requires_grad_(False)
    bundled = bundled_weights(name, scale)
    weights = chosen_weights(checkpoint, taken, taken.load(), blend, bundled)
    fit_weights(module, weights.state, str(checkpoint.path))
    card = registered_card(
        name,
        scale,
        module,
        weights_source="bundled" if checkpoint.path == bundled and not blend else weights.source,
        weights_sha256=checkpoint.sha256,
        licence=weights.licence,
    )
    recognised = () if checkpoint.path == bundled else (f"{checkpoint.path.name} is recognised as {name} x{scale}",)
    return LoadedModel(module, card, name, (*recognised, *weights.remarks))


def _from_script(
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
    plain, remarks = prepared(ScriptNetwork(script))
    require_picture_only(plain, str(path))
    module = in_unit_range(plain, input_range).eval()
    probe = probe_sizes(module, str(path), probe_network(module, str(path), tile, scale))
    card = ModelCard(
        name=path.stem,
        scale=probe.scale,
        parameters=count_parameters(plain),
        multiple_px=probe.multiple_px,
        minimum_px=probe.minimum_px,
        square_tiles=probe.square,
        input_range=input_range,
        weights_source=f"{path.name}, a TorchScript program",
        weights_sha256=checkpoint.sha256,
    )
    remark = f"{path.name} is a TorchScript program: it is traced as it is, and no file of weights can rebuild it"
    return LoadedModel(module, card, "", (remark, *remarks, *probe.remarks), tile=probe.tile)
