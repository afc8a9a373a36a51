"""A TensorRT that builds one network, convolution and shuffle, and runs it on a `FakeCuda` as an upscaling by two."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from sr_edge.runtimes.tensorrt.api import Flavour, TensorRTLibrary
from tests.runtimes.cuda.fake_cuda import FakeCuda


class DataType(IntEnum):
    FLOAT, HALF, BF16, INT8, UINT8 = range(5)


class LayerType(IntEnum):
    CONVOLUTION, DECONVOLUTION, MATRIX_MULTIPLY, DEQUANTIZE, QUANTIZE, SHUFFLE, CAST, CONSTANT = range(8)


class TensorIOMode(IntEnum):
    INPUT, OUTPUT = range(2)


def tensor(name: str, *shape: int, dtype: DataType = DataType.FLOAT) -> SimpleNamespace:
    return SimpleNamespace(name=name, shape=shape, dtype=dtype)


def layer(name: str, kind: LayerType, inputs: list[Any], output: Any) -> SimpleNamespace:
    return SimpleNamespace(
        name=name,
        type=kind,
        num_inputs=len(inputs),
        num_outputs=1,
        get_input=lambda index: inputs[index],
        get_output=lambda index: output,
    )


def network(layers: list[Any], tile: Any, output: Any) -> SimpleNamespace:
    return SimpleNamespace(
        num_layers=len(layers),
        num_inputs=1,
        num_outputs=1,
        get_layer=lambda index: layers[index],
        get_input=lambda index: tile,
        get_output=lambda index: output,
    )


def convolution_and_shuffle(element: DataType = DataType.FLOAT) -> SimpleNamespace:
    """Named conv0 and shuffle0, for tiles of 16x24."""
    tile, features, out = (
        tensor(name, *shape, dtype=element)
        for name, shape in (("input", (1, 3, 16, 24)), ("features", (1, 12, 16, 24)), ("output", (1, 3, 32, 48)))
    )
    layers = [
        layer("conv0", LayerType.CONVOLUTION, [tile], features),
        layer("shuffle0", LayerType.SHUFFLE, [features], out),
    ]
    return network(layers, tile, out)


class FakeConfig:
    """`IBuilderConfig`: remembers."""

    def __init__(self, gpu_only: tuple[str, ...]) -> None:
        self.flags: set[str] = {"TF32"}
        self.limits = {"WORKSPACE": 64 << 30}
        self.builder_optimization_level = 3
        self.default_device_type = self.hardware_compatibility_level = "GPU"
        self.DLA_core = -1
        self.progress_monitor: Any = None
        self.cache = b""
        self._gpu_only = gpu_only

    def set_flag(self, flag: str) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: str) -> None:
        self.flags.discard(flag)

    def set_memory_pool_limit(self, pool: str, limit_bytes: int) -> None:
        self.limits[pool] = limit_bytes

    def get_memory_pool_limit(self, pool: str) -> int:
        return self.limits[pool]

    def can_run_on_DLA(self, layer: Any) -> bool:  # noqa: N802  # TensorRT's name
        return layer.name not in self._gpu_only

    def create_timing_cache(self, content: bytes) -> bytes | None:
        return None if content == b"damaged" else content

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        if cache == b"of another device":
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: self.cache + b"+measured")


class FakeContext:
    """Queues an upscaling by two, pixel by pixel, of whatever lies at the addresses it was given."""

    def __init__(self, cuda: FakeCuda, shape: tuple[int, ...], dtype: type) -> None:
        self.cuda, self.shape, self.dtype = cuda, shape, dtype
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        source, target = (self.addresses[name] for name in ("input", "output"))
        gains = [address for name, address in self.addresses.items() if name not in ("input", "output")]

        def compute() -> None:
            memory = self.cuda.memory
            tile: npt.NDArray[Any] = memory[source].view(self.dtype).reshape(self.shape)
            rows, columns = (1, 2) if self.shape[-1] == 3 else (2, 3)
            upscaled = tile.repeat(2, rows).repeat(2, columns)
            for gain in gains:
                upscaled = upscaled * memory[gain].view(np.float32)[0]
            memory[target][:] = np.ascontiguousarray(upscaled).view(np.uint8).ravel()

        self.cuda.calls["execute"] += 1
        self.cuda.enqueue(stream, compute)
        return True


class FakeTensorRt:
    """The module. `log` has the messages that it logs during a build; with `plan` None the build fails."""

    DataType, LayerType, TensorIOMode = DataType, LayerType, TensorIOMode
    BuilderFlag = SimpleNamespace(TF32="TF32", GPU_FALLBACK="GPU_FALLBACK", VERSION_COMPATIBLE="VERSION_COMPATIBLE")
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    MemoryPoolType = SimpleNamespace(WORKSPACE="WORKSPACE")
    DeviceType = SimpleNamespace(DLA="DLA")
    HardwareCompatibilityLevel = SimpleNamespace(AMPERE_PLUS="AMPERE_PLUS")
    ILogger = object
    IProgressMonitor = object

    def __init__(
        self,
        cuda: FakeCuda | None = None,
        network: Any = None,
        plan: bytes | None = b"plan",
        log: tuple[tuple[int, str], ...] = (),
        dla_cores: int = 0,
        gpu_only: tuple[str, ...] = (),
    ) -> None:
        self.cuda = cuda or FakeCuda()
        self.network = network or convolution_and_shuffle()
        self.plan, self.log = plan, log
        self.dla_cores, self.gpu_only = dla_cores, gpu_only
        self.configs: list[FakeConfig] = []
        self.logger: Any = None
        self.loaded: list[bytes] = []
        self.new_engine: Callable[[], Any] = lambda: fake_engine(self.cuda)
        """What deserialising a plan gives; None where TensorRT refuses it."""

    def library(self, version: str = "11.4.1", flavour: Flavour = Flavour.TENSORRT) -> TensorRTLibrary:
        return TensorRTLibrary(flavour, version, self)  # type: ignore[arg-type]  # as much of it as is used

    def Builder(self, logger: Any) -> Any:  # noqa: N802  # TensorRT's name
        self.logger = logger
        return SimpleNamespace(
            num_DLA_cores=self.dla_cores,
            create_network=lambda flags: self.network,
            create_builder_config=self._new_config,
            build_serialized_network=self._build,
        )

    def OnnxParser(self, network: Any, logger: Any) -> Any:  # noqa: N802  # TensorRT's name
        return SimpleNamespace(parse_from_file=lambda path: True, num_errors=0)

    def Runtime(self, logger: Any) -> Any:  # noqa: N802  # TensorRT's name
        return SimpleNamespace(deserialize_cuda_engine=self._deserialize)

    def _new_config(self) -> FakeConfig:
        self.configs.append(FakeConfig(self.gpu_only))
        return self.configs[-1]

    def _build(self, network: Any, config: FakeConfig) -> bytes | None:
        for severity, text in self.log:
            self.logger.log(severity, text)
        return self.plan

    def _deserialize(self, plan: bytes) -> Any:
        self.loaded.append(plan)
        return self.new_engine()


class FakeKernels:
    """`IRuntimeCache`: what it was given, and one kernel more."""

    def __init__(self, read: list[bytes]) -> None:
        self._read = read
        self._content = b""

    def deserialize(self, content: bytes) -> bool:
        self._read.append(content)
        self._content = content
        return True

    def serialize(self) -> bytes:
        return self._content + b"kernel,"


def fake_rtx_engine(cuda: FakeCuda, read: list[bytes]) -> SimpleNamespace:
    """An engine of TensorRT-RTX; `read` collects the kernels that it is given."""
    engine = fake_engine(cuda)
    plain = engine.create_execution_context
    engine.create_runtime_config = lambda: SimpleNamespace(
        create_runtime_cache=lambda: FakeKernels(read), set_runtime_cache=lambda cache: True
    )
    engine.create_execution_context = lambda config: plain()
    return engine


def fake_engine(
    cuda: FakeCuda, new_context: Callable[[], Any] | None = None, memory_bytes: int = 4096
) -> SimpleNamespace:
    """`ICudaEngine` of tiles of 16x24."""
    shapes = {"input": (1, 3, 16, 24), "output": (1, 3, 32, 48)}
    return SimpleNamespace(
        num_io_tensors=2,
        device_memory_size_v2=memory_bytes,
        get_tensor_name=lambda index: list(shapes)[index],
        get_tensor_mode=lambda name: TensorIOMode.INPUT if name == "input" else TensorIOMode.OUTPUT,
        get_tensor_shape=lambda name: shapes[name],
        create_execution_context=new_context or (lambda: FakeContext(cuda, shapes["input"], np.float32)),
    )
