"""How low-resolution pictures come from originals: one file a way, chosen by name in a recipe."""

from __future__ import annotations

from torch import nn

from sr_edge.errors import UnknownNameError
from sr_edge.models.labnet import LabNet
from sr_edge.models.realnet import RealNet
from sr_edge.training.degradations.bicubic import BICUBIC
from sr_edge.training.degradations.blind_gaussian import BLIND_GAUSSIAN
from sr_edge.training.degradations.degradation import Degradation
from sr_edge.training.degradations.realnet import ONE_PICTURE_REALNET, PAIRED_REALNET, REALNET

DEGRADATIONS: tuple[Degradation, ...] = (BICUBIC, BLIND_GAUSSIAN, REALNET, ONE_PICTURE_REALNET)

__all__ = ["BICUBIC", "DEGRADATIONS", "Degradation", "find_degradation"]


def find_degradation(name: str, network: nn.Module) -> Degradation:
    """The way called `name`; the empty name is the one that the network's paper trains with, mostly bicubic.

    Raises:
        UnknownNameError: there is none of that name.
    """
    found = {degradation.name: degradation for degradation in DEGRADATIONS}.get(name or _published(network).name)
    if found is None:
        raise UnknownNameError("degradation", name, [degradation.name for degradation in DEGRADATIONS])
    return PAIRED_REALNET if found is REALNET and isinstance(network, RealNet) else found


def _published(network: nn.Module) -> Degradation:
    if isinstance(network, LabNet):
        return BLIND_GAUSSIAN
    return REALNET if isinstance(network, RealNet) else BICUBIC
