"""The two sides of a comparison, as they are spelled.

    TARGET[@PRECISION][:RUNTIME]

TARGET is an ONNX file, a bundle, a checkpoint, a registered name, or package.module:factory. After the last "@" stand
a precision, a runtime or both, separated by a colon: `x.sredge@int8:openvino`, `model.onnx@openvino`,
`convnet-tiny@torch`. Without a precision the "@" may be left out: `model.onnx:openvino`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from sr_edge.errors import UnknownNameError, UsageError
from sr_edge.runtimes import runtime_names
from sr_edge.spec import Precision

TORCH, DEFAULT_RUNTIME = "torch", "onnxruntime"
"""Who runs a network of PyTorch, and who runs a file or bundle where no runtime is named."""

REAL_FLOAT16 = "float16"
"""Named like a runtime: fp16 graphs in real float16 arithmetic (`sr_edge.export.run_float16`)."""

CHECKPOINTS = (".pth", ".pt", ".safetensors")
BUNDLES = (".sredge", ".zip")
_FLOAT_PRECISIONS = {f"int8+{float_precision}": float_precision for float_precision in (Precision.BF16, Precision.FP16)}


class ModelKind(str, Enum):
    """What a side's target is."""

    BUNDLE = "bundle"
    FILE = "ONNX file"
    TORCH = "PyTorch network"


@dataclass(frozen=True)
class ModelSpec:
    """A side as it was spelled; `precision` and `runtime` None leave the choice to what the target is."""

    text: str
    target: str
    kind: ModelKind
    precision: Precision | None = None
    float_precision: Precision = Precision.FP32
    runtime: str | None = None

    @classmethod
    def parse(cls, text: str) -> ModelSpec:
        """Reads TARGET[@PRECISION][:RUNTIME]; a file whose own name has an "@" is taken whole.

        Raises:
            UnknownNameError: what stands behind the "@" is neither a precision nor a runtime.
            UsageError: two precisions or runtimes, or a runtime that cannot run such a target.
        """
        target, at, behind = (text, "", "") if Path(text).exists() else text.rpartition("@")
        target, runtime = _without_runtime(target or behind)
        words = [word.strip() for word in [*(behind.split(":") if at else []), *runtime]]
        name = cls(text, target, _kind_of(target))
        for word in words:
            name = _with_word(name, word)
        return _checked(name)


def _without_runtime(target: str) -> tuple[str, list[str]]:
    """`target`, and what stands behind its last colon, unless that belongs to a file's name or a factory's."""
    head, _, word = target.rpartition(":")
    is_file = Path(head).suffix in (".onnx", *BUNDLES, *CHECKPOINTS)
    is_runtime = head != "" and word in (*runtime_names(), REAL_FLOAT16)
    if (is_file or is_runtime) and not Path(target).exists():
        return head, [word]
    return target, []


def _kind_of(target: str) -> ModelKind:
    path = Path(target)
    if path.suffix == ".onnx":
        return ModelKind.FILE
    if path.suffix in BUNDLES or path.is_dir():
        return ModelKind.BUNDLE
    if path.is_file() and path.suffix not in CHECKPOINTS:
        raise UsageError(
            f"{target} is not an .onnx file, a bundle (.sredge, .zip) or a checkpoint ({', '.join(CHECKPOINTS)})",
            found=path.suffix,
            wanted=(".onnx", *BUNDLES, *CHECKPOINTS),
            remedy="give one of those, or the name of a model",
        )
    return ModelKind.TORCH


def _with_word(name: ModelSpec, word: str) -> ModelSpec:
    precisions = [*map(str, Precision), *_FLOAT_PRECISIONS]
    runtimes = [*runtime_names(), REAL_FLOAT16]
    if word not in (*precisions, *runtimes):
        raise UnknownNameError(f"precision or runtime in {name.text!r}:", word, [*precisions, *runtimes])
    if word in runtimes and name.runtime is None:
        return dataclasses.replace(name, runtime=word)
    if word in precisions and name.precision is None:
        float_precision = _FLOAT_PRECISIONS.get(word, Precision.FP32)
        return dataclasses.replace(name, precision=Precision(word.partition("+")[0]), float_precision=float_precision)
    kind = "runtime" if word in runtimes else "precision"
    raise UsageError(f"{name.text!r} names two {kind}s", found=word, wanted=f"one {kind}", remedy="leave one out")


def _checked(name: ModelSpec) -> ModelSpec:
    if name.kind is ModelKind.TORCH and name.runtime not in (None, TORCH):
        raise UsageError(
            f"{name.target} is taken for a PyTorch network, which runs in torch, not in {name.runtime}",
            found=name.runtime,
            wanted=TORCH,
            remedy="give an ONNX file or a bundle",
        )
    if name.kind is ModelKind.FILE and name.runtime == TORCH:
        raise UsageError(
            f"torch cannot run the ONNX file {name.target}",
            found=TORCH,
            wanted=("onnxruntime", "openvino"),
            remedy="choose onnxruntime or openvino, or give a checkpoint",
        )
    if name.kind is ModelKind.BUNDLE and name.runtime == REAL_FLOAT16 and name.precision is None:
        return dataclasses.replace(name, precision=Precision.FP16)
    return name
