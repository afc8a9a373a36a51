"""Networks of a checkpoint that spandrel recognises, tried and with their cards; or what comes nearest to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sr_edge.errors import UsageError, WeightsError
from sr_edge.models.checkpoints import Blend, Candidate, Checkpoint
from sr_edge.models.checkpoints.numbers import float_keys, require_finite
from sr_edge.models.chosen import Weights, chosen_weights, listed_sets
from sr_edge.models.loaded import LoadedModel, in_unit_range
from sr_edge.models.probing import prepared, probe_network
from sr_edge.models.registry import count_parameters
from sr_edge.models.weights import NearMiss, nearest_registered
from sr_edge.spec import ModelCard, TileSpec, Tiling

if TYPE_CHECKING:
    from sr_edge.models.recognition.attempts import Misfit
    from sr_edge.models.spandrel_networks import RecognisedNetwork

Misfits = dict[tuple[int, frozenset[str]], Sequence["Misfit"]]
"""Why sets of weights fit no family, by `_view`."""

_TILING: Mapping[Tiling, str] = {
    Tiling.SUPPORTED: "",
    Tiling.DISCOURAGED: "networks of this family look at the whole picture: tiles may differ visibly from each other",
    Tiling.INTERNAL: "networks of this family cut pictures into pieces of their own: deploy a tile of such a piece",
}

DESCRIBED = 16
"""Candidates that are compared with the families where nothing fits."""


def load_recognised(
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
            weights = chosen_weights(checkpoint, taken, state, blend)
            network = _blended_network(weights, checkpoint) if blend else recognition.network
            require_finite(weights.state, str(checkpoint.path), float_keys(weights.state))
            return _deployable(checkpoint, network, weights, scale, input_range, tile)
        misfits[view] = recognition.misfits
    raise _nothing_fits(checkpoint, candidates, misfits)


def _view(candidate: Candidate) -> tuple[int, frozenset[str]]:
    """The set, and the keys that spandrel would see; none where it knows no family for them."""
    from sr_edge.models.spandrel_networks import canonical_keys

    return id(candidate.set), canonical_keys(candidate.outline)


def _blended_network(weights: Weights, checkpoint: Checkpoint) -> RecognisedNetwork:
    from sr_edge.models.spandrel_networks import recognise

    network = recognise(weights.state)
    if network is None:
        raise WeightsError(
            f"{checkpoint.path} is recognised by itself but not when it is blended, because networks of its family "
            f"read sizes from values",
            found=checkpoint.path,
            wanted="one checkpoint",
            remedy="leave --blend out",
        )
    return network


def _deployable(
    checkpoint: Checkpoint,
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
            f"channels",
            found=(network.input_channels, network.output_channels),
            wanted=(3, 3),
            remedy="give a network from RGB to RGB",
        )
    if scale not in (None, network.scale):
        raise UsageError(
            f"{path} is a network of {network.family} x{network.scale}, not x{scale}",
            found=scale,
            wanted=network.scale,
            remedy=f"pass --scale {network.scale}",
        )
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
    tried = tile or card.default_tile
    card.require_tile(tried)
    probed = probe_network(module, str(path), tried)
    if probed.scale != network.scale:
        raise WeightsError(
            f"{path} has the keys of a network of {network.family} x{network.scale}, but enlarges by {probed.scale}",
            found=probed.scale,
            wanted=network.scale,
            remedy="pass the network itself by --arch package.module:factory",
        )
    prepared(module)  # whatever the network kept of its first runs
    recognised = (
        f"{path.name} is recognised as {network.family} x{network.scale}, {network.purpose}; licence of the "
        f"architecture's code: {network.architecture_licence}"
    )
    all_remarks = (recognised, *weights.remarks, *remarks, *filter(None, [network.remark, _TILING[network.tiling]]))
    return LoadedModel(module, card, network.architecture, all_remarks, network.state, tried)


def _nothing_fits(checkpoint: Checkpoint, candidates: Sequence[Candidate], misfits: Misfits) -> WeightsError:
    """What a checkpoint contains, and which network comes nearest."""
    near = nearest_registered(candidates) or _nearest_family(candidates[:DESCRIBED], misfits)
    return WeightsError(
        f"{checkpoint.path} fits no known network; it has weights in {listed_sets(checkpoint.sets)}; {near.clause}",
        found=near.differences if near.name else [str(found) for found in checkpoint.sets],
        wanted=near.name or None,
        remedy="for a network of your own pass --arch package.module:factory",
    )


def _nearest_family(candidates: Sequence[Candidate], misfits: Misfits) -> NearMiss:
    """What differs from the family that one of the candidates resembles most."""
    from sr_edge.models.recognition.signatures import nearest_family
    from sr_edge.models.spandrel_networks import nearest_miss

    alike = [(near.alikeness if (near := nearest_family(found.outline)) else 0.0) for found in candidates]
    best = candidates[alike.index(max(alike))]
    return nearest_miss(best.outline, misfits.get(_view(best), ()))
