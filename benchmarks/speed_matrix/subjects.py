"""The networks of `benchmarks/foreign_speed.py`: fixed here, so that no row can be chosen by its result."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import torch
from foreign_networks import NETWORKS
from network_recipes import RECIPES, SEED
from torch import nn

SIDES_PX = (64, 128)
SWINIR_LIGHT = "swinir_light"
TWIN = ("swinir-light", 2)
"""Our own network of the same shape, whose static form is what the passes should reach."""


@dataclass(frozen=True)
class Subject:
    """A network that is timed.

    Attributes:
        name: Name of the row.
        family: spandrel's id of the family; empty for the networks that were written for this benchmark.
        factory: What `--arch` takes.
    """

    name: str
    family: str
    factory: str


def subjects() -> tuple[Subject, ...]:
    """Every recipe of a super-resolution family of spandrel, SwinIR-light at its published size, and ours."""
    recipes = (
        Subject(name, recipe.family, f"network_recipes:{name}") for name, recipe in RECIPES.items() if recipe.scale > 1
    )
    ours = (Subject(name, "", f"foreign_networks:{name}") for name in NETWORKS)
    return (*ours, Subject(SWINIR_LIGHT, "", f"speed_matrix.subjects:{SWINIR_LIGHT}"), *recipes)


def swinir_light() -> nn.Module:
    """spandrel's SwinIR with the arguments of the published SwinIR-light of scale 2, and seeded weights."""
    from sr_edge.models.recognition.library import require_library

    require_library()
    constructor = importlib.import_module("spandrel.architectures.SwinIR").SwinIR
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        network: nn.Module = constructor(
            img_size=64,
            embed_dim=60,
            depths=[6, 6, 6, 6],
            num_heads=[6, 6, 6, 6],
            window_size=8,
            mlp_ratio=2.0,
            upscale=2,
            upsampler="pixelshuffledirect",
        )
    return network.eval()
