"""Percentiles of a histogram, and reports of a stream."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sr_edge.bundle.plain import json_text
from sr_edge.camera.flow.events import EventLog
from sr_edge.camera.pipeline.statistics import DurationHistogram, StreamStatistics
from sr_edge.frames import Region
from sr_edge.upscaler.reuse import FrameReuse, ReuseStatistics


@pytest.mark.parametrize("scale_ms", [0.05, 7.0, 4000.0])
def test_percentiles_are_within_two_percent(scale_ms: float) -> None:
    samples = np.random.default_rng(5).gamma(4, scale_ms, 5000)
    histogram = DurationHistogram()
    for sample in samples:
        histogram.add(float(sample))
    summary = histogram.summary()
    assert summary is not None
    exact = np.quantile(samples, (0.5, 0.95, 0.99))
    np.testing.assert_allclose((summary.p50_ms, summary.p95_ms, summary.p99_ms), exact, rtol=0.02)
    assert summary.mean_ms == pytest.approx(samples.mean())
    assert summary.max_ms == samples.max()
    assert summary.count == 5000


def test_nothing_and_next_to_nothing() -> None:
    histogram = DurationHistogram()
    assert histogram.summary() is None
    histogram.add(0.0)
    summary = histogram.summary()
    assert summary is not None
    assert summary.p99_ms == 0.0


def test_recent_figures_forget_what_is_older_than_a_few_seconds() -> None:
    now_ns = [0]
    statistics = StreamStatistics(lambda: now_ns[0])
    for second in range(20):
        now_ns[0] = second * 10**9
        statistics.record_input(1.0)
        statistics.record_stage("infer", 100.0 if second < 10 else 10.0)
        reused = () if second < 10 else (Region(0, 0, 8, 8),)
        statistics.record_reuse(FrameReuse(2, reused, ReuseStatistics()))
    report = statistics.report()
    assert (report.recent_reused_share, report.reused_share) == (0.5, 0.25)
    assert (report.recent_model_ms, report.recent_fps_in, report.seconds) == (10.0, 1.0, 19.0)
    now_ns[0] += 60 * 10**9
    later = statistics.report()
    assert (later.recent_reused_share, later.recent_model_ms, later.reused_share) == (None, None, 0.25)
    assert later.since_input_s == 60.0 and later.recent_fps_in < 0.1


def test_a_report_is_json_and_keeps_a_bounded_number_of_events() -> None:
    statistics = StreamStatistics()
    statistics.record_input(1.0)
    statistics.record_output(20.0)
    statistics.increment("failed")
    event_log = EventLog()
    for number in range(10_000):
        event_log.record(f"event {number}")
    document = json.loads(json_text(statistics.report(dropped=3, queued=1, events=event_log.events)))
    assert (document["frames_in"], document["frames_out"], document["dropped"], document["failed"]) == (1, 1, 3, 1)
    assert document["latency"]["count"] == 1
    assert document["stages"]["source"]["max_ms"] == 1.0
    assert len(document["events"]) == 100
