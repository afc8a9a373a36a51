"""What RealNet learns to undo: noise and blur, each in a chain of second order, in parallel or one after the other.

    noise chain:  twice (resize, noise), JPEG after each        -> what the denoising branch reads
    blur chain:   twice (blur, resize)                          -> what the deblurring branch reads
    both:         twice (blur, resize, noise), JPEG after each  -> what one camera's picture has; tests use it

Source: arXiv 2408.00470, section III-C, gives the order and the parallel chains but no numbers; those are the ones of
Real-ESRGAN (arXiv 2107.10833, section 4.1), whose second-order model the paper starts from. Its sinc filters and
generalised Gaussians are left out.

A deployed RealNet is given one picture, which both branches read. Trained on two pictures alone it would never have
seen that. So half of the crops are the paper's pair, and half have the third chain's picture in both places;
`realnet-one-picture` has the third chain alone, for the last part of a training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np

from sr_edge.training.degradations.degradation import Frame
from sr_edge.training.degradations.filters import (
    Plane,
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
    NOISE = "noise"
    BLUR = "blur"
    BOTH = "both"


@dataclass(frozen=True)
class DegradationProcess:
    """The ranges of one pass: `larger` and `smaller` are how often it is resized so, else the size is kept."""

    blurred: float
    sigma_px: tuple[float, float]
    larger: float
    smaller: float
    factor: tuple[float, float]
    gaussian_levels: tuple[float, float]
    poisson: tuple[float, float]


DEGRADATION_PROCESSES = (
    DegradationProcess(1.0, (0.2, 3.0), 0.2, 0.7, (0.15, 1.5), (1, 30), (0.05, 3.0)),
    DegradationProcess(0.8, (0.2, 1.5), 0.3, 0.4, (0.3, 1.2), (1, 25), (0.05, 2.5)),
)


@dataclass(frozen=True)
class RealNetDegradation:
    """`is_paired`: two pictures a crop, denoising branch's first; else one, of the chain that has both."""

    is_paired: bool
    name: str = "realnet"
    is_fixed: bool = False
    halo_px: int = 8

    def degrade(self, hr: Frame, scale: int, random: np.random.Generator) -> Frame:
        if self.is_paired and random.random() < PAIRED:
            pair = [run_chain(hr, scale, chain, random) for chain in (Chain.NOISE, Chain.BLUR)]
        else:
            pair = [run_chain(hr, scale, Chain.BOTH, random)] * (1 + self.is_paired)
        return np.concatenate(pair, axis=2)

    def test_pictures(self, hr: Frame, scale: int, index: int) -> dict[str, Frame]:
        return {"": run_chain(hr, scale, Chain.BOTH, np.random.default_rng((TEST_SEED, index)))}


def run_chain(hr: Frame, scale: int, chain: Chain, random: np.random.Generator) -> Frame:
    """A low-resolution picture of `hr`, all that happens to it drawn from `random`."""
    picture = picture_from_frame(hr)
    small = (hr.shape[0] // scale, hr.shape[1] // scale)
    for process, size in zip(DEGRADATION_PROCESSES, (hr.shape[:2], small), strict=True):
        if chain is not Chain.NOISE and random.random() < process.blurred:
            picture = blur(picture, _draw_kernel(process, random))
        picture = _resize_at_random(picture, size, process, random)
        if chain is not Chain.BLUR:
            picture = _add_noise(picture, process, random)
        if process is DEGRADATION_PROCESSES[-1]:
            picture = resize(picture, *small, str(random.choice(METHODS)))
        if chain is not Chain.BLUR:
            picture = compress_jpeg(picture, int(random.integers(*JPEG_QUALITY, endpoint=True)))
    return frame_from_picture(picture)


def _draw_kernel(process: DegradationProcess, random: np.random.Generator) -> Plane:
    size_px = 2 * int(random.integers(3, 10, endpoint=True)) + 1
    sigma_x, sigma_y = random.uniform(*process.sigma_px, size=2)
    if random.random() < ISOTROPIC:
        return gaussian_kernel(size_px, sigma_x, sigma_x)
    return gaussian_kernel(size_px, sigma_x, sigma_y, random.uniform(-math.pi, math.pi))


def _resize_at_random(
    picture: Plane, size: tuple[int, int], process: DegradationProcess, random: np.random.Generator
) -> Plane:
    """To `size` times a drawn factor; as in the source, the second pass counts from the final size."""
    smallest, largest = process.factor
    choice = random.random()
    if choice < process.larger:
        factor = random.uniform(1.0, largest)
    elif choice < process.larger + process.smaller:
        factor = random.uniform(smallest, 1.0)
    else:
        factor = 1.0
    height, width = (max(1, round(side * factor)) for side in size)
    return resize(picture, height, width, str(random.choice(METHODS)))


def _add_noise(picture: Plane, process: DegradationProcess, random: np.random.Generator) -> Plane:
    is_gray = bool(random.random() < GRAY_NOISE)
    if random.random() < 0.5:
        return add_gaussian_noise(picture, random.uniform(*process.gaussian_levels), is_gray, random)
    return add_poisson_noise(picture, random.uniform(*process.poisson), is_gray, random)


REALNET = RealNetDegradation(is_paired=False)
ONE_PICTURE_REALNET = RealNetDegradation(is_paired=False, name="realnet-one-picture")
PAIRED_REALNET = RealNetDegradation(is_paired=True)
