"""CUDA's runtime API as cuda-python has it, over the host's memory: work is done when it is queued.

It has what sr_edge.runtimes.cuda.cuda_python uses. Addresses are real, so that a stand-in for TensorRT can read and
write them.
"""

from __future__ import annotations

import ctypes
import itertools
import time
from collections.abc import Callable
from enum import IntEnum
from types import SimpleNamespace

# CUDA's own names:
# ruff: noqa: N801, N802, N815, N816

TOTAL_BYTES = 1 << 30
cudaHostAllocDefault, cudaHostAllocMapped = 0, 2

_memory: dict[int, ctypes.Array[ctypes.c_uint8]] = {}
_handles = itertools.count(1)
_events: dict[int, float] = {}
_captured: dict[int, list[Callable[[], None]]] = {}
_graphs: dict[int, list[Callable[[], None]]] = {}


class cudaError_t(IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35


class cudaMemcpyKind(IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class cudaStreamCaptureMode(IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


_OK = cudaError_t.cudaSuccess


def enqueue(stream: int, work: Callable[[], None]) -> None:
    """Does the work, or while the stream is captured, keeps it for the graph."""
    if stream in _captured:
        _captured[stream].append(work)
    else:
        work()


def cudaGetDeviceCount() -> tuple[cudaError_t, int]:
    return _OK, 1


def cudaGetDeviceProperties(index: int) -> tuple[cudaError_t, SimpleNamespace]:
    name = b"stand-in for a GPU" + bytes(8)
    return _OK, SimpleNamespace(name=name, major=8, minor=6, totalGlobalMem=TOTAL_BYTES, integrated=0)


def cudaSetDevice(index: int) -> tuple[cudaError_t]:
    return (_OK,)


def cudaMemGetInfo() -> tuple[cudaError_t, int, int]:
    return _OK, TOTAL_BYTES - sum(len(array) for array in _memory.values()), TOTAL_BYTES


def cudaMalloc(size_bytes: int) -> tuple[cudaError_t, int]:
    if size_bytes > cudaMemGetInfo()[1]:
        return cudaError_t.cudaErrorMemoryAllocation, 0
    array = (ctypes.c_uint8 * size_bytes)()
    _memory[ctypes.addressof(array)] = array
    return _OK, ctypes.addressof(array)


def cudaFree(address: int) -> tuple[cudaError_t]:
    del _memory[address]
    return (_OK,)


def cudaHostAlloc(size_bytes: int, flags: int) -> tuple[cudaError_t, int]:
    return cudaMalloc(size_bytes)


def cudaFreeHost(address: int) -> tuple[cudaError_t]:
    return cudaFree(address)


def cudaHostGetDevicePointer(address: int, flags: int) -> tuple[cudaError_t, int]:
    return _OK, address


def cudaMemcpyAsync(target: int, source: int, size_bytes: int, kind: cudaMemcpyKind, stream: int) -> tuple[cudaError_t]:
    def copy() -> None:
        ctypes.memmove(target, source, size_bytes)

    enqueue(stream, copy)
    return (_OK,)


def cudaStreamCreateWithFlags(flags: int) -> tuple[cudaError_t, int]:
    return _OK, next(_handles)


def cudaStreamDestroy(stream: int) -> tuple[cudaError_t]:
    return (_OK,)


def cudaStreamSynchronize(stream: int) -> tuple[cudaError_t]:
    return (_OK,)


def cudaEventCreate() -> tuple[cudaError_t, int]:
    return _OK, next(_handles)


def cudaEventDestroy(event: int) -> tuple[cudaError_t]:
    _events.pop(event, None)
    return (_OK,)


def cudaEventRecord(event: int, stream: int) -> tuple[cudaError_t]:
    _events[event] = time.perf_counter()
    return (_OK,)


def cudaEventElapsedTime(earlier: int, later: int) -> tuple[cudaError_t, float]:
    return _OK, 1e3 * (_events[later] - _events[earlier])


def cudaStreamBeginCapture(stream: int, mode: cudaStreamCaptureMode) -> tuple[cudaError_t]:
    _captured[stream] = []
    return (_OK,)


def cudaStreamEndCapture(stream: int) -> tuple[cudaError_t, int]:
    graph = next(_handles)
    _graphs[graph] = _captured.pop(stream)
    return _OK, graph


def cudaGraphInstantiate(graph: int, flags: int) -> tuple[cudaError_t, int]:
    executable = next(_handles)
    _graphs[executable] = _graphs[graph]
    return _OK, executable


def cudaGraphDestroy(graph: int) -> tuple[cudaError_t]:
    del _graphs[graph]
    return (_OK,)


def cudaGraphLaunch(graph: int, stream: int) -> tuple[cudaError_t]:
    for work in _graphs[graph]:
        work()
    return (_OK,)


def cudaGraphExecDestroy(graph: int) -> tuple[cudaError_t]:
    return cudaGraphDestroy(graph)


def cudaGetErrorString(error: cudaError_t) -> tuple[cudaError_t, bytes]:
    return _OK, error.name.encode()


def cudaGetLastError() -> tuple[cudaError_t]:
    return (_OK,)
