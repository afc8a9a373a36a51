"""The engines that can run a bundle on this machine, and the one that is recommended."""

from __future__ import annotations

from collections.abc import Sequence

from sr_edge.bundle import Bundle
from sr_edge.errors import RuntimeUnavailable
from sr_edge.model_sources import choose_engine
from sr_edge.runtimes import find_entry, load_runtime, runtime_names
from sr_edge.runtimes.variants import Variant, variants_of
from sr_edge.spec import Precision


class EngineOption(Variant):
    """A runtime at a precision, on the default device of the runtime."""

    @property
    def label(self) -> str:
        return f"{self.runtime} {super().label}"

    @property
    def device(self) -> str:
        return find_entry(self.runtime).device


def engine_options(bundle: Bundle) -> tuple[EngineOption, ...]:
    """All runtimes and precisions that run on this machine and for which the bundle has a graph."""
    options = (
        EngineOption(variant.runtime, variant.precision, variant.float_precision)
        for name in runtime_names()
        for variant in variants_of(bundle, [name], list(Precision), find_entry(name).device)
    )
    return tuple(option for option in options if _can_run(option, bundle))


def _can_run(option: EngineOption, bundle: Bundle) -> bool:
    try:
        runtime = load_runtime(option.runtime)
        devices = [device for device in runtime.availability().devices if device.name == option.device]
        is_refused = any(option.precision in device.caveats for device in devices)
        if not devices or is_refused or runtime.obstacle(option.precision, option.device) is not None:
            return False
    except RuntimeUnavailable:
        return False
    return (
        runtime.choose_artifact(bundle.manifest.artifacts_of(), option.precision, option.float_precision, None)
        is not None
    )


def recommended_engine(bundle: Bundle, options: Sequence[EngineOption]) -> EngineOption | None:
    """The engine that was measured to be the best on this machine; None if nothing was measured here.

    Args:
        bundle: The bundle.
        options: The engines that can be selected; a recommendation that is none of them is ignored.
    """
    chosen = choose_engine(bundle)
    option = EngineOption(chosen.runtime, chosen.precision, chosen.float_precision)
    return option if chosen.is_measured and option in options else None
