"""What to run in each runtime, by what was measured: time, round by round, and decibels lost.

Faster is what was faster in three rounds of four, the variants of a round having run one right after the other: less is
noise, and then the more exact one is taken. INT8 is recommended where it is faster than every float precision that
keeps the budget, never by assumption.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sr_edge.bench.rows import BenchReport, Row
from sr_edge.runtimes import Spread
from sr_edge.runtimes.variants import Variant
from sr_edge.spec import Precision

LEAST_ROUNDS = 5
"""Fewer do not tell a difference from noise."""


@dataclass(frozen=True)
class Alternative:
    """Another variant: decibels lost, and its time as a multiple of the recommended one's.

    `faster` is whether that is more than noise; `flaw` why it could not be recommended whatever its time.
    """

    variant: Variant
    cost_db: float
    ratio: Spread
    faster: bool
    flaw: str


@dataclass(frozen=True)
class Recommendation:
    """What to run in one runtime, in words, and how: `command` and `python`.

    `variant` is None where nothing can be recommended; `words` say why.
    """

    runtime: str
    words: str
    variant: Variant | None = None
    cost_db: float = 0.0
    alternatives: tuple[Alternative, ...] = ()
    command: str = ""
    python: str = ""


def recommend(
    report: BenchReport, max_drop_db: float, bundle: Path, threads: int | None = None
) -> tuple[Recommendation, ...]:
    """One for each runtime that was timed, the fastest first.

    Args:
        report: rows with the times of every round and with decibels.
        max_drop_db: what may be lost against fp32.
        bundle: the path that commands name.
        threads: what was measured with, for the commands.
    """
    timed: dict[str, list[Row]] = {}
    for row in report.rows:
        if row.rounds_ms:
            timed.setdefault(row.variant.runtime, []).append(row)
    found = []
    for runtime, rows in timed.items():
        choice = _chosen(rows, max_drop_db)
        if isinstance(choice, str):
            found.append((math.inf, Recommendation(runtime, choice)))
        else:
            advice = _recommended(choice, rows, max_drop_db, _Run(report.card.name, bundle, threads))
            found.append((_median_ms(choice), advice))
    return tuple(advice for _, advice in sorted(found, key=lambda each: each[0]))


def cost_db(row: Row) -> float:
    """Decibels lost against fp32 on calibration pictures; infinite where that could not be measured."""
    found = row.quality.cost_db if row.quality else None
    return math.inf if found is None else found


def _chosen(rows: Sequence[Row], max_drop_db: float) -> Row | str:
    """The variant to run, or why there is none."""
    rounds = len(rows[0].rounds_ms)
    if rounds < LEAST_ROUNDS:
        return (
            f"timed for {rounds} round{'s' * (rounds > 1)}, too few to tell what is faster; {LEAST_ROUNDS} or more do"
        )
    within = [row for row in rows if not _flaw(row, max_drop_db)]
    if not within:
        return f"nothing to recommend: {'; '.join(f'{row.variant.label} {_flaw(row, max_drop_db)}' for row in rows)}"
    floats = [row for row in within if row.variant.precision is not Precision.INT8]
    faster = [row for row in within if row not in floats and all(_is_faster(row, other) for other in floats)]
    candidates = faster or floats
    fastest = min(candidates or within, key=_median_ms)
    return min((row for row in candidates or within if not _is_faster(fastest, row)), key=cost_db)


def _flaw(row: Row, max_drop_db: float) -> str:
    if row.spec is None or row.spec.ran is not row.variant.precision:
        return f"is computed in {row.spec.ran if row.spec else 'nothing'}"
    if row.self_test is None or not row.self_test.passed:
        return "misses the golden frames"
    if row.variant.precision is not Precision.FP32 and not cost_db(row) <= max_drop_db:
        cost = cost_db(row)
        return f"costs {cost:.3f} dB" if math.isfinite(cost) else "could not be compared with fp32"
    return ""


def _is_faster(row: Row, other: Row) -> bool:
    return _time_ratio(row, other).high < 1.0


def _time_ratio(row: Row, base: Row) -> Spread:
    return Spread.of([mine / other for mine, other in zip(row.rounds_ms, base.rounds_ms, strict=True)])


def _median_ms(row: Row) -> float:
    return Spread.of(row.rounds_ms).median


def _recommended(chosen: Row, rows: Sequence[Row], max_drop_db: float, run: _Run) -> Recommendation:
    alternatives = tuple(
        Alternative(
            row.variant, cost_db(row), _time_ratio(row, chosen), _is_faster(row, chosen), _flaw(row, max_drop_db)
        )
        for row in rows
        if row is not chosen
    )
    variant = chosen.variant
    cost = f"costs {cost_db(chosen):.3f} dB, {max_drop_db:g} allowed{_on_originals(chosen, rows)}"
    words = _words(variant, alternatives, cost)
    return Recommendation(
        variant.runtime, words, variant, cost_db(chosen), alternatives, run.command(variant), run.python(variant)
    )


def _on_originals(chosen: Row, rows: Sequence[Row]) -> str:
    """What it loses there against the same runtime's fp32, if originals were given: they decide nothing."""
    exact = next((row for row in rows if row.variant.precision is Precision.FP32), chosen)
    found_db, exact_db = (
        row.quality.hr.psnr_y_db if row.quality and row.quality.hr else None for row in (chosen, exact)
    )
    return "" if found_db is None or exact_db is None else f"; {exact_db - found_db:.3f} dB on your originals"


