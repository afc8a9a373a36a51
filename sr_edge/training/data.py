"""Data of a training: original images, crops whose order depends on seed and step only, and test pairs."""

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
from sr_edge.frames import Uint8Frame, rgb_frame
from sr_edge.image_files import read_picture, scan_folder
from sr_edge.resize import crop_to_multiple
from sr_edge.training.degradations import BICUBIC, Degradation

SMALLEST_MEASURED_PX = 3
"""Smallest height and width of a low-resolution test image, whose border of one pixel is excluded from the PSNR."""

SHARE_OF_MEMORY = 0.7
"""Largest share of the free memory that images may occupy."""


class Purpose(str, Enum):
    """The use of images, as in error messages."""

    TRAINING = "for training"
    VALIDATION = "for validation"

    @property
    def remedy(self) -> str:
        """What the user can do where no image is usable."""
        remedy = "give a folder that contains usable images"
        return f"{remedy}, or a recipe with a smaller patch_px" if self is Purpose.TRAINING else remedy


@dataclass(frozen=True)
class Originals:
    """Original images, all read before the first step, so that no file can stop a training later.

    Args:
        pictures: names and images, HWC uint8 RGB; height and width are multiples of `scale`.
        scale: the scale of the network.
        skipped: the images that could not be used, with the reason.
        not_images: the files that are not images.
    """

    pictures: tuple[tuple[str, Uint8Frame], ...]
    scale: int
    skipped: tuple[str, ...] = ()
    not_images: tuple[Path, ...] = ()

    @classmethod
    def from_folder(
        cls, folder: Path, scale: int, smallest_lr_px: int = 1, purpose: Purpose = Purpose.TRAINING
    ) -> Originals:
        """Reads every image in a folder and its subfolders.

        Args:
            folder: the folder.
            scale: the scale of the network.
            smallest_lr_px: smallest height and width after downscaling.
            purpose: the purpose of the images, for error messages.

        Raises:
            TrainingError: no image is usable (unreadable, or too small after downscaling), or they do not fit into
                memory.
        """
        pictures: list[tuple[str, Uint8Frame]] = []
        skipped: list[str] = []
        free_bytes, needed_bytes = psutil.virtual_memory().available, 0
        content = scan_folder(folder, recursive=True)
        for path in content.pictures:
            try:
                frame = rgb_frame(read_picture(path))
            except FrameError as error:
                skipped.append(str(error))
                continue
            height, width = frame.shape[:2]
            smallest_px = smallest_lr_px * scale
            if min(height, width) < smallest_px:
                skipped.append(
                    f"{path} is {width}x{height} pixels; {smallest_px}x{smallest_px} are needed {purpose.value}"
                )
                continue
            pictures.append((path.relative_to(folder).as_posix(), crop_to_multiple(frame, scale)))
            needed_bytes += frame.nbytes
            _require_memory(needed_bytes, free_bytes, f"{len(pictures)} images of {folder}")
        if not pictures:
            reason = f" (the first reason: {skipped[0]})" if skipped else ""
            raise TrainingError(
                f"no usable image {purpose.value} in {folder}{reason}",
                found=folder,
                wanted=f"images {purpose.value}",
                remedy=purpose.remedy,
            )
        return cls(tuple(pictures), scale, tuple(skipped), content.others)


def _require_memory(needed_bytes: int, free_bytes: int, images: str) -> None:
    """Raises TrainingError before the operating system would kill the process without a message."""
    limit_bytes = int(SHARE_OF_MEMORY * free_bytes)
    if needed_bytes > limit_bytes:
        raise TrainingError(
            f"{images} need {needed_bytes / 2**30:.1f} GiB, but only {free_bytes / 2**30:.1f} GiB of memory are free, "
            "and all of them must be in memory",
            found=needed_bytes,
            wanted=limit_bytes,
            remedy="give fewer or smaller images",
        )


@dataclass(frozen=True)
class ImagePair:
    """One test image, HWC uint8 RGB, and one low-resolution version of it."""

    name: str
    hr: Uint8Frame
    lr: Uint8Frame


