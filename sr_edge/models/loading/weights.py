"""Matches the weights of a checkpoint with a network: the keys that differ, and the registered network that fits."""

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
from sr_edge.models.checkpoints.bounds import short_line
from sr_edge.models.checkpoints.numbers import require_finite
from sr_edge.models.registry import SCALES, build_network, find_architecture, model_names

SHOWN_KEYS = 5

_DISPENSABLE = re.compile(r"(^|\.)num_batches_tracked$")
"""Buffers that only training reads; a checkpoint may omit them."""


class Differences(NamedTuple):
    """The keys in which weights differ from those of a network.

    Args:
        missing: keys that only the network has.
        unexpected: keys that only the weights have.
        mismatched: keys whose shapes differ, with both shapes.
    """

    missing: list[str]
    unexpected: list[str]
    mismatched: list[str]

    def __str__(self) -> str:
        kinds = zip(("missing", "unexpected", "mis-shaped"), self, strict=True)
        return "; ".join(f"{len(keys)} {kind}: {_shorten(keys)}" for kind, keys in kinds if keys)


@dataclass(frozen=True)
class NearestNetwork:
    """The known network that is most similar to weights that fit none.

    Args:
        name: name of the network or its family; empty if none is similar enough.
        differences: the keys that differ.
        clause: the same as text, for an error message.
    """

    name: str
    differences: Differences
    clause: str


def learned_state(network: nn.Module) -> StateDict:
    """The values that a file of weights must contain: parameters and learned buffers, no tables derived from sizes."""
    return {key: value for key, value in network.state_dict().items() if _is_learned(key)}


def _is_learned(key: str) -> bool:
    return not key.endswith("relative_position_index")


def differences(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Differences:
    """Compares the keys and shapes of weights with those of a network; values are not compared.

    Args:
        state: the weights of a file.
        expected: the network's `state_dict`.
    """
    missing = [key for key in expected if key not in state and _is_learned(key) and not _DISPENSABLE.search(key)]
    unexpected = [short_line(key) for key in state if key not in expected]
    mismatched = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    return Differences(missing, unexpected, mismatched)


def copy_weights(network: nn.Module, state: StateDict, source: str) -> None:
    """Copies weights into a network.

    Args:
        network: its parameters and buffers are overwritten.
        state: the weights.
        source: what error messages call the weights, usually the path of their file.

    Raises:
        WeightsError: keys or shapes do not match (the first are listed), or values are integers, NaN or infinite.
    """
    expected = network.state_dict()
    mismatch = differences(state, expected)
    if any(mismatch):
        raise _mismatch_error(source, mismatch)
    require_finite(state, source, [key for key in state if expected[key].is_floating_point()])
    network.load_state_dict(state, strict=False)


def matching_candidate(candidates: Sequence[Candidate], expected: Mapping[str, Tensor], source: str) -> Candidate:
    """The first candidate whose keys and shapes are exactly those of a network.

    Args:
        candidates: at least one.
        expected: the network's `state_dict`.
        source: what error messages call the weights, usually the path of their file.

    Raises:
        WeightsError: no candidate matches; the differences of the most similar one are listed.
    """
    all_differences = [differences(candidate.meta_state, expected) for candidate in candidates]
    counts = [sum(map(len, each)) for each in all_differences]
    nearest = counts.index(min(counts))
    if counts[nearest] == 0:
        return candidates[nearest]
    raise _mismatch_error(source, all_differences[nearest])


def _mismatch_error(source: str, mismatch: Differences) -> WeightsError:
    return WeightsError(
        f"{source} does not fit the network ({mismatch})",
        found=mismatch,
        wanted="the keys and shapes of the network",
        remedy="give weights that were saved from this network",
    )


def _shorten(keys: list[str]) -> str:
    return ", ".join(keys[:SHOWN_KEYS]) + (", …" if len(keys) > SHOWN_KEYS else "")


@cache
def _registered_meta_state(name: str, scale: int) -> Mapping[str, Tensor]:
    """The `state_dict` of a registered network on the meta device; cached, since building large ones takes a second."""
    with torch.device("meta"):
        return dict(build_network(name, scale).state_dict())


def _mismatch_counts(state: StateDict, name: str) -> dict[tuple[str, int], int]:
    """The number of keys that differ, for each scale of one network.

    Where more keys differ than `state` has, the count of the first scale is returned for all scales.
    """
    counts: dict[tuple[str, int], int] = {}
    for scale in SCALES:
        expected = _registered_meta_state(name, scale)
        if len(state) > 2 * len(expected):  # at least half of the keys are unexpected, so there is nothing to compare
            return {(name, each): len(state) for each in SCALES}
        counts[name, scale] = sum(map(len, differences(state, expected)))
        if counts[name, scale] > len(state):
            return {(name, each): counts[name, scale] for each in SCALES}
    return counts


def detect_registered(
    candidates: Sequence[Candidate], name: str | None, scale: int | None
) -> tuple[Candidate, str, int] | None:
    """Finds the registered network to which a checkpoint's weights belong.

    Args:
        candidates: the weights of the checkpoint, in the order in which they are tried.
        name: limits the search to the network of this name; None searches all.
        scale: limits the search to this scale; None searches all.

    Returns:
        The first candidate whose keys and shapes are exactly those of a registered network, the network's name and its
        scale. None if nothing matches and no `name` was given.

    Raises:
        WeightsError: nothing fits the network called `name`; the differences are listed.
        UsageError: the weights are those of another model or scale than requested.
        UnknownNameError: there is no model called `name`.
    """
    if name is not None:
        find_architecture(name)
    other: tuple[str, int] | None = None
    for candidate in candidates:
        state = candidate.meta_state
        exact = [key for each in model_names() for key, count in _mismatch_counts(state, each).items() if not count]
        requested = next((key for key in exact if key[0] == (name or key[0]) and key[1] == (scale or key[1])), None)
        if requested is not None:
            return candidate, *requested
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
        _raise_mismatch(candidates, name, scale)
    return None


def _raise_mismatch(candidates: Sequence[Candidate], name: str, scale: int | None) -> None:
    source = str(candidates[0].set.path)
    scales = [scale] if scale else SCALES
    nearest = min(
        (_registered_meta_state(name, each) for each in scales),
        key=lambda expected: min(sum(map(len, differences(c.meta_state, expected))) for c in candidates),
    )
    matching_candidate(candidates, nearest, source)


def nearest_registered(candidates: Sequence[Candidate]) -> NearestNetwork | None:
    """The registered network that is most similar, and its differences; None if less than half of the keys agree."""
    similar = [
        (count, candidate, key)
        for candidate in candidates
        for each in model_names()
        for key, count in _mismatch_counts(candidate.meta_state, each).items()
        if 2 * count < len(candidate.meta_state)
    ]
    if not similar:
        return None
    _, candidate, (name, scale) = min(similar, key=lambda entry: entry[0])
    mismatch = differences(candidate.meta_state, _registered_meta_state(name, scale))
    return NearestNetwork(f"{name} x{scale}", mismatch, f"the nearest is {name} x{scale}; {mismatch}")
