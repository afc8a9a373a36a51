"""The checkpoint of a training as a file: written whole, and read only where it is one of the same training."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sr_edge.errors import TrainingError
from sr_edge.training.beginning import WORDS, differences
from sr_edge.training.recipe import Recipe
from sr_edge.whole_file import whole_file

ENTRIES = ("network", "average", "optimizer", "objective", "step", "psnr_db", "seconds", "recipe")
WANTED = "a checkpoint of sr-edge train"
REMEDY = "give another --output, or delete that file to begin again"


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Raises OSError as writing does; the file that was there stays."""
    buffer = io.BytesIO()  # torch itself would tell of a full disk by a failed check in its zip writer
    torch.save(content, buffer)
    with whole_file(path) as unfinished:
        unfinished.write_bytes(buffer.getbuffer())


def read_checkpoint(path: Path, recipe: Recipe, begun_from: Mapping[str, str]) -> dict[str, Any]:
    """What `write_checkpoint` was given, on the CPU.

    Raises:
        TrainingError: unreadable, damaged, of another program, or begun with another recipe or from something else.
    """
    content = _read(path)
    if not isinstance(content, dict) or not content.keys() >= set(ENTRIES):
        raise TrainingError(
            f"{path} is a checkpoint of another program, not {WANTED}",
            found=sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__,
            wanted=ENTRIES,
            remedy=REMEDY,
        )
    _require_recipe(path, content["recipe"], recipe)
    other = differences(content.get("begun_from", {}), begun_from)  # older checkpoints have none
    if other:
        raise TrainingError(
            f"{path} was begun with {' and '.join(WORDS[part] for part in other)}",
            found=other,
            remedy="give another --output, or the same as before to go on",
        )
    return content


def _require_recipe(path: Path, kept: object, recipe: Recipe) -> None:
    before = {**Recipe().document(), **kept} if isinstance(kept, dict) else {}  # older checkpoints lack newer names
    now = recipe.document()
    if before != now:
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        raise TrainingError(
            f"{path} was made with another recipe",
            found={name: before.get(name) for name in names},
            wanted={name: now.get(name) for name in names},
            remedy="give another --output, or the recipe that it was made with",
        )


def _read(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on foreign kinds of file; a refusal says enough
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise TrainingError(
            f"cannot read {path}: {error.strerror or error}", found=path, wanted="a readable file", remedy=REMEDY
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # foreign bytes make the unpickler stumble over anything: KeyError, IndexError, ...
        raise TrainingError(f"{path} is damaged, or not {WANTED}", found=path, wanted=WANTED, remedy=REMEDY) from error
