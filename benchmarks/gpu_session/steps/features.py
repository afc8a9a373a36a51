"""What a session on a GPU promises beside its pictures, each checked on one bundled network in fp16.

uint8 frames, CUDA graph on and off, tiles in the GPU's memory, a thousand runs in the same memory, both ways to CUDA.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from gpu_session.material import Material
from gpu_session.reporting import context, publish
from gpu_session.steps.engines import working_tensorrt
from sr_edge.bench.golden import replay_golden
from sr_edge.bundle import Bundle, open_bundle
from sr_edge.errors import EngineError, RuntimeUnavailable, SrEdgeError
from sr_edge.model_sources import open_session
from sr_edge.runtimes import random_tile
from sr_edge.runtimes.cuda.api import Cuda
from sr_edge.runtimes.cuda.providers import PROVIDERS, find_gpus, open_cuda
from sr_edge.runtimes.tensorrt.session import TensorRtSession
from sr_edge.runtimes.variants import Variant
from sr_edge.spec import FrameFormat, Precision

RUNS = 1000
TIMED_RUNS = 50


@dataclass(frozen=True)
class Check:
    """One promise: `kept` None says that it could not be tried here, `told` has figures or the reason."""

    name: str
    kept: bool | None
    told: str


class Subject:
    """The network under test; each check opens the sessions that it needs."""

    def __init__(self, bundle: Bundle, runtime: str) -> None:
        self._bundle = bundle
        self._runtime = runtime

    def open(self, io: FrameFormat = FrameFormat.FLOAT_NCHW, **options: str) -> TensorRtSession:
        session = open_session(
            self._bundle, self._runtime, Precision.FP16, "cuda", io=io, options=options or None
        )  # fmt: skip
        return cast(TensorRtSession, session)

    def uint8_frames(self) -> Check:
        """The graph that takes and gives a camera's bytes reproduces the golden frames."""
        with self.open(FrameFormat.UINT8_NHWC) as session:
            test = replay_golden(self._bundle, Variant(self._runtime, Precision.FP16), session)
            latency = session.measure_on_device(TIMED_RUNS)
        worst = min((result.psnr_db for result in test.results), default=float("nan"))
        told = f"worst golden frame {worst:.1f} dB; a tile in, through and out {latency.total.p50_ms:.3f} ms"
        return Check("uint8 frames in and out", test.passed, told)

    def cuda_graph(self) -> Check:
        """The same bits with the captured graph and without, and what it saves the CPU."""
        with self.open(cuda_graph="on") as captured, self.open(cuda_graph="off") as plain:
            tile = random_tile(captured.spec.tile, captured.spec.io)
            equal = np.array_equal(captured.run(tile), plain.run(tile))
            on, off = (session.measure_on_device(TIMED_RUNS) for session in (captured, plain))
            obstacle = captured.spec.note if "no CUDA graph" in captured.spec.note else ""
        told = f"to queue a tile takes {on.enqueue.p50_ms:.3f} ms with, {off.enqueue.p50_ms:.3f} ms without"
        return Check("CUDA graph on and off give equal bits", equal and not obstacle, obstacle or told)

    def zero_copy(self) -> Check:
        """A tile that is in the GPU's memory is read where it is."""
        with self.open() as session, _on_device(open_gpu(), self._tile(session)) as source:
            equal = np.array_equal(session.run_on_device(source), session.run(self._tile(session)))
        return Check("a tile in the GPU's memory gives equal bits", equal, "through __cuda_array_interface__")

    def thousand_runs(self) -> Check:
        """No run takes memory that it does not give back."""
        cuda = open_gpu()
        with self.open() as session, cuda.current():
            tile = self._tile(session)
            for _ in range(3):
                session.run(tile)
            before = cuda.free_bytes()
            for _ in range(RUNS):
                session.run(tile)
            lost = before - cuda.free_bytes()
        return Check(f"{RUNS} runs in the same memory", lost <= 0, f"{lost} bytes fewer are free after them")

    def providers(self) -> Iterator[Check]:
        """Each way to CUDA gives the same bits as the first that works."""
        first: Any = None
        for name in PROVIDERS:
            try:
                with self.open(provider=name) as session:
                    output = session.run(self._tile(session))
            except RuntimeUnavailable as error:
                yield Check(f"CUDA through {name}", None, str(error))
                continue
            first = output if first is None else first
            yield Check(f"CUDA through {name}", np.array_equal(output, first), "equal bits")

    @staticmethod
    def _tile(session: TensorRtSession) -> Any:
        return random_tile(session.spec.tile, session.spec.io)

    def checks(self) -> Iterator[Check]:
        """All of them; one that fails leaves the others alone."""
        single: tuple[Callable[[], Check], ...] = (
            self.uint8_frames, self.cuda_graph, self.zero_copy, self.thousand_runs
        )  # fmt: skip
        for check in single:
            try:
                yield check()
            except SrEdgeError as error:
                yield Check(check.__name__.replace("_", " "), False, str(error))
        try:
            yield from self.providers()
        except SrEdgeError as error:
            yield Check("ways to CUDA", False, str(error))


def open_gpu() -> Cuda:
    """The first GPU."""
    return open_cuda(find_gpus()[0].index)


@contextmanager
def _on_device(cuda: Cuda, batch: Any) -> Iterator[object]:
    """A copy of `batch` in the GPU's memory, as an object that says where it is."""
    with cuda.current():
        stream, address = cuda.create_stream(), cuda.allocate(batch.nbytes)
        buffer = cuda.host_buffer(batch.nbytes, mapped=False)
        buffer.array[:] = batch.view(np.uint8).ravel()
        cuda.copy_in(address, buffer, stream)
        cuda.synchronize(stream)
        try:
            yield _CudaArray(batch.shape, batch.dtype.str, address)
        finally:
            cuda.free_host(buffer)
            cuda.free(address)
            cuda.destroy_stream(stream)


class _CudaArray:
    def __init__(self, shape: tuple[int, ...], typestr: str, address: int) -> None:
        self.__cuda_array_interface__ = {"shape": shape, "typestr": typestr, "data": (address, True), "version": 3}


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network")
    network = parser.parse_args(arguments).network
    runtime = working_tensorrt()
    checks: list[Check] = []
    with open_bundle(Material(Path(context().material)).require_bundle(network)) as bundle:
        for check in Subject(bundle, runtime).checks():
            checks.append(check)
            publish({"network": network, "runtime": runtime, "checks": checks})
    broken = [f"{check.name}: {check.told}" for check in checks if check.kept is False]
    if broken:
        raise EngineError("; ".join(broken), found=tuple(check.name for check in checks if check.kept is False))
