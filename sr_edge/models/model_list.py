"""The table behind `sr-edge models`: what each registered network holds, computes and needs of its tiles."""

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

COUNTED_SIDE_PX = 96
MACS_FILE = Path(__file__).parent / "macs.json"
"""Multiply-accumulates at 96x96, kept because counting takes seconds a network: scripts/count_model_macs.py."""


@dataclass(frozen=True)
class ModelRow:
    """One line of `sr-edge models`; parameters, multiply-accumulates at 96x96 and bundled weights by scale.

    `macs` leaves out scales of which the kept count is older than the network. The rest is what tiles must respect:
    what divides their sides, how far they overlap, and whether a pixel depends on the whole picture.
    """

    name: str
    parameters: dict[int, int]
    macs: dict[int, int]
    multiple_px: int
    overlap_px: int
    global_statistics: bool
    bundled_scales: tuple[int, ...]


def model_rows(macs_file: Path = MACS_FILE) -> list[ModelRow]:
    """Every registered network, without allocating any; `macs_file` keeps the counts of multiply-accumulates."""
    kept = json.loads(macs_file.read_text())
    return [_row(name, kept.get(name, {})) for name in model_names()]


def _row(name: str, kept: dict[str, dict[str, int]]) -> ModelRow:
    architecture, _ = find_architecture(name)
    with torch.device("meta"):
        parameters = {scale: count_parameters(build_network(name, scale)) for scale in SCALES}
    counted = {scale: kept.get(str(scale), {}) for scale in SCALES}
    return ModelRow(
        name,
        parameters,
        {scale: count["macs"] for scale, count in counted.items() if count.get("parameters") == parameters[scale]},
        architecture.multiple_px,
        architecture.overlap_px,
        architecture.global_statistics,
        tuple(scale for scale in SCALES if bundled_weights(name, scale)),
    )
