"""An ONNX file as the network that is deployed: its graph for a tile, and the file itself as the float32 reference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import onnx

from sr_edge.controls import Controls
from sr_edge.errors import TileError, WeightsError
from sr_edge.frames import Batch
from sr_edge.model_sources.onnx_file import OnnxModel
from sr_edge.model_sources.onnx_file.other_sizes import with_open_sizes
from sr_edge.model_sources.onnx_file.picture_runs import PictureFormat, PictureGraph, PictureRunner
from sr_edge.model_sources.onnx_file.rewrites.float32 import with_float32
from sr_edge.spec import TileSpec


@dataclass(frozen=True)
class ReferenceFile:
    """The user's file, as export compares its graph with it (`sr_edge.export.graph.file_network.NetworkFile`).

    The reference of a file in fp16 is the same graph computed in float32. Nothing else is changed: its layout, its
    range, its batch and its operators are those of the file.

    Attributes:
        model: the file as it was read.
    """

    model: OnnxModel

    @property
    def path(self) -> Path:
        return self.model.path

    @property
    def fixed_tile(self) -> TileSpec | None:
        return self.model.fixed_tile

    @property
    def input_step(self) -> float:
        return _step(self.model.input)

    @property
    def output_step(self) -> float:
        return _step(self.model.output)

    def graph(self, tile: TileSpec) -> onnx.ModelProto:
        return self.model.graph(tile)

    def run(self, batch: Batch, setting: Controls, optimize: bool = True) -> Batch:
        size = TileSpec(*batch.shape[2:])
        is_own_size = self.fixed_tile in (None, size)
        runner = self._at_other_size(size) if not is_own_size else self._optimized if optimize else self._plain
        source, result = self._float32.input, self._float32.output
        return result.decode(runner.run(source.port.name, source.encode(batch), setting)[result.port.name])

    def _at_other_size(self, size: TileSpec) -> PictureRunner:
        """Opens a file of one size to another one, at which tiles are compared with a whole image.

        Raises:
            WeightsError: the file computes something else there, or cannot run.
        """
        if self.fixed_tile is not None and size not in self._other_sizes:
            try:
                opened = with_open_sizes(self._float32, self.fixed_tile, size, self.model.card.scale, self.path)
            except TileError as error:
                raise WeightsError(error.problem, found=error.found, wanted=error.wanted) from error
            self._other_sizes[size] = PictureRunner(opened, self.model.card.controls)
        return self._other_sizes[size]

    @cached_property
    def _other_sizes(self) -> dict[TileSpec, PictureRunner]:
        return {}

    @cached_property
    def _float32(self) -> PictureGraph:
        reference = self.model.reference
        widened, _ = with_float32(reference.model)
        return replace(
            reference, model=widened, input=reference.input.in_float32(), output=reference.output.in_float32()
        )

    @cached_property
    def _optimized(self) -> PictureRunner:
        return PictureRunner(self._float32.model, self.model.card.controls)

    @cached_property
    def _plain(self) -> PictureRunner:
        return PictureRunner(self._float32.model, self.model.card.controls, optimize=False)


def _step(picture: PictureFormat) -> float:
    return 1 / 255 if picture.port.dtype == "uint8" else 0.0
