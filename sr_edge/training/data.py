"""Pairs of high- and low-resolution crops, drawn in an order that the seed and the step alone decide."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sr_edge.errors import FrameError, TrainingError
from sr_edge.frames import rgb_frame
from sr_edge.image_files import list_pictures, read_picture
from sr_edge.resize import crop_to_multiple, downscale_bicubic

Frame = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Pair:
    """One picture, HWC uint8 RGB, and its MATLAB-bicubic reduction."""

    name: str
    hr: Frame
    lr: Frame


@dataclass(frozen=True)
class PairSet:
    """Pairs of one scale; `skipped` tells which files could not be used, and why."""

    pairs: tuple[Pair, ...]
    scale: int
    skipped: tuple[str, ...]

    @classmethod
    def from_folder(cls, folder: Path, scale: int, smallest_lr_px: int = 1, purpose: str = "to learn from") -> PairSet:
        """Reads every picture below `folder` and makes its LR half; messages say what `purpose` they have.

        Raises:
            TrainingError: no picture there is usable (unreadable, or under `smallest_lr_px` after reduction).
        """
        pairs: list[Pair] = []
        skipped: list[str] = []
        for path in list_pictures(folder, recursive=True):
            try:
                hr = crop_to_multiple(rgb_frame(read_picture(path)), scale)
            except FrameError as error:
                skipped.append(str(error))
                continue
            if min(hr.shape[:2]) < smallest_lr_px * scale:
                skipped.append(f"{path} is smaller than {smallest_lr_px * scale} pixels")
                continue
            pairs.append(Pair(path.name, hr, downscale_bicubic(hr, scale)))
        if not pairs:
            reason = f"; the first reason: {skipped[0]}" if skipped else ""
            raise TrainingError(f"no usable picture {purpose} in {folder}{reason}; give a folder that has some")
        return cls(tuple(pairs), scale, tuple(skipped))

    def batch(self, step: int, size: int, patch_px: int, seed: int) -> tuple[Tensor, Tensor]:
        """The crops of one step: LR (size, 3, patch_px, patch_px) and HR `scale` times as large, in [0, 1].

        Large pictures are drawn more often, in proportion to their area; each crop is flipped and turned at random.
        """
        random = np.random.default_rng((seed, step))
        area = np.array([pair.lr.shape[0] * pair.lr.shape[1] for pair in self.pairs], dtype=np.float64)
        chosen = random.choice(len(self.pairs), size, p=area / area.sum())
        crops = [self._crop(self.pairs[index], patch_px, random) for index in chosen]
        lr, hr = (np.stack(half).transpose(0, 3, 1, 2) for half in zip(*crops, strict=True))
        return torch.from_numpy(lr).float() / 255, torch.from_numpy(hr).float() / 255

    def _crop(self, pair: Pair, patch_px: int, random: np.random.Generator) -> tuple[Frame, Frame]:
        top, left = (int(random.integers(side - patch_px + 1)) for side in pair.lr.shape[:2])
        turns, flip = int(random.integers(4)), bool(random.integers(2))

        def cut(frame: Frame, factor: int) -> Frame:
            side = patch_px * factor
            crop = frame[top * factor :, left * factor :][:side, :side]
            return np.rot90(crop[:, ::-1] if flip else crop, turns)

        return cut(pair.lr, 1), cut(pair.hr, self.scale)
