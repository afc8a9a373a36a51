"""A GPU in host memory: queued work runs when its stream is waited for and not before, as on a real one."""

from __future__ import annotations

import itertools
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from sr_edge.runtimes.cuda.api import Bytes, CudaError, CudaOutOfMemory, Gpu, GraphUnavailable, HostBuffer
from sr_edge.runtimes.cuda.gpu_state import GpuState
from sr_edge.runtimes.tensorrt.runtime import GpuAccess

Work = Callable[[], None]
ORIN = Gpu(0, "Orin", "8.7", 8 << 30, is_integrated=True)
RTX_3060 = Gpu(0, "RTX 3060", "8.6", 12 << 30, is_integrated=False)


class FakeCuda:
    """`Cuda` without CUDA. `calls` counts what was asked, `alive` what was made and not freed."""

    provider = "fake"

    def __init__(self, gpu: Gpu = RTX_3060, room_bytes: int = 1 << 20, with_graphs: bool = True) -> None:
        self.gpu = gpu
        self.memory: dict[int, Bytes] = {}
        self.calls: Counter[str] = Counter()
        self.alive: Counter[str] = Counter()
        self.failures: dict[str, CudaError] = {}
        self._room_bytes = room_bytes
        self._with_graphs = with_graphs
        self._handles = itertools.count(1000)
        self._queues: dict[int, list[Work]] = {}
        self._captures: dict[int, list[Work]] = {}
        self._graphs: dict[int, list[Work]] = {}
        self._events: dict[int, float] = {}
        self._clock = itertools.count()
        self._current: defaultdict[int, int] = defaultdict(int)

    @contextmanager
    def current(self) -> Iterator[None]:
        thread = threading.get_ident()
        self._current[thread] += 1
        try:
            yield
        finally:
            self._current[thread] -= 1

    def free_bytes(self) -> int:
        return self._room_bytes - sum(array.nbytes for array in self.memory.values())

    def allocate(self, size_bytes: int) -> int:
        self._called("allocate")
        if size_bytes > self.free_bytes():
            raise CudaOutOfMemory("the GPU", size_bytes, self.free_bytes())
        address = self._new("memory")
        self.memory[address] = np.full(size_bytes, 0xAB, np.uint8)
        return address

    def free(self, address: int) -> None:
        self._called("free")
        del self.memory[address]
        self.alive["memory"] -= 1

    def host_buffer(self, size_bytes: int, mapped: bool) -> HostBuffer:
        self._called("host_buffer")
        array = np.full(size_bytes, 0xCD, np.uint8)
        address = self._new("host")
        if mapped:
            self.memory[address] = array
        return HostBuffer(array, address if mapped else None)

    def free_host(self, buffer: HostBuffer) -> None:
        self._called("free_host")
        if buffer.device_address is not None:
            del self.memory[buffer.device_address]
        self.alive["host"] -= 1

    def copy_in(self, address: int, source: HostBuffer, stream: int) -> None:
        self._called("copy_in")
        self.enqueue(stream, lambda: np.copyto(self.memory[address], source.array))

    def copy_out(self, target: HostBuffer, address: int, stream: int) -> None:
        self._called("copy_out")
        self.enqueue(stream, lambda: np.copyto(target.array, self.memory[address]))

    def create_stream(self) -> int:
        stream = self._new("stream")
        self._queues[stream] = []
        return stream

    def destroy_stream(self, stream: int) -> None:
        del self._queues[stream]
        self.alive["stream"] -= 1

    def synchronize(self, stream: int) -> None:
        self._called("synchronize")
        work, self._queues[stream] = self._queues[stream], []
        for step in work:
            step()

    def create_event(self) -> int:
        return self._new("event")

    def destroy_event(self, event: int) -> None:
        self._events.pop(event, None)
        self.alive["event"] -= 1

    def record(self, event: int, stream: int) -> None:
        self.enqueue(stream, lambda: self._events.update({event: float(next(self._clock))}))

    def elapsed_ms(self, earlier: int, later: int) -> float:
        self._called("elapsed_ms")
        return self._events[later] - self._events[earlier]

    def capture(self, stream: int, work: Work) -> int:
        self._called("capture")
        if not self._with_graphs:
            raise GraphUnavailable("a layer of the engine cannot be captured")
        self._captures[stream] = []
        try:
            work()
        finally:
            steps = self._captures.pop(stream)
        graph = self._new("graph")
        self._graphs[graph] = steps
        return graph

    def launch(self, graph: int, stream: int) -> None:
        self._called("launch")
        for step in self._graphs[graph]:
            self.enqueue(stream, step)

    def destroy_graph(self, graph: int) -> None:
        del self._graphs[graph]
        self.alive["graph"] -= 1

    def is_capturing(self, stream: int) -> bool:
        return stream in self._captures

    def access(self, read_state: Callable[[], GpuState | None] = lambda: None) -> GpuAccess:
        """To a machine that has this GPU and no other."""
        return GpuAccess(lambda: (self.gpu,), lambda index, provider: self, lambda index: read_state())

    def enqueue(self, stream: int, work: Work) -> None:
        """What a fake context uses too."""
        self._captures.get(stream, self._queues[stream]).append(work)

    def _called(self, name: str) -> None:
        assert self._current[threading.get_ident()], f"{name} outside of current()"
        self.calls[name] += 1
        if name in self.failures:
            raise self.failures[name]

    def _new(self, kind: str) -> int:
        self.alive[kind] += 1
        return next(self._handles)
