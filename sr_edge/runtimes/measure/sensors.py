"""Reads temperature and power of the machine from Linux; a machine without sensors is a normal case.

Names and units of the files: the kernel's Documentation/hwmon/{sysfs-interface,ina3221,ina2xx}.rst and
Documentation/power/powercap/powercap.rst.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_MAX_PLAUSIBLE_C = 150.0
_MONITORS = ("ina3221", "ina219", "ina220", "ina226", "ina230", "ina231", "ina238")
"""Chips that measure the power of supply rails, such as those on a Jetson."""
_CHANNELS = (1, 2, 3)
"""Channels of an ina3221; its voltages 4 to 6 are those of the shunt resistors."""
_WHOLE_BOARD = ("VDD_IN", "POM_5V_IN", "VIN")
"""Names on Jetsons of the supply rail that feeds the other measured rails."""


@dataclass(frozen=True)
class Readings:
    """One reading of the sensors; None for a value that the machine does not report."""

    temperature_c: float | None = None
    power_w: float | None = None


class Sensors:
    """Reads the temperature of the hottest sensor, and the power of the processor's package or of the supply rails."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Looks for the sensors.

        Args:
            root: the folder that contains `sys`; tests pass another one.
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
        """Temperature and power now."""
        return Readings(self.temperature_c(), self.power_w())

    def temperature_c(self) -> float | None:
        """Temperature of the hottest sensor; None if no sensor can be read."""
        readings = [number / 1000 for path in self._thermometers if (number := _number(path)) is not None]
        return max((reading for reading in readings if 0 < reading < _MAX_PLAUSIBLE_C), default=None)

    def power_w(self) -> float | None:
        """Power in watts.

        From an energy counter, it is the mean since the last call, and None at the first call and after an overflow of
        the counter. From monitors of the supply rails, it is the power now: of the rail that feeds the others, or the
        sum of all. None if nothing can be read.
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
    """Label and power in watts of each supply rail, as the chip computes it or else from voltage and current."""
    power_uw = _number(monitor / "power1_input")
    if power_uw is not None:
        return [(_text(monitor / "in1_label"), power_uw / 1e6)]
    supplies = []
    for channel in _CHANNELS:
        voltage_mv, current_ma = _number(monitor / f"in{channel}_input"), _number(monitor / f"curr{channel}_input")
        if voltage_mv is not None and current_ma is not None:
            supplies.append((_text(monitor / f"in{channel}_label"), voltage_mv * current_ma / 1e6))
    return supplies


def _text(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="ascii").strip()
    return ""


def _number(path: Path) -> int | None:
    with suppress(ValueError):
        return int(_text(path))
    return None
