"""The elements of degradations: blur, resizing, noise, compression.

Images are float32 (height, width, 3) in [0, 1]; values are clipped to that range at the end of a chain.
"""

from __future__ import annotations

import io
import math

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn import functional

from sr_edge.frames import Uint8Frame

FloatPicture = npt.NDArray[np.float32]
"""An RGB picture during a degradation: (height, width, 3)."""

Kernel = npt.NDArray[np.float32]
"""A blur kernel: (size, size)."""

LEVELS = 255


def picture_from_frame(frame_hwc: Uint8Frame) -> FloatPicture:
    """Converts uint8 to float32 in [0, 1]."""
    return frame_hwc.astype(np.float32) / np.float32(LEVELS)


def frame_from_picture(picture: FloatPicture) -> Uint8Frame:
    """Clips to [0, 1] and rounds to uint8."""
    return np.rint(picture.clip(0, 1) * LEVELS).astype(np.uint8)


def gaussian_kernel(size_px: int, sigma_x_px: float, sigma_y_px: float, angle: float = 0.0) -> Kernel:
    """Samples of a Gaussian with sum 1, (size, size), whose axes are rotated by `angle` in radians."""
    y, x = np.mgrid[:size_px, :size_px] - (size_px - 1) / 2
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    kernel = np.exp(-0.5 * ((along / sigma_x_px) ** 2 + (across / sigma_y_px) ** 2))
    return (kernel / kernel.sum()).astype(np.float32)


def blur(picture: FloatPicture, kernel: Kernel) -> FloatPicture:
    """Convolves every channel, with padding by reflection."""
    radius = kernel.shape[0] // 2
    padded = np.pad(picture, [(radius, radius), (radius, radius), (0, 0)], mode="reflect")
    channels = torch.from_numpy(padded.transpose(2, 0, 1)[:, None])
    flipped = torch.from_numpy(kernel[::-1, ::-1].copy())
    return functional.conv2d(channels, flipped[None, None])[:, 0].numpy().transpose(1, 2, 0)


def resize(picture: FloatPicture, height: int, width: int, method: str) -> FloatPicture:
    """Resizes by "area", "bilinear" or "bicubic" interpolation, antialiased when downscaling."""
    batch = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)[None]))
    if method == "area":
        resized = functional.interpolate(batch, (height, width), mode="area")
    else:
        resized = functional.interpolate(batch, (height, width), mode=method, antialias=True)
    return resized[0].numpy().transpose(1, 2, 0)


def add_gaussian_noise(
    picture: FloatPicture, sigma_levels: float, is_gray: bool, random: np.random.Generator
) -> FloatPicture:
    """Adds Gaussian noise; its standard deviation is in 8-bit levels, and gray noise is the same in all channels."""
    shape = (*picture.shape[:2], 1 if is_gray else picture.shape[2])
    return picture + random.standard_normal(shape, np.float32) * np.float32(sigma_levels / LEVELS)


def add_poisson_noise(
    picture: FloatPicture, strength: float, is_gray: bool, random: np.random.Generator
) -> FloatPicture:
    """Adds `strength` times the shot noise of a sensor that counts 255 quanta for the value 1."""
    expected = picture.clip(0, 1)
    if is_gray:
        expected = expected.mean(axis=2, keepdims=True)
    shot = random.poisson(expected.astype(np.float64) * LEVELS).astype(np.float32) / LEVELS - expected
    return picture + shot * np.float32(strength)


def compress_jpeg(picture: FloatPicture, quality: int) -> FloatPicture:
    """The image after JPEG compression of this quality, with chroma at half resolution (Pillow's default)."""
    file = io.BytesIO()
    Image.fromarray(frame_from_picture(picture)).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return picture_from_frame(np.asarray(image))
