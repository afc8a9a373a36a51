"""Originals, the crops to learn from, in an order that seed and step alone decide, and the pairs to measure on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]
import torch
from torch import Tensor

from sr_edge.errors import FrameError, TrainingError
from sr_edge.frames import rgb_frame
from sr_edge.image_files import list_pictures, read_picture
from sr_edge.resize import crop_to_multiple
from sr_edge.training.degradations import BICUBIC, Degradation
from sr_edge.training.degradations.degradation import Frame

SMALLEST_MEASURED_PX = 3
"""A low-resolution side of which something is left to measure when the border, one of these pixels wide, is not."""

SHARE_OF_MEMORY = 0.7
"""Of what is free: the most that pictures may fill."""


class Purpose(str, Enum):
    """What pictures are read for, as messages say it."""

    LEARNING = "to learn from"
    VALIDATION = "to validate on"

    @property
    def remedy(self) -> str:
        some = "give a folder that has some"
        return f"{some}, or a recipe with a smaller patch_px" if self is Purpose.LEARNING else some


@dataclass(frozen=True)
class Originals:
    """Pictures, HWC uint8 RGB with sides that are multiples of `scale`, by name.

    All are read before the first step, so that no file can stop a run later; `skipped` tells which could not be used,
    and why.
    """

    pictures: tuple[tuple[str, Frame], ...]
    scale: int
    skipped: tuple[str, ...] = ()

    @classmethod
    def from_folder(
        cls, folder: Path, scale: int, smallest_lr_px: int = 1, purpose: Purpose = Purpose.LEARNING
    ) -> Originals:
        """Reads every picture below `folder`.

        Raises:
            TrainingError: no picture there is usable (unreadable, or under `smallest_lr_px` after reduction), or
                memory does not hold them.
        """
        pictures: list[tuple[str, Frame]] = []
        skipped: list[str] = []
        free_bytes, filled_bytes = psutil.virtual_memory().available, 0
        for path in list_pictures(folder, recursive=True):
            try:
                frame = rgb_frame(read_picture(path))
            except FrameError as error:
                skipped.append(str(error))
                continue
            height, width = frame.shape[:2]
            needed = smallest_lr_px * scale
            if min(height, width) < needed:
                skipped.append(f"{path} is {width}x{height} pixels; {needed}x{needed} are needed {purpose.value}")
                continue
            pictures.append((path.relative_to(folder).as_posix(), crop_to_multiple(frame, scale)))
            filled_bytes += frame.nbytes
            _require_memory(filled_bytes, free_bytes, f"{len(pictures)} pictures of {folder}")
        if not pictures:
            reason = f" (the first reason: {skipped[0]})" if skipped else ""
            raise TrainingError(
                f"no usable picture {purpose.value} in {folder}{reason}",
                found=folder,
                wanted=f"pictures {purpose.value}",
                remedy=purpose.remedy,
            )
        return cls(tuple(pictures), scale, tuple(skipped))


def _require_memory(filled_bytes: int, free_bytes: int, what: str) -> None:
    """Raises TrainingError before the system would end the program, which would say nothing."""
    limit_bytes = int(SHARE_OF_MEMORY * free_bytes)
    if filled_bytes > limit_bytes:
        raise TrainingError(
            f"{what} fill {filled_bytes / 2**30:.1f} GiB, of {free_bytes / 2**30:.1f} GiB of free memory, where all "
            "of them must be kept",
            found=filled_bytes,
            wanted=limit_bytes,
            remedy="give fewer or smaller pictures",
        )


@dataclass(frozen=True)
class ImagePair:
    """One picture to measure on, HWC uint8 RGB, and one low-resolution version of it."""

    name: str
    hr: Frame
    lr: Frame


@dataclass(frozen=True)
class PairSet:
    """What a network is measured on: always the same for one folder, scale and degradation.

    `skipped` tells which pictures could not be used, and why.
    """

    pairs: tuple[ImagePair, ...]
    scale: int
    skipped: tuple[str, ...] = ()

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        scale: int,
        degradation: Degradation = BICUBIC,
        smallest_lr_px: int = SMALLEST_MEASURED_PX,
    ) -> PairSet:
        """Every picture below `folder`, in each test version of the degradation.

        Raises:
            TrainingError: no picture there is usable (unreadable, or under `smallest_lr_px` after reduction).
        """
        originals = Originals.from_folder(folder, scale, smallest_lr_px, Purpose.VALIDATION)
        return cls(
            tuple(
                ImagePair(f"{name} {version}".strip(), hr, lr)
                for index, (name, hr) in enumerate(originals.pictures)
                for version, lr in degradation.test_pictures(hr, scale, index).items()
            ),
            scale,
            originals.skipped,
        )


@dataclass(frozen=True)
class CropSource:
    """Draws pairs of crops from originals, degraded when they are drawn unless the degradation is fixed."""

    originals: Originals
    degradation: Degradation = BICUBIC

    def batch(self, step: int, size: int, patch_px: int, seed: int, part: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """The crops of one step: LR (size, 3 or 6, patch_px, patch_px) and HR (size, 3, ...) `scale` times as large.

        Large pictures are drawn more often, in proportion to their area; each crop is flipped and turned at random.
        `part` of the batch is made where several processes share it. Values are in [0, 1].
        """
        random = np.random.default_rng((seed, step))
        places = [self._draw_place(index, patch_px, random) for index in self._choose(size, random)]
        crops = [
            self._crop(place, patch_px, np.random.default_rng((seed, step, number)))
            for number, place in list(enumerate(places))[part]
        ]
        lr, hr = (np.stack(half).transpose(0, 3, 1, 2) for half in zip(*crops, strict=True))
        return torch.from_numpy(lr).float() / 255, torch.from_numpy(hr).float() / 255

    def _choose(self, size: int, random: np.random.Generator) -> list[int]:
        area = np.array([hr.shape[0] * hr.shape[1] for _, hr in self.originals.pictures], dtype=np.float64)
        return [int(index) for index in random.choice(len(area), size, p=area / area.sum())]

    def _draw_place(self, index: int, patch_px: int, random: np.random.Generator) -> _Place:
        height, width = (side // self.originals.scale for side in self.originals.pictures[index][1].shape[:2])
        top, left = (int(random.integers(side - patch_px + 1)) for side in (height, width))
        return _Place(index, top, left, int(random.integers(4)), bool(random.integers(2)))

    def _crop(self, place: _Place, patch_px: int, random: np.random.Generator) -> tuple[Frame, Frame]:
        scale = self.originals.scale
        hr = self.originals.pictures[place.index][1]
        rows, columns = (slice(first * scale, (first + patch_px) * scale) for first in (place.top, place.left))
        fixed = self.degradation.is_fixed
        lr = self._fixed_crop(place, patch_px) if fixed else self._drawn_crop(place, patch_px, random)
        return place.turned(lr), place.turned(hr[rows, columns])

    def _fixed_crop(self, place: _Place, patch_px: int) -> Frame:
        return self._fixed_halves[place.index][place.top :, place.left :][:patch_px, :patch_px]

    def _drawn_crop(self, place: _Place, patch_px: int, random: np.random.Generator) -> Frame:
        """Degrades the crop with what is around it, so that it has no borders of its own."""
        scale, halo = self.originals.scale, self.degradation.halo_px
        top, left = (max(0, first - halo) for first in (place.top, place.left))
        bottom, right = (first + patch_px + halo for first in (place.top, place.left))
        around = self.originals.pictures[place.index][1][top * scale : bottom * scale, left * scale : right * scale]
        degraded = self.degradation.degrade(around, scale, random)
        return degraded[place.top - top :, place.left - left :][:patch_px, :patch_px]

    @cached_property
    def _fixed_halves(self) -> list[Frame]:
        unused = np.random.default_rng(0)
        return [self.degradation.degrade(hr, self.originals.scale, unused) for _, hr in self.originals.pictures]


@dataclass(frozen=True)
class _Place:
    """Where a crop lies, in low-resolution pixels, and how it is turned."""

    index: int
    top: int
    left: int
    turns: int
    flip: bool

    def turned(self, crop: Frame) -> Frame:
        return np.rot90(crop[:, ::-1] if self.flip else crop, self.turns)
