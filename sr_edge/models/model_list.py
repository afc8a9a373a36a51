"""The table of `sr-edge models`: parameters, multiply-accumulates, tile requirements and weights of each network."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from sr_edge.models.registry import (
    SCALES,
    build_network,
    bundled_weights,
    count_parameters,
    find_architecture,
    model_names,
)

MACS_INPUT_PX = 96
"""Height and width of the input for which multiply-accumulates are counted."""

MACS_FILE = Path(__file__).parent / "macs.json"
"""Multiply-accumulates at 96x96, precomputed by scripts/count_model_macs.py, since counting takes seconds a network."""


@dataclass(frozen=True)
class ModelRow:
    """One row of `sr-edge models`.

    Args:
        name: the network's name.
        parameters: number of parameters by scale.
        macs: multiply-accumulates at 96x96 by scale; a scale whose stored count is older than the network is left out.
        multiple_px: the height and width of tiles are multiples of this.
        overlap_px: overlap of neighbouring tiles in low-resolution pixels.
        global_statistics: whether an output pixel depends on the whole image.
        bundled_scales: scales for which trained weights ship with the package.
    """

    name: str
    parameters: dict[int, int]
    macs: dict[int, int]
    multiple_px: int
    overlap_px: int
    global_statistics: bool
    bundled_scales: tuple[int, ...]


def model_rows(macs_file: Path = MACS_FILE) -> list[ModelRow]:
    """A row for every registered network, without allocating any weights.

    Args:
        macs_file: JSON file with the precomputed multiply-accumulates.
    """
    stored = json.loads(macs_file.read_text())
    return [_row(name, stored.get(name, {})) for name in model_names()]


def _row(name: str, stored: dict[str, dict[str, int]]) -> ModelRow:
    architecture, _ = find_architecture(name)
    with torch.device("meta"):
        parameters = {scale: count_parameters(build_network(name, scale)) for scale in SCALES}
    counts = {scale: stored.get(str(scale), {}) for scale in SCALES}
    return ModelRow(
        name,
        parameters,
        {scale: count["macs"] for scale, count in counts.items() if count.get("parameters") == parameters[scale]},
        architecture.multiple_px,
        architecture.overlap_px,
        architecture.global_statistics,
        tuple(scale for scale in SCALES if bundled_weights(name, scale)),
    )
