"""How a network is to be calibrated: the budget, the method, the runtime that layers are timed in, and the limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from sr_edge.calibration.ranges.collect import OBSERVED_BYTES
from sr_edge.calibration.ranges.finetuning import SAMPLES
from sr_edge.calibration.ranges.observers import OBSERVERS
from sr_edge.calibration.ranges.search import SEARCH
from sr_edge.calibration.ranges.unsigned import INPUT_RANGES
from sr_edge.calibration.result.timer import Timer
from sr_edge.calibration.selection import openvino_timings as openvino_timer
from sr_edge.calibration.selection.gate import Budget
from sr_edge.errors import RuntimeUnavailable, UnknownNameError, UsageError
from sr_edge.runtimes import availability
from sr_edge.spec import Precision, take_names

METHODS = (SEARCH, *(observer.name for observer in OBSERVERS))
"""Names of the calibration methods."""

TIMED_RUNTIMES = ("openvino",)
"""Runtimes in which layers can be timed; for all others the number of multiply-accumulate operations ranks them."""

NOT_TIMED = "none"


def require_known_method(name: str) -> None:
    """Raises UnknownNameError for a name that is not in METHODS."""
    if name not in METHODS:
        raise UnknownNameError("calibration method", name, list(METHODS))


def timed_runtime(name: str | None) -> str:
    """The name of the runtime in which layers are timed; empty if none is.

    Args:
        name: A runtime, or "none"; None takes OpenVINO if it is installed.

    Raises:
        UnknownNameError: Layers cannot be timed in a runtime of that name.
        RuntimeUnavailable: The named runtime does not work on this machine.
    """
    if name is None:
        return next((runtime for runtime in TIMED_RUNTIMES if availability(runtime).works), "")
    if name == NOT_TIMED:
        return ""
    if name not in TIMED_RUNTIMES:
        raise UnknownNameError("runtime for timing layers", name, [*TIMED_RUNTIMES, NOT_TIMED])
    status = availability(name)
    if not status.works:
        raise RuntimeUnavailable(
            f"layers cannot be timed in {name} on this machine: {status.reason}",
            found=name,
            remedy=f"run: {status.how_to_install}",
        )
    return name


@dataclass(frozen=True)
class CalibrationConfig:
    """The configuration of a calibration within a budget.

    Attributes:
        budget: The largest loss, and perhaps a latency target.
        method: As in `calibrate`.
        include: As in `calibrate`.
        exclude: As in `calibrate`.
        runtime: One of TIMED_RUNTIMES, in which every layer is timed. If empty, the layers are ranked by their number
            of multiply-accumulate operations.
        float_precision: The precision of the float layers in that runtime.
        threads: The number of threads of that runtime; None leaves it to the runtime.
        input_range: The range of the graph's input and output: 1 for 0 to 1, or 255 for 0 to 255.
        finetune: The number of fine-tuning sweeps over the weights of each layer.
        timer: Measures in that runtime.
    """

    budget: Budget = field(default_factory=Budget)
    method: str = SEARCH
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    runtime: str = ""
    float_precision: Precision = Precision.FP32
    threads: int | None = None
    input_range: float = 1.0
    finetune: int = 0
    timer: Timer = openvino_timer

    def __post_init__(self) -> None:
        take_names(self, float_precision=Precision)
        require_known_method(self.method)
        if self.runtime and self.runtime not in TIMED_RUNTIMES:
            raise UnknownNameError("runtime for timing layers", self.runtime, list(TIMED_RUNTIMES))
        if self.budget.latency_ms is not None and not self.runtime:
            raise UsageError(
                f"a latency target of {self.budget.latency_ms:g} ms needs a runtime in which layers are timed",
                found=self.budget.latency_ms,
                wanted=TIMED_RUNTIMES,
                remedy=f"choose {' or '.join(TIMED_RUNTIMES)} where it is installed, or leave out the target",
            )
        if self.float_precision is Precision.INT8:
            floats = tuple(precision for precision in Precision if precision is not Precision.INT8)
            raise UsageError(
                f"the float layers of an INT8 graph cannot run in {self.float_precision}",
                found=self.float_precision,
                wanted=floats,
                remedy=f"choose one of: {', '.join(floats)}",
            )
        if self.float_precision is Precision.BF16 and not self.runtime:
            raise UsageError(
                "bf16 float layers are taken into account only where layers are timed in a runtime",
                found=str(self.float_precision),
                wanted=TIMED_RUNTIMES,
                remedy="choose a runtime to time them in, or leave the precision out",
            )
        if not (math.isfinite(self.input_range) and self.input_range > 0.0):
            raise UsageError(
                f"the input range is {self.input_range:g}, but it must be a finite number above 0",
                found=self.input_range,
                wanted=INPUT_RANGES,
                remedy=f"choose {' or '.join(f'{input_range:g}' for input_range in INPUT_RANGES)}",
            )
        if self.finetune < 0:
            raise UsageError(
                f"the number of fine-tuning steps is {self.finetune}, but it cannot be negative",
                found=self.finetune,
                wanted="0 or more",
                remedy="choose 0 for no fine-tuning, or 20",
            )


@dataclass(frozen=True)
class Limits:
    """The memory limit and the number of samples of a calibration, and how often its cache is written.

    Attributes:
        observed_bytes: Memory for the tensors that are observed in one pass over the patches.
        finetuning_samples: The number of output positions of each layer on which fine-tuning fits and validates it.
        save_every: The number of layers whose noise is measured between two writes of the cache.
    """

    observed_bytes: int = OBSERVED_BYTES
    finetuning_samples: int = SAMPLES
    save_every: int = 8


USUAL_LIMITS = Limits()
