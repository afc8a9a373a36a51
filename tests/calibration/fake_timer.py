"""A timer with given times: it runs graphs in ONNX Runtime, and their times depend on their number of INT8 layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from sr_edge.calibration import Calibration
from sr_edge.calibration.graph.probe import InstrumentedGraph
from sr_edge.calibration.result.timings import Timings
from sr_edge.controls import Controls
from sr_edge.frames import Batch
from sr_edge.spec import Precision


@dataclass(frozen=True)
class FakeTimer:
    """A graph with n INT8 layers takes `ms[n]`; a layer saves what `saved_ms` says, else `usually_saved_ms`.

    `machine` is where the times were measured. `output_error` is added to all outputs.
    """

    ms: Sequence[float]
    saved_ms: Mapping[str, float] = field(default_factory=dict)
    usually_saved_ms: float = 1.0
    machine: str = "a machine"
    output_error: float = 0.0

    def measure_savings(
        self,
        model: onnx.ModelProto,
        calibration: Calibration,
        batch: Batch,
        float_precision: Precision,
        threads: int | None,
    ) -> Timings:
        saved = {node: self.saved_ms.get(node, self.usually_saved_ms) for node in calibration.int8_nodes}
        return Timings(saved, "openvino", float_precision, float_ms=self.ms[0], int8_ms=self.ms[-1])

    def measure_ms(
        self, graphs: Sequence[onnx.ModelProto], batch: Batch, float_precision: Precision, threads: int | None
    ) -> list[float]:
        return [self.ms[sum(node.op_type == "QuantizeLinear" for node in each.graph.node)] for each in graphs]

    def output_of(
        self, model: onnx.ModelProto, batch: Batch, float_precision: Precision, threads: int | None
    ) -> Callable[[Batch, Controls], np.ndarray[Any, Any]]:
        graph = InstrumentedGraph(model, optimize=False)
        return lambda batch, setting: graph.run(batch, setting)[0] + self.output_error

    def conditions(self, threads: int | None) -> str:
        return f"{threads} threads on {self.machine}"
