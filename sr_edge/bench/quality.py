"""PSNR and SSIM of whole pictures against high-resolution originals, as papers report them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sr_edge.errors import EngineError, FrameError
from sr_edge.frames import Frame
from sr_edge.image_files import list_pictures, read_picture
from sr_edge.metrics import psnr_y_db, ssim_y
from sr_edge.resize import crop_to_multiple, downscale_bicubic, resize_bicubic

Upscale = Callable[[Frame], Frame]


@dataclass(frozen=True)
class PairFiles:
    """One test picture; `lr` None makes the low-resolution half from `hr` by MATLAB's bicubic."""

    hr: Path
    lr: Path | None = None


@dataclass(frozen=True)
class PictureScore:
    name: str
    psnr_y_db: float
    ssim_y: float


@dataclass(frozen=True)
class FailedPicture:
    """A test picture without a score, because it cannot be read or the network failed on it."""

    name: str
    reason: str


@dataclass(frozen=True)
class HrScores:
    """Luma against the originals, 8 bits, border of `scale` pixels left out: means, and each picture.

    The means leave the `failed` pictures out, and are NaN where all failed.
    """

    psnr_y_db: float
    ssim_y: float
    pictures: tuple[PictureScore, ...]
    failed: tuple[FailedPicture, ...] = ()

    @classmethod
    def from_pictures(cls, pictures: Sequence[PictureScore], failed: Sequence[FailedPicture] = ()) -> HrScores:
        """Means over the pictures; the PSNR is the mean of the pictures' decibels."""
        return cls(
            _mean([picture.psnr_y_db for picture in pictures]),
            _mean([picture.ssim_y for picture in pictures]),
            tuple(pictures),
            tuple(failed),
        )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def pair_files(hr_folder: Path, scale: int, lr_folder: Path | None = None) -> list[PairFiles]:
    """The test pictures of a folder; a low-resolution half has its original's name, or that with "x2" added.

    Raises:
        FrameError: a folder is missing or empty, or an original has no low-resolution half.
    """
    originals = list_pictures(hr_folder)
    if not originals:
        raise FrameError(
            f"{hr_folder} contains no pictures",
            found=hr_folder,
            wanted="PNG, JPEG, TIFF or WebP files",
            remedy="put the high-resolution originals there (PNG, JPEG, TIFF, WebP)",
        )
    if lr_folder is None:
        return [PairFiles(path) for path in originals]
    halves = {path.stem: path for path in list_pictures(lr_folder)}
    pairs = []
    for path in originals:
        half = halves.get(path.stem, halves.get(f"{path.stem}x{scale}"))
        if half is None:
            raise FrameError(
                f"{lr_folder} contains no picture {path.stem} or {path.stem}x{scale}",
                found=lr_folder,
                wanted=(path.stem, f"{path.stem}x{scale}"),
                remedy="leave that folder out to have the low-resolution pictures made",
            )
        pairs.append(PairFiles(path, half))
    return pairs


def score_upscalers(
    upscalers: Sequence[Upscale], pairs: Sequence[PairFiles], scale: int, progress: Callable[[int, int], None]
) -> list[HrScores]:
    """Scores of every upscaler, in order, each picture being read once.

    A picture that cannot be read, whose halves do not fit or on which a network fails is listed as failed, and the
    others go on.
    """
    scores: list[list[PictureScore | FailedPicture]] = [[] for _ in upscalers]
    for index, pair in enumerate(pairs):
        progress(index, len(pairs))
        for found, score in zip(scores, _score_picture(upscalers, pair, scale), strict=True):
            found.append(score)
    progress(len(pairs), len(pairs))
    return [
        HrScores.from_pictures(
            [score for score in found if isinstance(score, PictureScore)],
            [score for score in found if isinstance(score, FailedPicture)],
        )
        for found in scores
    ]


def _score_picture(upscalers: Sequence[Upscale], pair: PairFiles, scale: int) -> list[PictureScore | FailedPicture]:
    try:
        lr, hr = read_pair(pair, scale)
    except FrameError as error:
        return [FailedPicture(pair.hr.name, str(error)) for _ in upscalers]
    found: list[PictureScore | FailedPicture] = []
    for upscale in upscalers:
        try:
            upscaled = upscale(lr)
            found.append(PictureScore(pair.hr.name, psnr_y_db(upscaled, hr, scale), ssim_y(upscaled, hr, scale)))
        except (FrameError, EngineError) as error:
            found.append(FailedPicture(pair.hr.name, str(error)))
    return found


def bicubic(scale: int) -> Upscale:
    """The baseline that every network has to beat."""
    return lambda frame_hwc: resize_bicubic(frame_hwc, scale)


def read_pair(pair: PairFiles, scale: int) -> tuple[Frame, Frame]:
    """Low-resolution and original frame; the original is cropped to a multiple of `scale`.

    Raises:
        FrameError: a picture cannot be read, or the sizes do not fit.
    """
    original = read_picture(pair.hr).pixels
    if min(original.shape[:2]) < scale:
        raise FrameError(
            f"{pair.hr} has {original.shape[1]}x{original.shape[0]} pixels, too few for scale {scale}",
            found=(original.shape[1], original.shape[0]),
            wanted=(scale, scale),
            remedy="remove it from the test pictures",
        )
    hr = crop_to_multiple(original, scale)
    if pair.lr is None:
        return downscale_bicubic(hr, scale), hr
    lr = read_picture(pair.lr).pixels
    if (lr.shape[0] * scale, lr.shape[1] * scale) != hr.shape[:2]:
        raise FrameError(
            f"{pair.lr} has {lr.shape[1]}x{lr.shape[0]} pixels, but its original {pair.hr} of "
            f"{original.shape[1]}x{original.shape[0]} requires {hr.shape[1] // scale}x{hr.shape[0] // scale} at scale "
            f"{scale}",
            found=(lr.shape[1], lr.shape[0]),
            wanted=(hr.shape[1] // scale, hr.shape[0] // scale),
            remedy="replace it, or leave out the low-resolution folder to have the pictures made",
        )
    return lr, hr
