"""Degradations, which make low-resolution images of original ones; a recipe selects one by name."""

from __future__ import annotations

from sr_edge.errors import UnknownNameError
from sr_edge.models.registry import Architecture
from sr_edge.training.degradations.bicubic import BICUBIC
from sr_edge.training.degradations.blind_gaussian import BLIND_GAUSSIAN
from sr_edge.training.degradations.degradation import Degradation
from sr_edge.training.degradations.realnet import ONE_PICTURE_REALNET, PAIRED_REALNET, REALNET

DEGRADATIONS: tuple[Degradation, ...] = (BICUBIC, BLIND_GAUSSIAN, REALNET, ONE_PICTURE_REALNET)

__all__ = ["BICUBIC", "DEGRADATIONS", "Degradation", "find_degradation"]


def find_degradation(name: str, architecture: Architecture) -> Degradation:
    """The degradation called `name`; an empty name stands for the one with which the architecture's paper trains.

    Raises:
        UnknownNameError: there is no degradation of that name.
    """
    wanted = name or architecture.published_degradation
    degradation = {each.name: each for each in DEGRADATIONS}.get(wanted)
    if degradation is None:
        raise UnknownNameError("degradation", wanted, [each.name for each in DEGRADATIONS])
    return PAIRED_REALNET if degradation is REALNET and architecture.paired_input else degradation
