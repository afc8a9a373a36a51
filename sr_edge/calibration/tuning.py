"""The whole road to INT8 within a budget: search, sensitivity, the joint gate, and an account of what was done."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx

from sr_edge.calibration import openvino_times
from sr_edge.calibration.account import CalibrationReport, LatencyMs, layer_rows
from sr_edge.calibration.agreement import require_equivalent_output
from sr_edge.calibration.cache import write_cache
from sr_edge.calibration.calibration import Calibration, Sensitivity
from sr_edge.calibration.columns import possible_layers
from sr_edge.calibration.finetuning import finetune, require_enough
from sr_edge.calibration.gate import Budget, Gate, LayerSelection, choose_layers
from sr_edge.calibration.graph import load_graph
from sr_edge.calibration.hard_edges import hard_edged
from sr_edge.calibration.input_range import range_warning
from sr_edge.calibration.limits import USUAL_LIMITS, Limits
from sr_edge.calibration.openvino_times import GraphTimes, with_int8
from sr_edge.calibration.patch import Batch, HeldOut, StageProgress, digest_of
from sr_edge.calibration.post_training import calibrate
from sr_edge.calibration.quality import QualityEvaluator
from sr_edge.calibration.search import SEARCH
from sr_edge.calibration.sensitivity import PATCHES, measure_noises
from sr_edge.calibration.switched import FakeQuantGraph
from sr_edge.calibration.target import choose_for_target, require_float_misses
from sr_edge.calibration.timer import Timer
from sr_edge.calibration.timings import Timings, counted_savings
from sr_edge.calibration.unsigned import INPUT_RANGES
from sr_edge.calibration.variety import require_usable
from sr_edge.calibration.watched import float_picture, require_batches
from sr_edge.errors import NothingToQuantize, RuntimeUnavailable, UnknownNameError, UsageError
from sr_edge.export.metadata import graph_controls
from sr_edge.runtimes import availability
from sr_edge.spec import Precision

TIMED_RUNTIMES = ("openvino",)
"""Runtimes whose time is measured layer by layer; for any other target, multiply-accumulates stand for time."""

NOT_TIMED = "none"

USUAL_CHECKS = 8
"""Joint checks that the gate usually makes; only the progress bar asks."""


def timed_runtime(name: str | None) -> str:
    """The runtime to time layers in: the one named, none for "none", or for None openvino where it is installed.

    Raises:
        UnknownNameError: no runtime of that name can time layers.
        RuntimeUnavailable: it is named and not there.
    """
    if name is None:
        return next((known for known in TIMED_RUNTIMES if availability(known).works), "")
    if name == NOT_TIMED:
        return ""
    if name not in TIMED_RUNTIMES:
        raise UnknownNameError("runtime for timing layers", name, [*TIMED_RUNTIMES, NOT_TIMED])
    found = availability(name)
    if not found.works:
        raise RuntimeUnavailable(
            f"{name} cannot time layers on this machine: {found.reason}", found=name, remedy=found.how_to_install
        )
    return name


@dataclass(frozen=True)
class CalibrationConfig:
    """What is wanted of INT8.

    `method`, `include` and `exclude` are those of `calibrate`. `runtime` is one of TIMED_RUNTIMES, where every layer's
    time is measured with the float layers in `float_precision`, or empty: then multiply-accumulates stand for time.
    `input_range`
    is what the graph's input and output call white: 1, in some networks 255. `finetune` is how many sweeps of
    fine-tuning each layer gets. `timer` measures in that runtime.
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
    timer: Timer = openvino_times

    def __post_init__(self) -> None:
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
    """Finds the INT8 layers that save most time and together lose no more than the budget.

    Args:
        onnx_path: the float32 graph.
        batches: calibration patches in [0, 1], black to white; some in hard black and white are added.
        held_out: other patches, to judge by; what is lost against their originals, where there are some, is shown.
        config: budget, method, runtime.
        progress: called with (stage, steps done, steps in all).
        cache: as in `calibrate`; it also keeps noises and times, so that an interrupted run goes on where it was.
        recalibrate: measure even if the cache is there, and replace it.
        limits: of memory, samples and what an interruption can lose.

    Raises:
        CalibrationError: whatever `calibrate` raises; the patches show nothing; or the runtime computes another result.
        NothingToQuantize: not even one layer alone keeps the budget, or the rest's precision leaves nothing of it; or
            the float graph meets the latency target.
    """
    warnings = require_usable(batches)
    if config.finetune:
        require_enough(len(batches))
    patches, batches = batches, [patch * np.float32(config.input_range) for patch in (*batches, *hard_edged(batches))]
    float_ms = _float_missing_target_ms(onnx_path, batches, config)
    calibration = _ranges(onnx_path, batches, config, progress, cache, recalibrate, limits)
    model = load_graph(onnx_path)
    warnings = (*warnings, *filter(None, [range_warning(model, patches, config.input_range)]))
    if held_out:
        require_batches(model, [held.patch for held in held_out])
    calibration = _finetuned(model, calibration, batches, config, progress, cache, limits)
    evaluator = QualityEvaluator(
        FakeQuantGraph(model, calibration), held_out, graph_controls(model), config.input_range
    )
    sensitivity = _noises(calibration, evaluator, held_out, progress, cache, limits.save_every)
    calibration = replace(calibration, sensitivity=sensitivity)
    timings = _timings(model, calibration, batches[0], config, progress)
    calibration = replace(calibration, timings=timings)
    if cache is not None:
        write_cache(cache, calibration)
    single_db = {node: evaluator.db_of_noise(sensitivity.noise_power[node]) for node in calibration.int8_nodes}
    patch = held_out[0].patch * np.float32(config.input_range)
    float_precision_drop_db = _float_precision_drop_db(model, evaluator, patch, config)
    budget = _left_for_int8(config, float_precision_drop_db)
    times = _graph_times(model, calibration, batches[0], config, float_ms)
    choice = _choose(single_db, timings, evaluator, budget, progress, times)
    if times is not None:
        latency: LatencyMs | None = LatencyMs(*map(times.ms, ((), choice.int8, calibration.int8_nodes)))
    else:
        within = replace(config, budget=budget)
        choice, latency = _fastest_as_a_whole(model, calibration, choice, evaluator, single_db, batches[0], within)
    chosen = _with_selection(calibration, choice, config.budget)
    require_equivalent_output(model, chosen, patch, config.runtime, config.timer, config.threads)
    inputs = {name: layer.op.activation for name, layer in possible_layers(model).items()}
    rows = layer_rows(chosen, inputs)
    originals_db = evaluator.drop_on_originals_db(choice.int8)
    return CalibrationReport(
        chosen, rows, choice, config.budget, evaluator.metric, latency, warnings, float_precision_drop_db, originals_db
    )


