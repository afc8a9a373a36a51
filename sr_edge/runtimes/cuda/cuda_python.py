"""CUDA through NVIDIA's own cuda-python."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from sr_edge.runtimes.cuda.api import (
    ANOTHER_SESSION,
    CudaError,
    CudaOutOfMemory,
    Gpu,
    GraphUnavailable,
    HostBuffer,
    no_gpu,
    no_such_gpu,
)

try:
    from cuda.bindings import runtime as cudart  # type: ignore[import-not-found, import-untyped, unused-ignore]
except ModuleNotFoundError:  # cuda-python before 12.6.1 has no `cuda.bindings`
    from cuda import cudart  # type: ignore[attr-defined, import-untyped, no-redef, unused-ignore]

PROVIDER = "cuda-python"
_NON_BLOCKING_STREAM = 1
_OLD_DRIVER = "the driver is absent, or older than this cuda-python supports"
_NEWER_DRIVER = "install a newer driver, or an older cuda-python (JetPack 6 needs cuda-python<13)"


def gpus() -> tuple[Gpu, ...]:
    """Lists the GPUs of this machine; raises RuntimeUnavailable."""
    error, count = cudart.cudaGetDeviceCount()
    if error == cudart.cudaError_t.cudaErrorInsufficientDriver:
        raise no_gpu(error.name, _OLD_DRIVER, _NEWER_DRIVER)
    if error != cudart.cudaError_t.cudaSuccess:
        raise no_gpu(error.name)
    return tuple(_gpu(index) for index in range(count))


def open_cuda(index: int) -> CudaPython:
    """Opens the GPU of that index; raises RuntimeUnavailable."""
    present = gpus()
    if index >= len(present):
        raise no_such_gpu(index, present)
    return CudaPython(present[index])


class CudaPython:
    """`Cuda` through CUDA's runtime API."""

    provider = PROVIDER

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu

    @contextmanager
    def current(self) -> Iterator[None]:
        _check(cudart.cudaSetDevice(self.gpu.index))
        yield

    def free_bytes(self) -> int:
        return int(_check(cudart.cudaMemGetInfo())[0])

    def allocate(self, size_bytes: int) -> int:
        error, address = cudart.cudaMalloc(size_bytes)
        self._require_allocated(error, size_bytes, "the GPU")
        return int(address)

    def free(self, address: int) -> None:
        _check(cudart.cudaFree(address))

    def host_buffer(self, size_bytes: int, mapped: bool) -> HostBuffer:
        flags = cudart.cudaHostAllocMapped if mapped else cudart.cudaHostAllocDefault
        error, address = cudart.cudaHostAlloc(size_bytes, flags)
        self._require_allocated(error, size_bytes, "the host's pinned memory")
        array = np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(int(address)))
        device_address = int(_check(cudart.cudaHostGetDevicePointer(int(address), 0))[0]) if mapped else None
        return HostBuffer(array, device_address)

    def free_host(self, buffer: HostBuffer) -> None:
        _check(cudart.cudaFreeHost(buffer.array.ctypes.data))

    def copy_in(self, address: int, source: HostBuffer, stream: int) -> None:
        kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        _check(cudart.cudaMemcpyAsync(address, source.array.ctypes.data, source.array.nbytes, kind, stream))

    def copy_out(self, target: HostBuffer, address: int, stream: int) -> None:
        kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        _check(cudart.cudaMemcpyAsync(target.array.ctypes.data, address, target.array.nbytes, kind, stream))

    def create_stream(self) -> int:
        return int(_check(cudart.cudaStreamCreateWithFlags(_NON_BLOCKING_STREAM))[0])

    def destroy_stream(self, stream: int) -> None:
        _check(cudart.cudaStreamDestroy(stream))

    def synchronize(self, stream: int) -> None:
        _check(cudart.cudaStreamSynchronize(stream))

    def create_event(self) -> int:
        return int(_check(cudart.cudaEventCreate())[0])

    def destroy_event(self, event: int) -> None:
        _check(cudart.cudaEventDestroy(event))

    def record(self, event: int, stream: int) -> None:
        _check(cudart.cudaEventRecord(event, stream))

    def elapsed_ms(self, earlier: int, later: int) -> float:
        return float(_check(cudart.cudaEventElapsedTime(earlier, later))[0])

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        _check(cudart.cudaStreamBeginCapture(stream, cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal))
        try:
            work()
        finally:
            error, graph = cudart.cudaStreamEndCapture(stream)
        if error != cudart.cudaError_t.cudaSuccess:
            raise GraphUnavailable(f"the engine's work cannot be captured ({error.name})", found=error.name)
        error, executable = cudart.cudaGraphInstantiate(graph, 0)
        _check(cudart.cudaGraphDestroy(graph))
        if error != cudart.cudaError_t.cudaSuccess:
            raise GraphUnavailable(
                f"the captured work cannot be instantiated as a CUDA graph ({error.name})", found=error.name
            )
        return int(executable)

    def launch(self, graph: int, stream: int) -> None:
        _check(cudart.cudaGraphLaunch(graph, stream))

    def destroy_graph(self, graph: int) -> None:
        _check(cudart.cudaGraphExecDestroy(graph))

    def _require_allocated(self, error: Any, size_bytes: int, where: str) -> None:
        if error == cudart.cudaError_t.cudaErrorMemoryAllocation:
            # CUDA keeps the last error, and the next call of this thread would report it as its own.
            cudart.cudaGetLastError()
            raise CudaOutOfMemory(where, size_bytes, self.free_bytes())
        _check((error,))


def _gpu(index: int) -> Gpu:
    properties = _check(cudart.cudaGetDeviceProperties(index))[0]
    return Gpu(
        index=index,
        name=bytes(properties.name).split(b"\0")[0].decode(),
        compute_capability=f"{properties.major}.{properties.minor}",
        total_bytes=int(properties.totalGlobalMem),
        is_integrated=bool(properties.integrated),
    )


def _check(result: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values that a call returned behind its error code; raises CudaError unless the code is success."""
    error, *values = result
    if error != cudart.cudaError_t.cudaSuccess:
        text = cudart.cudaGetErrorString(error)[1]
        message = text.decode() if isinstance(text, bytes) else str(text)
        raise CudaError(f"CUDA failed with {error.name}: {message}", found=error.name, remedy=ANOTHER_SESSION)
    return tuple(values)
