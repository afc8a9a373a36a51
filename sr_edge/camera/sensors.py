"""Temperature and power of the machine, as Linux tells them; that there is no sensor is a normal answer.

Names and units of the files: the kernel's Documentation/hwmon/{sysfs-interface,ina3221,ina2xx}.rst and
Documentation/power/powercap/powercap.rst.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_SILLY_C = 150.0
_MONITORS = ("ina3221", "ina219", "ina220", "ina226", "ina230", "ina231", "ina238")
"""Chips that measure supplies, such as those on a Jetson."""
_CHANNELS = (1, 2, 3)
"""Of an ina3221; its voltages 4 to 6 are those of its shunts."""
_WHOLE_BOARD = ("VDD_IN", "POM_5V_IN", "VIN")
"""What Jetsons call the supply that feeds the other ones measured."""


@dataclass(frozen=True)
class Readings:
    """None where the machine does not tell."""

    temperature_c: float | None = None
    power_w: float | None = None


class Sensors:
    """Reads the hottest sensor and the power: of the processor's package, or of the supplies that are measured."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Args:
        root: where `sys` is; another one for tests.
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
        return Readings(self.temperature_c(), self.power_w())

    def temperature_c(self) -> float | None:
        """The hottest of all sensors."""
        readings = [number / 1000 for path in self._thermometers if (number := _number(path)) is not None]
        return max((reading for reading in readings if 0 < reading < _SILLY_C), default=None)

    def power_w(self) -> float | None:
        """By a counter the mean since the last call, None at the first; else the supplies' sum now.

        Of supplies that one of them feeds, that one. None where nothing can be read, or a counter began anew.
        """
        return self._mean_w() if self._counters else self._supplied_w()

    def _mean_w(self) -> float | None:
        energies = [_number(path) for path in self._counters]
        if None in energies:
            return None
        now = (time.monotonic(), sum(energy for energy in energies if energy is not None))
        last, self._last = self._last, now
        if last is None or now[1] < last[1] or now[0] <= last[0]:
            return None
        return (now[1] - last[1]) / 1e6 / (now[0] - last[0])

    def _supplied_w(self) -> float | None:
        supplies = [supply for monitor in self._monitors for supply in _supplies(monitor)]
        whole_w = [power_w for label, power_w in supplies if label in _WHOLE_BOARD]
        return whole_w[0] if whole_w else sum(power_w for _, power_w in supplies) if supplies else None


def _supplies(monitor: Path) -> list[tuple[str, float]]:
    """Label and watts of each supply: microwatts where the chip computes them, else millivolts by milliamperes."""
    power_uw = _number(monitor / "power1_input")
    if power_uw is not None:
        return [(_text(monitor / "in1_label"), power_uw / 1e6)]
    found = []
    for channel in _CHANNELS:
        voltage_mv, current_ma = _number(monitor / f"in{channel}_input"), _number(monitor / f"curr{channel}_input")
        if voltage_mv is not None and current_ma is not None:
            found.append((_text(monitor / f"in{channel}_label"), voltage_mv * current_ma / 1e6))
    return found


def _text(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="ascii").strip()
    return ""


def _number(path: Path) -> int | None:
    with suppress(ValueError):
        return int(_text(path))
    return None