def _ranges(
    onnx_path: Path,
    batches: Sequence[Batch],
    config: CalibrationConfig,
    progress: StageProgress,
    cache: Path | None,
    recalibrate: bool,
    limits: Limits,
) -> Calibration:
    """Of every layer that could be INT8: the gate decides which of them are, the first and the last among them."""
    return calibrate(
        onnx_path,
        batches,
        method=config.method,
        include=config.include,
        exclude=config.exclude,
        ends_float=False,
        progress=lambda done, total: progress("calibrating", done, total),
        cache=cache,
        recalibrate=recalibrate,
        observed_bytes=limits.observed_bytes,
    )


def _finetuned(
    model: onnx.ModelProto,
    calibration: Calibration,
    batches: Sequence[Batch],
    config: CalibrationConfig,
    progress: StageProgress,
    cache: Path | None,
    limits: Limits,
) -> Calibration:
    if not config.finetune:
        return replace(calibration, finetuning=None)
    return finetune(
        model,
        calibration,
        batches,
        config.finetune,
        lambda done, total: progress("fine-tuning", done, total),
        lambda found: write_cache(cache, found) if cache is not None else None,
        samples=limits.finetuning_samples,
        observed_bytes=limits.observed_bytes,
    )


def _noises(
    calibration: Calibration,
    evaluator: QualityEvaluator,
    held_out: Sequence[HeldOut],
    progress: StageProgress,
    cache: Path | None,
    save_every: int,
) -> Sensitivity:
    steps = calibration.finetuning.steps if calibration.finetuning is not None else 0
    judged = [*(digest_of(held.patch) for held in held_out), f"fine-tuning {steps}" if steps else "", f"by {PATCHES}"]
    digest = hashlib.sha256("".join(judged).encode()).hexdigest()
    known = calibration.sensitivity
    noises = dict(known.noise_power) if known is not None and known.held_out_sha256 == digest else {}
    missing = [node for node in calibration.int8_nodes if node not in noises]
    for index, noise in enumerate(measure_noises(evaluator, missing), start=1):
        noises[noise.node] = noise.noise_power
        progress("sensitivity", index, len(missing))
        if cache is not None and index % save_every == 0:
            write_cache(cache, replace(calibration, sensitivity=Sensitivity(digest, dict(noises))))
    return Sensitivity(digest, noises)


