"""The degradation of RealNet: noise and blur, each in a second-order chain, in parallel or in sequence.

    noise chain:  twice (resize, noise), JPEG after each        -> input of the denoising branch
    blur chain:   twice (blur, resize)                          -> input of the deblurring branch
    both:         twice (blur, resize, noise), JPEG after each  -> image of a single camera; for validation

Source: arXiv 2408.00470, section III-C, gives the order and the parallel chains but no parameters; they are those of
Real-ESRGAN (arXiv 2107.10833, section 4.1), on whose second-order model the paper is based. Its sinc filters and
generalised Gaussians are omitted.

A deployed RealNet has one input image for both branches, which training on pairs alone would never show it. Therefore
half of the crops are the paper's pair, and half have the image of the third chain for both branches;
`realnet-one-picture` has the third chain alone, for the last part of a training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np

from sr_edge.frames import Uint8Frame
from sr_edge.training.degradations.filters import (
    FloatPicture,
    Kernel,
    add_gaussian_noise,
    add_poisson_noise,
    blur,
    compress_jpeg,
    frame_from_picture,
    gaussian_kernel,
    picture_from_frame,
    resize,
)

METHODS = ("area", "bilinear", "bicubic")
JPEG_QUALITY = (30, 95)
GRAY_NOISE = 0.4
ISOTROPIC = 0.65
PAIRED = 0.5
TEST_SEED = 8


class Chain(Enum):
    """Which degradations a chain applies."""

    NOISE = "noise"
    BLUR = "blur"
    BOTH = "both"


@dataclass(frozen=True)
class DegradationProcess:
    """Parameters of one pass of a chain.

    Args:
        blur_probability: probability of blur.
        sigma_px: range of the standard deviations of the blur.
        upscale_probability: probability of upscaling.
        downscale_probability: probability of downscaling; otherwise the size is kept.
        factor: range of the resize factor.
        gaussian_levels: range of the standard deviation of Gaussian noise, in 8-bit levels.
        poisson: range of the strength of Poisson noise.
    """

    blur_probability: float
    sigma_px: tuple[float, float]
    upscale_probability: float
    downscale_probability: float
    factor: tuple[float, float]
    gaussian_levels: tuple[float, float]
    poisson: tuple[float, float]


DEGRADATION_PROCESSES = (
    DegradationProcess(1.0, (0.2, 3.0), 0.2, 0.7, (0.15, 1.5), (1, 30), (0.05, 3.0)),
    DegradationProcess(0.8, (0.2, 1.5), 0.3, 0.4, (0.3, 1.2), (1, 25), (0.05, 2.5)),
)


@dataclass(frozen=True)
class RealNetDegradation:
    """A `Degradation` for RealNet.

    Args:
        is_paired: whether a crop has two images, that of the denoising branch first; otherwise one, with both chains.
        name: the name by which a recipe selects it.
        is_fixed: see `Degradation`.
        halo_px: see `Degradation`.
    """

    is_paired: bool
    name: str = "realnet"
    is_fixed: bool = False
    halo_px: int = 8

    def degrade(self, hr: Uint8Frame, scale: int, random: np.random.Generator) -> Uint8Frame:
        if self.is_paired and random.random() < PAIRED:
            pair = [run_chain(hr, scale, chain, random) for chain in (Chain.NOISE, Chain.BLUR)]
        else:
            pair = [run_chain(hr, scale, Chain.BOTH, random)] * (1 + self.is_paired)
        return np.concatenate(pair, axis=2)

    def test_pictures(self, hr: Uint8Frame, scale: int, index: int) -> dict[str, Uint8Frame]:
        return {"": run_chain(hr, scale, Chain.BOTH, np.random.default_rng((TEST_SEED, index)))}


def run_chain(hr: Uint8Frame, scale: int, chain: Chain, random: np.random.Generator) -> Uint8Frame:
    """Applies a chain with random parameters to an original image, and downscales it by `scale`."""
    picture = picture_from_frame(hr)
    small = (hr.shape[0] // scale, hr.shape[1] // scale)
    for process, size in zip(DEGRADATION_PROCESSES, (hr.shape[:2], small), strict=True):
        if chain is not Chain.NOISE and random.random() < process.blur_probability:
            picture = blur(picture, _draw_kernel(process, random))
        picture = _resize_at_random(picture, size, process, random)
        if chain is not Chain.BLUR:
            picture = _add_noise(picture, process, random)
        if process is DEGRADATION_PROCESSES[-1]:
            picture = resize(picture, *small, str(random.choice(METHODS)))
        if chain is not Chain.BLUR:
            picture = compress_jpeg(picture, int(random.integers(*JPEG_QUALITY, endpoint=True)))
    return frame_from_picture(picture)


def _draw_kernel(process: DegradationProcess, random: np.random.Generator) -> Kernel:
    size_px = 2 * int(random.integers(3, 10, endpoint=True)) + 1
    sigma_x, sigma_y = random.uniform(*process.sigma_px, size=2)
    if random.random() < ISOTROPIC:
        return gaussian_kernel(size_px, sigma_x, sigma_x)
    return gaussian_kernel(size_px, sigma_x, sigma_y, random.uniform(-math.pi, math.pi))


def _resize_at_random(
    picture: FloatPicture, size: tuple[int, int], process: DegradationProcess, random: np.random.Generator
) -> FloatPicture:
    """Resizes to `size` times a random factor; as in the source, the second pass is relative to the final size."""
    smallest, largest = process.factor
    choice = random.random()
    if choice < process.upscale_probability:
        factor = random.uniform(1.0, largest)
    elif choice < process.upscale_probability + process.downscale_probability:
        factor = random.uniform(smallest, 1.0)
    else:
        factor = 1.0
    height, width = (max(1, round(length * factor)) for length in size)
    return resize(picture, height, width, str(random.choice(METHODS)))


def _add_noise(picture: FloatPicture, process: DegradationProcess, random: np.random.Generator) -> FloatPicture:
    is_gray = bool(random.random() < GRAY_NOISE)
    if random.random() < 0.5:
        return add_gaussian_noise(picture, random.uniform(*process.gaussian_levels), is_gray, random)
    return add_poisson_noise(picture, random.uniform(*process.poisson), is_gray, random)


REALNET = RealNetDegradation(is_paired=False)
ONE_PICTURE_REALNET = RealNetDegradation(is_paired=False, name="realnet-one-picture")
PAIRED_REALNET = RealNetDegradation(is_paired=True)
