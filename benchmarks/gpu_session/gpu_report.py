"""From a session's document to the figures that docs/results/gpu.json keeps and page_gpu.py shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Document = Mapping[str, Any]
_CLOCK_MOVED = 0.1
"""By how much the clock may differ between steps that kept the GPU busy."""


def figures_of(document: Document, prefix: str) -> Iterator[Mapping[str, Any]]:
    """The figures of the steps whose names begin so, in order."""
    return (step["figures"] for step in document["steps"] if step["name"].startswith(prefix) and step["figures"])


def gpu_report(document: Document) -> dict[str, Any] | None:
    """Everything that was measured, each once; None where no GPU was found."""
    doctor = next(figures_of(document, "doctor"), None)
    device = doctor and doctor["device"]
    if not device:
        return None
    rates = next(figures_of(document, "roofline"), {})
    compared = [*figures_of(document, "compare-"), *figures_of(document, "compile-")]
    readings = [reading for step in document["steps"] for reading in (step["before"], step["after"]) if reading]
    return {
        "device": device["name"],
        "compute_capability": device["compute_capability"],
        "memory_bytes": device["total_bytes"],
        "driver": next((reading["driver"] for reading in readings), None),
        "before": readings[0] if readings else None,
        "after": readings[-1] if readings else None,
        "warning": clock_warning(document),
        "matmul_macs_per_s": rates.get("matmul_macs_per_s", {}),
        "copy_bytes_per_s": rates.get("copy_bytes_per_s"),
        "rates_source": rates.get("source", ""),
        "rounds": compared[0]["rounds"] if compared else 0,
        "rows": [row for figures in compared for row in figures["rows"]],
        "engines": [row for figures in figures_of(document, "engines-") for row in figures["rows"]],
        "features": list(figures_of(document, "features")),
        "tests": next(figures_of(document, "gpu-tests"), None),
        "steps": [
            {name: step[name] for name in ("title", "status", "reason", "seconds")} for step in document["steps"]
        ],
    }


def has_measurements(report: Mapping[str, Any]) -> bool:
    """Whether anything ran on the GPU."""
    return any(row["tile_ms"] for row in report["rows"]) or any(row["ran"] for row in report["engines"])


def clock_warning(document: Document) -> str:
    """A line where the GPU's clock, read right after steps that used it, was not the same."""
    clocks = [
        step["after"]["clock_mhz"]
        for step in document["steps"]
        if step["name"].startswith(("engines-", "compare-", "compile-"))
        and step["status"] == "done"
        and step["after"]
        and step["after"]["clock_mhz"]
    ]
    if not clocks or max(clocks) - min(clocks) <= _CLOCK_MOVED * max(clocks):
        return ""
    return (
        f"the GPU's clock was between {min(clocks):.0f} and {max(clocks):.0f} MHz after the steps: it was not locked, "
        "so figures of different steps cannot be compared closely; lock it with `sudo nvidia-smi --lock-gpu-clocks`"
    )
