"""Recognises networks by the keys and shapes of a checkpoint, and builds them, with the package spandrel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sr_edge.errors import UnknownNameError, WeightsError
from sr_edge.installation import how_to_install
from sr_edge.models.loading.weights import Differences, NearestNetwork
from sr_edge.models.recognition.attempts import (
    Mismatch,
    attempt,
    has_detection_keys,
    load_as,
    mismatch_text,
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
from sr_edge.models.recognition.library import EXTRA, find_library, require_library
from sr_edge.models.recognition.signatures import nearest_family
from sr_edge.spec import Tiling

__all__ = [
    "FamilyCall",
    "FamilyRow",
    "Recognition",
    "RecognizedNetwork",
    "canonical_keys",
    "describe_unrecognized",
    "family_rows",
    "load_family",
    "nearest_network",
    "recognition_of",
    "recognize",
]


@dataclass(frozen=True)
class RecognizedNetwork:
    """A network of one of spandrel's families with its weights, and its properties according to spandrel.

    Args:
        module: the network, in eval mode and float32; it maps (batch, input_channels, h, w) in [0, 1] to `scale` times
            the size.
        architecture: "spandrel/" and spandrel's id; `load_family` rebuilds the network from it and `state`.
        family: its name in papers.
        scale: upscaling factor; 1 for restoration.
        input_channels: channels of the input: 1 for luma, 3 for RGB, 4 for RGB with alpha.
        output_channels: channels of the output.
        multiple_px: height and width of the input are multiples of this.
        minimum_px: the smallest height and width of the input.
        square: whether the input must be square.
        tiling: whether it can be used in tiles, according to spandrel.
        purpose: what it was made for, such as "super-resolution".
        architecture_licence: SPDX identifier of the architecture's code, or "not stated".
        hyper_parameters: read from keys and shapes.
        state: the weights under the keys by which they were recognised. A bundle must store these, since some families
            cannot be recognised by the keys of `module`: their sizes are read from tables that the module lacks.
        remark: a note for the user on the environment; empty for none.
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
    """The result of recognition: a network, or why none of the families fits whose detection keys the state has."""

    network: RecognizedNetwork | None
    mismatches: tuple[Mismatch, ...] = ()


