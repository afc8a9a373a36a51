"""An ONNX file as the network that is deployed: its graph for a tile, and the file itself as the float32 reference."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx

from sr_edge.controls import Controls
from sr_edge.errors import WeightsError
from sr_edge.frames import Batch
from sr_edge.model_sources.onnx_file import OnnxModel
from sr_edge.model_sources.onnx_file.picture_runs import PictureFormat, PictureRunner
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
        self._require_size(batch)
        runner = self._optimized if optimize else self._plain
        source, result = self.model.reference.input.in_float32(), self.model.reference.output.in_float32()
        return result.decode(runner.run(source.port.name, source.encode(batch), setting)[result.port.name])

    def _require_size(self, batch: Batch) -> None:
        size = TileSpec(*batch.shape[2:])
        if self.fixed_tile not in (None, size):
            raise WeightsError(
                f"{self.path.name} runs on images of {self.fixed_tile} alone, not of {size}",
                found=size,
                wanted=self.fixed_tile,
                remedy="give a file of the network with dynamic height and width",
            )

    @cached_property
    def _float32(self) -> onnx.ModelProto:
        return with_float32(self.model.reference.model)[0]

    @cached_property
    def _optimized(self) -> PictureRunner:
        return PictureRunner(self._float32, self.model.card.controls)

    @cached_property
    def _plain(self) -> PictureRunner:
        return PictureRunner(self._float32, self.model.card.controls, optimize=False)


def _step(picture: PictureFormat) -> float:
    return 1 / 255 if picture.port.dtype == "uint8" else 0.0