def _timings(
    model: onnx.ModelProto, calibration: Calibration, batch: Batch, config: CalibrationConfig, progress: StageProgress
) -> Timings:
    known, names, measured_on = calibration.timings, calibration.int8_nodes, _measured_on(batch, config)
    if (
        known is not None
        and (known.runtime, known.float_precision, known.measured_on)
        == (config.runtime, config.float_precision, measured_on)
        and set(names) <= set(known.saved)
    ):
        return known
    if not config.runtime:
        layers = possible_layers(model)
        return counted_savings(model, {name: layers[name] for name in names}, batch.shape)
    progress("timing layers", 0, 1)
    timings = config.timer.measure_savings(model, calibration, batch, config.float_precision, config.threads)
    progress("timing layers", 1, 1)
    return replace(timings, measured_on=measured_on)


def _measured_on(batch: Batch, config: CalibrationConfig) -> str:
    """All that times hold for beside the graph; empty where none are measured."""
    if not config.runtime:
        return ""
    height, width = batch.shape[2:]
    return f"{config.timer.conditions(config.threads)}, tile {height}x{width}"


def _float_precision_drop_db(
    model: onnx.ModelProto, evaluator: QualityEvaluator, patch: Batch, config: CalibrationConfig
) -> float:
    """What the float network loses by running in the precision of the rest; nothing where no runtime is timed."""
    if not config.runtime or config.float_precision is Precision.FP32:
        return 0.0
    run = config.timer.output_of(model, patch, config.float_precision, config.threads)
    return max(0.0, evaluator.drop_db_in(lambda batch, setting: float_picture(run(batch, setting))))


def _left_for_int8(config: CalibrationConfig, float_precision_drop_db: float) -> Budget:
    left_db = config.budget.max_drop_db - float_precision_drop_db
    if left_db < 0.0:
        raise NothingToQuantize(
            f"running the float layers in {config.float_precision} alone costs "
            f"{float_precision_drop_db:.3f} dB, more than the "
            f"{config.budget.max_drop_db:g} dB that may be lost",
            found=float_precision_drop_db,
            wanted=config.budget.max_drop_db,
            remedy=f"run the float layers in {Precision.FP32}, or allow a larger drop",
        )
    return replace(config.budget, max_drop_db=left_db)


def _float_missing_target_ms(onnx_path: Path, batches: Sequence[Batch], config: CalibrationConfig) -> float | None:
    """What one tile takes in float, measured first: where that meets the target nothing else needs to be."""
    if config.budget.latency_ms is None:
        return None
    model = load_graph(onnx_path)
    require_batches(model, batches)
    (float_ms,) = config.timer.measure_ms([model], batches[0], config.float_precision, config.threads)
    require_float_misses(float_ms, config.budget, f"in {config.runtime} with {config.float_precision}")
    return float_ms


def _graph_times(
    model: onnx.ModelProto, calibration: Calibration, batch: Batch, config: CalibrationConfig, float_ms: float | None
) -> GraphTimes | None:
    """None where no time is to be met."""
    if float_ms is None:
        return None
    return GraphTimes(
        model,
        calibration,
        lambda graphs: config.timer.measure_ms(graphs, batch, config.float_precision, config.threads),
        float_ms,
    )


