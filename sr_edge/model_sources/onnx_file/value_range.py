"""Determines whether a network works on values from 0 to 1 or from 0 to 255, by what it makes of a photograph.

A photograph is downscaled, and the network restores it in either range. In its own range a network comes closer to the
original: fed with 0-1, a network for 0-255 sees black and returns little but its biases; fed with 0-255, a network for
0-1 loses them, which may look like bicubic interpolation, so results are compared with the original.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sr_edge.errors import UsageError
from sr_edge.frames import Batch
from sr_edge.model_sources.onnx_file.sizes import ProbedGraph, photograph
from sr_edge.resize import resize_bicubic
from sr_edge.spec import TileSpec

RANGES = (1.0, 255.0)
MIN_PSNR_DB = 15.0
"""A network that comes less close to the photograph is not recognised as one that enlarges pictures."""

MIN_MARGIN_DB = 0.3
"""By how much the better range has to be ahead. Of 11 trained networks, the least margin is 0.9 dB (docs/onnx.md)."""

_BORDER_PX = 8

SAME_DB = 50.0
"""Two outputs that differ less than this are the same picture."""


@dataclass(frozen=True)
class ValueRange:
    """The value ranges of input and output, and the reason for the choice."""

    input: float
    output: float
    reason: str


@dataclass(frozen=True)
class _Trial:
    """An output for one input range, in the output range in which it is closest to the photograph."""

    input: float
    output: float
    picture: Batch
    psnr_db: float


def find_range(probed: ProbedGraph, stated: float | None, path: Path) -> ValueRange:
    """Finds the ranges of input and output.

    Args:
        probed: The graph.
        stated: The range of input and output that the user states, 1 or 255; None finds it out.
        path: The file, for error messages.

    Raises:
        UsageError: `stated` is neither 1 nor 255, or contradicts an input of uint8.
    """
    if stated is not None and stated not in RANGES:
        raise UsageError(
            f"--input-range is {stated:g}, but the largest value is either 1 or 255",
            found=stated,
            wanted=RANGES,
            remedy="pass 1, 255 or auto",
        )
    if probed.input.port.dtype == "uint8":
        return _of_bytes(probed, stated, path)
    trials = [_trial(probed, value_range) for value_range in ((stated,) if stated is not None else RANGES)]
    if stated is not None:
        return ValueRange(stated, _output_range(probed, trials[0], stated), f"range 0-{stated:g}, as stated")
    best, other = sorted(trials, key=lambda trial: trial.psnr_db, reverse=True)
    if best.psnr_db < MIN_PSNR_DB:
        return _assumed(probed, trials, "the network restores a photograph in neither range")
    if _psnr_db(best.picture, other.picture) > SAME_DB:
        return ValueRange(1.0, trials[0].output, "range 0-1, as 0-255 gives the same picture")
    if best.psnr_db - other.psnr_db < MIN_MARGIN_DB:
        return _assumed(probed, trials, "the network restores a photograph about equally well in both ranges")
    return ValueRange(best.input, best.output, f"range 0-{best.input:g}, {_compared(best, other)}")


def _of_bytes(probed: ProbedGraph, stated: float | None, path: Path) -> ValueRange:
    if stated == 1.0:
        raise UsageError(
            f"--input-range is 1, but {path} takes uint8, whose largest value is 255",
            found=stated,
            wanted=255.0,
            remedy="leave --input-range out",
        )
    trial = _trial(probed, 255.0)
    return ValueRange(255.0, _output_range(probed, trial, 255.0), "")


def _output_range(probed: ProbedGraph, trial: _Trial, fallback: float) -> float:
    """The output range of a trial, or that of the input where the output is not recognised as the picture."""
    if probed.output.port.dtype == "uint8":
        return 255.0
    return trial.output if trial.psnr_db >= MIN_PSNR_DB else fallback


def _trial(probed: ProbedGraph, value_range: float) -> _Trial:
    original, downscaled = _photograph(probed)
    tensor = probed.runner.run(
        probed.input.port.name, replace(probed.input, value_range=value_range).encode(downscaled)
    )
    trials: list[_Trial] = []
    for output_range in RANGES if probed.output.port.dtype != "uint8" else (255.0,):
        batch = replace(probed.output, value_range=output_range).decode(tensor[probed.output.port.name])
        batch = np.clip(batch, 0.0, 1.0)
        trials.append(_Trial(value_range, output_range, batch, _psnr_db(batch, original)))
    return max(trials, key=lambda trial: trial.psnr_db)


def _photograph(probed: ProbedGraph) -> tuple[Batch, Batch]:
    """A photograph of the size of the output, and its downscaled version of the size of the input."""
    scale, channels = probed.scale, probed.input.port.channels
    original = photograph(TileSpec(scale * probed.size.height, scale * probed.size.width), channels)
    downscaled = resize_bicubic(original[0].transpose(1, 2, 0), 1 / scale).transpose(2, 0, 1)
    return original, np.ascontiguousarray(np.clip(downscaled, 0.0, 1.0)[np.newaxis])


def _psnr_db(first: Batch, second: Batch) -> float:
    """PSNR of the colours inside a border, with 1 as the peak."""
    channels = min(first.shape[1], second.shape[1], 3)
    border = min(_BORDER_PX, min(first.shape[2:]) // 4)
    inside = (slice(None), slice(channels), *(slice(border, size - border) for size in first.shape[2:]))
    error = float(np.mean(np.square(first[inside].astype(np.float64) - second[inside])))
    return math.inf if error == 0 else -10 * math.log10(error) if math.isfinite(error) else -math.inf


def _compared(best: _Trial, other: _Trial) -> str:
    return (
        f"found by running it: a downscaled photograph is restored to {best.psnr_db:.1f} dB, with 0-{other.input:g} to "
        f"{other.psnr_db:.1f} dB"
    )


def _assumed(probed: ProbedGraph, trials: list[_Trial], why: str) -> ValueRange:
    """The usual range, for a network that does not tell: one with random weights, or one for another task."""
    measured = ", ".join(f"{trial.psnr_db:.1f} dB with 0-{trial.input:g}" for trial in trials)
    reason = f"range 0-1, assumed since {why} ({measured}); --input-range 255 states the other one"
    return ValueRange(1.0, _output_range(probed, trials[0], 1.0), reason)
