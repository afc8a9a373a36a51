"""What a network is, found by running it: whether it takes the tile, its scale, and whether it is deterministic."""

from sr_edge.models.probing.preparation import prepared
from sr_edge.models.probing.probe import probe_network, require_picture_only

__all__ = ["prepared", "probe_network", "require_picture_only"]
