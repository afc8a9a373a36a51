"""Determines whether a network works on values from 0 to 1 or from 0 to 255, by comparison with bicubic resizing."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sr_edge.errors import ExportError, UsageError
from sr_edge.frames import Batch
from sr_edge.model_sources.onnx_file.sizes import ProbedGraph, photograph
from sr_edge.resize import resize_bicubic

RANGES = (1.0, 255.0)
MIN_PSNR_DB = 15.0
"""A network whose output resembles the enlarged picture less than this is not recognised as one."""

MIN_MARGIN_DB = 1.0
"""By how much the better range has to be ahead."""

SAME_DB = 50.0
"""Two outputs that differ less than this are the same picture."""


@dataclass(frozen=True)
class ValueRange:
    """The values of white at the input and at the output, and the reason for the choice."""

    input: float
    output: float
    reason: str


@dataclass(frozen=True)
class _Trial:
    """An output for one input range, as it looks in the output range in which it resembles the picture most."""

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
        ExportError: Neither range gives a picture, or both give a different one and none is clearly better.
    """
    if stated is not None and stated not in RANGES:
        raise UsageError(
            f"--input-range is {stated:g}, but white is either 1 or 255",
            found=stated,
            wanted=RANGES,
            remedy="pass 1, 255 or auto",
        )
    if probed.input.port.dtype == "uint8":
        return _of_bytes(probed, stated, path)
    trials = [_trial(probed, white) for white in ((stated,) if stated is not None else RANGES)]
    if stated is not None:
        return ValueRange(stated, _output_range(probed, trials[0], stated), f"range 0-{stated:g}, as stated")
    best, other = sorted(trials, key=lambda trial: trial.psnr_db, reverse=True)
    if best.psnr_db < MIN_PSNR_DB:
        raise _undecided(path, trials, "neither gives the enlarged picture")
    if _psnr_db(best.picture, other.picture) > SAME_DB:
        return ValueRange(1.0, trials[0].output, "range 0-1, as 0-255 gives the same picture")
    if best.psnr_db - other.psnr_db < MIN_MARGIN_DB:
        raise _undecided(path, trials, "both give a similar picture")
    return ValueRange(best.input, best.output, f"range 0-{best.input:g}, {_compared(best, other)}")


def _of_bytes(probed: ProbedGraph, stated: float | None, path: Path) -> ValueRange:
    if stated == 1.0:
        raise UsageError(
            f"--input-range is 1, but {path} takes uint8, in which white is 255",
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


def _trial(probed: ProbedGraph, white: float) -> _Trial:
    channels = probed.input.port.channels
    picture = photograph(probed.size, channels)
    bicubic = _enlarged(picture, probed.scale)
    tensor = probed.runner.run(probed.input.port.name, replace(probed.input, white=white).encode(picture))
    outputs: list[_Trial] = []
    for output_white in RANGES if probed.output.port.dtype != "uint8" else (255.0,):
        batch = replace(probed.output, white=output_white).decode(tensor[probed.output.port.name])
        outputs.append(_Trial(white, output_white, batch, _psnr_db(batch, bicubic)))
    return max(outputs, key=lambda trial: trial.psnr_db)


def _enlarged(picture: Batch, scale: int) -> Batch:
    return np.ascontiguousarray(resize_bicubic(picture[0].transpose(1, 2, 0), scale).transpose(2, 0, 1)[np.newaxis])


def _psnr_db(first: Batch, second: Batch) -> float:
    """PSNR of the channels that both have, with 1 as the peak."""
    channels = min(first.shape[1], second.shape[1], 3)
    difference = first[:, :channels].astype(np.float64) - second[:, :channels]
    error = float(np.mean(np.square(difference)))
    return math.inf if error == 0 else -10 * math.log10(error) if math.isfinite(error) else -math.inf


def _compared(best: _Trial, other: _Trial) -> str:
    return (
        f"found by running it: {best.psnr_db:.1f} dB to the picture enlarged by bicubic interpolation, "
        f"{other.psnr_db:.1f} dB with 0-{other.input:g}"
    )


def _undecided(path: Path, trials: list[_Trial], why: str) -> ExportError:
    measured = ", ".join(f"{trial.psnr_db:.1f} dB with 0-{trial.input:g}" for trial in trials)
    return ExportError(
        f"cannot find out whether {path} works on values of 0-1 or 0-255: {why} ({measured} to bicubic interpolation)",
        found={trial.input: trial.psnr_db for trial in trials},
        wanted=MIN_PSNR_DB,
        remedy="pass --input-range 1 or --input-range 255",
    )
