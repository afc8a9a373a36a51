"""Temperature and power of the machine from Linux's sysfs. Many machines have no such sensor.

Names and units of the files: the kernel's Documentation/hwmon/{sysfs-interface,ina3221,ina2xx}.rst and
Documentation/power/powercap/powercap.rst.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_IMPLAUSIBLE_C = 150.0
_MONITORS = ("ina3221", "ina219", "ina220", "ina226", "ina230", "ina231", "ina238")
"""Chips that measure power supply rails, such as those on a Jetson."""
_CHANNELS = (1, 2, 3)
"""The channels of an ina3221; its voltages 4 to 6 are those across the shunts."""
_WHOLE_BOARD = ("VDD_IN", "POM_5V_IN", "VIN")
"""Labels on Jetsons for the supply that feeds all other rails."""


@dataclass(frozen=True)
class Readings:
    """One reading of the sensors; None for a missing sensor."""

    temperature_c: float | None = None
    power_w: float | None = None


class Sensors:
    """Reads the highest temperature, and the power of the processor package or of the measured supply rails."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Looks for the sensors.

        Args:
            root: the folder that contains `sys`.
        """
        devices = root / "sys" / "class"
        self._thermometers = [
            *sorted(devices.glob("hwmon/hwmon*/temp*_input")),
            *sorted(devices.glob("thermal/thermal_zone*/temp")),
        ]
        self._counters = sorted(devices.glob("powercap/intel-rapl:[0-9]/energy_uj"))
        self._monitors = [name.parent for name in sorted(devices.glob("hwmon/hwmon*/name")) if _text(name) in _MONITORS]
        self._last: tuple[float, int] | None = None

    def read(self) -> Readings:
        """Reads all sensors."""
        return Readings(self.temperature_c(), self.power_w())

    def temperature_c(self) -> float | None:
        """The highest temperature of all sensors; None without a sensor."""
        readings = [number / 1000 for path in self._thermometers if (number := _number(path)) is not None]
        return max((reading for reading in readings if 0 < reading < _IMPLAUSIBLE_C), default=None)

    def power_w(self) -> float | None:
        """The power of the machine in watts.

        With an energy counter (RAPL) it is the mean since the last call, and None in the first call or after a reset of
        the counter. Otherwise it is the present sum of the supply rails, or that of the rail that feeds all others.
        None if nothing can be read.
        """
        return self._package_power_w() if self._counters else self._rail_power_w()

    def _package_power_w(self) -> float | None:
        energies = [_number(path) for path in self._counters]
        if None in energies:
            return None
        now = (time.monotonic(), sum(energy for energy in energies if energy is not None))
        last, self._last = self._last, now
        if last is None or now[1] < last[1] or now[0] <= last[0]:
            return None
        return (now[1] - last[1]) / 1e6 / (now[0] - last[0])

    def _rail_power_w(self) -> float | None:
        rails = [rail for monitor in self._monitors for rail in _rails(monitor)]
        board_w = [power_w for label, power_w in rails if label in _WHOLE_BOARD]
        return board_w[0] if board_w else sum(power_w for _, power_w in rails) if rails else None


def _rails(monitor: Path) -> list[tuple[str, float]]:
    """Label and watts of each rail, from microwatts if the chip computes them, else from voltage and current."""
    power_uw = _number(monitor / "power1_input")
    if power_uw is not None:
        return [(_text(monitor / "in1_label"), power_uw / 1e6)]
    rails = []
    for channel in _CHANNELS:
        voltage_mv, current_ma = _number(monitor / f"in{channel}_input"), _number(monitor / f"curr{channel}_input")
        if voltage_mv is not None and current_ma is not None:
            rails.append((_text(monitor / f"in{channel}_label"), voltage_mv * current_ma / 1e6))
    return rails


def _text(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="ascii").strip()
    return ""


def _number(path: Path) -> int | None:
    with suppress(ValueError):
        return int(_text(path))
    return None
