"""Reads published checkpoints in every usual layout, without executing code that they contain."""

from sr_edge.models.checkpoints.blending import Blend, blend_weights
from sr_edge.models.checkpoints.reader import (
    SUFFIXES,
    Candidate,
    Checkpoint,
    StateDict,
    WeightSet,
    read_checkpoint,
    read_weights,
)
from sr_edge.models.checkpoints.torchscript import ScriptNetwork

__all__ = [
    "SUFFIXES",
    "Blend",
    "Candidate",
    "Checkpoint",
    "ScriptNetwork",
    "StateDict",
    "WeightSet",
    "blend_weights",
    "read_checkpoint",
    "read_weights",
]
