"""The part of CUDA that running an engine needs, as a protocol that cuda-python and pycuda implement.

Streams, events and graphs are integer handles, as TensorRT takes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sr_edge.errors import EngineError, RuntimeUnavailable

Bytes = npt.NDArray[np.uint8]


ANOTHER_SESSION = "close the session and open another one"
"""The remedy of an error that leaves the GPU's context unusable."""


class CudaError(EngineError):
    """A CUDA call failed. The tiles in flight are lost, and the session that ran them must be closed."""


class CudaOutOfMemory(CudaError):
    """An allocation failed. `wanted` is its size in bytes, and `found` the free memory of the GPU in bytes."""

    def __init__(self, where: str, requested_bytes: int, free_bytes: int) -> None:
        super().__init__(
            f"{where} is out of memory: {requested_bytes / 2**20:,.1f} MiB were requested, "
            f"{free_bytes / 2**20:,.1f} MiB of the GPU's memory are free",
            found=free_bytes,
            wanted=requested_bytes,
            remedy="close other programs, use a smaller tile, or use fewer slots",
        )


class GraphUnavailable(CudaError):
    """The provider has no CUDA graphs, or the queued work cannot be captured as one."""


@dataclass(frozen=True)
class Gpu:
    """One GPU. An integrated GPU shares its memory with the CPU, as on a Jetson."""

    index: int
    name: str
    compute_capability: str
    total_bytes: int
    is_integrated: bool


@dataclass(frozen=True)
class HostBuffer:
    """Pinned host memory. `device_address` is its address on the GPU, None unless it is mapped."""

    array: Bytes
    device_address: int | None


class Cuda(Protocol):
    """One GPU through one provider.

    Any thread may call its methods, inside a `with cuda.current()` block of its own. All of them raise CudaError.
    """

    @property
    def provider(self) -> str: ...

    @property
    def gpu(self) -> Gpu: ...

    def current(self) -> AbstractContextManager[None]:
        """Makes the GPU the current device of the calling thread for the duration of a `with` block."""
        ...

    def free_bytes(self) -> int: ...

    def allocate(self, size_bytes: int) -> int:
        """Allocates device memory and returns its address; raises CudaOutOfMemory."""
        ...

    def free(self, address: int) -> None: ...

    def host_buffer(self, size_bytes: int, mapped: bool) -> HostBuffer:
        """Allocates pinned host memory, which is mapped into the GPU's address space if `mapped`."""
        ...

    def free_host(self, buffer: HostBuffer) -> None: ...

    def copy_in(self, address: int, source: HostBuffer, stream: int) -> None:
        """Enqueues a copy of the whole buffer to the device (H2D)."""
        ...

    def copy_out(self, target: HostBuffer, address: int, stream: int) -> None:
        """Enqueues a copy of the whole buffer from the device (D2H)."""
        ...

    def create_stream(self) -> int: ...

    def destroy_stream(self, stream: int) -> None: ...

    def synchronize(self, stream: int) -> None:
        """Waits until all work enqueued on `stream` has completed; other Python threads run meanwhile."""
        ...

    def create_event(self) -> int: ...

    def destroy_event(self, event: int) -> None: ...

    def record(self, event: int, stream: int) -> None:
        """Enqueues `event` behind the work on `stream`."""
        ...

    def elapsed_ms(self, earlier: int, later: int) -> float:
        """Time between two events that have completed."""
        ...

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        """Captures what `work` enqueues on `stream` as a CUDA graph, without running it.

        Raises:
            GraphUnavailable: the work cannot be captured.
        """
        ...

    def launch(self, graph: int, stream: int) -> None: ...

    def destroy_graph(self, graph: int) -> None: ...


def no_gpu(cuda_error: str, cause: str = "", driver: str = "install the NVIDIA driver") -> RuntimeUnavailable:
    """The error to raise where CUDA reports an error instead of its GPUs.

    Args:
        cuda_error: CUDA's name for the error, or its message.
        cause: an explanation, where the name is not one.
        driver: how to mend the driver.
    """
    return RuntimeUnavailable(
        f"no NVIDIA GPU can be used here ({': '.join(filter(None, (cuda_error, cause)))})",
        found=cuda_error,
        wanted="an NVIDIA GPU and its driver",
        remedy=f"{driver}, or run the bundle in onnxruntime or openvino",
    )


def no_such_gpu(index: int, gpus: Sequence[Gpu]) -> RuntimeUnavailable:
    """The error to raise where this machine has no GPU of that index."""
    names = tuple(f"cuda:{gpu.index}" for gpu in gpus)
    return RuntimeUnavailable(
        f"this machine has no GPU cuda:{index}",
        found=f"cuda:{index}",
        wanted=names,
        remedy=f"choose one of: {', '.join(names) or 'none'}",
    )
