"""PSNR and SSIM on luma, as the super-resolution literature measures them, and the flicker of videos.

Pictures are rounded to 8 bits, their luma is not, and `border` pixels (by convention the scale) are excluded at each
edge. MATLAB's `rgb2ycbcr` of an 8-bit picture rounds the luma once more; papers that use it report less, by
0.03 dB at 34 dB and 0.07 dB at 38 dB. SwinIR and most Python evaluations of today do not round it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from sr_edge.errors import FrameError
from sr_edge.frames import PICTURE_CHANNELS, Batch, Frame, max_sample_value, require_frame

MAX_COLOR_SHIFT = 0.5 / 255
"""Half an 8-bit level: a larger shift can become visible as a tint of flat areas after rounding."""

MIN_SSIM = 0.99
"""A patch whose structural similarity to the float network's output is lower has lost detail."""

_SSIM_WINDOW_PX = 11
_SSIM_SIGMA_PX = 1.5
_FIDELITY_STEP_PX = 4
_PEAK = 255.0
_RGB_WEIGHTS = np.array([65.481, 128.553, 24.966])
_GRAY_WEIGHTS = np.array([219.0])


def luma(frame_hwc: Frame) -> npt.NDArray[np.float64]:
    """BT.601 luma in studio range, with the weights of MATLAB's `rgb2ycbcr`: black is 16, white 235.

    Args:
        frame_hwc: uint8 or uint16 (height, width, 3) RGB or (height, width, 1) gray; 16 bits are rounded to 8 first.

    Returns:
        float64 (height, width), not rounded.
    """
    require_frame(frame_hwc, PICTURE_CHANNELS)
    levels = frame_hwc.astype(np.float64)
    if frame_hwc.dtype == np.uint16:
        levels = np.rint(levels * (_PEAK / max_sample_value(np.uint16)))
    weights = _RGB_WEIGHTS if levels.shape[2] == 3 else _GRAY_WEIGHTS
    weighted: npt.NDArray[np.float64] = levels @ (weights / _PEAK)
    return weighted + 16.0


def psnr_y_db(frame_hwc: Frame, reference_hwc: Frame, border: int) -> float:
    """Peak signal-to-noise ratio of the luma, with 255 as the peak; `math.inf` if the lumas are the same.

    Raises:
        FrameError: the sizes differ, or nothing is left inside the border.
    """
    luma_plane, reference_plane = _inner_lumas(frame_hwc, reference_hwc, border, smallest=1)
    mean_square_error = float(np.mean(np.square(luma_plane - reference_plane)))
    return math.inf if mean_square_error == 0 else 10 * math.log10(_PEAK**2 / mean_square_error)


def ssim_y(frame_hwc: Frame, reference_hwc: Frame, border: int) -> float:
    """Mean structural similarity of the luma (Wang et al. 2004, eq. 13), 1 for the same picture.

    A Gaussian window of 11x11 pixels, sigma 1.5, at every place where it fits; K1 = 0.01, K2 = 0.03.

    Raises:
        FrameError: the sizes differ, or the window does not fit inside the border.
    """
    return _ssim(*_inner_lumas(frame_hwc, reference_hwc, border, smallest=_SSIM_WINDOW_PX))


def flicker_levels(frames: Iterable[tuple[Frame, Frame]], scale: int, reach_px: int = 0) -> float | None:
    """Mean absolute difference of the output from one frame to the next, where the input did not change.

    The static part of a video should not flicker: the difference is 0 if the same input always gives the same output.

    Args:
        frames: Input and output of at least two consecutive frames: uint8 or uint16 (height, width, channels), and the
            same `scale` times as large.
        scale: Magnification.
        reach_px: Distance in input pixels over which a change of the input affects the output: half of the network's
            receptive field. Closer to a change, the output may differ, and is not counted.

    Returns:
        The mean over all samples of the output that count, in 8-bit levels, 0 to 255; None if none count.

    Raises:
        FrameError: The sizes or types do not match.
    """
    total, count = 0.0, 0
    for (before, before_out), (now, now_out) in pairwise(frames):
        _require_pair(before, before_out, now, now_out, scale)
        is_still = ~_near(np.asarray((before != now).any(axis=2)), reach_px)
        counted = is_still.repeat(scale, 0).repeat(scale, 1)
        difference = np.abs(now_out[counted].astype(np.float64) - before_out[counted])
        total += float(difference.sum()) * _PEAK / max_sample_value(now_out.dtype)
        count += difference.size
    return total / count if count else None


def _require_pair(before: Frame, before_out: Frame, now: Frame, now_out: Frame, scale: int) -> None:
    for frame in (before, before_out, now, now_out):
        require_frame(frame)
    larger = (scale * now.shape[0], scale * now.shape[1])
    if before.shape != now.shape or before_out.shape != now_out.shape or now_out.shape[:2] != larger:
        shapes = (before.shape, before_out.shape, now.shape, now_out.shape)
        raise FrameError(
            f"two frames and their outputs have the shapes {', '.join(map(str, shapes))}",
            found=shapes,
            wanted=f"two inputs of one shape, and outputs {scale} times as large",
            remedy="give the frames of one video and the scale of its network",
        )
    if before.dtype != now.dtype or before_out.dtype != now_out.dtype:
        raise FrameError(
            "the type of the samples changes from one frame to the next",
            found=(str(before.dtype), str(before_out.dtype), str(now.dtype), str(now_out.dtype)),
            wanted="the same types",
            remedy="give the frames of one video",
        )


