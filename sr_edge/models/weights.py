"""From the weights in a checkpoint to a network: what fits, what differs, and which registered network it is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sr_edge.errors import UsageError, WeightsError
from sr_edge.models.checkpoints import Candidate, StateDict
from sr_edge.models.checkpoints.bounds import shown
from sr_edge.models.checkpoints.numbers import require_finite
from sr_edge.models.registry import SCALES, build_network, find_architecture, model_names

SHOWN = 5

_DISPENSABLE = re.compile(r"(^|\.)num_batches_tracked$")
"""Buffers that only training reads; a file may leave them out."""


class Differences(NamedTuple):
    """What keeps weights from fitting a network: keys that are missing, unexpected, and of another shape."""

    missing: list[str]
    unexpected: list[str]
    misshapen: list[str]

    def __str__(self) -> str:
        kinds = zip(("missing", "unexpected", "mis-shaped"), self, strict=True)
        return "; ".join(f"{len(keys)} {kind}: {_shorten(keys)}" for kind, keys in kinds if keys)


@dataclass(frozen=True)
class NearMiss:
    """The known network that comes nearest to weights that fit none.

    Attributes:
        name: of the network or its family; empty where none comes near.
        differences: the keys that differ.
        clause: the same in words.
    """

    name: str
    differences: Differences
    clause: str


def learnt_state(network: nn.Module) -> StateDict:
    """What a file of weights must hold: parameters and learnt buffers, but no tables that follow from the sizes."""
    return {key: value for key, value in network.state_dict().items() if _is_learnt(key)}


def _is_learnt(key: str) -> bool:
    return not key.endswith("relative_position_index")


def differences(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Differences:
    """The keys in which weights differ from a network. Values are not looked at.

    Args:
        state: what a file holds.
        wanted: the network's `state_dict`.
    """
    missing = [key for key in wanted if key not in state and _is_learnt(key) and not _DISPENSABLE.search(key)]
    unexpected = [shown(key) for key in state if key not in wanted]
    misshapen = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    return Differences(missing, unexpected, misshapen)


def fit_weights(network: nn.Module, state: StateDict, source: str) -> None:
    """Copies `state` into `network`.

    Raises:
        WeightsError: keys or shapes do not fit (the first are listed), or values are integers, NaN or infinite.
    """
    wanted = network.state_dict()
    found = differences(state, wanted)
    if any(found):
        raise _misfit(source, found)
    require_finite(state, source, [key for key in state if wanted[key].is_floating_point()])
    network.load_state_dict(state, strict=False)


def fitting(candidates: Sequence[Candidate], wanted: Mapping[str, Tensor], source: str) -> Candidate:
    """The first candidate whose keys and shapes are those of `wanted`, the `state_dict` of a network.

    Raises:
        WeightsError: none; what differs from the nearest is listed.
    """
    misfits = {id(found): sum(map(len, differences(found.outline, wanted))) for found in candidates}
    nearest = min(candidates, key=lambda found: misfits[id(found)])
    if misfits[id(nearest)] == 0:
        return nearest
    raise _misfit(source, differences(nearest.outline, wanted))


def _misfit(source: str, found: Differences) -> WeightsError:
    return WeightsError(
        f"{source} does not fit the network ({found})",
        found=found,
        wanted="the keys and shapes of the network",
        remedy="give weights that were saved from this network",
    )


def _shorten(keys: list[str]) -> str:
    return ", ".join(keys[:SHOWN]) + (", …" if len(keys) > SHOWN else "")


@cache
def _outline(name: str, scale: int) -> Mapping[str, Tensor]:
    """What a network wants, without memory for its weights: building the large ones takes a second, so once."""
    with torch.device("meta"):
        return dict(build_network(name, scale).state_dict())


def _misfits(state: StateDict, name: str) -> dict[tuple[str, int], int]:
    """How many keys do not fit, for each scale of one network; where most do not, the first scale stands for all."""
    counts: dict[tuple[str, int], int] = {}
    for scale in SCALES:
        if len(state) > 2 * len(_outline(name, scale)):  # at least half of them are unexpected: none is looked at
            return {(name, other): len(state) for other in SCALES}
        counts[name, scale] = sum(map(len, differences(state, _outline(name, scale))))
        if counts[name, scale] > len(state):
            return {(name, other): counts[name, scale] for other in SCALES}
    return counts


def detect(candidates: Sequence[Candidate], name: str | None, scale: int | None) -> tuple[Candidate, str, int] | None:
    """The first candidate whose keys and shapes are exactly those of a registered network, its name and scale.

    A given `name` or `scale` limits the search. None where nothing fits and no `name` was asked for.

    Raises:
        WeightsError: nothing fits the network called `name`; what differs is listed.
        UsageError: the weights are those of another model or scale than asked for.
        UnknownNameError: there is no model called `name`.
    """
    if name is not None:
        find_architecture(name)
    other: tuple[str, int] | None = None
    for candidate in candidates:
        outline = candidate.outline
        exact = [key for known in model_names() for key, count in _misfits(outline, known).items() if not count]
        asked = next((key for key in exact if key[0] == (name or key[0]) and key[1] == (scale or key[1])), None)
        if asked is not None:
            return candidate, *asked
        other = other or next(iter(exact), None)
    if other is not None:
        wanted = name or other[0], scale or other[1]
        raise UsageError(
            f"these are weights of {other[0]} x{other[1]}, not of {wanted[0]} x{wanted[1]}",
            found=other,
            wanted=wanted,
            remedy=f"ask for {other[0]} --scale {other[1]}, or give other weights",
        )
    if name is not None:
        _raise_misfit(candidates, name, scale)
    return None


def _raise_misfit(candidates: Sequence[Candidate], name: str, scale: int | None) -> None:
    source = str(candidates[0].set.path)
    outlines = [_outline(name, known) for known in ([scale] if scale else SCALES)]
    nearest = min(outlines, key=lambda wanted: min(sum(map(len, differences(c.outline, wanted))) for c in candidates))
    fitting(candidates, nearest, source)


def nearest_registered(candidates: Sequence[Candidate]) -> NearMiss | None:
    """The registered network that comes nearest, and what differs from it; None where none comes near."""
    counted = [
        (count, candidate, key)
        for candidate in candidates
        for known in model_names()
        for key, count in _misfits(candidate.outline, known).items()
        if 2 * count < len(candidate.outline)
    ]
    if not counted:
        return None
    _, candidate, (name, scale) = min(counted, key=lambda entry: entry[0])
    found = differences(candidate.outline, _outline(name, scale))
    return NearMiss(f"{name} x{scale}", found, f"the nearest is {name} x{scale}; {found}")
