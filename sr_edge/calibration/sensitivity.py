"""How much output noise each INT8 layer makes by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from sr_edge.calibration.calibration import Calibration
from sr_edge.calibration.collect import Batch, Progress, WatchedGraph
from sr_edge.calibration.qdq import insert_qdq
from sr_edge.spec import Spelling


@dataclass(frozen=True)
class LayerNoise:
    """`noise_power`: mean squared difference of the output from the float graph's, output units squared."""

    node: str
    noise_power: float


def rank_layers(
    model: onnx.ModelProto, calibration: Calibration, batches: Sequence[Batch], progress: Progress | None = None
) -> tuple[LayerNoise, ...]:
    """Quantizes one layer at a time; the noisiest comes first.

    These noises rank layers but do not add up: decide by a joint check (`meet_budget`).

    Args:
        model: the float graph that was calibrated, as `load_graph` gives it.
        calibration: its INT8 layers are the ones that are ranked.
        batches: patches other than those that the ranges were measured on.
        progress: called with (layers done, layers in all).
    """
    reference = _outputs(model, batches)
    noises = []
    for index, node in enumerate(calibration.int8_nodes):
        others = [other for other in calibration.int8_nodes if other != node]
        alone = calibration.keep_float(others, f"left float while {node} is measured")
        errors = [
            f - r for f, r in zip(_outputs(insert_qdq(model, alone, Spelling.S8), batches), reference, strict=True)
        ]
        noises.append(LayerNoise(node, float(np.mean(np.square(errors, dtype=np.float64)))))
        if progress is not None:
            progress(index + 1, len(calibration.int8_nodes))
    return tuple(sorted(noises, key=lambda noise: noise.noise_power, reverse=True))


def _outputs(model: onnx.ModelProto, batches: Sequence[Batch]) -> list[Batch]:
    graph = WatchedGraph(model)
    return [graph.run(batch)[0] for batch in batches]
