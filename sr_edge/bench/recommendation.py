"""Recommends what to run in each runtime, from the measured times of each round and the measured loss of quality.

A variant counts as faster if it was faster in three of four rounds, in each of which the variants ran directly one
after the other. Smaller differences are noise, and then the variant with the smaller loss is chosen. INT8 is
recommended only where it was measured to be faster than every float precision within the budget.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sr_edge.bench.protocol import OpenOptions
from sr_edge.bench.rows import BenchReport, Row
from sr_edge.bundle import Bundle, RecommendedEngine
from sr_edge.runtimes import Spread, availability, find_entry, runtime_names
from sr_edge.runtimes.measure.recommendations import fingerprint_of, store_recommendations
from sr_edge.runtimes.variants import Variant, can_run, variants_of
from sr_edge.spec import Precision

DEFAULT_MAX_DROP_DB = 0.05
MIN_ROUNDS = 5
"""With fewer rounds a difference cannot be distinguished from noise."""


@dataclass(frozen=True)
class Alternative:
    """A variant that was not recommended.

    Attributes:
        variant: The variant.
        cost_db: Its loss of quality against fp32.
        time_ratio: Its time divided by that of the recommended variant.
        is_faster: Whether it is faster than the recommended variant by more than noise.
        rejection: Why it cannot be recommended whatever its time; empty if it could.
    """

    variant: Variant
    cost_db: float
    time_ratio: Spread
    is_faster: bool
    rejection: str


@dataclass(frozen=True)
class Recommendation:
    """The recommendation for one runtime.

    Attributes:
        runtime: The name of the runtime.
        summary: The recommendation as a sentence, or why there is none.
        variant: The recommended variant; None if nothing can be recommended.
        cost_db: Its loss of quality against fp32.
        alternatives: The other variants that were timed.
        command: The command line that runs the variant.
        python: The Python expression that opens it.
    """

    runtime: str
    summary: str
    variant: Variant | None = None
    cost_db: float = 0.0
    alternatives: tuple[Alternative, ...] = ()
    command: str = ""
    python: str = ""


def recommend(
    report: BenchReport, max_drop_db: float, bundle: Path, threads: int | None = None
) -> tuple[Recommendation, ...]:
    """Recommends a variant for each runtime that was timed, the fastest runtime first.

    Args:
        report: The benchmark, with the times of every round and the loss of quality of each row.
        max_drop_db: The loss against fp32 that is allowed.
        bundle: The path that the commands name.
        threads: The number of threads of the measurement, for the commands.
    """
    timed: dict[str, list[Row]] = {}
    for row in report.rows:
        if row.rounds_ms:
            timed.setdefault(row.variant.runtime, []).append(row)
    by_latency = []
    for runtime, rows in timed.items():
        choice = _choose(rows, max_drop_db)
        if isinstance(choice, str):
            by_latency.append((math.inf, Recommendation(runtime, choice)))
        else:
            advice = _recommended(choice, rows, max_drop_db, _Invocation(report.card.name, bundle, threads))
            by_latency.append((_median_ms(choice), advice))
    return tuple(advice for _, advice in sorted(by_latency, key=lambda each: each[0]))


def recommended_engines(
    report: BenchReport,
    recommendations: Sequence[Recommendation],
    max_drop_db: float,
    measured_by: str,
    threads: int | None = None,
) -> tuple[RecommendedEngine, ...]:
    """The recommendations as a bundle or the cache keeps them, with the hardware and versions for which they are valid.

    Args:
        report: The benchmark from which `recommend` derived them.
        recommendations: Those of `recommend`; a runtime without a recommended variant is left out, and torch for a
            network of the user's own code, which runs only where the user trusts that code.
        max_drop_db: The loss that was allowed.
        measured_by: The command, "deploy" or "bench".
        threads: The number of threads of the measurement.
    """
    rows = {row.variant: row for row in report.rows}
    chosen = [
        (each, rows[each.variant])
        for each in recommendations
        if each.variant and not _needs_trust(each.variant, report.card.name)
    ]
    return tuple(
        RecommendedEngine(
            row.variant.runtime,
            row.variant.precision,
            row.variant.float_precision,
            fingerprint_of(
                row.spec.device, row.spec.version, report.environment.machine, availability(row.variant.runtime)
            ),
            _median_ms(row),
            each.cost_db if math.isfinite(each.cost_db) else 0.0,
            max_drop_db,
            measured_by,
            report.environment.started,
            threads,
        )
        for each, row in chosen
        if row.spec
    )


def with_recommendation(bundle: Bundle, report: BenchReport, options: OpenOptions) -> tuple[BenchReport, str]:
    """Adds to a benchmark what it recommends, and keeps that in the user's cache if it compared all that works here.

    The loss that is allowed is that of the bundle's own recommendation, or DEFAULT_MAX_DROP_DB.

    Args:
        bundle: The bundle that was measured.
        report: The benchmark.
        options: How its variants were opened.

    Returns:
        The report, and a sentence that says whether the recommendation is kept.
    """
    own = bundle.manifest.recommendations
    max_drop_db = own[0].max_drop_db if own else DEFAULT_MAX_DROP_DB
    advice = recommend(report, max_drop_db, bundle.path, options.threads)
    engines = recommended_engines(report, advice, max_drop_db, "bench", options.threads)
    report = replace(report, recommended=engines)
    obstacle = _why_not_kept(bundle, report, options, advice)
    if obstacle:
        return report, f"not kept as the default of --precision auto: {obstacle}"
    try:
        store_recommendations(bundle.manifest, engines)
    except OSError as error:
        return report, f"not kept as the default of --precision auto: the cache cannot be written ({error})"
    return report, "kept as the default of --precision auto for this bundle on this machine"


def _why_not_kept(bundle: Bundle, report: BenchReport, options: OpenOptions, advice: Sequence[Recommendation]) -> str:
    """Why the recommendation of a benchmark is no default; empty if it is.

    A benchmark of some variants must not replace a comparison of all: its fastest may be slower than what it left out.
    """
    if not report.recommended:
        return advice[0].summary if advice else "nothing was timed"
    if options.io is not None or options.controls:
        return "it was measured with --io or --set"
    names = [name for name in runtime_names() if availability(name).works]
    measured = {row.variant for row in report.rows}
    possible = variants_of(bundle, names, list(Precision), options.device)
    devices = {name: options.device or find_entry(name).device for name in names}
    missing = [each for each in possible if each not in measured and can_run(bundle, each, devices[each.runtime])]
    left_out = ", ".join(dict.fromkeys(f"{each.runtime} {each.label}" for each in missing))
    return f"this run left out {left_out}, which can run here" if missing else ""


def cost_db(row: Row) -> float:
    """The loss in dB against fp32 on calibration images; infinite if it could not be measured."""
    measured_db = row.quality.cost_db if row.quality else None
    return math.inf if measured_db is None else measured_db


def _choose(rows: Sequence[Row], max_drop_db: float) -> Row | str:
    """The row of the recommended variant, or why there is none."""
    rounds = len(rows[0].rounds_ms)
    if rounds < MIN_ROUNDS:
        return f"timed for {rounds} round{'s' * (rounds > 1)}, too few to compare times; run {MIN_ROUNDS} or more"
    within = [row for row in rows if not _rejection(row, max_drop_db)]
    if not within:
        return (
            f"nothing to recommend: {'; '.join(f'{row.variant.label} {_rejection(row, max_drop_db)}' for row in rows)}"
        )
    floats = [row for row in within if row.variant.precision is not Precision.INT8]
    faster = [row for row in within if row not in floats and all(_is_faster(row, other) for other in floats)]
    candidates = faster or floats
    fastest = min(candidates or within, key=_median_ms)
    return min((row for row in candidates or within if not _is_faster(fastest, row)), key=cost_db)


def _rejection(row: Row, max_drop_db: float) -> str:
    """Why a row cannot be recommended; empty if it can."""
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
    return Spread.of([ms / base_ms for ms, base_ms in zip(row.rounds_ms, base.rounds_ms, strict=True)])


def _median_ms(row: Row) -> float:
    return Spread.of(row.rounds_ms).median


def _recommended(chosen: Row, rows: Sequence[Row], max_drop_db: float, invocation: _Invocation) -> Recommendation:
    alternatives = tuple(
        Alternative(
            row.variant, cost_db(row), _time_ratio(row, chosen), _is_faster(row, chosen), _rejection(row, max_drop_db)
        )
        for row in rows
        if row is not chosen
    )
    variant = chosen.variant
    cost = f"costs {cost_db(chosen):.3f} dB, {max_drop_db:g} allowed{_on_originals(chosen, rows)}"
    summary = _summary(variant, alternatives, cost)
    return Recommendation(
        variant.runtime,
        summary,
        variant,
        cost_db(chosen),
        alternatives,
        invocation.command(variant),
        invocation.python(variant),
    )


def _on_originals(chosen: Row, rows: Sequence[Row]) -> str:
    """The loss on the user's originals against fp32 of the same runtime, for information; empty without originals."""
    exact = next((row for row in rows if row.variant.precision is Precision.FP32), chosen)
    chosen_db, exact_db = (
        row.quality.hr.psnr_y_db if row.quality and row.quality.hr else None for row in (chosen, exact)
    )
    return "" if chosen_db is None or exact_db is None else f"; {exact_db - chosen_db:.3f} dB on your originals"


