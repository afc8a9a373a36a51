"""A bundled network in TensorRT: engines in fp16 and INT8 are built, replay the golden frames, and are timed."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gpu_contenders import TENSORRTS

from gpu_session.material import Material
from gpu_session.reporting import context, publish
from sr_edge.bench.golden import replay_golden
from sr_edge.bench.on_device import MeasuresOnDevice
from sr_edge.bench.rows import DeviceFigures
from sr_edge.bundle import Bundle, open_bundle
from sr_edge.errors import EngineError, RuntimeUnavailable, SrEdgeError
from sr_edge.model_sources import open_session
from sr_edge.runtimes import Session, availability
from sr_edge.runtimes.variants import Variant
from sr_edge.spec import Precision

RUNS, WARM_UP = 100, 10
KINDS = ((Precision.FP16, Precision.FP32), (Precision.INT8, Precision.FP16))
"""Precision, and that of the rest of an INT8 network."""


@dataclass(frozen=True)
class EngineRow:
    """One engine; `reason` says why there is none, or why it is not what it should be.

    Attributes:
        open_s: seconds from the graph to an engine that is ready, the build included.
        golden_db: the worst golden frame's PSNR against the reference, None where it is equal to the last bit.
        golden_min_db: what it had to be.
        passed: whether every golden frame was reproduced; None where none was replayed.
    """

    network: str
    runtime: str
    precision: str
    version: str = ""
    ran: str = ""
    note: str = ""
    open_s: float | None = None
    golden_db: float | None = None
    golden_min_db: float | None = None
    passed: bool | None = None
    on_device: DeviceFigures | None = None
    reason: str = ""


def working_tensorrt() -> str:
    """TensorRT where it works, else TensorRT-RTX; raises RuntimeUnavailable with the reasons of both."""
    reasons = []
    for name in TENSORRTS:
        found = availability(name)
        if found.works:
            return name
        reasons.append(found.reason)
    raise RuntimeUnavailable("; ".join(reasons), wanted=TENSORRTS)


def measure(bundle: Bundle, network: str, runtime: str) -> Iterator[EngineRow]:
    """A row as soon as the golden frames were replayed, and the same row again with its times."""
    for precision, float_precision in KINDS:
        variant = Variant(runtime, precision, float_precision)
        row = EngineRow(network, runtime, variant.label)
        started = time.perf_counter()
        try:
            with open_session(bundle, runtime, precision, "cuda", float_precision=float_precision) as session:
                row = _tested(row, bundle, variant, session, time.perf_counter() - started)
                yield row
                yield replace(row, on_device=device_figures(session))
        except SrEdgeError as error:
            yield replace(row, reason=str(error))


def _tested(row: EngineRow, bundle: Bundle, variant: Variant, session: Session, open_s: float) -> EngineRow:
    test = replay_golden(bundle, variant, session)
    worst = min(test.results, key=lambda result: result.psnr_db - result.min_psnr_db, default=None)
    failed = "" if test.passed else test.reason or "the golden frames are not reproduced"
    return replace(
        row,
        version=session.spec.version,
        ran=str(session.spec.ran),
        note=session.spec.note,
        open_s=open_s,
        golden_db=worst.psnr_db if worst and math.isfinite(worst.psnr_db) else None,
        golden_min_db=worst.min_psnr_db if worst else None,
        passed=test.passed if test.results else None,
        reason=failed,
    )


def device_figures(session: Session) -> DeviceFigures | None:
    """Times by the GPU's own clock; raises EngineError where a run fails."""
    if not isinstance(session, MeasuresOnDevice):
        return None
    return DeviceFigures(session.measure_on_device(RUNS, WARM_UP), session.device_memory)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network")
    network = parser.parse_args(arguments).network
    runtime = working_tensorrt()
    rows: dict[str, EngineRow] = {}
    with open_bundle(Material(Path(context().material)).require_bundle(network)) as bundle:
        for row in measure(bundle, network, runtime):
            rows[row.precision] = row
            publish({"rows": list(rows.values())})
    failures = [f"{row.precision}: {row.reason}" for row in rows.values() if row.reason]
    if failures:
        raise EngineError("; ".join(failures), found=tuple(row.precision for row in rows.values() if row.reason))
