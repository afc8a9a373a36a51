"""Temperature and power of the machine, as Linux tells them; that there is no sensor is a normal answer."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

_SILLY_C = 150.0


class Sensors:
    """Reads the hottest sensor, and the power of the processor's package from its energy counter."""

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
        self._last: tuple[float, int] | None = None

    def temperature_c(self) -> float | None:
        """The hottest of all sensors."""
        readings = [number / 1000 for path in self._thermometers if (number := _number(path)) is not None]
        return max((reading for reading in readings if 0 < reading < _SILLY_C), default=None)

    def power_w(self) -> float | None:
        """The mean since the last call; None at the first, and where a counter is absent, unreadable or began anew."""
        energies = [_number(path) for path in self._counters]
        if not energies or None in energies:
            return None
        now = (time.monotonic(), sum(energy for energy in energies if energy is not None))
        last, self._last = self._last, now
        if last is None or now[1] < last[1] or now[0] <= last[0]:
            return None
        return (now[1] - last[1]) / 1e6 / (now[0] - last[0])


def _number(path: Path) -> int | None:
    with suppress(OSError, ValueError):
        return int(path.read_text(encoding="ascii"))
    return None
