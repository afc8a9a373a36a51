"""Blur of unknown width: a 21x21 isotropic Gaussian, then bicubic downscaling; and its test set "Gaussian8".

Source: arXiv 2408.00470, section III-B: sigma is drawn from [0.2, 2], [0.2, 3], [0.2, 4] pixels of the original for
x2, x3, x4; tests use eight sigmas, equally spaced over [0.80, 1.60], [1.35, 2.40], [1.8, 3.2] (the setting of Gu et
al., CVPR 2019). The paper does not say how the blurred image is downscaled. The public code of that setting (DAN,
DCLS) uses bicubic interpolation, which does not shift the image; bicubic upsampling then gives 30.36, 27.53, 25.87 dB
on Set5. The paper prints 28.82, 26.21, 24.57; docs/training.md describes what was tried to explain the difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sr_edge.frames import Uint8Frame
from sr_edge.resize import resize_bicubic
from sr_edge.training.degradations.filters import blur, frame_from_picture, gaussian_kernel, picture_from_frame

KERNEL_PX = 21
TRAINING_SIGMA_PX = {2: (0.2, 2.0), 3: (0.2, 3.0), 4: (0.2, 4.0)}
TEST_SIGMA_PX = {2: (0.80, 1.60), 3: (1.35, 2.40), 4: (1.8, 3.2)}
TEST_KERNELS = 8


@dataclass(frozen=True)
class BlindGaussian:
    """A `Degradation` by Gaussian blur of random width and bicubic downscaling."""

    name: str = "blind-gaussian"
    is_fixed: bool = False
    halo_px: int = 8

    def degrade(self, hr: Uint8Frame, scale: int, random: np.random.Generator) -> Uint8Frame:
        return blur_and_downscale(hr, scale, random.uniform(*TRAINING_SIGMA_PX[scale]))

    def test_pictures(self, hr: Uint8Frame, scale: int, index: int) -> dict[str, Uint8Frame]:
        return {f"sigma {sigma:.2f}": blur_and_downscale(hr, scale, sigma) for sigma in gaussian8_sigmas_px(scale)}


def gaussian8_sigmas_px(scale: int) -> list[float]:
    """The standard deviations of Gaussian8, in pixels of the original image."""
    return [float(sigma) for sigma in np.linspace(*TEST_SIGMA_PX[scale], TEST_KERNELS)]


def blur_and_downscale(hr: Uint8Frame, scale: int, sigma_px: float) -> Uint8Frame:
    """Blurs and downscales an image, and rounds once at the end."""
    blurred = blur(picture_from_frame(hr), gaussian_kernel(KERNEL_PX, sigma_px, sigma_px))
    return frame_from_picture(resize_bicubic(blurred, 1 / scale))


BLIND_GAUSSIAN = BlindGaussian()
