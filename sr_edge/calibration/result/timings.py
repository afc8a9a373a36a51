"""What INT8 saves in each layer: milliseconds in a runtime, or multiply-accumulate operations where none is timed."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx

from sr_edge.calibration.graph.im2col import Layer
from sr_edge.calibration.graph.load import sized_view
from sr_edge.spec import Precision


@dataclass(frozen=True)
class Timings:
    """The time of one tile in float and with all quantizable layers in INT8, and what each of those layers saves.

    Attributes:
        saved: By node, milliseconds; or millions of multiply-accumulate operations where no runtime was timed, which
            rank the layers but are no times.
        runtime: The runtime that was timed; empty if none was.
        float_precision: The precision of the float layers in it.
        float_ms: The float graph; 0.0 where nothing was timed.
        int8_ms: The graph with all quantizable layers in INT8; 0.0 where nothing was timed.
        measured_on: The conditions that the times are valid for: runtime and version, CPU, threads and tile.
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
        """The sum of milliseconds with these layers in INT8; or the MMAC that stay float where nothing was timed."""
        total = self.float_ms if self.is_measured else sum(self.saved.values())
        # fsum is exact, so the order of the layers does not change the result.
        return total - math.fsum(self.saved.get(name, 0.0) for name in int8)


def counted_savings(model: onnx.ModelProto, layers: Mapping[str, Layer], tile: tuple[int, ...]) -> Timings:
    """Millions of multiply-accumulate operations of each layer on one tile, used where no runtime is timed."""
    shapes = sized_view(model, tile).shapes
    outputs = {node.name: node.output[0] for node in model.graph.node}
    return Timings({name: _mega_macs(layer, shapes.get(outputs[name], ())) for name, layer in layers.items()})


def _mega_macs(layer: Layer, output_shape: tuple[int | str | None, ...]) -> float:
    """Weights per output value times output values; a layer of unknown output shape counts as one position."""
    dims = [dim for dim in output_shape if isinstance(dim, int)]
    values = math.prod(dims) if len(dims) == len(output_shape) and dims else layer.output_channels
    per_value = layer.weight.size / layer.output_channels
    if layer.op.op_type == "ConvTranspose":
        per_value /= math.prod(layer.strides)
    return values * per_value / 1e6
