"""Renders a census as tables: the operators of the runtime, and what moves data."""

from __future__ import annotations

from sr_edge.bench.operator_times.census import Census, OperatorTime
from sr_edge.bench.operator_times.movement import Movement

OPERATOR_HEADINGS = ("operator", "kind", "layers", "ms", "share")
MOVEMENT_HEADINGS = ("source layers", "from -> moved by -> to", "times", "ms", "share")
LEFT_ALIGNED = ("operator", "kind", "source layers", "from -> moved by -> to")
FOLDED = ("source layers", "from -> moved by -> to")
"""Columns whose words may be broken where the terminal is narrow."""

MOVEMENT_LEGEND = (
    'What moves data: subgraphs that are alike are one row. "*" is the number of a layer, "from" is what computes the '
    'values that are moved, and "to" is what reads them.'
)
MOST_ROWS = 12
_OTHERS = "others"


def summary(census: Census) -> str:
    """The time by kind of work, as a sentence."""
    threads = "1 thread" if census.threads == 1 else f"{census.threads} threads"
    kinds = ", ".join(f"{time.kind} {time.share:.0%}" for time in census.kinds)
    return (
        f"{threads}, the shortest of {census.runs} runs of each layer, {census.total_ms:.2f} ms in all layers: {kinds}."
    )


def operator_rows(census: Census) -> list[tuple[str, ...]]:
    """The cells for OPERATOR_HEADINGS; the fastest operators are one row."""
    shown, others = census.operators[:MOST_ROWS], census.operators[MOST_ROWS:]
    rows = [_operator_cells(time, str(time.kind)) for time in shown]
    if others:
        layers, ms, share = (sum(getattr(time, name) for time in others) for name in ("layers", "ms", "share"))
        rows.append(_operator_cells(OperatorTime(_OTHERS, others[0].kind, layers, ms, share), ""))
    return rows


def _operator_cells(time: OperatorTime, kind: str) -> tuple[str, ...]:
    return (time.operator, kind, str(time.layers), f"{time.ms:.2f}", f"{time.share:.1%}")


def movement_rows(census: Census) -> list[tuple[str, ...]]:
    """The cells for MOVEMENT_HEADINGS; the fastest subgraphs are one row."""
    shown, others = census.movements[:MOST_ROWS], census.movements[MOST_ROWS:]
    rows = [_movement_cells(movement) for movement in shown]
    if others:
        counts = sum(movement.subgraphs for movement in others)
        ms, share = (sum(getattr(movement, name) for movement in others) for name in ("ms", "share"))
        rows.append((_OTHERS, "", str(counts), f"{ms:.2f}", f"{share:.1%}"))
    return rows


def _movement_cells(movement: Movement) -> tuple[str, ...]:
    return (
        movement.layers[0] if movement.layers else "unknown",
        " -> ".join(", ".join(names) for names in (movement.before, movement.operators, movement.after)),
        str(movement.subgraphs),
        f"{movement.ms:.2f}",
        f"{movement.share:.1%}",
    )
