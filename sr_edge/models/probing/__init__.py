"""What a network is, found by running it: whether it takes the tile, its scale, and whether it is deterministic."""

from sr_edge.models.probing.failures import TileMisfit
from sr_edge.models.probing.preparation import prepared
from sr_edge.models.probing.probe import Probe, probe_network, require_picture_only
from sr_edge.models.probing.sizes import probe_sizes
from sr_edge.models.probing.trials import TrialLimit

__all__ = [
    "Probe",
    "TileMisfit",
    "TrialLimit",
    "prepared",
    "probe_network",
    "probe_sizes",
    "require_picture_only",
]
