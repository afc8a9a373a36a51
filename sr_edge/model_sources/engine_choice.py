"""Chooses the runtime, precision and device in which a model runs, where the user leaves them to sr_edge.

What was measured on this machine decides: `sr-edge deploy` keeps its recommendation in the bundle, `sr-edge bench` in
the user's cache, and the newest one that is valid here is taken. Without one it is fp32 on a CPU and the fp16 file on a
GPU, in the first of `PREFERRED_RUNTIMES` that works.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sr_edge.bundle import Bundle, RecommendedEngine, TileTime
from sr_edge.errors import UnknownNameError, UsageError
from sr_edge.quantities import whole_number
from sr_edge.runtimes.measure.recommendations import fingerprint_here, stored_recommendations
from sr_edge.runtimes.registry import find_entry, preferred_runtime, working_runtimes
from sr_edge.runtimes.variants import Variant, can_run
from sr_edge.spec import Precision, member_of, take_names

AUTO = "auto"
_OPEN = (None, AUTO, "")
GPU_NAMES = ("cuda", "gpu")
"""How the names of GPUs begin in all runtimes."""


@dataclass(frozen=True)
class EngineChoice:
    """What a user chose of an engine; what is None is left to sr_edge.

    Attributes:
        runtime: Name of the runtime.
        precision: Precision of convolutions and matrix multiplications.
        float_precision: Precision of the operators of an INT8 network that are not INT8.
        device: Device of the runtime.
        threads: Number of threads on the CPU.
        slots: Number of tiles that may be in flight.
        nv12: Whether a stream also opens the graph that takes NV12 frames; ignored elsewhere.
    """

    runtime: str | None = None
    precision: Precision | None = None
    float_precision: Precision | None = None
    device: str | None = None
    threads: int | None = None
    slots: int | None = None
    nv12: bool = False

    def __post_init__(self) -> None:
        take_names(self, precision=Precision, float_precision=Precision)

    @classmethod
    def read(
        cls,
        runtime: str | None = None,
        precision: Precision | str | None = None,
        float_precision: Precision | str | None = None,
        device: str | None = None,
        threads: int | None = None,
        slots: int | None = None,
        nv12: bool = False,
    ) -> EngineChoice:
        """The choice that names make, in which "auto" or an empty text is the same as None.

        Raises:
            UnknownNameError: There is no runtime or precision of that name.
            UsageError: A float precision has no effect on the precision, the device is not a name, or a
                number is not a whole number of 1 or more.
        """
        runtime, precision, float_precision, device = (
            None if each in (AUTO, "") else each for each in (runtime, precision, float_precision, device)
        )
        for name, value in (("threads", threads), ("slots", slots)):
            if value is not None:
                whole_number(value, name, 1, "pass 1 or more, or leave it out for the runtime to choose")
        if not isinstance(device, str | None):
            raise UsageError(
                f"the device {device!r} is not a name",
                found=device,
                wanted="a name, for example cpu or cuda:1",
                remedy="give a name that `sr-edge doctor` lists",
            )
        choice = cls(
            None if runtime is None else find_entry(runtime).name,
            None if precision is None else member_of(Precision, precision, "precision"),
            None if float_precision is None else member_of(Precision, float_precision, "float precision"),
            device,
            threads,
            slots,
            nv12,
        )
        if choice.precision is not None:
            _require_effect(choice.precision, choice.float_precision)
        return choice


@dataclass(frozen=True)
class ChosenEngine:
    """An engine in which nothing is left open, and why it is this one.

    Attributes:
        runtime: Name of the runtime.
        precision: Precision of convolutions and matrix multiplications.
        float_precision: Precision of the operators of an INT8 network that are not INT8.
        device: Device of the runtime.
        threads: As in `EngineChoice`.
        slots: As in `EngineChoice`.
        reason: Why sr_edge chose it; empty where the user named runtime and precision.
        is_measured: Whether it is the best of those that were measured on this machine.
        tile_times: The time of each tile of a bundle that has several, as it was measured on this machine; else empty.
    """

    runtime: str
    precision: Precision
    float_precision: Precision
    device: str
    threads: int | None = None
    slots: int | None = None
    reason: str = ""
    is_measured: bool = False
    tile_times: tuple[TileTime, ...] = ()

    def __post_init__(self) -> None:
        take_names(self, precision=Precision, float_precision=Precision)

    @property
    def variant(self) -> Variant:
        return Variant(self.runtime, self.precision, self.float_precision)

    def __str__(self) -> str:
        """What runs and why: "openvino int8+bf16: fastest within 0.05 dB here, measured by deploy on 2026-12-01"."""
        name = f"{self.runtime} {self.variant.label}"
        return f"{name}: {self.reason}" if self.reason else name


def choose_engine(bundle: Bundle, choice: EngineChoice = EngineChoice()) -> ChosenEngine:
    """Completes a choice by what was measured, or by the defaults.

    Only a precision that the user left open is chosen by measurements, together with the runtime and the device where
    these are open as well.

    Args:
        bundle: An open bundle.
        choice: What the user chose.

    Raises:
        RuntimeUnavailable: No runtime works here, or none has the device.
    """
    if choice.precision is not None:
        return _with_tile_times(_named(bundle, choice, choice.precision), bundle)
    if choice.float_precision is not None:
        return _with_tile_times(_of_int8_file(bundle, choice, choice.float_precision), bundle)
    engines, problem = _newest_first(bundle)
    reasons: list[str] = []
    outdated: set[str] = set()
    for engine in engines:
        if not _is_wanted(engine, choice) or engine.measured_at in outdated:
            continue
        if not _works(engine):
            reasons.append(f"measured by {engine.measured_by} in {engine.runtime}, which does not work here")
            continue
        reason = _mismatch(engine, bundle)
        if not reason:
            return _recommended(engine, choice)
        reasons.append(reason)
        outdated.add(engine.measured_at)  # what was slower in this measurement may be faster now
    return _with_tile_times(_default(bundle, choice, [*reasons, *([problem] if problem else [])]), bundle)


def _newest_first(bundle: Bundle) -> tuple[list[RecommendedEngine], str]:
    """The recommendations of the bundle and of the cache, and why the cache cannot be used."""
    kept, problem = stored_recommendations(bundle.manifest)
    engines = (*kept, *bundle.manifest.recommendations)
    return sorted(engines, key=lambda engine: engine.measured_at, reverse=True), problem


def _with_tile_times(chosen: ChosenEngine, bundle: Bundle) -> ChosenEngine:
    """The engine with the times of the tiles that were measured here in the same runtime, precision and device."""
    if len(bundle.manifest.tiles) < 2:
        return chosen
    for engine in _newest_first(bundle)[0]:
        variant = Variant(engine.runtime, engine.precision, engine.float_precision)
        is_same = variant == chosen.variant and engine.fingerprint.device == chosen.device
        if is_same and engine.tile_times and _works(engine) and not _mismatch(engine, bundle):
            return replace(chosen, tile_times=engine.tile_times)
    return chosen


def _is_wanted(engine: RecommendedEngine, choice: EngineChoice) -> bool:
    runtimes, devices = (None, engine.runtime), (None, engine.fingerprint.device)
    return choice.runtime in runtimes and choice.device in devices


def _works(engine: RecommendedEngine) -> bool:
    try:
        return fingerprint_here(engine.runtime, engine.fingerprint.device) is not None
    except UnknownNameError:  # another version of sr-edge has more runtimes
        return False


def _mismatch(engine: RecommendedEngine, bundle: Bundle) -> str:
    """Why a recommendation of a runtime that works here is not valid; empty if it is."""
    here = fingerprint_here(engine.runtime, engine.fingerprint.device)
    difference = engine.fingerprint.mismatch(here) if here else "elsewhere"
    if difference:
        return f"measured by {engine.measured_by} {difference}"
    variant = Variant(engine.runtime, engine.precision, engine.float_precision)
    if can_run(bundle, variant, engine.fingerprint.device):
        return ""
    return f"measured by {engine.measured_by} in {variant.runtime} {variant.label}, which cannot run here"


def _recommended(engine: RecommendedEngine, choice: EngineChoice) -> ChosenEngine:
    of_runtime = f" in {engine.runtime}" if choice.runtime else ""
    return ChosenEngine(
        engine.runtime,
        engine.precision,
        engine.float_precision,
        engine.fingerprint.device,
        choice.threads,
        choice.slots,
        f"fastest{of_runtime} within {engine.max_drop_db:g} dB here, {engine.origin}",
        is_measured=True,
        tile_times=engine.tile_times,
    )


def _default(bundle: Bundle, choice: EngineChoice, refusals: Sequence[str]) -> ChosenEngine:
    runtime, device = _place(choice)
    measure = f"sr-edge bench {shlex.quote(str(bundle.path))}"
    why = "; ".join(dict.fromkeys(refusals)) or "not measured here yet"
    reason = f"{why}; run `{measure}` to measure here"
    precision = default_precision(bundle, runtime, device)
    return ChosenEngine(runtime, precision, Precision.FP32, device, choice.threads, choice.slots, reason)


def _named(bundle: Bundle, choice: EngineChoice, precision: Precision) -> ChosenEngine:
    float_precision = choice.float_precision or Precision.FP32
    runtime, device = _place(choice, bundle, Variant("", precision, float_precision))
    reason = "" if choice.runtime else "the first runtime that works here and has this precision"
    return ChosenEngine(runtime, precision, float_precision, device, choice.threads, choice.slots, reason)


def _of_int8_file(bundle: Bundle, choice: EngineChoice, float_precision: Precision) -> ChosenEngine:
    """The engine of a file that exists in INT8 only, where the user named nothing but its float precision.

    Raises:
        UsageError: The bundle has other precisions.
    """
    runtime, device = _place(choice)
    precision = default_precision(bundle, runtime, device)
    _require_effect(precision, float_precision)
    reason = "the precision of the file"
    return ChosenEngine(runtime, precision, float_precision, device, choice.threads, choice.slots, reason)


def _place(choice: EngineChoice, bundle: Bundle | None = None, precisions: Variant | None = None) -> tuple[str, str]:
    """The runtime and device of a choice: of the runtimes that work here, the first that can run the precision."""
    if choice.runtime is not None:
        return _placed(choice.runtime, choice)
    if bundle is None or precisions is None:
        return _placed(preferred_runtime(choice.device), choice)
    for name in working_runtimes(choice.device):
        runtime, device = _placed(name, choice)
        if can_run(bundle, replace(precisions, runtime=runtime), device):
            return runtime, device
    return _placed(preferred_runtime(choice.device), choice)  # whose error says why it cannot


def _placed(runtime: str, choice: EngineChoice) -> tuple[str, str]:
    return runtime, choice.device or find_entry(runtime).device


def default_precision(bundle: Bundle, runtime: str, device: str) -> Precision:
    """The precision that is run without a measurement: fp16 on a GPU, else fp32, or that of a file without fp32."""
    precisions = [artifact.precision for artifact in bundle.manifest.artifacts_of()]
    if device.startswith(GPU_NAMES) and can_run(bundle, Variant(runtime, Precision.FP16), device):
        return Precision.FP16
    return Precision.FP32 if Precision.FP32 in precisions else precisions[0]


def _require_effect(precision: Precision, float_precision: Precision | None) -> None:
    """Raises UsageError for a float precision where it has no effect: for a network without INT8 layers."""
    if precision is Precision.INT8 or float_precision in (None, Precision.FP32, precision):
        return
    raise UsageError(
        f"the float precision {float_precision} is for the float layers of INT8 graphs, but {precision} was chosen",
        found=precision,
        wanted=Precision.INT8,
        remedy=f"choose the precision int8, or {float_precision} alone",
    )
