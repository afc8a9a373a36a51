"""Determines scale, layout and accepted sizes of a graph by running it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from sr_edge.errors import ExportError
from sr_edge.export.graph.patches import check_patches
from sr_edge.frames import Batch
from sr_edge.model_sources.onnx_file.picture_runs import PictureFormat, PictureRunner, Tensor
from sr_edge.model_sources.onnx_file.ports import CHANNELS, Layout, Port, input_candidates, picture_input
from sr_edge.spec import Control, TileSpec

SCALES = (1, 2, 3, 4, 8, 16)

_TRIAL_SIZES = ((64, 48), (96, 72), (64, 64), (96, 96), (128, 128), (224, 224), (256, 256), (60, 60), (70, 70))
"""Heights and widths at which a graph of any size is tried; those that are not square first, as they tell the axes."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32).reshape(1, 3, 1, 1)


@dataclass(frozen=True)
class ProbedGraph:
    """What runs of a graph showed.

    Attributes:
        runner: The opened graph.
        input: How the graph takes the picture, in its own range of values.
        output: How it returns the picture.
        scale: Magnification.
        size: Height and width at which it ran.
        multiple_px: Height and width have to be multiples of this.
        minimum_px: The smallest height and width at which it ran.
        square: Whether it runs only where height and width are equal.
        one_size: Whether it runs at `size` only.
    """

    runner: PictureRunner
    input: PictureFormat
    output: PictureFormat
    scale: int
    size: TileSpec
    multiple_px: int
    minimum_px: int
    square: bool
    one_size: bool


def with_formats(probed: ProbedGraph, *, is_bgr: bool, value_range: tuple[float, float] | None = None) -> ProbedGraph:
    """The same graph with a known order of channels and, for input and output, a known value range."""
    source_range, result_range = value_range or (probed.input.value_range, probed.output.value_range)
    return replace(
        probed,
        input=replace(probed.input, is_bgr=is_bgr, value_range=source_range),
        output=replace(probed.output, is_bgr=is_bgr, value_range=result_range),
    )


def photograph(size: TileSpec, channels: int) -> Batch:
    """A bundled photograph, float32 (1, channels, height, width) in [0, 1]: RGB, its luma, or opaque RGBA."""
    rgb = check_patches(size)[1].batch
    if channels == 1:
        return np.asarray((rgb * _LUMA).sum(axis=1, keepdims=True), np.float32)
    return rgb if channels == 3 else np.concatenate([rgb, np.ones_like(rgb[:, :1])], axis=1)


def probe_graph(
    model: onnx.ModelProto,
    path: Path,
    scale: int | None = None,
    controls: Sequence[Control] = (),
    tile: TileSpec | None = None,
) -> ProbedGraph:
    """Runs a float32 graph on pictures of several sizes.

    Args:
        model: The graph.
        path: Its file, for error messages.
        scale: The magnification that the user states; None accepts any.
        controls: Its scalar inputs.
        tile: The size at which it is to be run; it is tried first.

    Raises:
        ExportError: It runs at no size, or returns no picture that is larger by one of `SCALES`, or by `scale`.
    """
    runner = PictureRunner(model, controls)
    value = picture_input(model, path, [control.name for control in controls])
    not_run: list[ExportError] = []
    not_enlarged: list[ExportError] = []
    for port in input_candidates(value, path):
        source = PictureFormat(port, _white(port))
        for size in _sizes_of(port, tile):
            try:
                outputs = runner.run(port.name, source.encode(photograph(size, port.channels)))
            except ExportError as error:
                not_run.append(_not_runnable(error, path))
                continue
            try:
                output, measured = _picture_output(outputs, port, size, path)
            except ExportError as error:  # it may be a network for multiples of another number, which crops
                not_enlarged.append(error)
                continue
            _require_scale(measured, scale, path)
            return _with_sizes(runner, port, output, measured, size)
    raise (not_enlarged or not_run)[0]


def _not_runnable(error: ExportError, path: Path) -> ExportError:
    return ExportError(
        f"{path} cannot run on a picture: {error.problem}",
        found=error.found,
        remedy="export it again, and check that it runs in ONNX Runtime",
    )


def _require_scale(measured: int, scale: int | None, path: Path) -> None:
    if scale not in (None, measured):
        raise ExportError(
            f"{path} enlarges pictures {measured} times, not {scale} times",
            found=measured,
            wanted=scale,
            remedy=f"pass --scale {measured}, or leave it out",
        )


