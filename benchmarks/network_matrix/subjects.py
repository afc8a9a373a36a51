"""What the matrix deploys: every family of spandrel's registry, files in a folder, an ONNX export, bundled weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from network_recipes import DEFAULT_TILE_PX, RECIPES, registered_families

from network_matrix import variants
from sr_edge.models.recognition.families import find_family
from sr_edge.models.registry import WEIGHTS_FOLDER

ONNX_EXPORT = "compact_onnx_fp16_dynamic"
"""The row of an ONNX file as they are shared: fp16, dynamic height and width, opset 18, torch's newer exporter."""

EXPORTED_RECIPE, EXPORTED_FILE = "compact", "realesr-animevideov3.pth"
"""What is exported: the trained network, if the folder of published files has it, or the recipe."""

NETWORK_FILES = (".pth", ".pt", ".ckpt", ".safetensors", ".onnx")
OTHER_PURPOSES = ("face restoration", "inpainting")
"""Families for these purposes are not networks that turn one picture into a better one, so they have no row."""


class Source(str, Enum):
    """Where a network comes from; the order of the table."""

    BUNDLED = "bundled with sr-edge"
    FILE = "published files"
    RECIPE = "spandrel's registry"
    ONNX_EXPORT = "exported by torch"


@dataclass(frozen=True)
class Subject:
    """One row of the matrix.

    Attributes:
        name: of the row, and of the files that belong to it.
        source: where the network comes from.
        family: spandrel's identifier of its architecture; empty where it is not one of spandrel's.
        file: the published file, the bundled weights, or the checkpoint that is exported to ONNX.
        missing: why there is no network to deploy; the row is then red.
    """

    name: str
    source: Source
    family: str = ""
    file: Path | None = None
    missing: str = ""

    @property
    def trained(self) -> bool:
        """Whether the weights are somebody's training, and not a short fit to bicubic interpolation."""
        return self.file is not None

    @property
    def recipe(self) -> str:
        """The recipe that makes the network; "" for files."""
        if self.source is Source.ONNX_EXPORT:
            return "" if self.file else EXPORTED_RECIPE
        return self.name if self.source is Source.RECIPE and not self.missing else ""

    @property
    def choice(self) -> tuple[str, ...]:
        """The arguments of `sr-edge deploy` that name the network; files are named as seen from their folder."""
        if self.source is Source.BUNDLED:
            name, _, scale = self.name.rpartition("-x")
            return (name, "--scale", scale)
        if self.source is Source.FILE:
            factory = () if self.name not in variants.FACTORIES else ("--arch", f"{variants.__name__}:{self.name}")
            return (*factory, *(("--weights",) if factory else ()), self.file.name if self.file else "")
        suffix = "onnx" if self.source is Source.ONNX_EXPORT else "pth"
        return (f"{self.name}.{suffix}",)

    @property
    def tile(self) -> tuple[str, ...]:
        """The option for the tile, of families that cannot take the default one."""
        tile_px = RECIPES[self.recipe].tile_px if self.recipe else DEFAULT_TILE_PX
        return () if tile_px == DEFAULT_TILE_PX else ("--tile", f"{tile_px}x{tile_px}")


def subjects(checkpoints: Path | None) -> tuple[Subject, ...]:
    """Every row of the matrix.

    Args:
        checkpoints: a folder of published files; without it, they have no rows.
    """
    exported = checkpoints / EXPORTED_FILE if checkpoints else None
    file = exported if exported is not None and exported.exists() else None
    export = Subject(ONNX_EXPORT, Source.ONNX_EXPORT, "Compact", file=file)
    return (*_bundled(), *_files(checkpoints), *_registry(), export)


def families_of_other_purposes() -> dict[str, str]:
    """The registry's families that have no row, with the reason."""
    families = (find_family(identifier) for identifier in registered_families())
    return {family.id: f"{family.purpose}: {family.refused}" for family in families if family.purpose in OTHER_PURPOSES}


def _bundled() -> Iterator[Subject]:
    for weights in sorted(WEIGHTS_FOLDER.glob("*.safetensors")):
        yield Subject(weights.stem, Source.BUNDLED, file=weights)


def _files(folder: Path | None) -> Iterator[Subject]:
    for file in sorted(folder.iterdir()) if folder else ():
        if file.suffix in NETWORK_FILES:
            yield Subject(file.stem, Source.FILE, file=file)


def _registry() -> Iterator[Subject]:
    covered = {recipe.family for recipe in RECIPES.values()}
    for name, recipe in RECIPES.items():
        yield Subject(name, Source.RECIPE, recipe.family)
    others = families_of_other_purposes()
    for family in registered_families():
        if family not in covered and family not in others:
            missing = "no recipe of a small network has been written for this family"
            yield Subject(family.lower(), Source.RECIPE, family, missing=missing)
