"""Training of registered networks: data, degradations, recipe, loop. Needs torch, and matplotlib for the curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sr_edge.lazy_face import lazy_face

if TYPE_CHECKING:
    from sr_edge.training.loop import TrainingProgress
    from sr_edge.training.processes import is_first_process
    from sr_edge.training.recipe import Recipe, read_recipe, recipe_from_document
    from sr_edge.training.run import TrainingReport, train_model

__all__ = [
    "Recipe",
    "TrainingProgress",
    "TrainingReport",
    "is_first_process",
    "read_recipe",
    "recipe_from_document",
    "train_model",
]

_HOMES = {
    "Recipe": "sr_edge.training.recipe",
    "TrainingProgress": "sr_edge.training.loop",
    "TrainingReport": "sr_edge.training.run",
    "is_first_process": "sr_edge.training.processes",
    "read_recipe": "sr_edge.training.recipe",
    "recipe_from_document": "sr_edge.training.recipe",
    "train_model": "sr_edge.training.run",
}

__getattr__, __dir__ = lazy_face(__name__, _HOMES)
