"""The checkpoint of a training as a file: written whole, and read only where it is one of the same training."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sr_edge.bundle import sha256_of
from sr_edge.errors import TrainingError
from sr_edge.image_files import list_pictures
from sr_edge.training.recipe import Recipe
from sr_edge.whole_file import whole_file

ENTRIES = ("network", "average", "optimizer", "objective", "step", "psnr_db", "seconds", "recipe")
WANTED = "a checkpoint of sr-edge train"
REMEDY = "give another --out, or delete that file to begin again"

ORIGIN_PARTS: Mapping[str, str] = {
    "model": "another model or scale",
    "data": "other pictures to learn from (--data)",
    "val": "other pictures to validate on (--val)",
    "degradation": "another degradation",
    "weights": "other weights, or none (--weights, --from-bundled)",
    "vgg": "another VGG19 (--vgg)",
}
"""How messages say that a part is not the one before."""


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Raises OSError as writing does; the file that was there stays."""
    buffer = io.BytesIO()  # torch itself would tell of a full disk by a failed check in its zip writer
    torch.save(content, buffer)
    with whole_file(path) as unfinished:
        unfinished.write_bytes(buffer.getbuffer())


def read_checkpoint(path: Path, recipe: Recipe, origin: Mapping[str, str]) -> dict[str, Any]:
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
    other = differences(content.get("begun_from", {}), origin)  # older checkpoints have none
    if other:
        raise TrainingError(
            f"{path} was begun with {' and '.join(ORIGIN_PARTS[part] for part in other)}",
            found=other,
            remedy="give another --out, or the same as before to go on",
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
            remedy="give another --out, or the recipe that it was made with",
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


def training_origin(
    model: str, data: Path, validation: Path, degradation: str, weights: Path | None, vgg: Path | None
) -> dict[str, str]:
    """Names, and digests of names and sizes of pictures and of the content of other files, by the keys of `ORIGIN_PARTS`."""
    return {
        "model": model,
        "data": _digest_of_pictures(data),
        "val": _digest_of_pictures(validation),
        "degradation": degradation,
        "weights": sha256_of(weights) if weights else "",
        "vgg": sha256_of(vgg) if vgg else "",
    }


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The keys of the parts that are not as before; a part that was not kept then is taken for the same."""
    return [part for part, text in now.items() if before.get(part, text) != text]


def _digest_of_pictures(folder: Path) -> str:
    """Of names and sizes in bytes, which tell folders apart whatever decodes their pictures."""
    listed = [f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n" for path in list_pictures(folder, True)]
    return hashlib.sha256("".join(listed).encode("utf-8", "surrogateescape")).hexdigest()
