"""Driver, clocks, power and temperature as `nvidia-smi` tells them; needs nothing but the standard library."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping

FIELDS = {
    "name": "name",
    "driver_version": "driver",
    "compute_cap": "compute_capability",
    "memory.total": "memory_mib",
    "memory.used": "memory_used_mib",
    "power.draw": "power_w",
    "power.limit": "power_limit_w",
    "clocks.sm": "clock_mhz",
    "clocks.max.sm": "max_clock_mhz",
    "clocks.mem": "memory_clock_mhz",
    "temperature.gpu": "temperature_c",
}
"""nvidia-smi's names and ours, with the unit."""

_TEXTS = ("name", "driver", "compute_capability")
_TIMEOUT_S = 5.0

Reading = Mapping[str, str | float | None]


class Telemetry:
    """Reads the first GPU. Once nvidia-smi has failed to answer in time it is not asked again."""

    def __init__(self, search_path: str) -> None:
        """Args:
        search_path: folders to look for nvidia-smi in, as in PATH.
        """
        self._program = shutil.which("nvidia-smi", path=search_path)
        self.obstacle = "" if self._program else "nvidia-smi is not installed"

    def read(self) -> Reading | None:
        """What the GPU tells now; None where it tells nothing, then `obstacle` says why."""
        if self.obstacle or self._program is None:
            return None
        command = [self._program, "--id=0", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            self.obstacle = f"nvidia-smi gave no answer: {error}"
            return None
        reading = read_csv(done.stdout)
        if done.returncode or reading is None:
            words = " ".join((done.stdout + done.stderr).split())
            self.obstacle = f"nvidia-smi failed: {words or f'exit code {done.returncode}'}"
            return None
        return reading


def read_csv(text: str) -> Reading | None:
    """Reads the first line that nvidia-smi prints for FIELDS; a value that is not a number is None."""
    cells = [cell.strip() for cell in text.partition("\n")[0].split(",")]
    if len(cells) != len(FIELDS):
        return None
    pairs = zip(FIELDS.values(), cells, strict=True)
    return {name: cell if name in _TEXTS else _number(cell) for name, cell in pairs}


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
