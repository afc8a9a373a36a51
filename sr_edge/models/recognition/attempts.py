"""Loads weights as the families whose detection keys they have, and describes the mismatch where none fits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sr_edge.errors import WeightsError
from sr_edge.models.checkpoints.bounds import TAKE_FLOAT
from sr_edge.models.recognition.families import Family, find_family
from sr_edge.models.recognition.library import SpandrelLibrary, suppress_output
from sr_edge.models.recognition.plausible import ImplausibleState, MemoryLimit, memory_limit_bytes, require_plausible
from sr_edge.models.recognition.signatures import Resemblance

StateDict = Mapping[str, Tensor]
SHOWN_KEYS = 5


@dataclass(frozen=True)
class Mismatch:
    """Why weights with the detection keys of a family are not a network of it.

    Args:
        family: the family.
        missing: keys that only the network has.
        unexpected: keys that only the weights have.
        mismatched: keys whose shapes differ, with both shapes.
        reason: the reason as text, where no key differs.
    """

    family: Family
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Attempt:
    """Result of spandrel: its descriptor, or the mismatch of every family whose detection keys the weights have."""

    descriptor: Any = None
    mismatches: tuple[Mismatch, ...] = ()


def attempt(library: SpandrelLibrary, state: StateDict) -> Attempt:
    """Loads weights as each family in spandrel's order until one fits.

    Args:
        library: spandrel.
        state: tensors by name.

    Raises:
        WeightsError: the weights have the keys of a family that is not supported.
    """
    canonical = library.spandrel.canonicalize_state_dict(dict(state))
    mismatches: list[Mismatch] = []
    for support in library.spandrel.MAIN_REGISTRY.architectures("detection"):
        if not support.detect(canonical):
            continue
        result = load_as(support.architecture, canonical)
        if not isinstance(result, Mismatch):
            return Attempt(result)
        mismatches.append(result)
    return Attempt(mismatches=tuple(mismatches))


def has_detection_keys(library: SpandrelLibrary, canonical: StateDict) -> bool:
    """Whether the weights have the detection keys of one of spandrel's families; values are not used."""
    return any(support.detect(canonical) for support in library.spandrel.MAIN_REGISTRY.architectures("detection"))


def load_as(architecture: Any, state: StateDict) -> Any:
    """Loads weights as a network of one family.

    Args:
        architecture: spandrel's architecture.
        state: tensors by name.

    Returns:
        spandrel's descriptor of the network, or a `Mismatch`.

    Raises:
        WeightsError: networks of this family are not supported.
    """
    family = find_family(str(architecture.id), str(architecture.name))
    if family.refused:
        raise _not_loaded(family, family.purpose, family.refused)
    try:
        require_plausible(state)
        with suppress_output(), torch.random.fork_rng(devices=[]), MemoryLimit(memory_limit_bytes(state)):
            descriptor = architecture.load(dict(state))  # a copy, since spandrel changes the mapping
    except Exception as error:  # the family's own code may raise anything
        return _mismatch(family, error)
    if descriptor.purpose not in ("SR", "Restoration"):
        raise _not_loaded(family, descriptor.purpose, "its purpose is neither super-resolution nor restoration")
    _require_float_weights(descriptor.model.state_dict(), state)
    return descriptor


def _not_loaded(family: Family, purpose: str, reason: str) -> WeightsError:
    return WeightsError(
        f"these are weights of {family.name} ({purpose}), which is not supported: {reason}",
        found=family.name,
        wanted="super-resolution or restoration",
        remedy="give a network that upscales or restores whole images (`sr-edge models --families`)",
    )


def _require_float_weights(expected: StateDict, state: StateDict) -> None:
    """Raises WeightsError for integers in the place of float weights, which torch would convert silently."""
    for key, value in state.items():
        if key in expected and expected[key].is_floating_point() and not value.is_floating_point():
            kind = str(value.dtype).removeprefix("torch.")
            raise WeightsError(
                f"the weights contain {kind} values in {key} instead of floating-point ones",
                found=key,
                wanted="floating-point values",
                remedy=TAKE_FLOAT,
            )


def _mismatch(family: Family, error: Exception) -> Mismatch:
    """The mismatch from an exception: torch lists all keys, a KeyError names the first missing one."""
    text = str(error)
    if isinstance(error, KeyError) and error.args:
        return Mismatch(family, missing=(str(error.args[0]),))
    if isinstance(error, ImplausibleState):
        return Mismatch(family, reason=text)
    listed = Mismatch(
        family,
        _listed_keys("Missing", text),
        _listed_keys("Unexpected", text),
        tuple(f"{key} ({actual}) instead of ({expected})" for key, actual, expected in _SIZE_MISMATCH.findall(text)),
    )
    if listed.missing or listed.unexpected or listed.mismatched:
        return listed
    return Mismatch(family, reason=text.strip().partition("\n")[0] or type(error).__name__)


_SIZE_MISMATCH = re.compile(
    r"size mismatch for (\S+): copying a param with shape torch\.Size\(\[([^]]*)\]\) from checkpoint, "
    r"the shape in current model is torch\.Size\(\[([^]]*)\]\)"
)


def _listed_keys(kind: str, text: str) -> tuple[str, ...]:
    """The keys in torch's message, such as `Missing key(s) in state_dict: "a", "b".`"""
    listed = re.search(rf"{kind} key\(s\) in state_dict: (.*)", text)
    return tuple(re.findall(r'"([^"]+)"', listed[1])) if listed else ()


def resemblance_text(family: Family, resemblance: Resemblance) -> str:
    """The most similar family and the keys that differ, as a clause of an error message."""
    differences = _key_text((("missing", resemblance.missing), ("unexpected", resemblance.unexpected)))
    return f"the nearest known family is {family.name}" + (f"; {differences}" if differences else "")


def mismatch_text(mismatch: Mismatch) -> str:
    """The keys that differ, or the reason where all keys agree, as a clause of an error message."""
    kinds = (("missing", mismatch.missing), ("unexpected", mismatch.unexpected), ("mis-shaped", mismatch.mismatched))
    return _key_text(kinds) or f"its sizes do not make a network of that family: {mismatch.reason}"


def _key_text(kinds: tuple[tuple[str, tuple[str, ...]], ...]) -> str:
    """The first keys of each kind, at most SHOWN_KEYS in total."""
    nonempty = [(kind, keys) for kind, keys in kinds if keys]
    count = SHOWN_KEYS // max(1, len(nonempty))
    return "; ".join(
        f"{kind}: {', '.join(keys[:count])}" + (", …" if len(keys) > count else "") for kind, keys in nonempty
    )
