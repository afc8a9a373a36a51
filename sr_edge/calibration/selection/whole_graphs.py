"""Selects INT8 layers by the time that whole graphs take, because the savings of single layers do not quite add up."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import onnx

from sr_edge.calibration.qdq.writer import insert_qdq
from sr_edge.calibration.result.calibration import Calibration
from sr_edge.calibration.result.timings import Timings
from sr_edge.calibration.selection.gate import Gate, LayerSelection
from sr_edge.calibration.selection.quality import QualityEvaluator
from sr_edge.calibration.selection.report import LatencyMs
from sr_edge.spec import ActivationType

MeasureMs = Callable[[Sequence[onnx.ModelProto]], list[float]]
"""Median milliseconds of each graph on one tile, the graphs being run in turn."""


def with_int8(model: onnx.ModelProto, calibration: Calibration, int8: Collection[str]) -> onnx.ModelProto:
    """The graph with these layers of the calibration in INT8; the float graph itself if there are none."""
    if not int8:
        return model
    kept = calibration.keep_float(set(calibration.int8_nodes) - set(int8), "kept float for timing")
    return insert_qdq(model, kept, ActivationType.UINT8).model


class GraphTimes:
    """Times one tile with any set of the calibration's layers in INT8; each set is timed once.

    Every graph runs in turn with the float graph, and the result is its share of the float graph's time, so that the
    load of the machine at that moment affects both.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        calibration: Calibration,
        measure_ms: MeasureMs,
        float_ms: float,
    ) -> None:
        self._model = model
        self._calibration = calibration
        self._measure_ms = measure_ms
        self._times_ms: dict[frozenset[str], float] = {frozenset(): float_ms}

    def ms(self, int8: Collection[str]) -> float:
        key = frozenset(int8)
        if key not in self._times_ms:
            graphs = [self._model, with_int8(self._model, self._calibration, key)]
            now_float_ms, now_ms = self._measure_ms(graphs)
            self._times_ms[key] = self._times_ms[frozenset()] * now_ms / now_float_ms
        return self._times_ms[key]


def fastest_within_budget(
    model: onnx.ModelProto,
    calibration: Calibration,
    timings: Timings,
    selection: LayerSelection,
    single_db: Mapping[str, float],
    evaluator: QualityEvaluator,
    max_drop_db: float,
    measure_ms: MeasureMs,
) -> tuple[LayerSelection, LatencyMs]:
    """Selects the fastest of a few sets of INT8 layers within the budget, by the times of their whole graphs.

    What a single layer saves is small compared with the variation of a machine's timings. Therefore `selection`, which
    was made by those savings, is timed in turn with itself plus those layers, which may spare their neighbours a
    conversion, and with all layers. Where all layers are fastest but lose too much quality, all but the noisiest layers
    are tried as well.

    Args:
        model: The float graph.
        calibration: All layers that can be INT8 are INT8 in it.
        timings: What each of those layers saves.
        selection: The selection made by the savings of single layers.
        single_db: The cost of each layer alone.
        evaluator: Measures what a set of layers costs together.
        max_drop_db: The budget.
        measure_ms: Times whole graphs.
    """
    everything = calibration.int8_nodes

    def in_graph_order(nodes: Collection[str]) -> tuple[str, ...]:
        return tuple(node for node in everything if node in nodes)

    def is_affordable(int8: Collection[str]) -> bool:
        return bool(int8) and evaluator.drop_db(int8) <= max_drop_db

    def times_of(candidates: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], float]:
        """The times of the float graph, (), and of every candidate, all measured in turn."""
        timed = list(dict.fromkeys([(), *candidates]))
        return dict(zip(timed, measure_ms([with_int8(model, calibration, int8) for int8 in timed]), strict=True))

    candidates = [
        in_graph_order(selection.int8),
        in_graph_order({*selection.int8, *selection.without_gain}),
        everything,
    ]
    times_ms = times_of(candidates)
    if min(candidates, key=times_ms.__getitem__) == everything and not is_affordable(everything):
        noisiest_first = sorted(single_db, key=lambda node: single_db[node], reverse=True)
        dropped = Gate(noisiest_first, timings, evaluator.drop_db).fewest_dropped(max_drop_db)
        candidates.append(in_graph_order(noisiest_first[dropped:]))
        times_ms = times_of(candidates)
    fastest = min(filter(is_affordable, candidates), key=times_ms.__getitem__)
    latency = LatencyMs(times_ms[()], times_ms[fastest], times_ms[everything])
    if fastest == candidates[0]:
        return selection, latency
    return replace(selection, int8=fastest, drop_db=evaluator.drop_db(fastest), without_gain=(), too_noisy=()), latency
