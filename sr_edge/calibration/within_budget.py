"""Calibration within a budget: range search, sensitivity, layer selection by measured quality, and a report."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from sr_edge.calibration.config import USUAL_LIMITS, CalibrationConfig, Limits
from sr_edge.calibration.data.hard_edges import hard_edged_patches
from sr_edge.calibration.data.patch import HeldOut
from sr_edge.calibration.data.patch_checks import require_usable
from sr_edge.calibration.graph.im2col import quantizable_layers
from sr_edge.calibration.graph.load import load_graph
from sr_edge.calibration.graph.probe import float_picture, require_batches
from sr_edge.calibration.post_training import calibrate
from sr_edge.calibration.qdq.fake_quant import FakeQuantGraph
from sr_edge.calibration.ranges.finetuning import finetune, require_enough
from sr_edge.calibration.ranges.input_range import range_warning
from sr_edge.calibration.result.cache import write_cache
from sr_edge.calibration.result.calibration import Calibration, Sensitivity
from sr_edge.calibration.result.timings import Timings, counted_savings
from sr_edge.calibration.selection.gate import Budget, LayerSelection, choose_layers
from sr_edge.calibration.selection.latency_target import choose_for_target, require_float_misses
from sr_edge.calibration.selection.quality import QualityEvaluator
from sr_edge.calibration.selection.report import CalibrationReport, LatencyMs, layer_rows
from sr_edge.calibration.selection.sensitivity import measure_sensitivity
from sr_edge.calibration.selection.whole_graphs import GraphTimes, fastest_within_budget
from sr_edge.calibration.verify import require_equivalent_output
from sr_edge.errors import NothingToQuantize
from sr_edge.export.graph.metadata import graph_controls
from sr_edge.frames import Batch
from sr_edge.spec import Precision, StageProgress

USUAL_CHECKS = 8
"""The number of joint checks that a selection usually takes; only the progress bar uses it."""


def calibrate_within(
    onnx_path: Path,
    batches: Sequence[Batch],
    held_out: Sequence[HeldOut],
    config: CalibrationConfig,
    *,
    progress: StageProgress = lambda stage, done, total: None,
    cache: Path | None = None,
    recalibrate: bool = False,
    limits: Limits = USUAL_LIMITS,
) -> CalibrationReport:
    """Finds the INT8 layers that save the most time while their joint loss stays within the budget.

    Args:
        onnx_path: The float32 graph.
        batches: Calibration patches in [0, 1]; a few black and white versions of them are added.
        held_out: Other patches, on which the loss is measured. If they have originals, the loss against those is
            reported as well.
        config: The budget, the method and the runtime.
        progress: Called with (stage, steps done, steps in all).
        cache: As in `calibrate`; also stores noises and timings, so that an interrupted run can be continued.
        recalibrate: Measures everything and replaces the cache.
        limits: The memory limit, the number of samples, and how often the cache is written.

    Raises:
        CalibrationError: See `calibrate`; also if all patches have a single colour or are identical, or if the output
            of the INT8 graph does not match the simulation.
        NothingToQuantize: Every single layer exceeds the budget on its own, the precision of the float layers alone
            exceeds it, or the float graph meets the latency target.
    """
    warnings = require_usable(batches)
    if config.finetune:
        require_enough(len(batches))
    in_range = [patch * np.float32(config.input_range) for patch in (*batches, *hard_edged_patches(batches))]
    calibrator = _Calibrator(onnx_path, in_range, held_out, config, progress, cache, limits)
    calibrator.measure_float_ms()
    calibration = calibrator.with_ranges(recalibrate)
    warnings = (*warnings, *filter(None, [range_warning(calibrator.model, batches, config.input_range)]))
    calibration = calibrator.with_finetuning(calibration)
    return replace(calibrator.report(calibration), warnings=warnings)


class _Calibrator:
    """The steps of one calibration, and what all of them need.

    `batches` are in the input range of the graph, `held_out` in [0, 1].
    """

    def __init__(
        self,
        onnx_path: Path,
        batches: Sequence[Batch],
        held_out: Sequence[HeldOut],
        config: CalibrationConfig,
        progress: StageProgress,
        cache: Path | None,
        limits: Limits,
    ) -> None:
        self.model = load_graph(onnx_path)
        self._onnx_path = onnx_path
        self._batches = batches
        self._held_out = held_out
        self._config = config
        self._progress = progress
        self._cache = cache
        self._limits = limits
        self._float_ms: float | None = None

    def measure_float_ms(self) -> None:
        """Times the float graph first where there is a latency target: if it meets the target, nothing else is done."""
        if self._config.budget.latency_ms is None:
            return
        require_batches(self.model, self._batches)
        (self._float_ms,) = self._measure_ms([self.model])
        where = f"in {self._config.runtime} with {self._config.float_precision}"
        require_float_misses(self._float_ms, self._config.budget, where)

    def with_ranges(self, recalibrate: bool) -> Calibration:
        """The ranges of every layer that can be INT8, also of the first and the last one: measurements decide."""
        return calibrate(
            self._onnx_path,
            self._batches,
            method=self._config.method,
            include=self._config.include,
            exclude=self._config.exclude,
            ends_float=False,
            progress=lambda done, total: self._progress("calibrating", done, total),
            cache=self._cache,
            recalibrate=recalibrate,
            observed_bytes=self._limits.observed_bytes,
        )

    def with_finetuning(self, calibration: Calibration) -> Calibration:
        if self._held_out:
            require_batches(self.model, [held.patch for held in self._held_out])
        if not self._config.finetune:
            return replace(calibration, finetuning=None)
        return finetune(
            self.model,
            calibration,
            self._batches,
            self._config.finetune,
            lambda done, total: self._progress("fine-tuning", done, total),
            self._save,
            samples=self._limits.finetuning_samples,
            observed_bytes=self._limits.observed_bytes,
        )

    def report(self, calibration: Calibration) -> CalibrationReport:
        """Measures noise and time of the layers, selects those to make INT8, and checks the graph that they give."""
        config = self._config
        fake_quant = FakeQuantGraph(self.model, calibration)
        evaluator = QualityEvaluator(fake_quant, self._held_out, graph_controls(self.model), config.input_range)
        sensitivity = self._sensitivity(calibration, evaluator)
        timings = self._timings(calibration)
        calibration = replace(calibration, sensitivity=sensitivity, timings=timings)
        self._save(calibration)
        patch = self._held_out[0].patch * np.float32(config.input_range)
        float_precision_drop_db = self._float_precision_drop_db(evaluator, patch)
        single_db = {node: evaluator.db_of_noise(sensitivity.noise_power[node]) for node in calibration.int8_nodes}
        budget = _left_for_int8(config, float_precision_drop_db)
        selection, latency = self._select(calibration, timings, single_db, evaluator, budget)
        selected = _with_selection(calibration, selection, config.budget)
        require_equivalent_output(self.model, selected, patch, config.runtime, config.timer, config.threads)
        inputs = {name: layer.op.activation for name, layer in quantizable_layers(self.model).items()}
        return CalibrationReport(
            selected,
            layer_rows(selected, inputs),
            selection,
            config.budget,
            evaluator.metric,
            latency,
            (),
            float_precision_drop_db,
            evaluator.drop_on_originals_db(selection.int8),
        )

    def _sensitivity(self, calibration: Calibration, evaluator: QualityEvaluator) -> Sensitivity:
        return measure_sensitivity(
            calibration,
            evaluator,
            self._held_out,
            lambda done, total: self._progress("sensitivity", done, total),
            lambda sensitivity: self._save(replace(calibration, sensitivity=sensitivity)),
            self._limits.save_every,
        )

    def _timings(self, calibration: Calibration) -> Timings:
        """The cached timings where they were measured under the same conditions, or new ones."""
        config, cached, names = self._config, calibration.timings, calibration.int8_nodes
        measured_on = self._measured_on()
        wanted = (config.runtime, config.float_precision, measured_on)
        if (
            cached is not None
            and (cached.runtime, cached.float_precision, cached.measured_on) == wanted
            and set(names) <= set(cached.saved)
        ):
            return cached
        batch = self._batches[0]
        if not config.runtime:
            layers = quantizable_layers(self.model)
            return counted_savings(self.model, {name: layers[name] for name in names}, batch.shape)
        self._progress("timing layers", 0, 1)
        timings = config.timer.measure_savings(self.model, calibration, batch, config.float_precision, config.threads)
        self._progress("timing layers", 1, 1)
        return replace(timings, measured_on=measured_on)

    def _measured_on(self) -> str:
        """The conditions of the timings apart from the graph; empty if no runtime is timed."""
        if not self._config.runtime:
            return ""
        height, width = self._batches[0].shape[2:]
        return f"{self._config.timer.conditions(self._config.threads)}, tile {height}x{width}"

    def _float_precision_drop_db(self, evaluator: QualityEvaluator, patch: Batch) -> float:
        """The loss of the float network in the precision of the float layers; 0.0 where no runtime is timed."""
        config = self._config
        if not config.runtime or config.float_precision is Precision.FP32:
            return 0.0
        run = config.timer.output_of(self.model, patch, config.float_precision, config.threads)
        return max(0.0, evaluator.drop_db_in(lambda batch, setting: float_picture(run(batch, setting))))

    def _select(
        self,
        calibration: Calibration,
        timings: Timings,
        single_db: dict[str, float],
        evaluator: QualityEvaluator,
        budget: Budget,
    ) -> tuple[LayerSelection, LatencyMs | None]:
        checks = 0

        def drop_db(int8: Collection[str]) -> float:
            nonlocal checks
            checks += 1
            self._progress("joint checks", checks, max(checks, USUAL_CHECKS))
            return evaluator.drop_db(int8)

        if self._float_ms is not None and budget.latency_ms is not None:
            times = GraphTimes(self.model, calibration, self._measure_ms, self._float_ms)
            selection = choose_for_target(single_db, timings, drop_db, times.ms, budget.max_drop_db, budget.latency_ms)
            self._progress("joint checks", checks, checks)
            return selection, LatencyMs(*map(times.ms, ((), selection.int8, calibration.int8_nodes)))
        selection = choose_layers(single_db, timings, drop_db, budget)
        self._progress("joint checks", checks, checks)
        if not self._config.runtime:
            return selection, None
        return fastest_within_budget(
            self.model, calibration, timings, selection, single_db, evaluator, budget.max_drop_db, self._measure_ms
        )

    def _measure_ms(self, graphs: Sequence[onnx.ModelProto]) -> list[float]:
        config = self._config
        return config.timer.measure_ms(graphs, self._batches[0], config.float_precision, config.threads)

    def _save(self, calibration: Calibration) -> None:
        if self._cache is not None:
            write_cache(self._cache, calibration)


def _left_for_int8(config: CalibrationConfig, float_precision_drop_db: float) -> Budget:
    """The budget that remains for INT8; raises NothingToQuantize if nothing remains."""
    left_db = config.budget.max_drop_db - float_precision_drop_db
    if left_db < 0.0:
        raise NothingToQuantize(
            f"running the float layers in {config.float_precision} alone loses {float_precision_drop_db:.3f} dB, more "
            f"than the budget of {config.budget.max_drop_db:g} dB",
            found=float_precision_drop_db,
            wanted=config.budget.max_drop_db,
            remedy=f"run the float layers in {Precision.FP32}, or allow a larger loss",
        )
    return replace(config.budget, max_drop_db=left_db)


def _with_selection(calibration: Calibration, selection: LayerSelection, budget: Budget) -> Calibration:
    """The calibration with all other layers kept float, each with the reason."""
    dropped = [node for node in calibration.int8_nodes if node not in selection.int8]
    reasons = {
        "INT8 saves no time in it": selection.without_gain,
        "too noisy for what it saves": selection.too_noisy,
        f"the target of {budget.latency_ms or 0:g} ms is met without it": selection.not_needed,
    }
    for reason, nodes in reasons.items():
        calibration = calibration.keep_float([node for node in dropped if node in nodes], reason)
        dropped = [node for node in dropped if node not in nodes]
    return calibration.keep_float(dropped, f"kept float to lose at most {budget.max_drop_db:g} dB")