def _sizes_of(port: Port, tile: TileSpec | None) -> Iterator[TileSpec]:
    height, width = port.height_width
    if height is not None or width is not None:
        yield TileSpec(height or width or 1, width or height or 1)
        return
    if tile is not None:
        yield tile
    for size in _TRIAL_SIZES:
        yield TileSpec(*size)


def _white(port: Port) -> float:
    return 255.0 if port.dtype == "uint8" else 1.0


def _picture_output(outputs: Mapping[str, Tensor], port: Port, size: TileSpec, path: Path) -> tuple[Port, int]:
    """The output that is the enlarged picture: of the channels of the input if possible, and the largest."""
    pictures = [
        (output, scale)
        for name, tensor in outputs.items()
        for output, scale in _as_picture(name, tensor, port.batch, size)
    ]
    if not pictures:
        shapes = ", ".join(f"{name} {tensor.shape}" for name, tensor in outputs.items()) or "no tensor"
        raise ExportError(
            f"{path} turns a picture of {size} into {shapes}, none of which is that picture enlarged by "
            f"{', '.join(map(str, SCALES[:-1]))} or {SCALES[-1]}",
            found=tuple(tensor.shape for tensor in outputs.values()),
            wanted=SCALES,
            remedy="give a super-resolution network, whose output is a multiple of its input in height and width",
        )
    return max(pictures, key=lambda picture: (picture[0].channels == port.channels, picture[1]))


def _as_picture(name: str, tensor: Tensor, batch: int, size: TileSpec) -> Iterator[tuple[Port, int]]:
    if tensor.ndim != 4 or tensor.shape[0] != batch or tensor.dtype not in (np.float32, np.uint8):
        return
    for layout in Layout:
        channels, height, width = (tensor.shape[axis] for axis in layout.axes)
        scale = height // size.height
        if channels in CHANNELS and scale in SCALES and (height, width) == (scale * size.height, scale * size.width):
            yield Port(name, str(tensor.dtype), layout, channels, tuple(tensor.shape)), scale


def _with_sizes(runner: PictureRunner, port: Port, output: Port, scale: int, size: TileSpec) -> ProbedGraph:
    source, result = PictureFormat(port, _white(port)), PictureFormat(output, _white(output))
    trials = _Trials(runner, source, output, scale)
    multiple = trials.multiple(size) if port.height_width == (None, None) else None
    if multiple is None:
        return ProbedGraph(runner, source, result, scale, size, 1, 1, square=False, one_size=True)
    minimum = trials.minimum(multiple, size)
    square = not trials.upscales(size.height + multiple, size.width + 2 * multiple)
    return ProbedGraph(runner, source, result, scale, size, multiple, minimum, square, one_size=False)


@dataclass(frozen=True)
class _Trials:
    """Runs of a graph at other sizes."""

    runner: PictureRunner
    source: PictureFormat
    output: Port
    scale: int

    def upscales(self, height: int, width: int) -> bool:
        """Whether the graph runs at a size and enlarges it exactly."""
        black = np.zeros((1, self.source.port.channels, height, width), np.float32)
        try:
            tensor = self.runner.run(self.source.port.name, self.source.encode(black))[self.output.name]
        except ExportError:
            return False
        _, upscaled_height, upscaled_width = (tensor.shape[axis] for axis in self.output.layout.axes)
        return (upscaled_height, upscaled_width) == (self.scale * height, self.scale * width)

    def multiple(self, size: TileSpec) -> int | None:
        """The smallest number by which both sides can grow; None if they cannot grow by their common divisor either.

        Each prime factor is removed as long as the graph runs.
        """
        if self.upscales(size.height + 1, size.width + 1):
            return 1
        divisor = math.gcd(size.height, size.width)
        for prime in _prime_factors(divisor):
            while divisor % prime == 0 and self._grows(size, divisor // prime):
                divisor //= prime
        return divisor if self._grows(size, divisor) else None

    def minimum(self, multiple: int, size: TileSpec) -> int:
        """The smallest multiple, of those that double each time, at which the graph runs."""
        pixels = multiple
        while pixels < min(size.height, size.width) and not self.upscales(pixels, pixels):
            pixels *= 2
        return min(pixels, *(side // multiple * multiple for side in (size.height, size.width)))

    def _grows(self, size: TileSpec, by_px: int) -> bool:
        return self.upscales(size.height + by_px, size.width + by_px)


def _prime_factors(number: int) -> Sequence[int]:
    return [n for n in range(2, number + 1) if number % n == 0 and all(n % smaller for smaller in range(2, n))]
