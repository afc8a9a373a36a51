"""The backends that run the graph of a bundle in other programs, and the options of a model in a Triton server.

The command line imports this module at its start, so it imports none of the libraries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from sr_edge.errors import UsageError
from sr_edge.spec import FrameFormat, Precision, take_names


class ServingBackend(str, Enum):
    """The library with which another program runs the graph; the values are the names of Triton's backends."""

    ONNXRUNTIME = "onnxruntime"
    TENSORRT = "tensorrt"
    OPENVINO = "openvino"

    def __str__(self) -> str:
        return self.value


class InstanceKind(str, Enum):
    """The device on which a Triton server runs the instances of a model (`kind` in its instance groups)."""

    GPU = "gpu"
    CPU = "cpu"

    def __str__(self) -> str:
        return self.value


_INSTANCE_KINDS: Mapping[ServingBackend, tuple[InstanceKind, ...]] = {
    ServingBackend.ONNXRUNTIME: (InstanceKind.GPU, InstanceKind.CPU),
    ServingBackend.TENSORRT: (InstanceKind.GPU,),
    ServingBackend.OPENVINO: (InstanceKind.CPU,),
}


_BUILD_COMMAND = "with the command that `sr-edge export-trtexec` prints"


@dataclass(frozen=True)
class TritonOptions:
    """How a Triton server serves a model.

    Attributes:
        backend: The Triton backend that runs the model.
        precision: Precision of convolutions and matrix multiplications.
        float_precision: Precision of the other operators of an INT8 graph.
        io: The frame format of input and output.
        kind: The device of the instances; None selects the GPU where the backend supports it.
        instances: The number of instances, hence of requests that run at the same time, on each device.
        engine: The TensorRT engine ("plan") built from the same graph; the tensorrt backend requires it and the others
            do not accept one.

    Raises:
        UsageError: The backend does not support the device or the number of instances, or the engine is missing,
            unreadable or not wanted.
    """

    backend: ServingBackend = ServingBackend.ONNXRUNTIME
    precision: Precision = Precision.FP32
    float_precision: Precision = Precision.FP32
    io: FrameFormat = FrameFormat.FLOAT_NCHW
    kind: InstanceKind | None = None
    instances: int = 1
    engine: Path | None = None

    def __post_init__(self) -> None:
        take_names(self, backend=ServingBackend, precision=Precision, float_precision=Precision)
        take_names(self, io=FrameFormat, kind=InstanceKind)
        if self.instances < 1:
            raise UsageError(
                f"a Triton server cannot run {self.instances} instances of a model",
                found=self.instances,
                wanted="1 or more",
                remedy="pass --instances 1 or more",
            )
        if self.instance_kind not in _INSTANCE_KINDS[self.backend]:
            raise UsageError(
                f"Triton's {self.backend} backend does not run instances on the {self.instance_kind}",
                found=str(self.instance_kind),
                wanted=tuple(map(str, _INSTANCE_KINDS[self.backend])),
                remedy="leave out --kind",
            )
        self._require_engine()

    @property
    def instance_kind(self) -> InstanceKind:
        """The device of the instances, by default the first one that the backend supports."""
        return self.kind or _INSTANCE_KINDS[self.backend][0]

    @property
    def model_file(self) -> str:
        """Name of the file that the server opens."""
        return "model.plan" if self.backend is ServingBackend.TENSORRT else "model.onnx"

    def _require_engine(self) -> None:
        is_tensorrt = self.backend is ServingBackend.TENSORRT
        if is_tensorrt and self.engine is None:
            raise UsageError(
                "the tensorrt backend serves an engine built for the server's GPU, and none was given",
                wanted="an engine",
                remedy=f"build one there, {_BUILD_COMMAND}, and pass it with --engine",
            )
        if not is_tensorrt and self.engine is not None:
            raise UsageError(
                f"the {self.backend} backend serves ONNX files and not the engine {self.engine}",
                found=self.engine,
                wanted="an ONNX file",
                remedy="leave out --engine, or pass --backend tensorrt",
            )
        if self.engine is not None and not self.engine.is_file():
            raise UsageError(
                f"the engine {self.engine} does not exist",
                found=self.engine,
                wanted="an existing file",
                remedy=f"build it, {_BUILD_COMMAND}",
            )
        if self.engine is not None and self.engine.stat().st_size == 0:
            raise UsageError(
                f"the engine {self.engine} is an empty file",
                found=self.engine,
                wanted="a complete engine",
                remedy=f"build it again, {_BUILD_COMMAND}",
            )
