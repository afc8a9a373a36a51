"""Loads a state as the families whose keys it has, and tells what is wrong where the network does not fit."""

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
from sr_edge.models.recognition.library import SpandrelLibrary, quiet
from sr_edge.models.recognition.plausible import ImplausibleState, MemoryLimit, memory_limit_bytes, require_plausible
from sr_edge.models.recognition.signatures import Resemblance

StateDict = Mapping[str, Tensor]
SHOWN_KEYS = 5


@dataclass(frozen=True)
class Misfit:
    """Why a state with the telling keys of a family is no network of it: keys, or else the reason in words."""

    family: Family
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshapen: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Attempt:
    """What spandrel made of a state: its descriptor, or the misfit of every family whose telling keys the state has."""

    descriptor: Any = None
    misfits: tuple[Misfit, ...] = ()


def attempt(library: SpandrelLibrary, state: StateDict) -> Attempt:
    """Tries the families in spandrel's order, and goes on to the next where the network does not fit.

    Raises:
        WeightsError: the state has the keys of a family that is not loaded here.
    """
    canonical = library.spandrel.canonicalize_state_dict(dict(state))
    misfits: list[Misfit] = []
    for support in library.spandrel.MAIN_REGISTRY.architectures("detection"):
        if not support.detect(canonical):
            continue
        found = load_as(support.architecture, canonical)
        if not isinstance(found, Misfit):
            return Attempt(found)
        misfits.append(found)
    return Attempt(misfits=tuple(misfits))


def has_telling_keys(library: SpandrelLibrary, canonical: StateDict) -> bool:
    """Whether one of spandrel's families would be tried; only keys are looked at."""
    return any(support.detect(canonical) for support in library.spandrel.MAIN_REGISTRY.architectures("detection"))


def load_as(architecture: Any, state: StateDict) -> Any:
    """spandrel's descriptor of `state` as a network of `architecture`, or the Misfit.

    Raises:
        WeightsError: networks of this family are not loaded here.
    """
    family = find_family(str(architecture.id), str(architecture.name))
    if family.refused:
        raise _not_loaded(family, family.purpose, family.refused)
    try:
        require_plausible(state)
        with quiet(), torch.random.fork_rng(devices=[]), MemoryLimit(memory_limit_bytes(state)):
            descriptor = architecture.load(dict(state))  # it changes the mapping
    except Exception as error:  # whatever the family's own code raises
        return _misfit(family, error)
    if descriptor.purpose not in ("SR", "Restoration"):
        raise _not_loaded(family, descriptor.purpose, "its purpose is neither super-resolution nor restoration")
    _require_float_weights(descriptor.model.state_dict(), state)
    return descriptor


def _not_loaded(family: Family, purpose: str, reason: str) -> WeightsError:
    return WeightsError(
        f"these are weights of {family.name} ({purpose}), which is not supported: {reason}",
        found=family.name,
        wanted="super-resolution or restoration",
        remedy="give a network that enlarges or restores whole pictures (`sr-edge models --families`)",
    )


def _require_float_weights(wanted: StateDict, state: StateDict) -> None:
    """Raises WeightsError for integers in the place of float weights, which torch would convert without a word."""
    for key, value in state.items():
        if key in wanted and wanted[key].is_floating_point() and not value.is_floating_point():
            kind = str(value.dtype).removeprefix("torch.")
            raise WeightsError(
                f"the weights contain {kind} values in {key} instead of floating-point ones",
                found=key,
                wanted="floating-point values",
                remedy=TAKE_FLOAT,
            )


def _misfit(family: Family, error: Exception) -> Misfit:
    """What the error says; torch lists the keys, and a KeyError of the family's code names the first that it missed."""
    text = str(error)
    if isinstance(error, KeyError) and error.args:
        return Misfit(family, missing=(str(error.args[0]),))
    if isinstance(error, ImplausibleState):
        return Misfit(family, reason=text)
    listed = Misfit(
        family,
        _listed_keys("Missing", text),
        _listed_keys("Unexpected", text),
        tuple(f"{key} ({found}) instead of ({wanted})" for key, found, wanted in _MISSHAPEN.findall(text)),
    )
    if listed.missing or listed.unexpected or listed.misshapen:
        return listed
    return Misfit(family, reason=text.strip().partition("\n")[0] or type(error).__name__)


_MISSHAPEN = re.compile(
    r"size mismatch for (\S+): copying a param with shape torch\.Size\(\[([^]]*)\]\) from checkpoint, "
    r"the shape in current model is torch\.Size\(\[([^]]*)\]\)"
)


def _listed_keys(kind: str, text: str) -> tuple[str, ...]:
    """The keys in torch's `Missing key(s) in state_dict: "a", "b".`"""
    listed = re.search(rf"{kind} key\(s\) in state_dict: (.*)", text)
    return tuple(re.findall(r'"([^"]+)"', listed[1])) if listed else ()


def resemblance_text(family: Family, near: Resemblance) -> str:
    """The nearest family, and the keys that it or the state has more."""
    differences = _key_text((("missing", near.missing), ("unexpected", near.unexpected)))
    return f"the nearest known family is {family.name}" + (f"; {differences}" if differences else "")


def misfit_text(misfit: Misfit) -> str:
    """The keys that differ, or the reason where the keys agree."""
    kinds = (("missing", misfit.missing), ("unexpected", misfit.unexpected), ("mis-shaped", misfit.misshapen))
    return _key_text(kinds) or f"its sizes do not make a network of that family: {misfit.reason}"


def _key_text(kinds: tuple[tuple[str, tuple[str, ...]], ...]) -> str:
    """The first keys of each kind, at most five in all."""
    found = [(kind, keys) for kind, keys in kinds if keys]
    shown = SHOWN_KEYS // max(1, len(found))
    return "; ".join(
        f"{kind}: {', '.join(keys[:shown])}" + (", …" if len(keys) > shown else "") for kind, keys in found
    )
