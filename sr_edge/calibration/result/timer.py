"""The interface to a runtime in which layers are timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import onnx

from sr_edge.calibration.result.calibration import Calibration
from sr_edge.calibration.result.timings import Timings
from sr_edge.controls import Controls
from sr_edge.frames import Batch
from sr_edge.spec import Precision


class Timer(Protocol):
    """Times and runs graphs in one runtime, on tiles of the size of `batch`.

    `float_precision` is the precision of all layers that are not INT8. If `threads` is None, the runtime chooses the
    number of threads.
    """

    def measure_savings(
        self,
        model: onnx.ModelProto,
        calibration: Calibration,
        batch: Batch,
        float_precision: Precision,
        threads: int | None,
    ) -> Timings:
        """The time that each INT8 layer of the calibration saves."""
        ...

    def measure_ms(
        self, graphs: Sequence[onnx.ModelProto], batch: Batch, float_precision: Precision, threads: int | None
    ) -> list[float]:
        """The median milliseconds of each graph on one tile; the graphs run in turn."""
        ...

    def output_of(
        self, model: onnx.ModelProto, batch: Batch, float_precision: Precision, threads: int | None
    ) -> Callable[[Batch, Controls], np.ndarray[Any, Any]]:
        """Compiles the graph and returns a function that gives its first output for a batch and control values."""
        ...

    def conditions(self, threads: int | None) -> str:
        """The conditions that times are valid for, in words: runtime, version, CPU and threads."""
        ...