def _near(is_changed: npt.NDArray[np.bool_], reach_px: int) -> npt.NDArray[np.bool_]:
    """Where a change lies within `reach_px` rows and columns."""
    for axis in (0, 1):
        window = 2 * reach_px + 1
        padding = [(reach_px, reach_px) if each == axis else (0, 0) for each in (0, 1)]
        is_changed = np.asarray(sliding_window_view(np.pad(is_changed, padding), window, axis=axis).any(axis=-1))
    return is_changed


def _ssim(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], step: int = 1) -> float:
    """SSIM of two luma planes in studio range, from windows `step` pixels apart."""
    mean_x, mean_y = _windowed(x, step), _windowed(y, step)
    variance_x = _windowed(x * x, step) - mean_x**2
    variance_y = _windowed(y * y, step) - mean_y**2
    covariance = _windowed(x * y, step) - mean_x * mean_y
    c1, c2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )
    return float(similarity.mean())


@dataclass(frozen=True)
class Fidelity:
    """Difference between a network's output in a lower precision and in float32, on one patch.

    Outputs are clipped to [0, 1] first, as they are when stored or displayed.

    Attributes:
        psnr_db: PSNR of all channels, with a peak of 1.0.
        ssim: Structural similarity of the luma, or of alpha where it is lower.
        color_shift: The largest change of a channel's mean, in the range 0-1.
    """

    psnr_db: float
    ssim: float
    color_shift: float

    @property
    def flaw(self) -> str:
        """The defect apart from noise, either lost detail or a tint; empty if there is none."""
        if not self.ssim >= MIN_SSIM:
            return f"SSIM {self.ssim:.4f} to the float picture, at least {MIN_SSIM:g} wanted"
        if not self.color_shift <= MAX_COLOR_SHIFT:
            return f"colours shifted by {255 * self.color_shift:.2f} of 255 levels, at most {255 * MAX_COLOR_SHIFT:g}"
        return ""


LOST = Fidelity(-math.inf, -1.0, math.inf)
"""The fidelity of an output that could not be computed, or is not finite."""


def cost_of_noise_db(noise_power: float, float_db: float) -> float:
    """PSNR loss that noise of this power (1.0 is the peak squared) adds to an output whose float PSNR is `float_db`."""
    return 10.0 * math.log10(1.0 + noise_power * 10.0 ** (float_db / 10.0))


def fidelity(output_nchw: Batch, reference_nchw: Batch) -> Fidelity:
    """Compares two outputs for one patch, (1, 1, 3 or 4, height, width); values that are not finite give `LOST`.

    The SSIM is that of `ssim_y` on luma that was not rounded, from windows four pixels apart, which takes a tenth of
    the time; a picture smaller than the window is one window.
    """
    if not (np.isfinite(output_nchw).all() and np.isfinite(reference_nchw).all()):
        return LOST
    output, reference = (np.clip(batch[0].astype(np.float64), 0.0, 1.0) for batch in (output_nchw, reference_nchw))
    square = float(np.mean(np.square(output - reference)))
    shift = float(np.abs(output.mean((1, 2)) - reference.mean((1, 2))).max())
    return Fidelity(
        math.inf if square == 0.0 else -10.0 * math.log10(square),
        min(
            _ssim(*planes, _FIDELITY_STEP_PX) for planes in zip(_planes_of(output), _planes_of(reference), strict=True)
        ),
        shift,
    )


def _planes_of(channels: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    """Luma in studio range, and alpha in the same range if there is one."""
    colours, alpha = channels[:3], channels[3:]
    weights = _RGB_WEIGHTS if len(colours) == 3 else _GRAY_WEIGHTS
    return [np.tensordot(weights, colours, axes=1) + 16.0, *(_GRAY_WEIGHTS[0] * plane + 16.0 for plane in alpha)]


def _inner_lumas(
    frame_hwc: Frame, reference_hwc: Frame, border: int, smallest: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if frame_hwc.shape[:2] != reference_hwc.shape[:2]:
        raise FrameError(
            f"cannot compare a picture of {_size(frame_hwc)} pixels with a reference of {_size(reference_hwc)}",
            found=frame_hwc.shape[:2],
            wanted=reference_hwc.shape[:2],
            remedy="crop the reference to a multiple of the scale first",
        )
    height, width = (size_px - 2 * border for size_px in frame_hwc.shape[:2])
    if border < 0 or min(height, width) < smallest:
        raise FrameError(
            f"a border of {border} pixels leaves {width}x{height} of {_size(frame_hwc)} pixels to compare, but at "
            f"least {smallest}x{smallest} are needed",
            found=(height, width),
            wanted=smallest,
            remedy="use a larger picture, or a border that is smaller and not negative",
        )
    inside = (slice(border, border + height), slice(border, border + width))
    return luma(frame_hwc[inside]), luma(reference_hwc[inside])


def _size(frame_hwc: npt.NDArray[Any]) -> str:
    return f"{frame_hwc.shape[1]}x{frame_hwc.shape[0]}"


def _windowed(plane: npt.NDArray[np.float64], step: int) -> npt.NDArray[np.float64]:
    """Gaussian-weighted mean of windows, cut to the plane's size, `step` pixels apart and wholly in the plane."""
    mean = plane
    for axis in (0, 1):
        size = min(_SSIM_WINDOW_PX, plane.shape[axis])
        offsets = np.arange(size) - (size - 1) / 2
        weights: npt.NDArray[np.float64] = np.exp(-(offsets**2) / (2 * _SSIM_SIGMA_PX**2))
        windows = np.moveaxis(sliding_window_view(mean, size, axis=axis), axis, 0)[::step]
        mean = np.moveaxis(windows @ (weights / weights.sum()), 0, axis)
    return mean
