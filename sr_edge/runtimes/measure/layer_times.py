"""Times the layers of a graph in the runtimes whose libraries report them."""

from __future__ import annotations

import importlib
from typing import cast

from sr_edge.errors import RuntimeUnavailable
from sr_edge.runtimes.engine.layer_times import LayerTimes, ProfiledGraph, ReportsLayerTimes
from sr_edge.runtimes.registry import RUNTIMES, find_entry, load_runtime


def runtimes_with_layer_times() -> list[str]:
    """Names of the runtimes that report the time of each layer."""
    return [entry.name for entry in RUNTIMES if entry.layer_times]


def require_layer_times(runtime: str) -> None:
    """Raises UnknownNameError for a name that no runtime has, RuntimeUnavailable if it reports no layer times."""
    if find_entry(runtime).layer_times:
        return
    able = runtimes_with_layer_times()
    raise RuntimeUnavailable(
        f"the {runtime} runtime does not report the time of each layer",
        found=runtime,
        wanted=tuple(able),
        remedy=f"choose one of: {', '.join(able)}",
    )


def layer_times(runtime: str, profiled: ProfiledGraph) -> LayerTimes:
    """Times the layers of a graph.

    Raises:
        UnknownNameError: there is no runtime of that name.
        RuntimeUnavailable: it does not work here, or does not report layer times on that device.
        PrecisionUnavailable: it cannot compute in that precision.
        EngineError: it cannot compile or run the graph.
    """
    require_layer_times(runtime)
    load_runtime(runtime)
    module = cast(ReportsLayerTimes, importlib.import_module(find_entry(runtime).layer_times))
    return module.layer_times(profiled)
