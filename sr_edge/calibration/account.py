"""What was done to a network and what it cost: by layer, in a curve, and in one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sr_edge.calibration.calibration import Calibration
from sr_edge.calibration.gate import Budget, LayerSelection
from sr_edge.spec import Precision


@dataclass(frozen=True)
class LatencyMs:
    """Median milliseconds on one tile, measured in turn: float, as chosen, and with all possible layers in INT8."""

    float_ms: float
    chosen_ms: float
    all_int8_ms: float


@dataclass(frozen=True)
class LayerRow:
    """One layer that could be INT8, or why it could not.

    `observer` and `smoothing` are how its input becomes INT8; `noise_db` is the noise that it makes alone in the
    output, below white; `saved` what INT8 saves in it, in the unit of the timings. None where nothing was measured.
    """

    node: str
    op_type: str
    precision: Precision
    observer: str
    smoothing: float
    noise_db: float | None
    saved: float | None
    reason: str


@dataclass(frozen=True)
class CalibrationReport:
    """A calibration that keeps a budget, and how it came about.

    `float_precision_drop_db` is what the float network loses by `float_precision` alone, in the timed runtime; it and
    the drop of
    `choice` are within the budget together. `originals_db` is what INT8 loses against originals, which decides nothing;
    None where there were none.
    """

    calibration: Calibration
    layers: tuple[LayerRow, ...]
    choice: LayerSelection
    budget: Budget
    metric: str
    latency: LatencyMs | None
    warnings: tuple[str, ...]
    float_precision_drop_db: float = 0.0
    originals_db: float | None = None

    @property
    def float_for_budget(self) -> tuple[str, ...]:
        """The layers that would be INT8 and save time if decibels did not matter."""
        possible = [row for row in self.layers if row.noise_db is not None and row.precision is not Precision.INT8]
        return tuple(row.node for row in possible if row.node not in {*self.choice.useless, *self.choice.spare})

    @property
    def sentence(self) -> str:
        """What was done, what it costs, and what was left float for quality's sake at which price."""
        text = (
            f"{len(self.choice.int8)} of {self._possible} possible layers became INT8 and cost "
            f"{self.choice.drop_db:.3f} dB {self._float_precision_text()}"
            f"(budget {self.budget.max_drop_db:g} dB; {self.metric})"
        )
        parts = (
            self._originals_text(),
            self._tuning_text(),
            self._time_text(),
            self._price_text(),
            self._target_text(),
        )
        return f"{text}; {''.join(parts)}."

    @property
    def _possible(self) -> int:
        return sum(row.noise_db is not None for row in self.layers)

    def _originals_text(self) -> str:
        if self.originals_db is None:
            return ""
        return f"against the originals, which decide nothing, {self.originals_db:.3f} dB of PSNR of luma; "

    def _tuning_text(self) -> str:
        found = self.calibration.finetuning
        return f"fine-tuning helped {found.kept} of {len(found.tensors)} layer inputs; " if found else ""

    def _float_precision_text(self) -> str:
        timings = self.calibration.timings
        return (
            f"beside {self.float_precision_drop_db:.3f} dB of the rest in {timings.float_precision} "
            if self.float_precision_drop_db and timings
            else ""
        )

    def _time_text(self) -> str:
        timings = self.calibration.timings
        if self.latency is None or timings is None:
            return "no runtime was timed: layers were weighed by multiply-accumulates"
        slower = self.latency.chosen_ms >= self.latency.float_ms
        return (
            f"one tile takes {self.latency.chosen_ms:.2f} ms instead of {self.latency.float_ms:.2f} ms in "
            f"{timings.runtime} with {timings.float_precision} for the rest"
            + (": INT8 saves no time here, deploy it in float" if slower else "")
        )

    def _price_text(self) -> str:
        kept = self.float_for_budget
        if not kept:
            return ""
        text = f"; for the sake of quality {len(kept)} of them {'stays' if len(kept) == 1 else 'stay'} float"
        if self.latency is None or self.choice.spare:
            return text
        price_ms = self.latency.chosen_ms - self.latency.all_int8_ms
        return (
            f"{text}, which costs {max(0.0, price_ms):.2f} ms against all in INT8 ({self.latency.all_int8_ms:.2f} ms)"
        )

    def _target_text(self) -> str:
        wanted = self.budget.latency_ms
        if wanted is None:
            return ""
        if self.latency is None:
            return f"; the target of {wanted:g} ms was not looked at, for want of a timed runtime"
        spare = len(self.choice.spare)
        if self.latency.chosen_ms <= wanted:
            left = f", so {spare} more {'stays' if spare == 1 else 'stay'} float" if spare else ""
            return f"; the target of {wanted:g} ms is met{left}"
        text = (
            f"; the target of {wanted:g} ms is not met: the fastest set of INT8 layers found within "
            f"{self.budget.max_drop_db:g} dB takes {self.latency.chosen_ms:.2f} ms and costs "
            f"{self.choice.drop_db:.3f} dB"
        )
        return text + self._remedy_text(wanted)

    def _remedy_text(self, wanted_ms: float) -> str:
        """What all layers in INT8, whatever the budget, would do for the target."""
        if self.latency is None or not self.float_for_budget:
            return ""
        costs_db = [point.drop_db for point in self.choice.curve if point.int8_layers == self._possible]
        cost = f"for {costs_db[0]:.3f} dB" if costs_db else "and an output that is not finite"
        all_ms = self.latency.all_int8_ms
        would = "would meet it" if all_ms <= wanted_ms else "would not meet it either"
        return f"; all in INT8 {would}, with {all_ms:.2f} ms {cost}"


def layer_rows(calibration: Calibration, inputs: Mapping[str, str]) -> tuple[LayerRow, ...]:
    """One row for each layer of the graph, in its order; `inputs` says which tensor each possible layer reads."""
    noises = calibration.sensitivity.noise_power if calibration.sensitivity else {}
    saved = calibration.timings.saved if calibration.timings else {}
    rows = []
    for decision in calibration.decisions:
        tensor = inputs.get(decision.node, "")
        found = calibration.range_of(tensor) if tensor in calibration.ranges else None
        power = noises.get(decision.node)
        rows.append(
            LayerRow(
                decision.node,
                decision.op_type,
                Precision.INT8 if decision.int8 else Precision.FP32,
                found.observer if found else "",
                found.alpha if found else 0.0,
                None if power is None else 10.0 * math.log10(max(power, 1e-20)),
                saved.get(decision.node),
                decision.reason,
            )
        )
    return tuple(rows)
