"""The calibration report: every layer, the curve of loss against time, and a summary in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sr_edge.calibration.result.calibration import Calibration
from sr_edge.calibration.selection.gate import Budget, LayerSelection
from sr_edge.printable import html_list, html_table
from sr_edge.spec import Precision


@dataclass(frozen=True)
class LatencyMs:
    """Median milliseconds for one tile in float, with the selected layers in INT8 and with all of them.

    The three graphs run in turn.

    Attributes:
        float_ms: In float.
        chosen_ms: With the selected layers in INT8.
        all_int8_ms: With all quantizable layers in INT8.
    """

    float_ms: float
    chosen_ms: float
    all_int8_ms: float


@dataclass(frozen=True)
class LayerRow:
    """One layer of the graph with its precision and the reason for it.

    `observer` and `smoothing` describe how the input of the layer is quantized; `noise_db` is the power of the noise
    that the layer alone adds to the output, relative to the input range; `saved` is what INT8 saves in it, in the unit
    of the timings. None if nothing was measured.

    Attributes:
        node: Name of the operator.
        op_type: Its type, for example "Conv".
        precision: The precision that it has in the INT8 graph.
        observer: How the range of its input was found.
        smoothing: Exponent with which ranges are moved from the input to the weights; 0 for none.
        noise_db: Noise that it adds to the output.
        saved: What INT8 saves in it.
        reason: Why it has this precision.
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
    """The result of a calibration within a budget, and how it came about.

    `float_precision_drop_db` is the loss of the float network when it runs in the precision of the float layers, in the
    runtime that was timed. It and the loss of `selection` are within the budget together. `originals_db` is the loss of
    INT8 against original pictures, which does not affect the selection; None if there are no originals.

    Attributes:
        calibration: What the INT8 graph is written from.
        layers: Every layer with its precision.
        selection: The layers in INT8, and the curve of loss against time.
        budget: What was asked for.
        metric: What the loss is measured with, in words.
        latency: Measured times; None where no runtime was timed.
        warnings: Notes on the images and the result.
        float_precision_drop_db: Loss by the precision of the float layers.
        originals_db: Loss of INT8 against original pictures.
    """

    calibration: Calibration
    layers: tuple[LayerRow, ...]
    selection: LayerSelection
    budget: Budget
    metric: str
    latency: LatencyMs | None
    warnings: tuple[str, ...]
    float_precision_drop_db: float = 0.0
    originals_db: float | None = None

    def __repr__(self) -> str:
        return f"<CalibrationReport {self.in_short}>"

    def _repr_html_(self) -> str:
        rows = [
            (row.node, row.op_type, str(row.precision), _decimals(row.noise_db, 1), _decimals(row.saved, 3), row.reason)
            for row in self.layers
        ]
        text_headings = ("layer", "operator", "precision", "reason")
        headings = (*text_headings[:3], "noise dB", "saved", text_headings[3])
        return html_list(self.sentence, self.warnings) + html_table(headings, rows, text_headings)

    @property
    def in_short(self) -> str:
        """The number of INT8 layers and their loss, in a few words."""
        layers = f"{len(self.selection.int8)} of {self._quantizable} quantizable layers in INT8"
        return f"{layers}, {self.selection.drop_db:.3f} dB lost of at most {self.budget.max_drop_db:g} dB"

    @property
    def float_for_budget(self) -> tuple[str, ...]:
        """The layers that stay float for quality: INT8 would exceed the budget, or lose too much for its gain."""
        quantizable = [row for row in self.layers if row.noise_db is not None and row.precision is not Precision.INT8]
        other_reasons = {*self.selection.without_gain, *self.selection.not_needed}
        return tuple(row.node for row in quantizable if row.node not in other_reasons)

    @property
    def sentence(self) -> str:
        """A summary in sentences: the INT8 layers, their loss, the time saved, and what the budget costs in time."""
        sentences = (
            f"{len(self.selection.int8)} of {self._quantizable} quantizable layers became INT8.",
            self._loss_text(),
            f"The loss is {self.metric}.",
            self._originals_text(),
            self._finetuning_text(),
            self._time_text(),
            self._float_for_budget_text(),
            self._target_text(),
        )
        return " ".join(filter(None, sentences))

    @property
    def _quantizable(self) -> int:
        return sum(row.noise_db is not None for row in self.layers)

    def _loss_text(self) -> str:
        timings = self.calibration.timings
        float_precision = (
            f", and running the float layers in {timings.float_precision} loses {self.float_precision_drop_db:.3f} dB"
            if self.float_precision_drop_db and timings
            else ""
        )
        loss = f"INT8 loses {self.selection.drop_db:.3f} dB{float_precision}"
        return f"{loss}, within the budget of {self.budget.max_drop_db:g} dB."

    def _originals_text(self) -> str:
        if self.originals_db is None:
            return ""
        return (
            f"Against the originals, INT8 loses {self.originals_db:.3f} dB of luma PSNR, which does not affect the "
            "selection of layers."
        )

    def _finetuning_text(self) -> str:
        finetuning = self.calibration.finetuning
        if not finetuning:
            return ""
        return f"Fine-tuning improved {finetuning.kept} of {len(finetuning.tensors)} layer inputs."

    def _time_text(self) -> str:
        timings = self.calibration.timings
        if self.latency is None or timings is None:
            return "No runtime was timed: layers were ranked by their number of multiply-accumulate operations."
        text = (
            f"One tile takes {self.latency.chosen_ms:.2f} ms instead of {self.latency.float_ms:.2f} ms in "
            f"{timings.runtime} with the float layers in {timings.float_precision}."
        )
        if self.latency.chosen_ms < self.latency.float_ms:
            return text
        return f"{text} INT8 saves no time here: deploy the float model."

    def _float_for_budget_text(self) -> str:
        count = len(self.float_for_budget)
        if not count:
            return ""
        text = f"{count} {'layer stays' if count == 1 else 'layers stay'} float because INT8 would lose too much there"
        if self.latency is None or self.selection.not_needed:
            return f"{text}."
        price_ms = self.latency.chosen_ms - self.latency.all_int8_ms
        less = f", which is {price_ms:.2f} ms less" if price_ms >= 0.005 else ""
        return f"{text}; with all layers in INT8 one tile would take {self.latency.all_int8_ms:.2f} ms{less}."

    def _target_text(self) -> str:
        target_ms = self.budget.latency_ms
        if target_ms is None:
            return ""
        if self.latency is None:
            return f"The latency target of {target_ms:g} ms was not considered, because no runtime was timed."
        count = len(self.selection.not_needed)
        if self.latency.chosen_ms <= target_ms:
            more = f", so {count} more {'layer stays' if count == 1 else 'layers stay'} float" if count else ""
            return f"The latency target of {target_ms:g} ms is met{more}."
        text = (
            f"The latency target of {target_ms:g} ms is not met: the fastest set of INT8 layers within "
            f"{self.budget.max_drop_db:g} dB takes {self.latency.chosen_ms:.2f} ms and loses "
            f"{self.selection.drop_db:.3f} dB."
        )
        return f"{text}{self._all_int8_text(target_ms)}"

    def _all_int8_text(self, target_ms: float) -> str:
        """Whether all layers in INT8 would meet the latency target, and what they would lose."""
        if self.latency is None or not self.float_for_budget:
            return ""
        losses_db = [point.drop_db for point in self.selection.curve if point.int8_layers == self._quantizable]
        loss = f"a loss of {losses_db[0]:.3f} dB" if losses_db else "an output that is not finite"
        all_ms = self.latency.all_int8_ms
        would = "would meet it" if all_ms <= target_ms else "would not meet it either"
        return f" All layers in INT8 {would}, with {all_ms:.2f} ms and {loss}."


def layer_rows(calibration: Calibration, inputs: Mapping[str, str]) -> tuple[LayerRow, ...]:
    """One row for each layer of the graph, in graph order.

    Args:
        calibration: The calibration with the selected layers.
        inputs: The name of the input tensor of each quantizable layer.
    """
    noises = calibration.sensitivity.noise_power if calibration.sensitivity else {}
    saved = calibration.timings.saved if calibration.timings else {}
    rows = []
    for decision in calibration.decisions:
        tensor = inputs.get(decision.node, "")
        tensor_range = calibration.range_of(tensor) if tensor in calibration.ranges else None
        power = noises.get(decision.node)
        rows.append(
            LayerRow(
                decision.node,
                decision.op_type,
                Precision.INT8 if decision.int8 else Precision.FP32,
                tensor_range.observer if tensor_range else "",
                tensor_range.alpha if tensor_range else 0.0,
                None if power is None else 10.0 * math.log10(max(power, 1e-20)),
                saved.get(decision.node),
                decision.reason,
            )
        )
    return tuple(rows)


def _decimals(value: float | None, places: int) -> str:
    return "-" if value is None else f"{value:.{places}f}"
