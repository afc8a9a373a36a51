"""Reads and writes the checkpoint of a training: written atomically, and accepted only for the same training."""

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
from sr_edge.files.whole_file import whole_file
from sr_edge.image_files import list_pictures
from sr_edge.training.recipe import Recipe

ENTRIES = ("network", "average", "optimizer", "objective", "step", "psnr_db", "seconds", "recipe")
WANTED = "a checkpoint of sr-edge train"
REMEDY = "give another --output, or delete that file to begin again"

ORIGIN_PARTS: Mapping[str, str] = {
    "model": "another model or scale",
    "data": "other training images (--data)",
    "val": "other validation images (--val)",
    "degradation": "another degradation",
    "weights": "other weights, or none (--weights, --from-bundled)",
    "vgg": "another VGG19 (--vgg)",
}
"""The parts of a training's origin, and how error messages say that one differs."""


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a checkpoint atomically.

    Args:
        path: the file, which is unchanged if writing fails.
        content: what torch.save stores.

    Raises:
        OSError: writing failed.
    """
    buffer = io.BytesIO()  # torch would report a full disk as a failed check of its zip writer
    torch.save(content, buffer)
    with whole_file(path) as unfinished:
        unfinished.write_bytes(buffer.getbuffer())


def read_checkpoint(path: Path, recipe: Recipe, origin: Mapping[str, str]) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU.

    Args:
        path: the file.
        recipe: the recipe of the training.
        origin: the origin of the training (`training_origin`).

    Raises:
        TrainingError: the file is unreadable, damaged, written by another program, or of a training with another recipe
            or origin.
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
    changed = changed_parts(content.get("begun_from", {}), origin)  # older checkpoints have none
    if changed:
        raise TrainingError(
            f"the training in {path} was started with {' and '.join(ORIGIN_PARTS[part] for part in changed)}",
            found=changed,
            remedy="choose another --output, or continue it with the original settings",
        )
    return content


def _require_recipe(path: Path, stored: object, recipe: Recipe) -> None:
    before = {**Recipe().document(), **stored} if isinstance(stored, dict) else {}  # older checkpoints lack new names
    now = recipe.document()
    if before != now:
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        changes = ", ".join(f"{name} {before.get(name)} instead of {now.get(name)}" for name in names)
        raise TrainingError(
            f"{path} was made with another recipe: {changes}",
            found={name: before.get(name) for name in names},
            wanted={name: now.get(name) for name in names},
            remedy="give another --output, or the recipe that it was made with",
        )


def _read(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about unknown file formats; the error below suffices
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise TrainingError(
            f"cannot read {path}: {error.strerror or error}", found=path, wanted="a readable file", remedy=REMEDY
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # for arbitrary bytes the unpickler may raise anything: KeyError, IndexError, ...
        raise TrainingError(f"{path} is damaged, or not {WANTED}", found=path, wanted=WANTED, remedy=REMEDY) from error


def training_origin(
    model: str, data: Path, validation: Path, degradation: str, weights: Path | None, vgg: Path | None
) -> dict[str, str]:
    """What a training starts from, so that its checkpoint is not continued with something else.

    Args:
        model: name and scale of the network.
        data: folder of the training images; its digest is over names and sizes.
        validation: folder of the validation images; its digest is over names and sizes.
        degradation: name of the degradation.
        weights: weights to start with; None for random ones.
        vgg: weights of VGG19; None without a perceptual loss.

    Returns:
        Names and digests by the keys of `ORIGIN_PARTS`.
    """
    return {
        "model": model,
        "data": _digest_of_folder(data),
        "val": _digest_of_folder(validation),
        "degradation": degradation,
        "weights": sha256_of(weights) if weights else "",
        "vgg": sha256_of(vgg) if vgg else "",
    }


def changed_parts(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The keys of the parts that differ; a part that was not stored before counts as equal."""
    return [part for part, text in now.items() if before.get(part, text) != text]


def _digest_of_folder(folder: Path) -> str:
    """Digest of names and sizes in bytes, which do not depend on the library that decodes the images."""
    entries = [f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n" for path in list_pictures(folder, True)]
    return hashlib.sha256("".join(entries).encode("utf-8", "surrogateescape")).hexdigest()
