"""How much output noise each INT8 layer makes by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sr_edge.calibration.quality import QualityEvaluator

PATCHES = 1
"""Held-out patches by which single layers are compared: who is dropped first, and who costs too much for what it saves.

A layer's noise on one patch was seen between a ninth and twice its mean over 28 of them; which layers cost too much
came out alike for one, two and all. The joint check takes all.
"""


@dataclass(frozen=True)
class LayerNoise:
    """`noise_power`: mean squared difference of the output's luma from the float graph's, white squared."""

    node: str
    noise_power: float


def measure_noises(evaluator: QualityEvaluator, nodes: Sequence[str]) -> Iterator[LayerNoise]:
    """Puts one layer at a time into INT8.

    These noises rank layers but do not add up: decide by a joint check (`choose_layers`).
    """
    for node in nodes:
        yield LayerNoise(node, evaluator.noise_power((node,), PATCHES))
