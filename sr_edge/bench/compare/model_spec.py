"""Parses the specification of a model to compare.

    TARGET[@PRECISION][:RUNTIME]

TARGET is an ONNX file, a bundle, a checkpoint, a registered name, or package.module:factory. The last "@" is followed
by a precision, a runtime, or both separated by a colon: `x.sredge@int8:openvino`, `model.onnx@openvino`,
`convnet-tiny@torch`. Without a precision, the "@" may be left out: `model.onnx:openvino`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from sr_edge.errors import UnknownNameError, UsageError
from sr_edge.model_sources import SourceKind, source_kind
from sr_edge.runtimes import runtime_names
from sr_edge.spec import Precision

TORCH, DEFAULT_RUNTIME = "torch", "onnxruntime"
"""The runtime of PyTorch networks, and that of files and bundles where none is named."""

REAL_FLOAT16 = "float16"
"""Accepted like a runtime: computes fp16 graphs in real float16 arithmetic (`sr_edge.export.run_float16`)."""

CHECKPOINTS = (".pth", ".pt", ".safetensors")
BUNDLES = (".sredge", ".zip")
_FLOAT_PRECISIONS = {f"int8+{float_precision}": float_precision for float_precision in (Precision.BF16, Precision.FP16)}


class ModelKind(str, Enum):
    """Kinds of targets."""

    BUNDLE = "bundle"
    FILE = "ONNX file"
    TORCH = "PyTorch network"


@dataclass(frozen=True)
class ModelSpec:
    """A parsed specification; `precision` and `runtime` None are chosen by the kind of the target."""

    text: str
    target: str
    kind: ModelKind
    precision: Precision | None = None
    float_precision: Precision = Precision.FP32
    runtime: str | None = None

    @classmethod
    def parse(cls, text: str) -> ModelSpec:
        """Parses TARGET[@PRECISION][:RUNTIME]; the name of an existing file may contain an "@".

        Raises:
            UnknownNameError: the text after the "@" is neither a precision nor a runtime.
            UsageError: it names two precisions or runtimes, or a runtime that cannot run such a target.
        """
        target, at, suffix = (text, "", "") if Path(text).exists() else text.rpartition("@")
        target, runtime = _split_runtime(target or suffix)
        words = [word.strip() for word in [*(suffix.split(":") if at else []), *runtime]]
        spec = cls(text, target, _kind_of(target))
        for word in words:
            spec = _with_word(spec, word)
        return _checked(spec)


def _split_runtime(target: str) -> tuple[str, list[str]]:
    """Splits `target` at its last colon, unless that belongs to the name of a file or a factory."""
    head, _, word = target.rpartition(":")
    is_file = Path(head).suffix in (".onnx", *BUNDLES, *CHECKPOINTS)
    is_runtime = head != "" and word in (*runtime_names(), REAL_FLOAT16)
    if (is_file or is_runtime) and not Path(target).exists():
        return head, [word]
    return target, []


def _kind_of(target: str) -> ModelKind:
    path, kind = Path(target), source_kind(target)
    if kind is SourceKind.ONNX:
        return ModelKind.FILE
    if kind is SourceKind.BUNDLE:
        return ModelKind.BUNDLE
    if path.is_file() and path.suffix not in CHECKPOINTS:
        raise UsageError(
            f"{target} is not an .onnx file, a bundle (.sredge, .zip) or a checkpoint ({', '.join(CHECKPOINTS)})",
            found=path.suffix,
            wanted=(".onnx", *BUNDLES, *CHECKPOINTS),
            remedy="give one of those, or the name of a model",
        )
    return ModelKind.TORCH


def _with_word(spec: ModelSpec, word: str) -> ModelSpec:
    precisions = [*map(str, Precision), *_FLOAT_PRECISIONS]
    runtimes = [*runtime_names(), REAL_FLOAT16]
    if word not in (*precisions, *runtimes):
        raise UnknownNameError(f"precision or runtime in {spec.text!r}:", word, [*precisions, *runtimes])
    if word in runtimes and spec.runtime is None:
        return dataclasses.replace(spec, runtime=word)
    if word in precisions and spec.precision is None:
        float_precision = _FLOAT_PRECISIONS.get(word, Precision.FP32)
        return dataclasses.replace(spec, precision=Precision(word.partition("+")[0]), float_precision=float_precision)
    kind = "runtime" if word in runtimes else "precision"
    raise UsageError(f"{spec.text!r} names two {kind}s", found=word, wanted=f"one {kind}", remedy="leave one out")


def _checked(spec: ModelSpec) -> ModelSpec:
    if spec.kind is ModelKind.TORCH and spec.runtime not in (None, TORCH):
        raise UsageError(
            f"{spec.target} is read as a PyTorch network, which runs in torch, not in {spec.runtime}",
            found=spec.runtime,
            wanted=TORCH,
            remedy="give an ONNX file or a bundle",
        )
    if spec.kind is ModelKind.FILE and spec.runtime == TORCH:
        raise UsageError(
            f"torch cannot run the ONNX file {spec.target}",
            found=TORCH,
            wanted=("onnxruntime", "openvino"),
            remedy="choose onnxruntime or openvino, or give a checkpoint",
        )
    if spec.kind is ModelKind.BUNDLE and spec.runtime == REAL_FLOAT16 and spec.precision is None:
        return dataclasses.replace(spec, precision=Precision.FP16)
    return spec