def _words(variant: Variant, alternatives: Sequence[Alternative], cost: str) -> str:
    int8 = [other for other in alternatives if other.variant.precision is Precision.INT8]
    does_not_pay = variant.precision is not Precision.INT8 and int8 and not any(other.faster for other in int8)
    comparison = f"INT8 is not faster than {variant.label} here; " if does_not_pay else ""
    beside = "; ".join(_said_of(other) for other in sorted(alternatives, key=lambda other: other.ratio.median))
    return f"{comparison}run {variant.label} ({cost})" + (f": {beside}" if beside else "")


def _said_of(other: Alternative) -> str:
    ratio = other.ratio
    flaw = f" {'but' if other.faster else 'and'} {other.flaw}" if other.flaw else ""
    return f"{other.variant.label} takes {ratio.median:.2f} times as long ({ratio.low:.2f} to {ratio.high:.2f}){flaw}"


@dataclass(frozen=True)
class _Run:
    """How to run a bundle: the words around runtime and precision."""

    architecture: str
    bundle: Path
    threads: int | None

    def command(self, variant: Variant) -> str:
        words = ["sr-edge", "upscale", str(self.bundle), "IN", "OUT", "--runtime", variant.runtime]
        words += ["--precision", str(variant.precision)]
        words += (
            ["--float-precision", str(variant.float_precision)] if variant.float_precision is not Precision.FP32 else []
        )
        words += ["--threads", str(self.threads)] if self.threads is not None else []
        words += ["--trust", self.architecture] if self._needs_trust(variant) else []
        return shlex.join(words)

    def python(self, variant: Variant) -> str:
        words = [repr(str(self.bundle)), repr(variant.runtime), f"sr_edge.Precision.{variant.precision.name}"]
        words += (
            [f"rest=sr_edge.Precision.{variant.float_precision.name}"]
            if variant.float_precision is not Precision.FP32
            else []
        )
        words += [f"threads={self.threads}"] if self.threads is not None else []
        words += [f"options={{'architecture': {self.architecture!r}}}"] if self._needs_trust(variant) else []
        return f"sr_edge.open_session({', '.join(words)})"

    def _needs_trust(self, variant: Variant) -> bool:
        """A network of one's own is code that torch builds only where it is named."""
        return variant.runtime == "torch" and ":" in self.architecture
