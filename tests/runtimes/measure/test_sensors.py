"""Temperature and power as Linux reports them, from files that a test writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sr_edge.camera.pipeline.statistics import StreamStatistics
from sr_edge.cli.run.stream_display import Display
from sr_edge.runtimes.measure.sensors import Sensors


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


def monitor(root: Path, number: int, **files: str) -> None:
    """A chip that measures supplies, as its driver shows it."""
    folder = root / "sys/class/hwmon" / f"hwmon{number}"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n", encoding="ascii")


def test_power_of_supplies_that_a_jetson_measures_is_added_up(tmp_path: Path) -> None:
    agx = {"in1_label": "VDD_GPU_SOC", "in1_input": "19936", "curr1_input": "400"}
    shunts = {"in4_input": "800", "in5_input": "80", "in7_input": "880", "curr4_input": "480"}
    monitor(tmp_path, 3, name="ina3221", in2_input="19936", curr2_input="40", **agx, **shunts)
    monitor(tmp_path, 4, name="ina3221", in1_label="NC", in2_input="4968", curr2_input="200", in3_input="broken")
    monitor(tmp_path, 5, name="ina219", power1_input="1500000", in1_input="5000", curr1_input="300")
    monitor(tmp_path, 6, name="nvme", in1_input="3300", curr1_input="9000", temp1_input="61000")
    readings = Sensors(tmp_path).read()
    assert readings.power_w == pytest.approx(19.936 * 0.44 + 4.968 * 0.2 + 1.5)
    assert readings.temperature_c == 61.0


def test_the_supply_of_the_whole_board_holds_the_others(tmp_path: Path) -> None:
    rails = {"in1_label": "VDD_IN", "in2_label": "VDD_CPU_GPU_CV", "in3_label": "VDD_SOC"}
    values = {f"{kind}{channel}_input": "5000" for kind in ("in", "curr") for channel in (2, 3)}
    monitor(tmp_path, 1, name="ina3221", in1_input="5080", curr1_input="1240", **rails, **values)
    assert Sensors(tmp_path).power_w() == pytest.approx(6.2992)
    (tmp_path / "sys/class/hwmon/hwmon1/curr1_input").unlink()
    for channel in (2, 3):
        (tmp_path / f"sys/class/hwmon/hwmon1/in{channel}_input").unlink()
    assert Sensors(tmp_path).power_w() is None


def test_temperature_and_power_are_among_the_figures_of_the_file(tmp_path: Path) -> None:
    monitor(tmp_path, 1, name="ina219", power1_input="12250000", temp1_input="48500")
    Display(tmp_path / "figures.json", sensors=Sensors(tmp_path)).tick(StreamStatistics().report())
    document = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert (document["temperature_c"], document["power_w"], document["frames_out"]) == (48.5, 12.25, 0)
