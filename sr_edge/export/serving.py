"""Who shall run a bundle's graph in another program, and how a Triton server shall; light, for the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from sr_edge.errors import UsageError
from sr_edge.spec import FrameFormat, Precision


class ServedBy(str, Enum):
    """The library that runs the graph in the other program."""

    ONNXRUNTIME = "onnxruntime"
    TENSORRT = "tensorrt"
    OPENVINO = "openvino"

    def __str__(self) -> str:
        return self.value


class InstanceKind(str, Enum):
    """What a server runs its instances of a model on."""

    GPU = "gpu"
    CPU = "cpu"

    def __str__(self) -> str:
        return self.value


_KINDS: Mapping[ServedBy, tuple[InstanceKind, ...]] = {
    ServedBy.ONNXRUNTIME: (InstanceKind.GPU, InstanceKind.CPU),
    ServedBy.TENSORRT: (InstanceKind.GPU,),
    ServedBy.OPENVINO: (InstanceKind.CPU,),
}


_HOW_TO_BUILD = "with the command that `sr-edge export-trtexec` prints"


@dataclass(frozen=True)
class TritonPlan:
    """What a Triton server shall serve and how.

    `engine` is a TensorRT plan made from the same graph; the tensorrt backend needs one, no other takes any. `kind`
    None takes the GPU where the backend has one. `instances` is how many requests run at once on each device.
    """

    backend: ServedBy = ServedBy.ONNXRUNTIME
    precision: Precision = Precision.FP32
    float_precision: Precision = Precision.FP32
    io: FrameFormat = FrameFormat.FLOAT_NCHW
    kind: InstanceKind | None = None
    instances: int = 1
    engine: Path | None = None

    def __post_init__(self) -> None:
        if self.instances < 1:
            raise UsageError(
                f"a Triton server cannot run {self.instances} instances of a model",
                found=self.instances,
                wanted="1 or more",
                remedy="pass --instances 1 or more",
            )
        if self.runs_on not in _KINDS[self.backend]:
            raise UsageError(
                f"Triton's {self.backend} backend does not run instances on the {self.runs_on}",
                found=str(self.runs_on),
                wanted=tuple(map(str, _KINDS[self.backend])),
                remedy="leave --kind out",
            )
        self._require_engine()

    @property
    def runs_on(self) -> InstanceKind:
        return self.kind or _KINDS[self.backend][0]

    @property
    def model_file(self) -> str:
        return "model.plan" if self.backend is ServedBy.TENSORRT else "model.onnx"

    def _require_engine(self) -> None:
        is_tensorrt = self.backend is ServedBy.TENSORRT
        if is_tensorrt and self.engine is None:
            raise UsageError(
                "the tensorrt backend serves an engine built for the server's GPU, and none was given",
                wanted="an engine",
                remedy=f"build one there, {_HOW_TO_BUILD}, and pass it with --engine",
            )
        if not is_tensorrt and self.engine is not None:
            raise UsageError(
                f"the {self.backend} backend serves ONNX files and not the engine {self.engine}",
                found=self.engine,
                wanted="an ONNX file",
                remedy="leave --engine out, or pass --backend tensorrt",
            )
        if self.engine is not None and not self.engine.is_file():
            raise UsageError(
                f"the engine {self.engine} does not exist",
                found=self.engine,
                wanted="an existing file",
                remedy=f"build it, {_HOW_TO_BUILD}",
            )
        if self.engine is not None and self.engine.stat().st_size == 0:
            raise UsageError(
                f"the engine {self.engine} is an empty file",
                found=self.engine,
                wanted="a complete engine",
                remedy=f"build it again, {_HOW_TO_BUILD}",
            )
