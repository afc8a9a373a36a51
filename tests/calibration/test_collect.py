"""Ranges: what ONNX Runtime really computes, in bounded memory, with every bad input refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from sr_edge.calibration import collect
from sr_edge.calibration.collect import Batch, WatchedGraph, collect_ranges
from sr_edge.calibration.observers import MinMaxObserver
from sr_edge.errors import CalibrationError
from sr_edge.export.frame_io import wrap_uint8

TENSORS = ["input", "/Relu_output_0", "/Concat_output_0"]


def test_ranges_are_the_extremes_over_all_batches(mixed_graph: onnx.ModelProto, batches: list[Batch]) -> None:
    ranges = collect_ranges(mixed_graph, TENSORS, batches, MinMaxObserver)
    assert list(ranges) == TENSORS
    graph = WatchedGraph(mixed_graph, TENSORS)
    values = [graph.run(batch) for batch in batches]
    for index, name in enumerate(TENSORS):
        seen = np.stack([found[index] for found in values])
        assert (ranges[name].lowest, ranges[name].highest) == (seen.min(), seen.max())
        assert ranges[name].clip == np.abs(seen).max()
        assert ranges[name].scale == pytest.approx(ranges[name].clip / 127)
    assert ranges["input"].highest == max(batch.max() for batch in batches)


def test_several_passes_give_what_one_pass_gives(
    mixed_graph: onnx.ModelProto, batches: list[Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_one_pass = collect_ranges(mixed_graph, TENSORS, batches, MinMaxObserver)
    steps: list[tuple[int, int]] = []
    monkeypatch.setattr(collect, "OBSERVED_BYTES", 1)
    in_many = collect_ranges(mixed_graph, TENSORS, batches, MinMaxObserver, lambda *step: steps.append(step))
    assert in_many == in_one_pass
    total = len(TENSORS) * len(batches)
    assert steps == [(done, total) for done in range(1, total + 1)]


def test_a_uint8_graph_takes_the_same_float_patches(mixed_graph: onnx.ModelProto, batches: list[Batch]) -> None:
    rounded = [np.rint(batch * 255.0).astype(np.float32) / np.float32(255.0) for batch in batches]
    wanted = collect_ranges(mixed_graph, TENSORS[1:], rounded, MinMaxObserver)
    found = collect_ranges(wrap_uint8(mixed_graph), TENSORS[1:], rounded, MinMaxObserver)
    for name in TENSORS[1:]:
        assert found[name].clip == pytest.approx(wanted[name].clip, rel=1e-5)


def test_no_batch_is_refused(mixed_graph: onnx.ModelProto) -> None:
    with pytest.raises(CalibrationError, match=r"no calibration patches.*--images"):
        collect_ranges(mixed_graph, TENSORS, [], MinMaxObserver)


def test_a_batch_of_another_size_is_refused(mixed_graph: onnx.ModelProto) -> None:
    with pytest.raises(CalibrationError, match=r"shape \(1, 3, 16, 24\), the graph takes \(1, 3, 24, 24\)"):
        collect_ranges(mixed_graph, TENSORS, [np.zeros((1, 3, 16, 24), np.float32)], MinMaxObserver)


def test_values_that_are_not_finite_are_refused(mixed_graph: onnx.ModelProto, batches: list[Batch]) -> None:
    broken = batches[0].copy()
    broken[0, 0, 0, 0] = np.nan
    with pytest.raises(CalibrationError, match="tensor input is not finite"):
        collect_ranges(mixed_graph, TENSORS, [batches[1], broken], MinMaxObserver)
