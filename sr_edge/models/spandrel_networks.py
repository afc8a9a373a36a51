"""Networks that are recognised by the keys and shapes of a checkpoint, with the package spandrel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sr_edge.errors import UnknownNameError, WeightsError
from sr_edge.models.recognition.attempts import (
    Misfit,
    attempt,
    has_telling_keys,
    load_as,
    misfit_text,
    resemblance_text,
)
from sr_edge.models.recognition.families import (
    FAMILIES,
    RESTORATION,
    SPANDREL_PREFIX,
    SUPER_RESOLUTION,
    Family,
    FamilyRow,
    family_rows,
    find_family,
)
from sr_edge.models.recognition.library import INSTALL, find_library, require_library
from sr_edge.models.recognition.signatures import nearest_family
from sr_edge.models.weights import Differences, NearMiss
from sr_edge.spec import Tiling

__all__ = [
    "FamilyCall",
    "FamilyRow",
    "RecognisedNetwork",
    "Recognition",
    "canonical_keys",
    "describe_unrecognised",
    "family_rows",
    "load_family",
    "nearest_miss",
    "recognise",
    "recognition_of",
]


@dataclass(frozen=True)
class RecognisedNetwork:
    """A network of one of spandrel's families with its weights, and what spandrel knows of it.

    Attributes:
        module: in eval mode, float32; maps (batch, input_channels, h, w) in [0, 1] to `scale` times the size.
        architecture: "spandrel/" and spandrel's id; `load_family` builds the network again from it and `state`.
        family: the name that papers and users have for it.
        scale: magnification; 1 for restoration.
        input_channels: of the picture; 3 for RGB.
        output_channels: of the picture; 3 for RGB.
        multiple_px: divides the sides of every picture that the network takes.
        minimum_px: the smallest side.
        square: whether pictures must be square.
        tiling: whether tiles suit it, as far as spandrel knows.
        purpose: what it was made for, in words.
        architecture_licence: SPDX identifier of the architecture's code, or "not stated".
        hyper_parameters: as read from keys and shapes.
        state: the weights under the keys in which they were recognised. A bundle must keep these: from the keys of
            `module` some families cannot be read again, since sizes are told by tables that the module does not keep.
        remark: what the user should know of the environment; empty for nothing.
    """

    module: nn.Module
    architecture: str
    family: str
    scale: int
    input_channels: int
    output_channels: int
    multiple_px: int
    minimum_px: int
    square: bool
    tiling: Tiling
    purpose: str
    architecture_licence: str
    hyper_parameters: Mapping[str, str]
    state: Mapping[str, Tensor]
    remark: str = ""


@dataclass(frozen=True)
class Recognition:
    """What spandrel made of a state: a network, or why none of the families whose telling keys it has fits."""

    network: RecognisedNetwork | None
    misfits: tuple[Misfit, ...] = ()


class FamilyCall(nn.Module):
    """A network whose family is not called as `network(x)`: one of several results, a noise map beside the picture."""

    def __init__(self, network: nn.Module, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.network = network
        self._call = call

    def forward(self, x: Tensor) -> Tensor:
        return self._call(self.network, x)


def recognise(state: Mapping[str, Tensor]) -> RecognisedNetwork | None:
    """The network whose keys and shapes `state` has.

    Args:
        state: tensors by name, without training wrappers. Tables that the checkpoint holds beside the weights, such as
            `relative_position_index` and `attn_mask`, must be in it: sizes are read from their shapes.

    Returns:
        None where no family fits, or where spandrel is not installed; `describe_unrecognised` says which.

    Raises:
        WeightsError: the weights are those of a network for another purpose (faces, inpainting), or are integers.
        UsageError: spandrel is installed and cannot be imported.
    """
    return recognition_of(state).network


def recognition_of(state: Mapping[str, Tensor]) -> Recognition:
    """As `recognise`, with what is wrong where no family fits."""
    library = find_library()
    if library is None:
        return Recognition(None)
    found = attempt(library, state)
    network = None if found.descriptor is None else _recognised(found.descriptor, state, library.remark)
    return Recognition(network, found.misfits)


def canonical_keys(outline: Mapping[str, Tensor]) -> frozenset[str]:
    """The keys under which spandrel would look at these weights; none where they have the telling keys of no family.

    Args:
        outline: values are not looked at, so that tensors on the meta device will do.
    """
    library = find_library()
    if library is None:
        return frozenset()
    canonical = library.spandrel.canonicalize_state_dict(dict(outline))
    return frozenset(canonical if has_telling_keys(library, canonical) else ())


def load_family(
    architecture: str, state: Mapping[str, Tensor], hyper_parameters: Mapping[str, str] | None = None
) -> nn.Module:
    """Builds a recognised network again, as a bundle keeps it.

    Args:
        architecture: RecognisedNetwork.architecture, such as "spandrel/Compact".
        state: RecognisedNetwork.state.
        hyper_parameters: RecognisedNetwork.hyper_parameters, to be compared with those of the network that is built.

    Raises:
        UsageError: spandrel is absent or cannot be imported.
        UnknownNameError: the installed spandrel has no such architecture.
        WeightsError: the state is not one of this family, or gives other hyper-parameters.
    """
    library = require_library()
    registry = library.spandrel.MAIN_REGISTRY
    support = (
        registry.get(architecture.removeprefix(SPANDREL_PREFIX)) if architecture.startswith(SPANDREL_PREFIX) else None
    )
    if support is None:
        raise UnknownNameError(
            "architecture", architecture, sorted(SPANDREL_PREFIX + entry.architecture.id for entry in registry)
        )
    found = load_as(support.architecture, library.spandrel.canonicalize_state_dict(dict(state)))
    if isinstance(found, Misfit):
        raise WeightsError(
            f"the weights do not fit {found.family.name}; {misfit_text(found)}",
            found=_differences(found),
            wanted=found.family.name,
            remedy="deploy the checkpoint again",
        )
    other = None if hyper_parameters is None else first_difference(hyper_parameters_of(found), hyper_parameters)
    if other is not None:
        name, now, before = other
        raise WeightsError(
            f"the weights make another network than the deployed one, {architecture}: {name} is {now}, not {before}",
            found={name: now},
            wanted={name: before},
            remedy="make the bundle again",
        )
    return _module(found)


def describe_unrecognised(state: Mapping[str, Tensor], misfits: Sequence[Misfit] | None = None) -> str:
    """A clause on why no family fits: the nearest one and the first keys that differ, or that none is near.

    Where spandrel is not installed it says so, and how to install it.

    Args:
        state: an outline on the meta device will do where `misfits` are given.
        misfits: what `recognition_of` found; None tries the families.
    """
    return nearest_miss(state, misfits).clause


def nearest_miss(state: Mapping[str, Tensor], misfits: Sequence[Misfit] | None = None) -> NearMiss:
    """The nearest family and what differs from it; arguments and words are those of `describe_unrecognised`."""
    library = find_library()
    near = nearest_family(state)
    if near is None:
        none = f"the keys resemble none of the {len(FAMILIES)} families of image networks that spandrel recognises"
        return NearMiss("", Differences([], [], []), none)
    family = find_family(near.family)
    clause = resemblance_text(family, near)
    if library is None:
        clause += f"; spandrel, which builds that family, is not installed; run: {INSTALL}"
    else:
        tried = attempt(library, state).misfits if misfits is None else misfits
        misfit = next((misfit for misfit in tried if misfit.family == family), None)
        if misfit is not None and (misfit.misshapen or not near.missing):
            clause = f"the nearest known family is {family.name}; {misfit_text(misfit)}"
            return NearMiss(family.name, _differences(misfit), clause)
    return NearMiss(family.name, Differences([*near.missing], [*near.unexpected], []), clause)


def _differences(misfit: Misfit) -> Differences:
    return Differences([*misfit.missing], [*misfit.unexpected], [*misfit.misshapen])


def _recognised(descriptor: Any, state: Mapping[str, Tensor], remark: str) -> RecognisedNetwork:
    family = find_family(str(descriptor.architecture.id), str(descriptor.architecture.name))
    sizes = descriptor.size_requirements
    return RecognisedNetwork(
        module=_module(descriptor),
        architecture=SPANDREL_PREFIX + family.id,
        family=family.name,
        scale=int(descriptor.scale),
        input_channels=int(descriptor.input_channels),
        output_channels=int(descriptor.output_channels),
        multiple_px=int(sizes.multiple_of),
        minimum_px=max(1, int(sizes.minimum)),
        square=bool(sizes.square),
        tiling=Tiling[descriptor.tiling.name],
        purpose=_purpose(descriptor.purpose, family),
        architecture_licence=family.licence,
        hyper_parameters=hyper_parameters_of(descriptor),
        state=state,
        remark=remark,
    )


def _module(descriptor: Any) -> nn.Module:
    """The network in eval mode, wrapped where its family is called in a way of its own."""
    network: nn.Module = descriptor.model.float().eval()
    # spandrel has no public name for it. The usual call, `model(image)`, is defined beside the descriptor's class.
    call = descriptor._call_fn
    return network if call.__module__ == type(descriptor).__module__ else FamilyCall(network, call).eval()


def _purpose(kind: str, family: Family) -> str:
    if kind == "SR":
        return SUPER_RESOLUTION
    return RESTORATION if family.purpose == SUPER_RESOLUTION else family.purpose


def hyper_parameters_of(descriptor: Any) -> dict[str, str]:
    """What the network was built with, as text, and spandrel's tags, which name its size."""
    values = {name: _as_text(value) for name, value in getattr(descriptor.model, "hyperparameters", {}).items()}
    return {**values, "tags": ", ".join(descriptor.tags)} if descriptor.tags else values


def _as_text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_as_text, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_as_text(inner)}" for key, inner in value.items()) + "}"
    return getattr(value, "__name__", None) or str(value)


def first_difference(found: Mapping[str, str], wanted: Mapping[str, str]) -> tuple[str, str, str] | None:
    """The name and both values of the first hyper-parameter in which the two differ; None where they agree."""
    for name in {**wanted, **found}:
        if found.get(name) != wanted.get(name):
            return name, found.get(name, "absent"), wanted.get(name, "absent")
    return None
