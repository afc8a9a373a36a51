"""Type declarations for the part of TensorRT's Python API in use: tensorrt 10.3 to 11, and tensorrt_rtx.

`TrtX` declares the members of the bindings' class X that sr-edge uses and all supported versions have. mypy checks the
code against these declarations, and a test checks the declarations against lists of the names in the real bindings.
Members that only TensorRT-RTX has are declared in `RtxX`, which only the `rtx_...` functions return. Arguments are
positional, because their names differ between versions.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NewType, Protocol, cast

from sr_edge.errors import RuntimeUnavailable

Member = NewType("Member", int)
"""A member of one of TensorRT's enumerations; `int()` accepts it."""

OLDEST, TOO_NEW = (10, 3), (12,)
_DLA_SINCE = (11, 4, 1)


class Flavour(str, Enum):
    """TensorRT, which JetPack and CUDA installations include, or TensorRT for RTX, from the package index."""

    TENSORRT = "tensorrt"
    RTX = "tensorrt-rtx"

    def __str__(self) -> str:
        return self.value

    @property
    def module(self) -> str:
        """Name of the Python package."""
        return self.value.replace("-", "_")


class TrtIHostMemory(Protocol):
    nbytes: int

    def __buffer__(self, flags: int, /) -> memoryview: ...


class TrtITensor(Protocol):
    name: str
    dtype: Member
    shape: tuple[int, ...]


class TrtILayer(Protocol):
    name: str
    type: Member
    num_inputs: int
    num_outputs: int

    def get_input(self, index: int, /) -> TrtITensor | None: ...
    def get_output(self, index: int, /) -> TrtITensor: ...


class TrtINetworkDefinition(Protocol):
    num_layers: int
    num_inputs: int
    num_outputs: int

    def get_layer(self, index: int, /) -> TrtILayer: ...
    def get_input(self, index: int, /) -> TrtITensor: ...
    def get_output(self, index: int, /) -> TrtITensor: ...


class TrtParserError(Protocol):
    def desc(self) -> str: ...
    def node(self) -> int: ...
    def node_name(self) -> str: ...
    def node_operator(self) -> str: ...


class TrtOnnxParser(Protocol):
    num_errors: int

    def parse_from_file(self, path: str, /) -> bool: ...
    def get_error(self, index: int, /) -> TrtParserError: ...


class TrtIOptimizationProfile(Protocol):
    def set_shape(
        self, name: str, minimum: tuple[int, ...], optimum: tuple[int, ...], maximum: tuple[int, ...], /
    ) -> None: ...


class TrtITimingCache(Protocol):
    def serialize(self) -> TrtIHostMemory: ...


class TrtIBuilderConfig(Protocol):
    builder_optimization_level: int
    default_device_type: Member
    DLA_core: int
    hardware_compatibility_level: Member
    progress_monitor: object

    def set_flag(self, flag: Member, /) -> None: ...
    def clear_flag(self, flag: Member, /) -> None: ...
    def set_memory_pool_limit(self, pool: Member, limit_bytes: int, /) -> None: ...
    def get_memory_pool_limit(self, pool: Member, /) -> int: ...
    def add_optimization_profile(self, profile: TrtIOptimizationProfile, /) -> int: ...
    def can_run_on_DLA(self, layer: TrtILayer, /) -> bool: ...  # noqa: N802  # TensorRT's name
    def create_timing_cache(self, content: bytes, /) -> TrtITimingCache | None: ...
    def set_timing_cache(self, cache: TrtITimingCache, ignore_mismatch: bool, /) -> bool: ...
    def get_timing_cache(self) -> TrtITimingCache: ...


class RtxIBuilderConfig(Protocol):
    num_compute_capabilities: int

    def set_compute_capability(self, capability: Member, index: int, /) -> bool: ...


class TrtBuilder(Protocol):
    num_DLA_cores: int  # noqa: N815  # TensorRT's name

    def create_network(self, flags: int, /) -> TrtINetworkDefinition: ...
    def create_builder_config(self) -> TrtIBuilderConfig: ...
    def create_optimization_profile(self) -> TrtIOptimizationProfile: ...
    def build_serialized_network(
        self, network: TrtINetworkDefinition, config: TrtIBuilderConfig, /
    ) -> TrtIHostMemory | None: ...


