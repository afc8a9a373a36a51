"""From a checkpoint to a network: our own registry is asked first, then spandrel; TorchScript is a network itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from sr_edge.models.checkpoints.numbers import float_keys, require_finite
from sr_edge.models.controlled import controls_of
from sr_edge.models.loaded import LoadedModel, in_unit_range
from sr_edge.models.probing import prepared, probe_network, probe_sizes, require_picture_only
from sr_edge.models.registry import build_network, bundled_weights, count_parameters, find_architecture
from sr_edge.models.weights import detect, fit_weights, fitting, nearest_registered
from sr_edge.spec import ModelCard, TileSpec, Tiling

if TYPE_CHECKING:
    from sr_edge.models.recognition.attempts import Misfit
    from sr_edge.models.spandrel_networks import RecognisedNetwork

Misfits = dict[tuple[int, frozenset[str]], Sequence["Misfit"]]
"""Why sets of weights fit no family, by `_view`."""

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
DESCRIBED = 16
"""Candidates that are compared with the families where nothing fits."""


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


@dataclass(frozen=True)
class Weights:
    """The values for a network, and what its card says of them: what they are, and their licence where it is stated."""

    state: State
    source: str
    licence: str


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
    weights = _weights(checkpoint, taken, taken.load(), blend)
    fit_weights(network, weights.state, str(checkpoint.path))
    return Filled(weights.source, weights.licence, _remarks(checkpoint, taken))


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
    weights = _weights(checkpoint, taken, taken.load(), blend, bundled)
    fit_weights(module, weights.state, str(checkpoint.path))
    card = registered_card(
        name,
        scale,
        module,
        weights_source="bundled" if checkpoint.path == bundled and not blend else weights.source,
        weights_sha256=checkpoint.sha256,
        licence=weights.licence,
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
    from sr_edge.models.spandrel_networks import recognition_of

    misfits: Misfits = {}
    for taken in candidates:
        view = _view(taken)
        if not view[1] or view in misfits:  # spandrel leaves some prefixes out by itself
            continue
        state = taken.load()
        recognition = recognition_of(state)
        if recognition.network is not None:
            weights = _weights(checkpoint, taken, state, blend)
            network = _blended_network(weights, checkpoint) if blend else recognition.network
            require_finite(weights.state, str(checkpoint.path), float_keys(weights.state))
            return _deployable(checkpoint, taken, network, weights, scale, input_range, tile)
        misfits[view] = recognition.misfits
    raise WeightsError(_nothing_fits(checkpoint, candidates, misfits))


def _view(candidate: Candidate) -> tuple[int, frozenset[str]]:
    """The set, and the keys that spandrel would see; none where it knows no family for them."""
    from sr_edge.models.spandrel_networks import canonical_keys

    return id(candidate.set), canonical_keys(candidate.outline)


def _blended_network(weights: Weights, checkpoint: Checkpoint) -> RecognisedNetwork:
    from sr_edge.models.spandrel_networks import recognise

    network = recognise(weights.state)
    if network is None:
        raise WeightsError(
            f"{checkpoint.path} is recognised alone and not when it is blended, since its family reads sizes from "
            f"values; leave --blend out"
        )
    return network


def _deployable(
    checkpoint: Checkpoint,
    taken: Candidate,
    network: RecognisedNetwork,
    weights: Weights,
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
        weights_source=weights.source,
        weights_sha256=checkpoint.sha256,
        licence=weights.licence,
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
    probed = probe_network(module, str(path), tried)
    if probed.scale != network.scale:
        raise WeightsError(
            f"{path} looks like a network of {network.family} x{network.scale} and makes pictures of x{probed.scale}; "
            f"its weights are not what their keys say, so pass --arch package.module:factory"
        )
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
    said = f"{path.name} is a TorchScript program: it is traced as it is, and no file of weights can rebuild it"
    return LoadedModel(module, card, "", (said, *remarks, *probe.remarks), tile=probe.tile)


def _weights(
    checkpoint: Checkpoint, taken: Candidate, state: State, blend: Sequence[Blend], bundled: Path | None = None
) -> Weights:
    """The values of `taken`, blended with others; `bundled` is the path of the weights that ship with the package."""
    if not blend:
        return Weights(state, _source(taken.set), _licence([checkpoint], bundled))
    blend_of = blended(taken, state, blend)
    return Weights(blend_of.state, blend_of.described, _licence([checkpoint, *blend_of.others], bundled))


def _licence(checkpoints: Sequence[Checkpoint], bundled: Path | None) -> str:
    """The licences of all checkpoints of a blend; empty where one of them states none."""
    stated = [BUNDLED_LICENCE if each.path == bundled else _stated_licence(each) for each in checkpoints]
    return " AND ".join(dict.fromkeys(stated)) if all(stated) else ""


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


def _nothing_fits(checkpoint: Checkpoint, candidates: Sequence[Candidate], misfits: Misfits) -> str:
    """What a checkpoint holds, and which network comes nearest."""
    near = nearest_registered(candidates) or _nearest_family(candidates[:DESCRIBED], misfits)
    clauses = (
        f"{checkpoint.path} fits no network here; it holds {_listed(checkpoint.sets)}",
        near,
        "for a network of your own pass --arch package.module:factory",
    )
    return "; ".join(filter(None, clauses))


def _nearest_family(candidates: Sequence[Candidate], misfits: Misfits) -> str:
    """What differs from the family that one of the candidates resembles most."""
    from sr_edge.models.recognition.signatures import nearest_family
    from sr_edge.models.spandrel_networks import describe_unrecognised

    alike = [(near.alikeness if (near := nearest_family(found.outline)) else 0.0) for found in candidates]
    best = candidates[alike.index(max(alike))]
    return describe_unrecognised(best.outline, misfits.get(_view(best), ()))
