"""What running an engine needs of CUDA, and nothing more; cuda-python and pycuda are its two providers.

Streams, events and graphs are plain handles: TensorRT takes them as integers too.
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
    """A CUDA call failed. What was in flight is lost; a session that had it must be closed."""


class CudaOutOfMemory(CudaError):
    """An allocation failed. `wanted` is its size in bytes, `found` how many bytes of the GPU's memory are free."""

    def __init__(self, where: str, wanted_bytes: int, free_bytes: int) -> None:
        super().__init__(
            f"{where} is out of memory: {wanted_bytes / 2**20:,.1f} MiB were requested, {free_bytes / 2**20:,.1f} MiB "
            "of the GPU's memory are free",
            found=free_bytes,
            wanted=wanted_bytes,
            remedy="close other programs, use a smaller tile, or use fewer slots",
        )


class GraphUnavailable(CudaError):
    """This provider or the work itself cannot be captured as a CUDA graph."""


@dataclass(frozen=True)
class Gpu:
    """A GPU. `is_integrated` says that it shares its memory with the CPU, as on a Jetson."""

    index: int
    name: str
    compute_capability: str
    total_bytes: int
    is_integrated: bool


@dataclass(frozen=True)
class HostBuffer:
    """Pinned memory of the host. `device_address` is where the GPU sees it; None where it is not mapped."""

    array: Bytes
    device_address: int | None


class Cuda(Protocol):
    """One GPU through one provider. Any thread may call; each does so inside `current()`. All raise CudaError."""

    @property
    def provider(self) -> str: ...

    @property
    def gpu(self) -> Gpu: ...

    def current(self) -> AbstractContextManager[None]:
        """Makes the GPU the calling thread's, for a while."""
        ...

    def free_bytes(self) -> int: ...

    def allocate(self, size_bytes: int) -> int:
        """Device memory, by its address; raises CudaOutOfMemory."""
        ...

    def free(self, address: int) -> None: ...

    def host_buffer(self, size_bytes: int, mapped: bool) -> HostBuffer: ...

    def free_host(self, buffer: HostBuffer) -> None: ...

    def copy_in(self, address: int, source: HostBuffer, stream: int) -> None:
        """Queues a copy of the whole buffer to the device."""
        ...

    def copy_out(self, target: HostBuffer, address: int, stream: int) -> None:
        """Queues a copy of the whole buffer from the device."""
        ...

    def create_stream(self) -> int: ...

    def destroy_stream(self, stream: int) -> None: ...

    def synchronize(self, stream: int) -> None:
        """Waits for all that was queued; other threads run meanwhile."""
        ...

    def create_event(self) -> int: ...

    def destroy_event(self, event: int) -> None: ...

    def record(self, event: int, stream: int) -> None: ...

    def elapsed_ms(self, earlier: int, later: int) -> float:
        """Between two events that have happened."""
        ...

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        """A graph of what `work` queues on `stream`; nothing of it runs yet. Raises GraphUnavailable."""
        ...

    def launch(self, graph: int, stream: int) -> None: ...

    def destroy_graph(self, graph: int) -> None: ...


def no_gpu(found: str, cause: str = "", driver: str = "install the NVIDIA driver") -> RuntimeUnavailable:
    """The error where CUDA reports `found` instead of GPUs.

    Args:
        found: CUDA's own name of the error, or its text.
        cause: What that means, where it does not say so itself.
        driver: What to do about the driver.
    """
    return RuntimeUnavailable(
        f"no NVIDIA GPU can be used here ({': '.join(filter(None, (found, cause)))})",
        found=found,
        wanted="an NVIDIA GPU and its driver",
        remedy=f"{driver}, or run the bundle in onnxruntime or openvino",
    )


def no_such_gpu(index: int, gpus: Sequence[Gpu]) -> RuntimeUnavailable:
    """The error where `index` is beyond the GPUs of this machine."""
    names = tuple(f"cuda:{gpu.index}" for gpu in gpus)
    return RuntimeUnavailable(
        f"this machine has no GPU cuda:{index}",
        found=f"cuda:{index}",
        wanted=names,
        remedy=f"choose one of: {', '.join(names) or 'none'}",
    )