class RtxIRuntimeCache(Protocol):
    def deserialize(self, content: bytes, /) -> bool: ...
    def serialize(self) -> TrtIHostMemory: ...


class RtxIRuntimeConfig(Protocol):
    def create_runtime_cache(self) -> RtxIRuntimeCache: ...
    def set_runtime_cache(self, cache: RtxIRuntimeCache, /) -> bool: ...


class TrtIExecutionContext(Protocol):
    def set_input_shape(self, name: str, shape: tuple[int, ...], /) -> bool: ...
    def set_tensor_address(self, name: str, address: int, /) -> bool: ...
    def execute_async_v3(self, stream: int, /) -> bool: ...


class TrtICudaEngine(Protocol):
    num_io_tensors: int
    device_memory_size_v2: int

    def get_tensor_name(self, index: int, /) -> str: ...
    def get_tensor_mode(self, name: str, /) -> Member: ...
    def get_tensor_shape(self, name: str, /) -> tuple[int, ...]: ...
    def get_tensor_dtype(self, name: str, /) -> Member: ...
    def create_execution_context(self) -> TrtIExecutionContext | None: ...


class RtxICudaEngine(Protocol):
    def create_runtime_config(self) -> RtxIRuntimeConfig: ...
    def create_execution_context(self, config: RtxIRuntimeConfig, /) -> TrtIExecutionContext | None: ...


class TrtRuntime(Protocol):
    DLA_core: int
    engine_host_code_allowed: bool

    def deserialize_cuda_engine(self, plan: bytes, /) -> TrtICudaEngine | None: ...


class TrtBuilderFlag(Protocol):
    TF32: Member
    GPU_FALLBACK: Member
    VERSION_COMPATIBLE: Member


class TrtNetworkDefinitionCreationFlag(Protocol):
    STRONGLY_TYPED: Member


class TrtMemoryPoolType(Protocol):
    WORKSPACE: Member


class TrtDeviceType(Protocol):
    DLA: Member


class TrtHardwareCompatibilityLevel(Protocol):
    AMPERE_PLUS: Member


class TrtLayerType(Protocol):
    CONVOLUTION: Member
    DECONVOLUTION: Member
    MATRIX_MULTIPLY: Member
    DEQUANTIZE: Member
    QUANTIZE: Member
    SHUFFLE: Member
    CAST: Member
    CONSTANT: Member


class TrtDataType(Protocol):
    FLOAT: Member
    HALF: Member
    BF16: Member
    INT8: Member
    UINT8: Member


class TrtTensorIOMode(Protocol):
    INPUT: Member


class TrtModule(Protocol):
    """The module itself. Classes that are not declared here are those whose instances only TensorRT uses."""

    __version__: str
    BuilderFlag: TrtBuilderFlag
    NetworkDefinitionCreationFlag: TrtNetworkDefinitionCreationFlag
    MemoryPoolType: TrtMemoryPoolType
    DeviceType: TrtDeviceType
    HardwareCompatibilityLevel: TrtHardwareCompatibilityLevel
    LayerType: TrtLayerType
    DataType: TrtDataType
    TensorIOMode: TrtTensorIOMode
    ILogger: type[object]
    IProgressMonitor: type[object]
    Builder: Callable[[object], TrtBuilder]
    OnnxParser: Callable[[TrtINetworkDefinition, object], TrtOnnxParser]
    Runtime: Callable[[object], TrtRuntime]


@dataclass(frozen=True)
class TensorRTLibrary:
    """An imported TensorRT module of a supported version."""

    flavour: Flavour
    version: str
    trt: TrtModule

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version as numbers, for comparison."""
        return version_numbers(self.version)

    @property
    def name(self) -> str:
        """Flavour and version, for messages."""
        return f"{self.flavour} {self.version}"

    def dla_obstacle(self) -> str | None:
        """Why this library cannot build sr-edge's graphs for DLA, or None. (Versions 10.8 to 11.4.0 have no DLA.)"""
        if self.flavour is Flavour.RTX:
            return "TensorRT-RTX builds for GPUs only"
        if self.numbers < _DLA_SINCE:
            return f"DLA accepts strongly typed networks from TensorRT 11.4.1 on, and this is {self.version}"
        return None


