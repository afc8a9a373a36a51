"""Checkpoints as people share them: read without running their code, in every usual layout."""

from sr_edge.models.checkpoints.blending import Blend, blended
from sr_edge.models.checkpoints.reader import (
    SUFFIXES,
    Candidate,
    Checkpoint,
    StateDict,
    StateSet,
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
    "StateSet",
    "blended",
    "read_checkpoint",
    "read_weights",
]
