"""CUDA through pycuda, which many Jetsons have. pycuda has no CUDA graphs: for those the driver is called directly."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pycuda.driver as driver  # type: ignore[import-not-found, import-untyped, unused-ignore]

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

PROVIDER = "pycuda"
_CAPTURE_THREAD_LOCAL = 1


def gpus() -> tuple[Gpu, ...]:
    """Lists the GPUs of this machine; raises RuntimeUnavailable."""
    try:
        driver.init()
        return tuple(_gpu(index) for index in range(driver.Device.count()))
    except driver.Error as error:
        raise no_gpu(str(error)) from error


def open_cuda(index: int) -> PyCuda:
    """Opens the GPU of that index; raises RuntimeUnavailable."""
    present = gpus()
    if index >= len(present):
        raise no_such_gpu(index, present)
    return PyCuda(present[index])


class PyCuda:
    """`Cuda` through the driver API, in the GPU's primary context, which TensorRT uses too."""

    provider = PROVIDER

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self._context = driver.Device(gpu.index).retain_primary_context()
        self._owned: dict[int, Any] = {}
        """Keeps objects alive whose callers have only the integer handle: pycuda frees what nothing refers to."""

    @contextmanager
    def current(self) -> Iterator[None]:
        self._context.push()
        try:
            with _cuda_errors():
                yield
        finally:
            driver.Context.pop()

    def free_bytes(self) -> int:
        return int(driver.mem_get_info()[0])

    def allocate(self, size_bytes: int) -> int:
        try:
            return self._own(driver.mem_alloc(size_bytes), int)
        except driver.MemoryError as error:
            raise CudaOutOfMemory("the GPU", size_bytes, self.free_bytes()) from error

    def free(self, address: int) -> None:
        self._owned.pop(address).free()

    def host_buffer(self, size_bytes: int, mapped: bool) -> HostBuffer:
        flags = driver.host_alloc_flags.DEVICEMAP if mapped else 0
        try:
            array = driver.pagelocked_empty(size_bytes, np.uint8, mem_flags=flags)
        except driver.MemoryError as error:
            raise CudaOutOfMemory("the host's pinned memory", size_bytes, self.free_bytes()) from error
        return HostBuffer(array, int(array.base.get_device_pointer()) if mapped else None)

    def free_host(self, buffer: HostBuffer) -> None:
        buffer.array.base.free()  # type: ignore[union-attr]  # pycuda's own allocation

    def copy_in(self, address: int, source: HostBuffer, stream: int) -> None:
        driver.memcpy_htod_async(address, source.array, self._owned[stream])

    def copy_out(self, target: HostBuffer, address: int, stream: int) -> None:
        driver.memcpy_dtoh_async(target.array, address, self._owned[stream])

    def create_stream(self) -> int:
        return self._own(driver.Stream(), lambda stream: int(stream.handle))

    def destroy_stream(self, stream: int) -> None:
        del self._owned[stream]

    def synchronize(self, stream: int) -> None:
        self._owned[stream].synchronize()

    def create_event(self) -> int:
        return self._own(driver.Event(), id)

    def destroy_event(self, event: int) -> None:
        del self._owned[event]

    def record(self, event: int, stream: int) -> None:
        self._owned[event].record(self._owned[stream])

    def elapsed_ms(self, earlier: int, later: int) -> float:
        return float(self._owned[earlier].time_till(self._owned[later]))

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        handle, graph, executable = ctypes.c_void_p(stream), ctypes.c_void_p(), ctypes.c_void_p()
        _call("cuStreamBeginCapture_v2", handle, ctypes.c_int(_CAPTURE_THREAD_LOCAL))
        try:
            work()
        finally:
            end_code = _code("cuStreamEndCapture", handle, ctypes.byref(graph))
        if end_code:
            raise GraphUnavailable(f"the engine's work cannot be captured (CUDA error {end_code})", found=end_code)
        instantiate_code = _code("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
        _call("cuGraphDestroy", graph)
        if instantiate_code or executable.value is None:
            raise GraphUnavailable(
                f"the captured work cannot be instantiated as a CUDA graph (CUDA error {instantiate_code})",
                found=instantiate_code,
            )
        return executable.value

    def launch(self, graph: int, stream: int) -> None:
        _call("cuGraphLaunch", ctypes.c_void_p(graph), ctypes.c_void_p(stream))

    def destroy_graph(self, graph: int) -> None:
        _call("cuGraphExecDestroy", ctypes.c_void_p(graph))

    def _own(self, resource: Any, handle_of: Callable[[Any], int]) -> int:
        handle = handle_of(resource)
        self._owned[handle] = resource
        return handle


def _gpu(index: int) -> Gpu:
    device = driver.Device(index)
    major, minor = device.compute_capability()
    integrated = device.get_attribute(driver.device_attribute.INTEGRATED)
    return Gpu(index, device.name(), f"{major}.{minor}", int(device.total_memory()), bool(integrated))


@contextmanager
def _cuda_errors() -> Iterator[None]:
    try:
        yield
    except driver.Error as error:
        raise CudaError(f"CUDA failed with {error}", found=str(error), remedy=ANOTHER_SESSION) from error


def _code(function: str, *arguments: object) -> int:
    return int(getattr(ctypes.CDLL("libcuda.so.1"), function)(*arguments))


def _call(function: str, *arguments: object) -> None:
    code = _code(function, *arguments)
    if code:
        raise CudaError(f"CUDA failed in {function} with error {code}", found=code, remedy=ANOTHER_SESSION)
