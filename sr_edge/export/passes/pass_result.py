"""The contract of every pass over an ONNX graph: it takes a model and returns a `PassResult`.

A pass never modifies the model that it is given. A pass that finds nothing to do returns that same model with
`changed=False`; a graph that it cannot process, such as one that is in half precision already, is an error. Whether a
second run changes nothing depends on the pass: simplification and clean-up are idempotent, while conversions to another
type (float16, uint8 frames, INT8) refuse their own output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import onnx


@dataclass(frozen=True, eq=False)
class PassResult:
    """What a pass over an ONNX graph returns.

    Attributes:
        model: the resulting graph; where nothing was changed, the very object that the pass was given.
        changed: whether `model` differs from the input in its nodes, constants, inputs or outputs.
        reason: what was changed, or why nothing was; one line that is never empty.
    """

    model: onnx.ModelProto
    changed: bool
    reason: str


class GraphPass(Protocol):
    """A pass whose options, if it has any, are bound."""

    def __call__(self, model: onnx.ModelProto, /) -> PassResult:
        """Processes the graph without modifying `model`.

        Raises:
            SrEdgeError: the pass cannot process this graph.
        """
        ...
