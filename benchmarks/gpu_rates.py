"""What this GPU does at best, measured in the same session: how fast it copies memory and multiplies matrices."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

WARM_UP = 3


@dataclass(frozen=True)
class DeviceRates:
    """Multiply-accumulates per second of a large matrix product by precision, and bytes read and written per second.

    `source` names the library that was measured; `obstacles` are why a figure is absent.
    """

    matmul_macs_per_s: Mapping[str, float] = field(default_factory=dict)
    copy_bytes_per_s: float | None = None
    source: str = ""
    obstacles: tuple[str, ...] = ()


def median_s(run: Callable[[], object], synchronize: Callable[[], object], repeats: int = 20) -> float:
    """The median time of a run that the device has finished, the first few left out."""
    samples = []
    for _ in range(WARM_UP + repeats):
        started = time.perf_counter()
        run()
        synchronize()
        samples.append(time.perf_counter() - started)
    return statistics.median(samples[WARM_UP:])
