"""One network in all runtimes beside PyTorch (`gpu.py`), or with `--compiled` torch.compile beside eager."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gpu import PICTURES, GpuRow, Plan, measure_system
from gpu_contenders import COMPILED, Network, compiled_pairs, contenders
from gpu_rates import DeviceRates

from gpu_session.material import Material
from gpu_session.reporting import context, publish
from sr_edge.bundle.plain import from_plain
from sr_edge.errors import RuntimeUnavailable

ROUNDS = 20
REHEARSAL_ROUNDS = 2
REHEARSAL_PICTURES = {"270p": (270, 480)}


def plan_of(rehearsal: bool, figures: dict[str, Any]) -> Plan:
    """What to measure; without the rates of an earlier step the shares stay empty."""
    rates = from_plain(DeviceRates, figures["roofline"], "roofline") if "roofline" in figures else DeviceRates()
    return Plan(
        REHEARSAL_ROUNDS if rehearsal else ROUNDS,
        REHEARSAL_PICTURES if rehearsal else PICTURES,
        "cuda",
        rates,
    )


def publish_rows(rows: Sequence[GpuRow], plan: Plan) -> None:
    publish({"rounds": plan.rounds, "rows": [asdict(row) for row in rows]})


def measure(network: Network, plan: Plan) -> list[GpuRow]:
    """All runtimes but torch.compile."""
    return measure_system(network, contenders(), plan, lambda rows: publish_rows(rows, plan))


def measure_compiled(network: Network, plan: Plan) -> list[GpuRow]:
    """torch.compile's rows, one form after the other: a form that takes too long to compile costs itself."""
    rows: list[GpuRow] = []
    for pair in compiled_pairs():
        measured: list[GpuRow] = []

        def keep(found: list[GpuRow], done: list[GpuRow] = rows, last: list[GpuRow] = measured) -> None:
            last[:] = [row for row in found if row.runtime == COMPILED]
            publish_rows([*done, *last], plan)

        keep(measure_system(network, pair, plan, keep))
        rows += measured
    return rows


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network")
    parser.add_argument("--compiled", action="store_true")
    chosen = parser.parse_args(arguments)
    given = context()
    plan = plan_of(given.rehearsal, dict(given.figures))
    network = Material(Path(given.material)).compared(chosen.network)
    rows = measure_compiled(network, plan) if chosen.compiled else measure(network, plan)
    if all(row.reason for row in rows):
        publish_rows(rows, plan)
        raise RuntimeUnavailable("; ".join(reasons_by_runtime(rows)))


def reasons_by_runtime(rows: Sequence[GpuRow]) -> list[str]:
    """Each reason once, with the runtimes that gave it."""
    runtimes: dict[str, dict[str, None]] = {}
    for row in rows:
        runtimes.setdefault(row.reason, {})[row.runtime] = None
    return [f"{', '.join(names)}: {reason}" for reason, names in runtimes.items()]