def _summary(variant: Variant, alternatives: Sequence[Alternative], cost: str) -> str:
    int8 = [other for other in alternatives if other.variant.precision is Precision.INT8]
    does_not_pay = variant.precision is not Precision.INT8 and int8 and not any(other.is_faster for other in int8)
    comparison = f"INT8 is not faster than {variant.label} here; " if does_not_pay else ""
    others = "; ".join(_describe(other) for other in sorted(alternatives, key=lambda other: other.time_ratio.median))
    return f"{comparison}run {variant.label} ({cost})" + (f": {others}" if others else "")


def _describe(other: Alternative) -> str:
    ratio = other.time_ratio
    reason = f" {'but' if other.is_faster else 'and'} {other.rejection}" if other.rejection else ""
    return f"{other.variant.label} takes {ratio.median:.2f} times as long ({ratio.low:.2f} to {ratio.high:.2f}){reason}"


@dataclass(frozen=True)
class _Invocation:
    """How to run a bundle: what the commands for all runtimes and precisions have in common."""

    architecture: str
    bundle: Path
    threads: int | None

    def command(self, variant: Variant) -> str:
        arguments = ["sr-edge", "upscale", str(self.bundle), "IN", "OUT", "--runtime", variant.runtime]
        arguments += ["--precision", str(variant.precision)]
        arguments += (
            ["--float-precision", str(variant.float_precision)] if variant.float_precision is not Precision.FP32 else []
        )
        arguments += ["--threads", str(self.threads)] if self.threads is not None else []
        arguments += ["--trust", self.architecture] if _needs_trust(variant, self.architecture) else []
        return shlex.join(arguments)

    def python(self, variant: Variant) -> str:
        arguments = [repr(str(self.bundle)), f"runtime={variant.runtime!r}", f"precision={str(variant.precision)!r}"]
        is_mixed = variant.float_precision is not Precision.FP32
        arguments += [f"float_precision={str(variant.float_precision)!r}"] if is_mixed else []
        arguments += [f"threads={self.threads}"] if self.threads is not None else []
        arguments += (
            [f"options={{'architecture': {self.architecture!r}}}"] if _needs_trust(variant, self.architecture) else []
        )
        return f"sr_edge.open_upscaler({', '.join(arguments)})"


def _needs_trust(variant: Variant, architecture: str) -> bool:
    """Whether the torch runtime must be told to trust the code of a user's own architecture ("module:function")."""
    return variant.runtime == "torch" and ":" in architecture
