"""From a checkpoint to a network: our own registry is asked first, then spandrel; TorchScript is a network itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from sr_edge.errors import UsageError, WeightsError
from sr_edge.models.checkpoints import (
    Blend,
    Candidate,
    Checkpoint,
    ScriptNetwork,
    State,
    StateSet,
    blended,
    read_checkpoint,
)
from sr_edge.models.checkpoints.bounds import shown
from sr_edge.models.controlled import controls_of
from sr_edge.models.loaded import LoadedModel, in_unit_range
from sr_edge.models.probing import prepared, probe_network, require_picture_only
from sr_edge.models.registry import build_network, bundled_weights, count_parameters, find_architecture
from sr_edge.models.weights import detect, fit_weights, fitting, nearest_registered, require_finite
from sr_edge.spec import ModelCard, TileSpec, Tiling

if TYPE_CHECKING:
    from sr_edge.models.spandrel_networks import RecognisedNetwork

BUNDLED_LICENCE = "Apache-2.0"
LICENCE_KEYS = ("license", "licence", "modelspec.license")
"""Where the metadata of a safetensors file says under which licence the weights are."""

_TILING: Mapping[Tiling, str] = {
    Tiling.SUPPORTED: "",
    Tiling.DISCOURAGED: "networks of this family look at the whole picture: tiles may differ visibly from each other",
    Tiling.INTERNAL: "networks of this family cut pictures into pieces of their own: deploy a tile of such a piece",
}

SHOWN_SETS = 6
SHOWN_KEYS = 3


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
            raise UsageError(
                "--input-range is for networks of your own, such as those of --arch; registered ones take [0, 1]"
            )
        return _registered(checkpoint, *registered, blend)
    return _recognised(checkpoint, candidates, scale, input_range, blend, tile)


def fill(
    network: nn.Module, checkpoint: Checkpoint, blend: Sequence[Blend] = (), keys_as_they_are: bool = False
) -> tuple[str, tuple[str, ...]]:
    """Copies the weights of a checkpoint into a network that they must fit exactly.

    Args:
        network: in float32.
        checkpoint: its sets are tried in order, with their keys as they are first.
        blend: checkpoints to add.
        keys_as_they_are: whether no other reading of the keys is tried.

    Returns:
        what the weights are, for the model card, and remarks on how they were read.

    Raises:
        WeightsError: nothing fits; what differs is listed.
    """
    candidates = list(checkpoint.candidates())[: 1 if keys_as_they_are else None]
    taken = fitting(candidates, network, str(checkpoint.path))
    state, source = _values(taken, blend)
    fit_weights(network, state, str(checkpoint.path))
    return source, _remarks(checkpoint, taken)


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
    state, source = _values(taken, blend)
    fit_weights(module, state, str(checkpoint.path))
    bundled = checkpoint.path == bundled_weights(name, scale)
    card = registered_card(
        name,
        scale,
        module,
        weights_source="bundled" if bundled and not blend else source,
        weights_sha256=checkpoint.sha256,
        licence=BUNDLED_LICENCE if bundled else _stated_licence(checkpoint),
    )
    return LoadedModel(module, card, name, _remarks(checkpoint, taken))


def _recognised(
    checkpoint: Checkpoint,
    candidates: Sequence[Candidate],
    scale: int | None,
    input_range: float,
    blend: Sequence[Blend],
    tile: TileSpec | None,
) -> LoadedModel:
    """The network that spandrel builds for the first candidate of which it knows the family."""
    from sr_edge.models.spandrel_networks import recognise

    for taken in candidates:
        state, source = taken.load(), ""
        network = recognise(state)
        if network is None:
            continue
        require_finite(state, str(checkpoint.path), [key for key in state if state[key].is_floating_point()])
        if blend:
            state, source = blended(taken, state, blend)
            network = recognise(state) or network
        return _deployable(checkpoint, taken, network, source or _source(taken.set), scale, input_range, tile)
    raise WeightsError(_nothing_fits(checkpoint, candidates))


def _deployable(
    checkpoint: Checkpoint,
    taken: Candidate,
    network: RecognisedNetwork,
    source: str,
    scale: int | None,
    input_range: float,
    tile: TileSpec | None,
) -> LoadedModel:
    path = checkpoint.path
    if (network.input_channels, network.output_channels) != (3, 3):
        raise UsageError(
            f"{path} is a network of {network.family} from {network.input_channels} to {network.output_channels} "
            f"channels; networks from RGB to RGB are supported"
        )
    if scale not in (None, network.scale):
        raise UsageError(f"{path} is a network of {network.family} x{network.scale}; pass --scale {network.scale}")
    plain, remarks = prepared(network.module)
    module = in_unit_range(plain, input_range).eval()
    card = ModelCard(
        name=path.stem,
        scale=network.scale,
        parameters=count_parameters(plain),
        multiple_px=network.multiple_px,
        input_range=input_range,
        weights_source=source,
        weights_sha256=checkpoint.sha256,
        licence=network.weights_licence or _stated_licence(checkpoint),
        family=network.family,
        hyper_parameters=dict(network.hyper_parameters),
        purpose=network.purpose,
        architecture_licence=network.architecture_licence,
        input_channels=network.input_channels,
        output_channels=network.output_channels,
        minimum_px=network.minimum_px,
        square_tiles=network.square,
        tiling=network.tiling,
    )
    tried = tile or card.usual_tile
    card.require_tile(tried)
    probe_network(module, str(path), tried, network.scale)
    prepared(module)  # whatever the network kept of its first runs
    said = (*_remarks(checkpoint, taken), *remarks, *filter(None, [network.remark, _TILING[network.tiling]]))
    return LoadedModel(module, card, network.architecture, said, network.state, tried)


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
            f"{path} is a TorchScript program, a network of its own; leave the model's name and --blend out"
        )
    plain, remarks = prepared(ScriptNetwork(script))
    require_picture_only(plain, str(path))
    module = in_unit_range(plain, input_range).eval()
    probe = probe_network(module, str(path), tile, scale)
    card = ModelCard(
        name=path.stem,
        scale=probe.scale,
        parameters=count_parameters(plain),
        multiple_px=probe.multiple_px,
        input_range=input_range,
        weights_source=f"{path.name}, a TorchScript program",
        weights_sha256=checkpoint.sha256,
    )
    said = f"{path.name} is a TorchScript program: it is traced as it is, and no file of weights can rebuild it"
    return LoadedModel(module, card, "", (said, *remarks), tile=probe.tile)


def _values(taken: Candidate, blend: Sequence[Blend]) -> tuple[State, str]:
    state = taken.load()
    return blended(taken, state, blend) if blend else (state, _source(taken.set))


def _source(taken: StateSet) -> str:
    return ", ".join(filter(None, (taken.path.name, taken.name)))


def _stated_licence(checkpoint: Checkpoint) -> str:
    return shown(next((checkpoint.metadata[key] for key in LICENCE_KEYS if key in checkpoint.metadata), ""))


def _remarks(checkpoint: Checkpoint, taken: Candidate) -> tuple[str, ...]:
    """What was taken from a checkpoint, and what else was in it; nothing where there was no choice."""
    prefix, left_out = taken.reading.prefix, taken.reading.left_out
    others = [found for found in checkpoint.sets if found is not taken.set]
    if not (prefix or left_out or others):
        return ()
    said = f"{checkpoint.path.name}: took {_described(taken.set)}"
    if prefix:
        said += f", the keys without {shown(prefix)!r}"
    if left_out:
        keys = ", ".join(map(shown, left_out[:SHOWN_KEYS])) + (", ..." if len(left_out) > SHOWN_KEYS else "")
        said += f", without {len(left_out)} keys that the network has no use for ({keys})"
    if others:
        said += f"; the file also holds {_listed(others)}"
    return (said,)


def _described(found: StateSet) -> str:
    return f"{found} ({len(found.outline)} tensors, {found.elements / 1e6:.2f} M values)"


def _listed(sets: Sequence[StateSet]) -> str:
    more = f", and {len(sets) - SHOWN_SETS} more" if len(sets) > SHOWN_SETS else ""
    return ", ".join(map(_described, sets[:SHOWN_SETS])) + more


def _nothing_fits(checkpoint: Checkpoint, candidates: Sequence[Candidate]) -> str:
    from sr_edge.models.spandrel_networks import describe_unrecognised

    near = nearest_registered(candidates) or describe_unrecognised(candidates[0].load())
    clauses = (
        f"{checkpoint.path} fits no network here; it holds {_listed(checkpoint.sets)}",
        near,
        "for a network of your own pass --arch package.module:factory",
    )
    return "; ".join(filter(None, clauses))