def _choose(
    single_db: Mapping[str, float],
    timings: Timings,
    evaluator: QualityEvaluator,
    budget: Budget,
    progress: StageProgress,
    times: GraphTimes | None,
) -> LayerSelection:
    checks = 0

    def drop_db(int8: Collection[str]) -> float:
        nonlocal checks
        checks += 1
        progress("joint checks", checks, max(checks, USUAL_CHECKS))
        return evaluator.drop_db(int8)

    if times is None or budget.latency_ms is None:
        choice = choose_layers(single_db, timings, drop_db, budget)
    else:
        choice = choose_for_target(single_db, timings, drop_db, times.ms, budget.max_drop_db, budget.latency_ms)
    progress("joint checks", checks, checks)
    return choice


def _fastest_as_a_whole(
    model: onnx.ModelProto,
    calibration: Calibration,
    choice: LayerSelection,
    evaluator: QualityEvaluator,
    single_db: Mapping[str, float],
    batch: Batch,
    config: CalibrationConfig,
) -> tuple[LayerSelection, LatencyMs | None]:
    """Whole graphs decide: single savings are small beside what a machine's time wavers, and do not quite add up.

    The choice by them is timed in turn with itself and its useless layers, which may spare their neighbours a
    conversion, and with all layers. Where those are fastest and lose too much, all but the noisiest are tried too.
    """
    if not config.runtime:
        return choice, None
    everything = calibration.int8_nodes

    def in_graph_order(nodes: Collection[str]) -> tuple[str, ...]:
        return tuple(node for node in everything if node in nodes)

    def affordable(int8: Collection[str]) -> bool:
        return bool(int8) and evaluator.drop_db(int8) <= config.budget.max_drop_db

    tried = [in_graph_order(choice.int8), in_graph_order({*choice.int8, *choice.useless}), everything]
    times_ms = _times_ms(model, calibration, tried, batch, config)
    if min(tried, key=times_ms.__getitem__) == everything and not affordable(everything):
        noisiest_first = sorted(single_db, key=lambda node: single_db[node], reverse=True)
        assert calibration.timings is not None  # for mypy: the caller has measured them
        dropped = Gate(noisiest_first, calibration.timings, evaluator.drop_db).fewest_dropped(config.budget.max_drop_db)
        tried.append(in_graph_order(noisiest_first[dropped:]))
        times_ms = _times_ms(model, calibration, tried, batch, config)
    fastest = min(filter(affordable, tried), key=times_ms.__getitem__)
    latency = LatencyMs(times_ms[()], times_ms[fastest], times_ms[everything])
    if fastest == in_graph_order(choice.int8):
        return choice, latency
    return replace(choice, int8=fastest, drop_db=evaluator.drop_db(fastest), useless=(), overpriced=()), latency


def _times_ms(
    model: onnx.ModelProto,
    calibration: Calibration,
    sets: Sequence[tuple[str, ...]],
    batch: Batch,
    config: CalibrationConfig,
) -> dict[tuple[str, ...], float]:
    """Of the float graph, (), and those with these layers in INT8, all in turn."""
    timed = list(dict.fromkeys([(), *sets]))
    graphs = [with_int8(model, calibration, int8) for int8 in timed]
    return dict(zip(timed, config.timer.measure_ms(graphs, batch, config.float_precision, config.threads), strict=True))


def _with_selection(calibration: Calibration, choice: LayerSelection, budget: Budget) -> Calibration:
    dropped = [node for node in calibration.int8_nodes if node not in choice.int8]
    calibration = calibration.keep_float([n for n in dropped if n in choice.useless], "INT8 saves no time in it")
    calibration = calibration.keep_float([n for n in dropped if n in choice.overpriced], "too noisy for what it saves")
    calibration = calibration.keep_float(choice.spare, f"the target of {budget.latency_ms or 0:g} ms is met without it")
    noisy = [node for node in dropped if node not in {*choice.useless, *choice.overpriced, *choice.spare}]
    return calibration.keep_float(noisy, f"kept float to lose at most {budget.max_drop_db:g} dB")
