"""Percentiles from buckets, and reports."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sr_edge.bundle.plain import json_text
from sr_edge.camera.journal import Journal
from sr_edge.camera.sensors import Sensors
from sr_edge.camera.statistics import Histogram, StreamStatistics


@pytest.mark.parametrize("scale_ms", [0.05, 7.0, 4000.0])
def test_percentiles_are_within_two_percent(scale_ms: float) -> None:
    samples = np.random.default_rng(5).gamma(4, scale_ms, 5000)
    histogram = Histogram()
    for sample in samples:
        histogram.add(float(sample))
    times = histogram.times()
    assert times is not None
    exact = np.quantile(samples, (0.5, 0.95, 0.99))
    np.testing.assert_allclose((times.p50_ms, times.p95_ms, times.p99_ms), exact, rtol=0.02)
    assert times.mean_ms == pytest.approx(samples.mean())
    assert times.max_ms == samples.max()
    assert times.count == 5000


def test_nothing_and_next_to_nothing() -> None:
    histogram = Histogram()
    assert histogram.times() is None
    histogram.add(0.0)
    times = histogram.times()
    assert times is not None
    assert times.p99_ms == 0.0


def test_a_report_is_json_and_keeps_a_bounded_number_of_events() -> None:
    statistics = StreamStatistics()
    statistics.frame_in(1.0)
    statistics.frame_out(20.0)
    statistics.count("failed")
    journal = Journal()
    for number in range(10_000):
        journal.say(f"event {number}")
    document = json.loads(json_text(statistics.report(dropped=3, queued=1, events=journal.events)))
    assert (document["frames_in"], document["frames_out"], document["dropped"], document["failed"]) == (1, 1, 3, 1)
    assert document["latency"]["count"] == 1
    assert document["stages"]["source"]["max_ms"] == 1.0
    assert len(document["events"]) == 100


def test_sensors_are_read_and_may_be_absent(tmp_path_factory: pytest.TempPathFactory) -> None:
    bare = Sensors(tmp_path_factory.mktemp("bare"))
    assert (bare.temperature_c(), bare.power_w()) == (None, None)
    root = tmp_path_factory.mktemp("root")
    for name, text in {
        "hwmon/hwmon0/temp1_input": "41000",
        "hwmon/hwmon1/temp1_input": "57500",
        "hwmon/hwmon1/temp2_input": "broken",
        "thermal/thermal_zone0/temp": "-273000",
        "powercap/intel-rapl:0/energy_uj": "1000000",
    }.items():
        file = root / "sys" / "class" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="ascii")
    sensors = Sensors(root)
    assert sensors.temperature_c() == 57.5
    assert sensors.power_w() is None
    (root / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("3000000", encoding="ascii")
    power_w = sensors.power_w()
    assert power_w is not None
    assert power_w > 0
    (root / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("5", encoding="ascii")
    assert sensors.power_w() is None, "the counter began anew"
