"""PyTorch networks, the registry of their names, and the loading of their weights. Needs torch."""

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
