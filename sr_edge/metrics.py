"""PSNR and SSIM on luma, as the super-resolution literature measures them.

Pictures are rounded to 8 bits, their luma is not, and `border` pixels (by custom the scale) are left out at each
side. MATLAB's `rgb2ycbcr` of an 8-bit picture rounds the luma once more; papers that evaluate so report less, by
0.03 dB at 34 dB and 0.07 dB at 38 dB. Not rounding is what SwinIR and most Python evaluations of today do.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from sr_edge.errors import FrameError
from sr_edge.frames import Frame, require_frame, white_level

_SSIM_WINDOW_PX = 11
_SSIM_SIGMA_PX = 1.5
_WHITE = 255.0


def luma(frame_hwc: Frame) -> npt.NDArray[np.float64]:
    """BT.601 luma in studio range, with the weights of MATLAB's `rgb2ycbcr`: black is 16, white 235.

    Args:
        frame_hwc: uint8 or uint16 (height, width, 3) RGB or (height, width, 1) gray; 16 bits are rounded to 8 first.

    Returns:
        float64 (height, width), not rounded.
    """
    require_frame(frame_hwc)
    levels = frame_hwc.astype(np.float64)
    if frame_hwc.dtype == np.uint16:
        levels = np.rint(levels * (_WHITE / white_level(np.uint16)))
    weights = np.array([65.481, 128.553, 24.966]) if levels.shape[2] == 3 else np.array([219.0])
    weighted: npt.NDArray[np.float64] = levels @ (weights / _WHITE)
    return weighted + 16.0


def psnr_y_db(frame_hwc: Frame, reference_hwc: Frame, border: int) -> float:
    """Peak signal-to-noise ratio of the luma, with 255 as the peak; `math.inf` if the lumas are the same.

    Raises:
        FrameError: the sizes differ, or nothing is left inside the border.
    """
    found, wanted = _inner_lumas(frame_hwc, reference_hwc, border, smallest=1)
    mean_square_error = float(np.mean(np.square(found - wanted)))
    return math.inf if mean_square_error == 0 else 10 * math.log10(_WHITE**2 / mean_square_error)


def ssim_y(frame_hwc: Frame, reference_hwc: Frame, border: int) -> float:
    """Mean structural similarity of the luma (Wang et al. 2004, eq. 13), 1 for the same picture.

    A Gaussian window of 11x11 pixels, sigma 1.5, at every place where it fits; K1 = 0.01, K2 = 0.03.

    Raises:
        FrameError: the sizes differ, or the window does not fit inside the border.
    """
    x, y = _inner_lumas(frame_hwc, reference_hwc, border, smallest=_SSIM_WINDOW_PX)
    mean_x, mean_y = _windowed(x), _windowed(y)
    variance_x = _windowed(x * x) - mean_x**2
    variance_y = _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * _WHITE) ** 2, (0.03 * _WHITE) ** 2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )
    return float(similarity.mean())


def _inner_lumas(
    frame_hwc: Frame, reference_hwc: Frame, border: int, smallest: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if frame_hwc.shape[:2] != reference_hwc.shape[:2]:
        raise FrameError(
            f"cannot compare {_size(frame_hwc)} with {_size(reference_hwc)} pixels; "
            "crop the reference to a multiple of the scale first"
        )
    height, width = (side - 2 * border for side in frame_hwc.shape[:2])
    if border < 0 or min(height, width) < smallest:
        raise FrameError(
            f"{_size(frame_hwc)} pixels less a border of {border} leave {width}x{height} to compare; "
            f"{smallest}x{smallest} are needed: take a larger picture"
        )
    inside = (slice(border, border + height), slice(border, border + width))
    return luma(frame_hwc[inside]), luma(reference_hwc[inside])


def _size(frame_hwc: npt.NDArray[Any]) -> str:
    return f"{frame_hwc.shape[1]}x{frame_hwc.shape[0]}"


def _windowed(plane: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Gaussian-weighted mean at every place where the whole window lies in the plane."""
    offsets = np.arange(_SSIM_WINDOW_PX) - _SSIM_WINDOW_PX // 2
    weights: npt.NDArray[np.float64] = np.exp(-(offsets**2) / (2 * _SSIM_SIGMA_PX**2))
    weights /= weights.sum()
    mean = plane
    for axis in (0, 1):
        mean = sliding_window_view(mean, _SSIM_WINDOW_PX, axis=axis) @ weights
    return mean
