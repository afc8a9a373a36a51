"""What INT8 saves in each layer: milliseconds measured in a runtime, or multiply-accumulates where none is measured."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx

from sr_edge.calibration.columns import Layer
from sr_edge.calibration.graph import sized_view
from sr_edge.spec import Precision


@dataclass(frozen=True)
class Timings:
    """One tile in float and with every possible layer in INT8, and what each of those layers saves.

    Where nothing was measured `runtime` is empty, `float_ms` and `int8_ms` are 0, and `saved` counts millions of
    multiply-accumulates, which says which layers matter more but not by how much time. `measured_on` is all that the
    times hold for: runtime and version, CPU, threads and tile.
    """

    saved: Mapping[str, float]
    runtime: str = ""
    float_precision: Precision = Precision.FP32
    float_ms: float = 0.0
    int8_ms: float = 0.0
    measured_on: str = ""

    @property
    def is_measured(self) -> bool:
        return bool(self.runtime)

    @property
    def unit(self) -> str:
        return "ms" if self.is_measured else "MMAC"

    def cost(self, int8: Collection[str]) -> float:
        """Milliseconds of the graph with these layers in INT8, by adding up; or the MMAC that stay in float."""
        everything = self.float_ms if self.is_measured else sum(self.saved.values())
        return everything - math.fsum(self.saved.get(name, 0.0) for name in int8)  # the same in any order


def counted_savings(model: onnx.ModelProto, layers: Mapping[str, Layer], tile: tuple[int, ...]) -> Timings:
    """Multiply-accumulates of each layer on one tile, in millions: what stands for time where no runtime is there."""
    shapes = sized_view(model, tile).shapes
    outputs = {node.name: node.output[0] for node in model.graph.node}
    return Timings({name: _mega_macs(layer, shapes.get(outputs[name], ())) for name, layer in layers.items()})


def _mega_macs(layer: Layer, output_shape: tuple[int | str | None, ...]) -> float:
    """Weights per output value times output values; a layer of unknown shape counts as one position."""
    sides = [side for side in output_shape if isinstance(side, int)]
    values = math.prod(sides) if len(sides) == len(output_shape) and sides else layer.output_channels
    per_value = layer.weight.size / layer.output_channels
    if layer.op.op_type == "ConvTranspose":
        per_value /= math.prod(layer.strides)
    return values * per_value / 1e6
