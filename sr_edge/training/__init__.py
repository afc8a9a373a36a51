"""Training of registered networks: data, degradations, recipe, loop. Needs torch, and matplotlib for the curve."""

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
