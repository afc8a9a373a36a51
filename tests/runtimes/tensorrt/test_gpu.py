"""On a real GPU: parity in every precision, graph or not, a thousand runs, both providers, in flight, zero copy.

Everything here is skipped by name where there is no GPU, or where no TensorRT runs on it: `pytest -m gpu` on one that
has both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sr_edge.errors import RuntimeUnavailable
from sr_edge.runtimes import availability, measure_throughput, open_request
from sr_edge.runtimes.cuda.api import Cuda
from sr_edge.runtimes.cuda.providers import PROVIDERS, open_cuda
from sr_edge.runtimes.tensorrt.session import TensorRtSession
from sr_edge.spec import ActivationType, FrameFormat, Precision

pytestmark = pytest.mark.gpu

Array = npt.NDArray[Any]
TENSORRTS = ("tensorrt", "tensorrt-rtx")
RUNS = 1000
FP32_TOLERANCE = 1e-5
FP16_TOLERANCE = 5e-3  # 16 channels of 27 products each, accumulated and stored in 11 bits
INT8_TOLERANCE = 5e-2  # steps of 1/127 and 2/127 on the inputs of two layers


@pytest.fixture(params=TENSORRTS)
def tensorrt(request: pytest.FixtureRequest) -> str:
    reported = availability(request.param)
    if not reported.works:
        pytest.skip(f"{request.param}: {reported.reason}")
    return str(request.param)


@pytest.fixture(params=PROVIDERS)
def provider(request: pytest.FixtureRequest, tensorrt: str) -> str:
    try:
        open_cuda(0, request.param)
    except RuntimeUnavailable as error:
        pytest.skip(f"{request.param}: {error}")
    return str(request.param)


def opened(runtime: str, toys: Any, graph: Any, precision: Precision = Precision.FP32, **choices: Any) -> Any:
    session = open_request(runtime, toys.request(graph, precision, device="cuda", **choices))
    assert isinstance(session, TensorRtSession)
    return session


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [
        (Precision.FP32, FP32_TOLERANCE),
        (Precision.FP16, FP16_TOLERANCE),
        (Precision.INT8, INT8_TOLERANCE),
    ],
)
def test_every_precision_gives_the_network(
    tensorrt: str, toys: Any, batches: list[Array], precision: Precision, tolerance: float
) -> None:
    graphs = {
        Precision.FP32: toys.plain(),
        Precision.FP16: toys.half(),
        Precision.INT8: toys.plain(ActivationType.INT8),
    }
    with opened(tensorrt, toys, graphs[precision], precision) as session:
        assert session.spec.ran is precision
        for batch in batches:
            np.testing.assert_allclose(session.run(batch), toys.reference(batch), atol=tolerance)


def test_uint8_frames_go_in_and_out(tensorrt: str, toys: Any) -> None:
    frame = np.random.default_rng(5).integers(0, 256, (16, 24, 3), np.uint8)
    exact = 255 * toys.reference((frame.transpose(2, 0, 1)[None] / 255).astype(np.float32)).clip(0, 1)
    with opened(tensorrt, toys, toys.uint8(), io=FrameFormat.UINT8_NHWC) as session:
        assert np.abs(session.run(frame) - exact[0].transpose(1, 2, 0)).max() <= 0.51


def test_graph_on_and_off_are_equal(tensorrt: str, toys: Any, batches: list[Array]) -> None:
    with (
        opened(tensorrt, toys, toys.plain(), options={"cuda_graph": "on"}) as captured,
        opened(tensorrt, toys, toys.plain(), options={"cuda_graph": "off"}) as plain,
    ):
        assert captured.spec.note == ""
        for batch in batches:
            np.testing.assert_array_equal(captured.run(batch), plain.run(batch))


def test_both_providers_are_equal(tensorrt: str, provider: str, toys: Any, batches: list[Array]) -> None:
    with (
        opened(tensorrt, toys, toys.plain(), options={"provider": provider}) as session,
        opened(tensorrt, toys, toys.plain()) as first,
    ):
        for batch in batches:
            np.testing.assert_array_equal(session.run(batch), first.run(batch))


@pytest.fixture
def cuda(provider: str) -> Iterator[Cuda]:
    made = open_cuda(0, provider)
    with made.current():
        yield made


def test_a_thousand_runs_take_no_more_memory(
    tensorrt: str, provider: str, cuda: Cuda, toys: Any, batches: list[Array]
) -> None:
    with opened(tensorrt, toys, toys.plain(), options={"provider": provider}) as session:
        for batch in batches:
            session.run(batch)
        before = cuda.free_bytes()
        for index in range(RUNS):
            session.run(batches[index % len(batches)])
        assert cuda.free_bytes() >= before


def test_several_in_flight_come_back_in_order(tensorrt: str, toys: Any, batches: list[Array]) -> None:
    with opened(tensorrt, toys, toys.plain(), slots=4) as session:
        tickets = [session.submit(batch) for batch in batches * 10]
        for ticket, batch in zip(tickets, batches * 10, strict=True):
            np.testing.assert_allclose(session.result(ticket), toys.reference(batch), atol=FP32_TOLERANCE)
        assert measure_throughput(session).in_flight == 4


def test_a_tile_in_gpu_memory(tensorrt: str, provider: str, cuda: Cuda, toys: Any, batches: list[Array]) -> None:
    batch = batches[0]
    buffer, stream, address = cuda.host_buffer(batch.nbytes, False), cuda.create_stream(), cuda.allocate(batch.nbytes)
    buffer.array[:] = batch.view(np.uint8).ravel()
    cuda.copy_in(address, buffer, stream)
    cuda.synchronize(stream)

    class Source:
        __cuda_array_interface__ = {  # noqa: RUF012  # the protocol wants an attribute
            "shape": batch.shape,
            "typestr": batch.dtype.str,
            "data": (address, True),
            "version": 3,
        }

    with opened(tensorrt, toys, toys.plain(), options={"provider": provider}) as session:
        np.testing.assert_array_equal(session.run_on_device(Source()), session.run(batch))


def test_the_times_add_up(tensorrt: str, toys: Any) -> None:
    with opened(tensorrt, toys, toys.plain()) as session:
        latency = session.measure_on_device(runs=20)
        assert session.device_memory.total_bytes > 0
    parts = latency.h2d.mean_ms + latency.compute.mean_ms + latency.d2h.mean_ms
    assert latency.total.mean_ms == pytest.approx(parts)
