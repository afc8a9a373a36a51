"""The deployment targets that a graph can be checked for, by the names that `--for` takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from sr_edge.errors import UnknownNameError
from sr_edge.export.checks.tensorrt_releases import TENSORRT_RELEASES, Version
from sr_edge.spec import ActivationType


class TargetLibrary(str, Enum):
    """A runtime in any version; the table of rules has a severity for each."""

    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"
    OPENVINO = "openvino"
    ONNXRUNTIME = "onnxruntime"


@dataclass(frozen=True)
class Target:
    """A name that `--for` takes; only the releases of TensorRT have a version."""

    name: str
    library: TargetLibrary
    version: Version | None = None


TARGETS: tuple[Target, ...] = (
    *(Target(release.name, TargetLibrary.TENSORRT, release.version) for release in TENSORRT_RELEASES),
    Target("tensorrt-rtx", TargetLibrary.TENSORRT_RTX),
    Target("openvino", TargetLibrary.OPENVINO),
    Target("onnxruntime", TargetLibrary.ONNXRUNTIME),
)
TARGET_NAMES: tuple[str, ...] = tuple(target.name for target in TARGETS)

_READERS = {  # of an INT8 graph, by how its activations are written; ONNX Runtime prefers the first
    ActivationType.INT8: (TargetLibrary.TENSORRT, TargetLibrary.TENSORRT_RTX, TargetLibrary.ONNXRUNTIME),
    ActivationType.UINT8: (TargetLibrary.OPENVINO, TargetLibrary.ONNXRUNTIME),
}


def require_known_targets(names: Iterable[str]) -> tuple[str, ...]:
    """Returns `names` without duplicates; raises UnknownNameError where one is not a target."""
    known = tuple(dict.fromkeys(names))
    for name in known:
        if name not in TARGET_NAMES:
            raise UnknownNameError("target", name, list(TARGET_NAMES))
    return known


def readers_of(activation_type: ActivationType | None) -> tuple[str, ...]:
    """The targets of an INT8 graph with activations of that type; for None, a float graph, all targets."""
    if activation_type is None:
        return TARGET_NAMES
    return tuple(target.name for target in TARGETS if target.library in _READERS[activation_type])


def activation_types_read_by(library: TargetLibrary) -> tuple[ActivationType, ...]:
    """The activation types that a library reads in INT8 graphs, in its order of preference."""
    return tuple(activation_type for activation_type, readers in _READERS.items() if library in readers)


def describe_targets(names: Sequence[str]) -> str:
    """The names for use in a sentence, with all releases of TensorRT as "every TensorRT release"."""
    releases = [target.name for target in TARGETS if target.library is TargetLibrary.TENSORRT]
    if not set(releases) <= set(names):
        return ", ".join(names)
    others = [name for name in names if name not in releases]
    return ", ".join(["every TensorRT release", *others])
