"""Which runtimes and precisions there are to choose from: for a benchmark, or on a preview's page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sr_edge.bundle import Bundle
from sr_edge.errors import SrEdgeError, UnknownNameError, UsageError
from sr_edge.runtimes.registry import find_entry, load_runtime, runtime_names
from sr_edge.spec import Precision

MIXED_FLOAT_PRECISIONS = (Precision.BF16, Precision.FP16)


@dataclass(frozen=True)
class Variant:
    """One runtime at one precision; `float_precision` is wanted of all that is not a convolution or matmul."""

    runtime: str
    precision: Precision
    float_precision: Precision = Precision.FP32

    @property
    def label(self) -> str:
        """The precision as tables show it: "int8+bf16" is INT8 with everything else in bf16."""
        mixed = self.precision is Precision.INT8 and self.float_precision is not Precision.FP32
        return f"{self.precision}+{self.float_precision}" if mixed else str(self.precision)


def choose_runtimes(text: str) -> list[str]:
    """Reads "all" or a comma-separated list; raises UnknownNameError."""
    if text.strip() == "all":
        return runtime_names()
    return [find_entry(name).name for name in _listed(text, "runtime")]


def choose_precisions(text: str) -> list[Precision]:
    """Reads "all" or a comma-separated list; raises UnknownNameError."""
    if text.strip() == "all":
        return list(Precision)
    known = [precision.value for precision in Precision]
    found = _listed(text, "precision")
    for name in found:
        if name not in known:
            raise UnknownNameError("precision", name, known)
    return [Precision(name) for name in found]


def _listed(text: str, kind: str) -> list[str]:
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise UsageError(
            f"{text!r} names no {kind}",
            found=text,
            wanted="all, or names separated by commas",
            remedy="write all, or names separated by commas",
        )
    return list(dict.fromkeys(found))


def variants_of(
    bundle: Bundle, runtimes: Sequence[str], precisions: Sequence[Precision], device: str = "cpu"
) -> list[Variant]:
    """Every runtime at every precision, and INT8 with a lower-precision rest where the runtime has that.

    A rest in a precision that the network was left out of is no variant.
    """
    found = []
    for runtime in runtimes:
        for precision in precisions:
            found.append(Variant(runtime, precision))
            if precision is Precision.INT8:
                found += [
                    Variant(runtime, precision, float_precision)
                    for float_precision in _mixed_float_precisions(bundle, runtime, device)
                ]
    return found


def _mixed_float_precisions(bundle: Bundle, runtime: str, device: str) -> Iterator[Precision]:
    for float_precision in MIXED_FLOAT_PRECISIONS:
        if str(float_precision) in bundle.manifest.left_out:
            continue
        try:
            module = load_runtime(runtime)
            artifact = module.choose_artifact(bundle.manifest.artifacts, Precision.INT8, float_precision, None)
            if artifact is not None and module.obstacle(float_precision, device) is None:
                yield float_precision
        except SrEdgeError:
            return