@dataclass(frozen=True)
class PairSet:
    """The test pairs of a network, which are always the same for one folder, scale and degradation.

    Args:
        pairs: the pairs.
        scale: the scale of the network.
        skipped: the images that could not be used, with the reason.
        not_images: the files that are not images.
    """

    pairs: tuple[ImagePair, ...]
    scale: int
    skipped: tuple[str, ...] = ()
    not_images: tuple[Path, ...] = ()

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        scale: int,
        degradation: Degradation = BICUBIC,
        smallest_lr_px: int = SMALLEST_MEASURED_PX,
    ) -> PairSet:
        """Makes the pairs of every image in a folder and its subfolders, for each test version of the degradation.

        Args:
            folder: the folder.
            scale: the scale of the network.
            degradation: makes the low-resolution images.
            smallest_lr_px: smallest height and width after downscaling.

        Raises:
            TrainingError: no image is usable (unreadable, or too small after downscaling).
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
            originals.not_images,
        )


@dataclass(frozen=True)
class CropSource:
    """Draws pairs of crops from original images; crops are degraded when drawn unless the degradation is fixed."""

    originals: Originals
    degradation: Degradation = BICUBIC

    def batch(self, step: int, size: int, patch_px: int, seed: int, part: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Draws the crops of one step.

        Large images are drawn more often, in proportion to their area; each crop is flipped and rotated at random.

        Args:
            step: number of the step.
            size: number of crops.
            patch_px: height and width of a low-resolution crop.
            seed: seed of the training.
            part: the crops to make, where several processes share a batch.

        Returns:
            Low-resolution crops (size, 3 or 6, patch_px, patch_px) and high-resolution crops (size, 3, ...), which are
            `scale` times as large, with values in [0, 1].
        """
        random = np.random.default_rng((seed, step))
        positions = [self._draw_position(index, patch_px, random) for index in self._choose(size, random)]
        crops = [
            self._crop(position, patch_px, np.random.default_rng((seed, step, number)))
            for number, position in list(enumerate(positions))[part]
        ]
        lr, hr = (np.stack(images).transpose(0, 3, 1, 2) for images in zip(*crops, strict=True))
        return torch.from_numpy(lr).float() / 255, torch.from_numpy(hr).float() / 255

    def _choose(self, size: int, random: np.random.Generator) -> list[int]:
        area = np.array([hr.shape[0] * hr.shape[1] for _, hr in self.originals.pictures], dtype=np.float64)
        return [int(index) for index in random.choice(len(area), size, p=area / area.sum())]

    def _draw_position(self, index: int, patch_px: int, random: np.random.Generator) -> _CropPosition:
        height, width = (length // self.originals.scale for length in self.originals.pictures[index][1].shape[:2])
        top, left = (int(random.integers(length - patch_px + 1)) for length in (height, width))
        return _CropPosition(index, top, left, int(random.integers(4)), bool(random.integers(2)))

    def _crop(
        self, position: _CropPosition, patch_px: int, random: np.random.Generator
    ) -> tuple[Uint8Frame, Uint8Frame]:
        scale = self.originals.scale
        hr = self.originals.pictures[position.index][1]
        rows, columns = (slice(first * scale, (first + patch_px) * scale) for first in (position.top, position.left))
        fixed = self.degradation.is_fixed
        lr = self._fixed_crop(position, patch_px) if fixed else self._drawn_crop(position, patch_px, random)
        return position.augmented(lr), position.augmented(hr[rows, columns])

    def _fixed_crop(self, position: _CropPosition, patch_px: int) -> Uint8Frame:
        return self._fixed_lr_images[position.index][position.top :, position.left :][:patch_px, :patch_px]

    def _drawn_crop(self, position: _CropPosition, patch_px: int, random: np.random.Generator) -> Uint8Frame:
        """Degrades the crop with its surroundings, so that it has no border effects."""
        scale, halo = self.originals.scale, self.degradation.halo_px
        top, left = (max(0, first - halo) for first in (position.top, position.left))
        bottom, right = (first + patch_px + halo for first in (position.top, position.left))
        surroundings = self.originals.pictures[position.index][1][
            top * scale : bottom * scale, left * scale : right * scale
        ]
        degraded = self.degradation.degrade(surroundings, scale, random)
        return degraded[position.top - top :, position.left - left :][:patch_px, :patch_px]

    @cached_property
    def _fixed_lr_images(self) -> list[Uint8Frame]:
        unused = np.random.default_rng(0)
        return [self.degradation.degrade(hr, self.originals.scale, unused) for _, hr in self.originals.pictures]


@dataclass(frozen=True)
class _CropPosition:
    """Position of a crop in low-resolution pixels, and its flip and rotation."""

    index: int
    top: int
    left: int
    rotations: int
    flip: bool

    def augmented(self, crop: Uint8Frame) -> Uint8Frame:
        return np.rot90(crop[:, ::-1] if self.flip else crop, self.rotations)
