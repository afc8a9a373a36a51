"""From the layers of a compiled engine to one honest statement of the precision that ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sr_edge.errors import PrecisionUnavailable
from sr_edge.runtimes.session import SessionRequest
from sr_edge.spec import Precision


@dataclass(frozen=True)
class Executed:
    """Precision of the convolutions and matmuls, and of all else, as an engine runs them."""

    ran: Precision
    float_precision: Precision
    note: str = ""


def executed_precision(layers: Mapping[Precision, int], quantized: int, float_precision: Precision) -> Executed:
    """What to report of an engine.

    INT8 ran when at least half of the layers that the file quantizes run in INT8 (the float layers that a
    calibration left alone do not count against it). Otherwise the most frequent float precision ran.

    Args:
        layers: convolutions and matmuls of the compiled engine, counted by the precision they run in.
        quantized: convolutions and matmuls of the file whose inputs and weights are quantized.
        float_precision: the precision of everything else.
    """
    int8 = layers.get(Precision.INT8, 0)
    floats: dict[Precision, int] = {kind: count for kind, count in layers.items() if kind is not Precision.INT8}
    most_frequent = max(floats, key=lambda kind: floats[kind]) if floats else float_precision
    ran = Precision.INT8 if int8 and 2 * int8 >= quantized else most_frequent
    return Executed(ran, float_precision, _note(int8, quantized, floats))


def require_possible(request: SessionRequest, obstacles: Sequence[PrecisionUnavailable | None]) -> None:
    """Raises the first of the obstacles unless other precisions are allowed."""
    first = next((obstacle for obstacle in obstacles if obstacle), None)
    if first and not request.allow_other_precision:
        raise first


def require_requested(request: SessionRequest, runtime: str, executed: Executed) -> None:
    """Raises PrecisionUnavailable if another precision runs than was asked for and that was not allowed."""
    if executed.ran is request.precision or request.allow_other_precision:
        return
    detail = f" ({executed.note})" if executed.note else ""
    raise PrecisionUnavailable(
        f"{request.precision} was requested, but {runtime} on {request.device} runs {request.artifact.name} in "
        f"{executed.ran}{detail}",
        found=executed.ran,
        wanted=request.precision,
        remedy="choose another runtime or precision (in Python, allow_other_precision=True opens it all the same)",
    )


def _note(int8: int, quantized: int, floats: Mapping[Precision, int]) -> str:
    parts = []
    if int8 < quantized:
        parts.append(f"{int8} of {quantized} quantized layers run in int8")
    if len(floats) > 1:
        parts.append("float layers: " + ", ".join(f"{count} in {kind}" for kind, count in floats.items()))
    return "; ".join(parts)
