"""The combinations of runtime and precision that a benchmark measures or a preview offers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sr_edge.bundle import Bundle
from sr_edge.errors import SrEdgeError, UnknownNameError, UsageError
from sr_edge.runtimes.registry import find_entry, load_runtime, runtime_names
from sr_edge.spec import Precision, member_of, take_names

MIXED_FLOAT_PRECISIONS = (Precision.BF16, Precision.FP16)


@dataclass(frozen=True)
class Variant:
    """A runtime and a precision; `float_precision` is that of the operators of an INT8 network that are not INT8.

    Attributes:
        runtime: Name of the runtime.
        precision: Precision of convolutions and matrix multiplications.
        float_precision: Precision of the other operators of an INT8 network.
    """

    runtime: str
    precision: Precision
    float_precision: Precision = Precision.FP32

    def __post_init__(self) -> None:
        take_names(self, precision=Precision, float_precision=Precision)

    @property
    def label(self) -> str:
        """The precision as tables show it: "int8+bf16" is INT8 with the float layers in bf16."""
        mixed = self.precision is Precision.INT8 and self.float_precision is not Precision.FP32
        return f"{self.precision}+{self.float_precision}" if mixed else str(self.precision)


def choose_runtimes(text: str) -> list[str]:
    """Parses "all" or a comma-separated list; raises UnknownNameError or UsageError."""
    if text.strip() == "all":
        return runtime_names()
    return [find_entry(name).name for name in _split_names(text, "runtime")]


def choose_precisions(text: str) -> list[Precision]:
    """Parses "all" or a comma-separated list; raises UnknownNameError or UsageError."""
    if text.strip() == "all":
        return list(Precision)
    choices = [precision.value for precision in Precision]
    names = _split_names(text, "precision")
    for name in names:
        if name not in choices:
            raise UnknownNameError("precision", name, choices)
    return [Precision(name) for name in names]


def _split_names(text: str, kind: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError(
            f"{text!r} names no {kind}",
            found=text,
            wanted="all, or names separated by commas",
            remedy="write all, or names separated by commas",
        )
    return list(dict.fromkeys(names))


def variants_of(
    bundle: Bundle, runtimes: Sequence[str], precisions: Sequence[Precision | str], device: str | None = None
) -> list[Variant]:
    """Every runtime at every precision, and INT8 with float layers in bf16 or fp16 where the runtime supports that.

    A float precision that the bundle was deployed without is left out. A runtime for which the bundle contains nothing,
    such as torch for a network that was given as an ONNX file, has one variant, so that the reason is reported once.

    Args:
        bundle: the open bundle.
        runtimes: names of the runtimes.
        precisions: the precisions.
        device: device of the runtimes.
    """
    members = [member_of(Precision, precision, "precision") for precision in precisions]
    variants = []
    for runtime in runtimes:
        place = device or find_entry(runtime).device
        for precision in members if _has_artifact(bundle, runtime) else members[:1]:
            variants.append(Variant(runtime, precision))
            if precision is Precision.INT8:
                variants += [
                    Variant(runtime, precision, float_precision)
                    for float_precision in _mixed_float_precisions(bundle, runtime, place)
                ]
    return variants


def can_run(bundle: Bundle, variant: Variant, device: str) -> bool:
    """Whether the bundle has a graph for a variant, and the runtime works here and can compute it on the device."""
    try:
        runtime = load_runtime(variant.runtime)
        precisions = (variant.precision, variant.float_precision)
        if any(runtime.obstacle(precision, device) is not None for precision in precisions):
            return False
    except SrEdgeError:
        return False
    return runtime.choose_artifact(bundle.manifest.artifacts_of(), *precisions, None) is not None


def _has_artifact(bundle: Bundle, runtime: str) -> bool:
    """Whether the bundle contains anything for a runtime; True where the runtime is not installed."""
    try:
        module = load_runtime(runtime)
    except SrEdgeError:
        return True
    artifacts = bundle.manifest.artifacts_of()
    return any(
        module.choose_artifact(artifacts, precision, float_precision, None) is not None
        for precision in Precision
        for float_precision in (Precision.FP32, *MIXED_FLOAT_PRECISIONS)
    )


def _mixed_float_precisions(bundle: Bundle, runtime: str, device: str) -> Iterator[Precision]:
    for float_precision in MIXED_FLOAT_PRECISIONS:
        if str(float_precision) in bundle.manifest.left_out:
            continue
        try:
            module = load_runtime(runtime)
            artifact = module.choose_artifact(bundle.manifest.artifacts_of(), Precision.INT8, float_precision, None)
            if artifact is not None and module.obstacle(float_precision, device) is None:
                yield float_precision
        except SrEdgeError:
            return
