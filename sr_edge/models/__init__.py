"""PyTorch networks, the registry of their names, and the loading of their weights. Needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sr_edge.lazy_face import lazy_face

if TYPE_CHECKING:
    from sr_edge.models.loading.load import LoadedModel, load_model
    from sr_edge.models.model_list import model_rows
    from sr_edge.models.registry import ARCHITECTURES, build_network, bundled_weights, model_names

__all__ = [
    "ARCHITECTURES",
    "LoadedModel",
    "build_network",
    "bundled_weights",
    "load_model",
    "model_names",
    "model_rows",
]

_HOMES = {
    "ARCHITECTURES": "sr_edge.models.registry",
    "LoadedModel": "sr_edge.models.loading.load",
    "build_network": "sr_edge.models.registry",
    "bundled_weights": "sr_edge.models.registry",
    "load_model": "sr_edge.models.loading.load",
    "model_names": "sr_edge.models.registry",
    "model_rows": "sr_edge.models.model_list",
}

__getattr__, __dir__ = lazy_face(__name__, _HOMES)
