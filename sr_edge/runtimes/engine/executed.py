"""Derives from the layers of a compiled engine the precision that it runs in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sr_edge.errors import PrecisionUnavailable
from sr_edge.runtimes.session import SessionRequest
from sr_edge.spec import Precision


@dataclass(frozen=True)
class Executed:
    """Precisions that an engine runs in: of convolutions and matrix multiplications, and of all other operators."""

    ran: Precision
    float_precision: Precision
    note: str = ""


def executed_precision(layers: Mapping[Precision, int], quantized: int, float_precision: Precision) -> Executed:
    """Decides which precision to report for an engine.

    It is INT8 when at least half of the layers that the file quantizes run in INT8; float layers, which a calibration
    left unquantized, do not count. Otherwise it is the most frequent float precision.

    Args:
        layers: convolutions and matrix multiplications of the compiled engine, counted by the precision they run in.
        quantized: number of those in the file whose inputs and weights are quantized.
        float_precision: precision of all other operators.
    """
    int8 = layers.get(Precision.INT8, 0)
    float_layers: dict[Precision, int] = {kind: count for kind, count in layers.items() if kind is not Precision.INT8}
    most_frequent = max(float_layers, key=lambda kind: float_layers[kind]) if float_layers else float_precision
    ran = Precision.INT8 if int8 and 2 * int8 >= quantized else most_frequent
    return Executed(ran, float_precision, _note(int8, quantized, float_layers))


def unsupported(problem: str, precision: Precision, supported: Sequence[Precision]) -> PrecisionUnavailable:
    """The error of a precision that a device does not support; its remedy lists those that it does."""
    return PrecisionUnavailable(
        problem,
        found=precision,
        wanted=tuple(supported),
        remedy=f"choose a supported precision: {', '.join(supported)}",
    )


def require_possible(request: SessionRequest, obstacles: Sequence[PrecisionUnavailable | None]) -> None:
    """Raises the first of the obstacles unless the request allows another precision."""
    first = next((obstacle for obstacle in obstacles if obstacle), None)
    if first and not request.allow_other_precision:
        raise first


def require_requested(request: SessionRequest, runtime: str, executed: Executed) -> None:
    """Raises PrecisionUnavailable where another precision runs than was requested, unless the request allows that."""
    if executed.ran is request.precision or request.allow_other_precision:
        return
    detail = f" ({executed.note})" if executed.note else ""
    raise PrecisionUnavailable(
        f"{request.precision} was requested, but {runtime} on {request.device} runs {request.artifact.name} in "
        f"{executed.ran}{detail}",
        found=executed.ran,
        wanted=request.precision,
        remedy="choose another runtime or precision (in Python, allow_other_precision=True opens it anyway)",
    )


def _note(int8: int, quantized: int, float_layers: Mapping[Precision, int]) -> str:
    parts = []
    if int8 < quantized:
        parts.append(f"{int8} of {quantized} quantized layers run in int8")
    if len(float_layers) > 1:
        parts.append("float layers: " + ", ".join(f"{count} in {kind}" for kind, count in float_layers.items()))
    return "; ".join(parts)
