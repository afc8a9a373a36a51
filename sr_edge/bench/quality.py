"""PSNR and SSIM of whole images against high-resolution originals, as papers report them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sr_edge.errors import EngineError, FrameError, UsageError
from sr_edge.frames import Frame
from sr_edge.image_files import list_pictures, read_picture, scan_folder
from sr_edge.metrics import psnr_y_db, ssim_y
from sr_edge.resize import crop_to_multiple, downscale_bicubic, resize_bicubic

Upscale = Callable[[Frame], Frame]
_OR_DOWNSCALED = ", or leave out the low-resolution folder to have the originals downscaled"


@dataclass(frozen=True)
class PairFiles:
    """The files of one test image; `lr` None downscales `hr` by MATLAB's bicubic to get the low-resolution image.

    Attributes:
        hr: The original.
        lr: The low-resolution image.
    """

    hr: Path
    lr: Path | None = None


@dataclass(frozen=True)
class PictureScore:
    """Luma PSNR and SSIM of one test image.

    Attributes:
        name: File name of the original.
        psnr_y_db: PSNR of the luma.
        ssim_y: SSIM of the luma.
    """

    name: str
    psnr_y_db: float
    ssim_y: float


@dataclass(frozen=True)
class FailedPicture:
    """A test image without a score, because it cannot be read or the network failed on it.

    Attributes:
        name: File name of the original.
        reason: What went wrong.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class HrScores:
    """Mean luma PSNR and SSIM against the originals, 8 bits, without a border of `scale` pixels, and each image's.

    The means are over the images that did not fail, and NaN if all failed.

    Attributes:
        psnr_y_db: Mean PSNR of the luma.
        ssim_y: Mean SSIM of the luma.
        pictures: The scores of each image.
        failed: The images without a score.
    """

    psnr_y_db: float
    ssim_y: float
    pictures: tuple[PictureScore, ...]
    failed: tuple[FailedPicture, ...] = ()

    @classmethod
    def from_pictures(cls, pictures: Sequence[PictureScore], failed: Sequence[FailedPicture] = ()) -> HrScores:
        """The means over the images; the PSNR is the mean of the images' decibels."""
        return cls(
            _mean([picture.psnr_y_db for picture in pictures]),
            _mean([picture.ssim_y for picture in pictures]),
            tuple(pictures),
            tuple(failed),
        )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def pair_files(hr_folder: Path, scale: int, lr_folder: Path | None = None) -> list[PairFiles]:
    """Lists the test images of a folder; a low-resolution image has its original's name, or that with "x2" appended.

    Networks of scale 1 restore images of the same size, so their test images cannot be made by downscaling.

    Args:
        hr_folder: folder of the originals.
        scale: magnification of the network.
        lr_folder: folder of their low-resolution versions; None downscales the originals.

    Raises:
        FrameError: a folder is missing or empty, or an original has no low-resolution image.
        UsageError: the scale is 1 and there is no folder of degraded images.
    """
    if scale == 1 and lr_folder is None:
        raise UsageError(
            "a network of scale 1 restores images of the same size, which cannot be made from the originals by "
            "downscaling",
            wanted="a folder of degraded images",
            remedy="pass --lr with the degraded version of each original, of the same name and size",
        )
    originals = list_pictures(hr_folder)
    if not originals:
        raise FrameError(
            f"{hr_folder} contains no images",
            found=hr_folder,
            wanted="PNG, JPEG, TIFF or WebP files",
            remedy="put the high-resolution originals there",
        )
    if lr_folder is None:
        return [PairFiles(path) for path in originals]
    lr_paths = list_pictures(lr_folder)
    by_stem, by_name = {path.stem: path for path in lr_paths}, {path.name: path for path in lr_paths}
    pairs = []
    for path in originals:
        lr = by_name.get(path.name) or by_stem.get(path.stem) or by_stem.get(f"{path.stem}x{scale}")
        if lr is None:
            raise FrameError(
                f"{lr_folder} contains no image {path.stem} or {path.stem}x{scale}",
                found=lr_folder,
                wanted=(path.stem, f"{path.stem}x{scale}"),
                remedy=f"add it{_OR_DOWNSCALED if scale > 1 else ''}",
            )
        pairs.append(PairFiles(path, lr))
    return pairs


def files_without_image(hr_folder: Path, lr_folder: Path | None = None) -> tuple[Path, ...]:
    """The files in the folders of test images that are not images.

    Args:
        hr_folder: folder of the originals.
        lr_folder: folder of their low-resolution versions; None downscales the originals.
    """
    return tuple(path for folder in (hr_folder, lr_folder) if folder for path in scan_folder(folder).others)


def score_upscalers(
    upscalers: Sequence[Upscale], pairs: Sequence[PairFiles], scale: int, progress: Callable[[int, int], None]
) -> list[HrScores]:
    """Scores all upscalers, in order; each image is read once.

    An image that cannot be read, whose sizes do not match, or on which a network fails is listed as failed, and the
    next one is scored.
    """
    scores: list[list[PictureScore | FailedPicture]] = [[] for _ in upscalers]
    for index, pair in enumerate(pairs):
        progress(index, len(pairs))
        for of_upscaler, score in zip(scores, _score_picture(upscalers, pair, scale), strict=True):
            of_upscaler.append(score)
    progress(len(pairs), len(pairs))
    return [
        HrScores.from_pictures(
            [score for score in of_upscaler if isinstance(score, PictureScore)],
            [score for score in of_upscaler if isinstance(score, FailedPicture)],
        )
        for of_upscaler in scores
    ]


def _score_picture(upscalers: Sequence[Upscale], pair: PairFiles, scale: int) -> list[PictureScore | FailedPicture]:
    try:
        lr, hr = read_pair(pair, scale)
    except FrameError as error:
        return [FailedPicture(pair.hr.name, str(error)) for _ in upscalers]
    scores: list[PictureScore | FailedPicture] = []
    for upscale in upscalers:
        try:
            upscaled = upscale(lr)
            scores.append(PictureScore(pair.hr.name, psnr_y_db(upscaled, hr, scale), ssim_y(upscaled, hr, scale)))
        except (FrameError, EngineError) as error:
            scores.append(FailedPicture(pair.hr.name, str(error)))
    return scores


def bicubic(scale: int) -> Upscale:
    """The baseline that a network must exceed; at scale 1 the image itself."""
    return lambda frame_hwc: resize_bicubic(frame_hwc, scale)


def read_pair(pair: PairFiles, scale: int) -> tuple[Frame, Frame]:
    """Reads the low-resolution and the original frame; the original is cropped to a multiple of `scale`.

    Raises:
        FrameError: an image cannot be read, or the sizes do not match.
    """
    original = read_picture(pair.hr).pixels
    if min(original.shape[:2]) < scale:
        raise FrameError(
            f"{pair.hr} has {original.shape[1]}x{original.shape[0]} pixels, too few for scale {scale}",
            found=(original.shape[1], original.shape[0]),
            wanted=(scale, scale),
            remedy="remove it from the test images",
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
            remedy=f"replace it{_OR_DOWNSCALED if scale > 1 else ''}",
        )
    return lr, hr
