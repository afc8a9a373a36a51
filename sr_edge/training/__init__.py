"""Training of the bundled weights: data, recipe, loop. Needs torch, and matplotlib for the curve."""

from sr_edge.training.recipe import Recipe
from sr_edge.training.run import TrainingReport, train_model

__all__ = ["Recipe", "TrainingReport", "train_model"]