def load_library(flavour: Flavour) -> TensorRTLibrary:
    """Imports TensorRT.

    Raises:
        ImportError: it is not installed (ModuleNotFoundError) or cannot be loaded.
        RuntimeUnavailable: its version is not supported.
    """
    trt = cast(TrtModule, importlib.import_module(flavour.module))
    library = TensorRTLibrary(flavour, str(trt.__version__), trt)
    if flavour is Flavour.TENSORRT and not OLDEST <= library.numbers < TOO_NEW:
        raise RuntimeUnavailable(
            f"{library.name} is not supported",
            found=library.version,
            wanted=">=10.3,<12",
            remedy="install tensorrt >= 10.3 and < 12 (JetPack 6.1 and newer include one), or use the runtime "
            "onnxruntime instead",
        )
    return library


def version_numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: (10, 3, 0) for "10.3.0", (10, 13, 3, 9) for "10.13.3.9.post1"."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def rtx_builder_config(library: TensorRTLibrary, config: TrtIBuilderConfig) -> RtxIBuilderConfig | None:
    """`config` with the members that TensorRT-RTX adds; None for TensorRT."""
    return cast(RtxIBuilderConfig, config) if library.flavour is Flavour.RTX else None


def rtx_engine(library: TensorRTLibrary, engine: TrtICudaEngine) -> RtxICudaEngine | None:
    """`engine` with the members that TensorRT-RTX adds; None for TensorRT."""
    return cast(RtxICudaEngine, engine) if library.flavour is Flavour.RTX else None


def rtx_compute_capabilities(library: TensorRTLibrary) -> dict[str, Member]:
    """Compute capabilities that TensorRT-RTX builds for on any machine, by name ("8.6"); empty for TensorRT."""
    enumeration = getattr(library.trt, "ComputeCapability", None) if library.flavour is Flavour.RTX else None
    members = {} if enumeration is None else dict(enumeration.__members__)
    return {f"{name[2:-1]}.{name[-1]}": value for name, value in members.items() if re.fullmatch(r"SM\d{2,3}", name)}


def logger_class(trt: TrtModule) -> Callable[[Callable[[int, str], None]], object]:
    """A subclass of TensorRT's ILogger that passes on (severity, message); 1 is an error, 2 a warning, 4 verbose."""
    base = trt.ILogger

    class Logger(base):  # type: ignore[misc, valid-type]  # the library is known only at run time
        def __init__(self, sink: Callable[[int, str], None]) -> None:
            base.__init__(self)
            self._sink = sink

        def log(self, severity: Member, message: str) -> None:
            self._sink(int(severity), message)

    return Logger


class ProgressSink(Protocol):
    """Receives the progress of a build, as IProgressMonitor does. `step_complete` returns False to cancel the build."""

    def phase_start(self, phase: str, parent: str | None, steps: int) -> None: ...
    def step_complete(self, phase: str, step: int) -> bool: ...
    def phase_finish(self, phase: str) -> None: ...


def monitor_class(trt: TrtModule) -> Callable[[ProgressSink], object]:
    """A subclass of TensorRT's IProgressMonitor that passes everything on to a `ProgressSink`."""
    base = trt.IProgressMonitor

    class Monitor(base):  # type: ignore[misc, valid-type]  # the library is known only at run time
        def __init__(self, sink: ProgressSink) -> None:
            base.__init__(self)
            self._sink = sink

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self._sink.phase_start(phase, parent, steps)

        def step_complete(self, phase: str, step: int) -> bool:
            return self._sink.step_complete(phase, step)

        def phase_finish(self, phase: str) -> None:
            self._sink.phase_finish(phase)

    return Monitor
