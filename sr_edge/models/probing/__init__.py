"""Probes a network by running it: whether it supports the tile, its scale, and whether it is deterministic."""

from sr_edge.models.probing.failures import UnsupportedTile
from sr_edge.models.probing.preparation import prepare_network
from sr_edge.models.probing.probe import Probe, probe_network, require_image_only
from sr_edge.models.probing.sizes import probe_sizes
from sr_edge.models.probing.trials import TrialLimit

__all__ = [
    "Probe",
    "TrialLimit",
    "UnsupportedTile",
    "prepare_network",
    "probe_network",
    "probe_sizes",
    "require_image_only",
]
