"""Adds to the rows of a benchmark where the time of each variant goes, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sr_edge.bench.operator_times.census import census_of_request
from sr_edge.bench.protocol import OpenVariant, is_timed, no_progress
from sr_edge.bench.rows import Row
from sr_edge.controls import Controls
from sr_edge.errors import EngineError, RuntimeUnavailable, UsageError
from sr_edge.runtimes.measure.layer_times import require_layer_times, runtimes_with_layer_times
from sr_edge.spec import StageProgress


def require_census(runtimes: Sequence[str], rounds: int) -> None:
    """Raises an error if no census could be measured in any of these runtimes.

    Raises:
        UsageError: nothing is timed.
        RuntimeUnavailable: none of the runtimes reports the time of each layer.
    """
    if rounds < 1:
        raise UsageError(
            "a census needs timed runs", found=rounds, wanted="1 or more runs", remedy="pass --runs 1 or more"
        )
    able = runtimes_with_layer_times()
    if runtimes and not set(able) & set(runtimes):
        raise RuntimeUnavailable(
            f"a census needs the time of each layer, which {', '.join(dict.fromkeys(runtimes))} does not report",
            found=tuple(dict.fromkeys(runtimes)),
            wanted=tuple(able),
            remedy=f"choose one of: {', '.join(able)}",
        )


def with_censuses(
    rows: Sequence[Row],
    opened: Sequence[OpenVariant | Row],
    runs: int,
    controls: Controls,
    progress: StageProgress = no_progress,
) -> list[Row]:
    """Adds a census to the row of each timed variant; where there is none, the row's remarks say why.

    Args:
        rows: one for each entry of `opened`.
        opened: the open variants, and a row for each that could not be opened.
        runs: timed runs.
        controls: values of the network's named scalars.
        progress: called with (stage, steps done, steps in all).
    """
    measured = []
    for index, (row, entry) in enumerate(zip(rows, opened, strict=True)):
        progress("census", index, len(rows))
        measured.append(_with_census(row, entry, runs, controls) if is_timed(entry) else row)
    progress("census", len(rows), len(rows))
    return measured


def _with_census(row: Row, entry: OpenVariant, runs: int, controls: Controls) -> Row:
    runtime = entry.variant.runtime
    try:
        require_layer_times(runtime)
        return replace(row, census=census_of_request(runtime, entry.request, controls, runs))
    except (EngineError, RuntimeUnavailable) as error:
        return replace(row, remarks=(*row.remarks, f"no census: {error}"))