class FamilyCall(nn.Module):
    """Wraps a network that is not called as `network(x)`, since it returns several results or takes a noise map."""

    def __init__(self, network: nn.Module, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.network = network
        self._call = call

    def forward(self, x: Tensor) -> Tensor:
        return self._call(self.network, x)


def recognize(state: Mapping[str, Tensor]) -> RecognizedNetwork | None:
    """Builds the network whose keys and shapes `state` has.

    Args:
        state: tensors by name, without the prefixes of training wrappers. Tables that the checkpoint contains beside
            the weights, such as `relative_position_index` and `attn_mask`, must be included: sizes are read from them.

    Returns:
        None if no family fits or spandrel is not installed; `describe_unrecognized` distinguishes the two.

    Raises:
        WeightsError: the weights are those of a network for another purpose (faces, inpainting), or are integers.
        UsageError: spandrel is installed and cannot be imported.
    """
    return recognition_of(state).network


def recognition_of(state: Mapping[str, Tensor]) -> Recognition:
    """The result of `recognize`, with the mismatches where no family fits."""
    library = find_library()
    if library is None:
        return Recognition(None)
    result = attempt(library, state)
    network = None if result.descriptor is None else _recognized_network(result.descriptor, state, library.remark)
    return Recognition(network, result.mismatches)


def canonical_keys(meta_state: Mapping[str, Tensor]) -> frozenset[str]:
    """The keys by which spandrel would recognise these weights; empty if they have the detection keys of no family.

    Args:
        meta_state: values are not used, so tensors on the meta device suffice.
    """
    library = find_library()
    if library is None:
        return frozenset()
    canonical = library.spandrel.canonicalize_state_dict(dict(meta_state))
    return frozenset(canonical if has_detection_keys(library, canonical) else ())


def load_family(
    architecture: str, state: Mapping[str, Tensor], hyper_parameters: Mapping[str, str] | None = None
) -> nn.Module:
    """Rebuilds a recognised network from the contents of a bundle.

    Args:
        architecture: RecognizedNetwork.architecture, such as "spandrel/Compact".
        state: RecognizedNetwork.state.
        hyper_parameters: RecognizedNetwork.hyper_parameters, compared with those of the network that is built.

    Raises:
        UsageError: spandrel is absent or cannot be imported.
        UnknownNameError: the installed spandrel has no such architecture.
        WeightsError: the state does not belong to this family, or results in other hyper-parameters.
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
    descriptor = load_as(support.architecture, library.spandrel.canonicalize_state_dict(dict(state)))
    if isinstance(descriptor, Mismatch):
        raise WeightsError(
            f"the weights do not fit {descriptor.family.name}; {mismatch_text(descriptor)}",
            found=_differences(descriptor),
            wanted=descriptor.family.name,
            remedy="deploy the checkpoint again",
        )
    change = None if hyper_parameters is None else first_difference(hyper_parameters_of(descriptor), hyper_parameters)
    if change is not None:
        name, now, before = change
        raise WeightsError(
            f"the weights define a different network than the deployed {architecture}: {name} is {now}, but "
            f"was {before}",
            found={name: now},
            wanted={name: before},
            remedy="deploy the network again",
        )
    return _module_of(descriptor)


def describe_unrecognized(state: Mapping[str, Tensor], mismatches: Sequence[Mismatch] | None = None) -> str:
    """Why no family fits, as a clause: the most similar family and the first keys that differ, or that none is similar.

    Where spandrel is not installed, the clause says how to install it.

    Args:
        state: tensors by name; tensors on the meta device suffice where `mismatches` are given.
        mismatches: those of `recognition_of`; None tries the families.
    """
    return nearest_network(state, mismatches).clause


def nearest_network(state: Mapping[str, Tensor], mismatches: Sequence[Mismatch] | None = None) -> NearestNetwork:
    """The most similar family and its differences; arguments and clause are those of `describe_unrecognized`."""
    library = find_library()
    resemblance = nearest_family(state)
    if resemblance is None:
        clause = f"the keys resemble none of the {len(FAMILIES)} families of image networks that spandrel recognises"
        return NearestNetwork("", Differences([], [], []), clause)
    family = find_family(resemblance.family)
    clause = resemblance_text(family, resemblance)
    if library is None:
        clause += f"; spandrel, which builds that family, is not installed; run: {how_to_install(EXTRA)}"
    else:
        all_mismatches = attempt(library, state).mismatches if mismatches is None else mismatches
        mismatch = next((mismatch for mismatch in all_mismatches if mismatch.family == family), None)
        if mismatch is not None and (mismatch.mismatched or not resemblance.missing):
            clause = f"the nearest known family is {family.name}; {mismatch_text(mismatch)}"
            return NearestNetwork(family.name, _differences(mismatch), clause)
    return NearestNetwork(family.name, Differences([*resemblance.missing], [*resemblance.unexpected], []), clause)


def _differences(mismatch: Mismatch) -> Differences:
    return Differences([*mismatch.missing], [*mismatch.unexpected], [*mismatch.mismatched])


def _recognized_network(descriptor: Any, state: Mapping[str, Tensor], remark: str) -> RecognizedNetwork:
    family = find_family(str(descriptor.architecture.id), str(descriptor.architecture.name))
    sizes = descriptor.size_requirements
    return RecognizedNetwork(
        module=_module_of(descriptor),
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


def _module_of(descriptor: Any) -> nn.Module:
    """The network in eval mode, wrapped where its family is not called as `network(x)`."""
    network: nn.Module = descriptor.model.float().eval()
    # spandrel has no public name for `_call_fn`. The usual call, `model(image)`, is defined in the descriptor's module.
    call = descriptor._call_fn
    return network if call.__module__ == type(descriptor).__module__ else FamilyCall(network, call).eval()


def _purpose(kind: str, family: Family) -> str:
    if kind == "SR":
        return SUPER_RESOLUTION
    return RESTORATION if family.purpose == SUPER_RESOLUTION else family.purpose


def hyper_parameters_of(descriptor: Any) -> dict[str, str]:
    """The hyper-parameters of the network as text, and spandrel's tags, which name its size."""
    values = {name: _as_text(value) for name, value in getattr(descriptor.model, "hyperparameters", {}).items()}
    return {**values, "tags": ", ".join(descriptor.tags)} if descriptor.tags else values


def _as_text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_as_text, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_as_text(inner)}" for key, inner in value.items()) + "}"
    return getattr(value, "__name__", None) or str(value)


def first_difference(now: Mapping[str, str], before: Mapping[str, str]) -> tuple[str, str, str] | None:
    """Name and both values of the first hyper-parameter that differs; None if all agree."""
    for name in {**before, **now}:
        if now.get(name) != before.get(name):
            return name, now.get(name, "absent"), before.get(name, "absent")
    return None
