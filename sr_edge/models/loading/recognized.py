"""Loads the networks that spandrel recognises in a checkpoint, or reports the known network that is most similar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sr_edge.errors import UsageError, WeightsError
from sr_edge.models.checkpoints import Blend, Candidate, Checkpoint
from sr_edge.models.checkpoints.numbers import float_keys, require_finite
from sr_edge.models.loaded import LoadedModel, with_unit_input_range
from sr_edge.models.loading.weight_selection import SelectedWeights, describe_sets, select_weights
from sr_edge.models.loading.weights import NearestNetwork, nearest_registered
from sr_edge.models.probing import prepare_network, probe_network
from sr_edge.models.registry import count_parameters
from sr_edge.spec import ModelCard, TileSpec, Tiling, require_channels

if TYPE_CHECKING:
    from sr_edge.models.loading.spandrel_networks import RecognizedNetwork
    from sr_edge.models.recognition.attempts import Mismatch

Mismatches = dict[tuple[int, frozenset[str]], Sequence["Mismatch"]]
"""Why sets of weights match no family, by `_canonical_view`."""

_TILING: Mapping[Tiling, str] = {
    Tiling.SUPPORTED: "",
    Tiling.DISCOURAGED: "networks of this family depend on the whole image: tiles may differ visibly from each other",
    Tiling.INTERNAL: "networks of this family divide images into patches themselves: deploy a tile of one patch",
}

MAX_COMPARED = 16
"""Number of candidates that are compared with the families where nothing matches."""


def load_recognized(
    checkpoint: Checkpoint,
    candidates: Sequence[Candidate],
    scale: int | None,
    input_range: float,
    blend: Sequence[Blend],
    tile: TileSpec | None,
) -> LoadedModel:
    """Loads the network that spandrel builds for the first candidate whose family it recognises.

    Args:
        checkpoint: the checkpoint.
        candidates: the weights in it, in the order in which they are tried.
        scale: the scale that the user requires; None accepts any.
        input_range: the largest value of the network's input, 1 or 255.
        blend: checkpoints to blend with it.
        tile: the tile with which the network is run; None takes the usual one.

    Raises:
        WeightsError: spandrel recognises no candidate, or the network cannot be deployed.
        UsageError: the network has another scale, or channels that are not supported.
    """
    from sr_edge.models.loading.spandrel_networks import recognition_of

    mismatches: Mismatches = {}
    for candidate in candidates:
        view = _canonical_view(candidate)
        if not view[1] or view in mismatches:  # spandrel removes some prefixes itself, so views repeat
            continue
        state = candidate.load()
        recognition = recognition_of(state)
        if recognition.network is not None:
            weights = select_weights(checkpoint, candidate, state, blend)
            network = _blended_network(weights, checkpoint) if blend else recognition.network
            require_finite(weights.state, str(checkpoint.path), float_keys(weights.state))
            return _deployable_model(checkpoint, network, weights, scale, input_range, tile)
        mismatches[view] = recognition.mismatches
    raise _nothing_fits(checkpoint, candidates, mismatches)


def _canonical_view(candidate: Candidate) -> tuple[int, frozenset[str]]:
    """The set, and the keys by which spandrel would recognise it; empty if they belong to no family."""
    from sr_edge.models.loading.spandrel_networks import canonical_keys

    return id(candidate.set), canonical_keys(candidate.meta_state)


def _blended_network(weights: SelectedWeights, checkpoint: Checkpoint) -> RecognizedNetwork:
    from sr_edge.models.loading.spandrel_networks import recognize

    network = recognize(weights.state)
    if network is None:
        raise WeightsError(
            f"{checkpoint.path} cannot be blended: the sizes of this network are derived from values in its "
            f"checkpoint, and blending changes those values",
            found=checkpoint.path,
            wanted="one checkpoint",
            remedy="omit --blend",
        )
    return network


def _deployable_model(
    checkpoint: Checkpoint,
    network: RecognizedNetwork,
    weights: SelectedWeights,
    scale: int | None,
    input_range: float,
    tile: TileSpec | None,
) -> LoadedModel:
    path = checkpoint.path
    _require_supported(path, network, scale)
    inner, remarks = prepare_network(network.module)
    module = with_unit_input_range(inner, input_range).eval()
    card = ModelCard(
        name=path.stem,
        scale=network.scale,
        parameters=count_parameters(inner),
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
    trial_tile = tile or card.default_tile
    card.require_tile(trial_tile)
    probe = probe_network(module, str(path), trial_tile, channels=card.channels)
    if probe.scale != network.scale:
        raise WeightsError(
            f"{path} has the keys of a network of {network.family} x{network.scale}, but upscales by {probe.scale}",
            found=probe.scale,
            wanted=network.scale,
            remedy="pass the network itself by --arch package.module:factory",
        )
    prepare_network(module)  # again, since the network may have stored tensors during its first runs
    recognized = (
        f"{path.name} is recognised as {network.family} x{network.scale}, {network.purpose}; licence of the "
        f"architecture's code: {network.architecture_licence}"
    )
    all_remarks = (recognized, *weights.remarks, *remarks, *filter(None, [network.remark, _TILING[network.tiling]]))
    return LoadedModel(module, card, network.architecture, all_remarks, network.state, trial_tile)


def _require_supported(path: Path, network: RecognizedNetwork, scale: int | None) -> None:
    """Raises UsageError unless the network has channels that are supported, and the required scale."""
    require_channels(f"{path} ({network.family})", network.input_channels, network.output_channels)
    if scale not in (None, network.scale):
        raise UsageError(
            f"{path} is a network of {network.family} x{network.scale}, not x{scale}",
            found=scale,
            wanted=network.scale,
            remedy=f"pass --scale {network.scale}",
        )


def _nothing_fits(checkpoint: Checkpoint, candidates: Sequence[Candidate], mismatches: Mismatches) -> WeightsError:
    """The error that lists the contents of a checkpoint and the most similar network."""
    nearest = nearest_registered(candidates) or _nearest_family(candidates[:MAX_COMPARED], mismatches)
    return WeightsError(
        f"{checkpoint.path} fits no known network; it contains {describe_sets(checkpoint.sets)}; {nearest.clause}",
        found=nearest.differences if nearest.name else [str(each) for each in checkpoint.sets],
        wanted=nearest.name or None,
        remedy="for a network of your own pass --arch package.module:factory",
    )


def _nearest_family(candidates: Sequence[Candidate], mismatches: Mismatches) -> NearestNetwork:
    """The differences from the family that one of the candidates resembles most."""
    from sr_edge.models.loading.spandrel_networks import nearest_network
    from sr_edge.models.recognition.signatures import nearest_family

    resemblances = [nearest_family(candidate.meta_state) for candidate in candidates]
    scores = [each.similarity_score if each else 0.0 for each in resemblances]
    best = candidates[scores.index(max(scores))]
    return nearest_network(best.meta_state, mismatches.get(_canonical_view(best), ()))
