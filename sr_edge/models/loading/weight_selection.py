"""The weights that are selected from a checkpoint for a network: values, blended or not, licence, and remarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sr_edge.models.checkpoints import Blend, Candidate, Checkpoint, StateDict, WeightSet, blend_weights
from sr_edge.models.checkpoints.bounds import short_line

BUNDLED_LICENCE = "Apache-2.0"
LICENCE_KEYS = ("license", "licence", "modelspec.license")
"""Keys in the metadata of a safetensors file under which the licence of the weights is stated."""

SHOWN_SETS = 6
SHOWN_KEYS = 3


@dataclass(frozen=True)
class SelectedWeights:
    """The weights for a network.

    Args:
        state: the values by key.
        source: where they come from, for the model card.
        licence: their licence; empty if it is not stated.
        remarks: which of the file's weights were loaded, which were not, and what was blended.
    """

    state: StateDict
    source: str
    licence: str
    remarks: tuple[str, ...]


def select_weights(
    checkpoint: Checkpoint, candidate: Candidate, state: StateDict, blend: Sequence[Blend], bundled: Path | None = None
) -> SelectedWeights:
    """Loads the values of a candidate, blended with other checkpoints.

    Args:
        checkpoint: the checkpoint.
        candidate: the weights in it that fit the network.
        state: their values.
        blend: checkpoints to blend with them.
        bundled: path of the weights of this network that ship with the package, whose licence is known.
    """
    remarks = _layout_remarks(checkpoint, candidate)
    if not blend:
        return SelectedWeights(state, _source(candidate.set), _licence([checkpoint], bundled), remarks)
    result = blend_weights(candidate, state, blend)
    licence = _licence([checkpoint, *result.others], bundled)
    return SelectedWeights(result.state, result.description, licence, (*remarks, f"weights {result.description}"))


def _licence(checkpoints: Sequence[Checkpoint], bundled: Path | None) -> str:
    """The licences of all blended checkpoints; empty if one of them states none."""
    stated = [BUNDLED_LICENCE if each.path == bundled else _stated_licence(each) for each in checkpoints]
    return " AND ".join(dict.fromkeys(stated)) if all(stated) else ""


def _source(weight_set: WeightSet) -> str:
    return ", ".join(filter(None, (weight_set.path.name, weight_set.name)))


def _stated_licence(checkpoint: Checkpoint) -> str:
    return short_line(next((checkpoint.metadata[key] for key in LICENCE_KEYS if key in checkpoint.metadata), ""))


def _layout_remarks(checkpoint: Checkpoint, candidate: Candidate) -> tuple[str, ...]:
    """Which weights of a checkpoint are loaded and which are not; empty if it contains nothing else."""
    prefix, left_out = candidate.key_mapping.prefix, candidate.key_mapping.left_out
    others = [each for each in checkpoint.sets if each is not candidate.set]
    if not (prefix or left_out or others):
        return ()
    remark = f"{checkpoint.path.name}: loaded {_describe_set(candidate.set)}"
    if prefix:
        remark += f", the keys without {short_line(prefix)!r}"
    if left_out:
        keys = ", ".join(map(short_line, left_out[:SHOWN_KEYS])) + (", ..." if len(left_out) > SHOWN_KEYS else "")
        remark += f", without {len(left_out)} keys that the network does not use ({keys})"
    if others:
        remark += f"; the file also contains {describe_sets(others)}"
    return (remark,)


def _describe_set(weight_set: WeightSet) -> str:
    return f"{weight_set} ({len(weight_set.meta_state)} tensors, {weight_set.elements / 1e6:.2f} M values)"


def describe_sets(sets: Sequence[WeightSet]) -> str:
    """Names and sizes of sets of weights as text, for messages."""
    more = f", and {len(sets) - SHOWN_SETS} more" if len(sets) > SHOWN_SETS else ""
    return ", ".join(map(_describe_set, sets[:SHOWN_SETS])) + more
