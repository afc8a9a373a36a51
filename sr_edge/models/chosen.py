"""What was chosen from a checkpoint for a network: the values, blended or not, their licence, remarks on the choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sr_edge.models.checkpoints import Blend, Candidate, Checkpoint, StateDict, StateSet, blended
from sr_edge.models.checkpoints.bounds import shown

BUNDLED_LICENCE = "Apache-2.0"
LICENCE_KEYS = ("license", "licence", "modelspec.license")
"""Where the metadata of a safetensors file says under which licence the weights are."""

SHOWN_SETS = 6
SHOWN_KEYS = 3


@dataclass(frozen=True)
class Weights:
    """The values for a network.

    Attributes:
        state: by key.
        source: what they are, for the card.
        licence: theirs, where it is stated.
        remarks: what was taken from the file and what was left, and what was blended.
    """

    state: StateDict
    source: str
    licence: str
    remarks: tuple[str, ...]


def chosen_weights(
    checkpoint: Checkpoint, taken: Candidate, state: StateDict, blend: Sequence[Blend], bundled: Path | None = None
) -> Weights:
    """The values of `taken`, blended with others; `bundled` is the path of the weights that ship with the package."""
    remarks = _layout_remarks(checkpoint, taken)
    if not blend:
        return Weights(state, _source(taken.set), _licence([checkpoint], bundled), remarks)
    blend_of = blended(taken, state, blend)
    licence = _licence([checkpoint, *blend_of.others], bundled)
    return Weights(blend_of.state, blend_of.described, licence, (*remarks, f"weights {blend_of.described}"))


def _licence(checkpoints: Sequence[Checkpoint], bundled: Path | None) -> str:
    """The licences of all checkpoints of a blend; empty where one of them states none."""
    stated = [BUNDLED_LICENCE if each.path == bundled else _stated_licence(each) for each in checkpoints]
    return " AND ".join(dict.fromkeys(stated)) if all(stated) else ""


def _source(taken: StateSet) -> str:
    return ", ".join(filter(None, (taken.path.name, taken.name)))


def _stated_licence(checkpoint: Checkpoint) -> str:
    return shown(next((checkpoint.metadata[key] for key in LICENCE_KEYS if key in checkpoint.metadata), ""))


def _layout_remarks(checkpoint: Checkpoint, taken: Candidate) -> tuple[str, ...]:
    """What was taken from a checkpoint, and what else was in it; nothing where there was no choice."""
    prefix, left_out = taken.reading.prefix, taken.reading.left_out
    others = [found for found in checkpoint.sets if found is not taken.set]
    if not (prefix or left_out or others):
        return ()
    remark = f"{checkpoint.path.name}: took {_described(taken.set)}"
    if prefix:
        remark += f", the keys without {shown(prefix)!r}"
    if left_out:
        keys = ", ".join(map(shown, left_out[:SHOWN_KEYS])) + (", ..." if len(left_out) > SHOWN_KEYS else "")
        remark += f", without {len(left_out)} keys that the network has no use for ({keys})"
    if others:
        remark += f"; the file also holds {listed_sets(others)}"
    return (remark,)


def _described(found: StateSet) -> str:
    return f"{found} ({len(found.outline)} tensors, {found.elements / 1e6:.2f} M values)"


def listed_sets(sets: Sequence[StateSet]) -> str:
    more = f", and {len(sets) - SHOWN_SETS} more" if len(sets) > SHOWN_SETS else ""
    return ", ".join(map(_described, sets[:SHOWN_SETS])) + more
