"""The checkpoint of a training as a file: written whole, and read only where it is one of the same training."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sr_edge.errors import TrainingError
from sr_edge.training.beginning import differences
from sr_edge.training.recipe import Recipe
from sr_edge.whole_file import whole_file

ENTRIES = ("network", "average", "optimizer", "objective", "step", "psnr_db", "seconds", "recipe")
REMEDY = "give another --out, or delete that file to begin again"


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
        raise TrainingError(f"{path} is no checkpoint of sr-edge train, but another program's; {REMEDY}")
    kept = content["recipe"]
    # Older checkpoints lack newer names.
    if not isinstance(kept, dict) or {**Recipe().document(), **kept} != recipe.document():
        raise TrainingError(f"{path} was made with another recipe; give another output folder, or that recipe")
    other = differences(content.get("begun_from", {}), begun_from)  # older checkpoints have none
    if other:
        raise TrainingError(f"{path} was begun with {other}; give another --out, or the same as before to go on")
    return content


def _read(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on foreign kinds of file; a refusal says enough
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise TrainingError(f"cannot read {path}: {error.strerror or error}; {REMEDY}") from error
    except MemoryError:
        raise
    except Exception as error:  # foreign bytes make the unpickler stumble over anything: KeyError, IndexError, ...
        raise TrainingError(f"{path} is damaged, or no checkpoint of sr-edge train; {REMEDY}") from error
