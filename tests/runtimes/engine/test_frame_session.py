"""Pictures and video through two graphs of one network: uint8 frames through the one, all else through the other."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sr_edge.bundle import Artifact, ArtifactKind, Manifest, sha256_of, staging_folder, write_bundle
from sr_edge.errors import PrecisionUnavailable, TileError, UsageError
from sr_edge.model_sources import open_frame_session
from sr_edge.runtimes import RUNTIMES, Session, open_request
from sr_edge.runtimes.engine.frame_session import FrameSession, session_over_graphs
from sr_edge.spec import FrameFormat, ModelCard, Precision, TileSpec
from sr_edge.upscaler import Upscaler
from tests.expected_errors import raises

Array = npt.NDArray[Any]
FLOAT, UINT8 = FrameFormat.FLOAT_NCHW, FrameFormat.UINT8_NHWC
TILE = TileSpec(16, 24)


class FloatGraph:
    """Opens the toy's float graph, and remembers how often."""

    def __init__(self, runtime: str, toys: Any) -> None:
        self._runtime, self._toys = runtime, toys
        self.opened: list[Session] = []

    def open(self) -> Session:
        self.opened.append(open_request(self._runtime, self._toys.request_for(self._runtime)))
        return self.opened[-1]


@pytest.fixture
def float_graph(onnx_runtime: str, toys: Any) -> FloatGraph:
    return FloatGraph(onnx_runtime, toys)


@pytest.fixture
def session(onnx_runtime: str, toys: Any, float_graph: FloatGraph) -> Iterator[FrameSession]:
    eight_bit = open_request(onnx_runtime, toys.request(toys.uint8(), io=UINT8))
    with FrameSession(eight_bit, float_graph.open) as opened:
        yield opened


@pytest.fixture(scope="module")
def frames() -> list[Array]:
    return list(np.random.default_rng(3).integers(0, 256, (4, TILE.height, TILE.width, 3), np.uint8))


def test_8_bit_frames_never_open_the_float_graph(
    session: FrameSession, float_graph: FloatGraph, frames: list[Array], onnx_runtime: str, toys: Any
) -> None:
    with open_request(onnx_runtime, toys.request(toys.uint8(), io=UINT8)) as alone:
        for frame in frames:
            np.testing.assert_array_equal(session.run(frame), alone.run(frame))
    session.measure(runs=1, warm_up=0)
    assert session.run_staged(frames[0])[1].total_ms > 0
    assert not float_graph.opened


def test_the_float_graph_is_opened_once(
    session: FrameSession, float_graph: FloatGraph, batches: list[Array], toys: Any
) -> None:
    with ThreadPoolExecutor(4) as pool:
        for batch, upscaled in zip(batches, pool.map(session.run, batches), strict=True):
            np.testing.assert_allclose(upscaled, toys.reference(batch), atol=2e-6)
    assert len(float_graph.opened) == 1


def test_tickets_of_both_graphs_come_back_in_any_order(
    session: FrameSession, frames: list[Array], batches: list[Array]
) -> None:
    arrays = [frames[0], batches[0], frames[1], batches[1]]
    wanted = [session.run(array) for array in arrays]
    tickets = [session.submit(array) for array in arrays]
    assert len(set(tickets)) == len(tickets)
    for index in (3, 0, 1, 2):
        np.testing.assert_array_equal(session.result(tickets[index]), wanted[index])
    for ticket in tickets:
        with raises(UsageError, found=ticket // 2):  # the number that its graph's own session gave it
            session.result(ticket)


def test_a_ticket_of_the_float_graph_before_it_is_open(session: FrameSession, frames: list[Array]) -> None:
    ticket = session.submit(frames[0])
    with raises(UsageError, found=ticket + 1):
        session.result(ticket + 1)
    assert session.result(ticket).shape == (2 * TILE.height, 2 * TILE.width, 3)


def test_16_bits_stay_16_bits(session: FrameSession, toys: Any) -> None:
    deep = np.random.default_rng(5).integers(0, 65536, (TILE.height, TILE.width, 3), np.uint16)
    exact = toys.reference((deep.transpose(2, 0, 1)[None] / 65535).astype(np.float32))[0].transpose(1, 2, 0)
    upscaled = Upscaler(session, overlap_px=0).upscale(deep)
    assert upscaled.dtype == np.uint16
    assert np.abs(upscaled - 65535 * exact.clip(0, 1)).max() <= 1


def test_the_spec_says_so(session: FrameSession) -> None:
    assert session.spec.io is FLOAT
    assert "8-bit frames run in the bundle's uint8 graph" in session.spec.note


def test_other_arrays_are_refused(session: FrameSession, float_graph: FloatGraph) -> None:
    with raises(TileError, found=(8, 24, 3)):
        session.run(np.zeros((8, 24, 3), np.uint8))
    with raises(UsageError, found="list"):
        session.run([[0.0]])  # type: ignore[arg-type]
    assert not float_graph.opened


def test_closing_closes_both(
    session: FrameSession, float_graph: FloatGraph, frames: list[Array], batches: list[Array]
) -> None:
    session.run(batches[0])
    session.close()
    session.close()
    for array in (frames[0], batches[0]):
        with raises(UsageError, found="closed"):
            session.run(array)
    with raises(UsageError, found="closed"):
        float_graph.opened[0].run(batches[0])


def test_nothing_is_opened_after_the_end(session: FrameSession, float_graph: FloatGraph, batches: list[Array]) -> None:
    session.close()
    with raises(UsageError, found="closed"):
        session.run(batches[0])
    assert not float_graph.opened


@pytest.fixture
def bundle(toys: Any, tmp_path: Path) -> Path:
    out = tmp_path / "toy.sredge"
    with staging_folder(out) as staging:
        artifacts = []
        for file, source, io in (("model.onnx", toys.plain(), FLOAT), ("model.uint8.onnx", toys.uint8(), UINT8)):
            (staging / file).write_bytes(source.read_bytes())
            artifacts.append(_artifact(file, io, sha256_of(source)))
        write_bundle(out, Manifest(ModelCard("toy", 2, 1), TILE, tuple(artifacts), created="2026-01-01"), staging)
    return out


def _artifact(file: str, io: FrameFormat, sha256: str) -> Artifact:
    fp32 = Precision.FP32
    return Artifact(file, ArtifactKind.ONNX, fp32, fp32, None, io, (1, 3, TILE.height, TILE.width), sha256)


def test_from_a_bundle(bundle: Path, onnx_runtime: str, frames: list[Array], batches: list[Array], toys: Any) -> None:
    with open_frame_session(bundle, onnx_runtime, threads=1) as session:
        assert isinstance(session, FrameSession)
        assert repr(session) == f"<FrameSession {onnx_runtime} on cpu: fp32, x2, tile 16x24>"
        assert session.run(frames[0]).dtype == np.uint8
        np.testing.assert_allclose(session.run(batches[0]), toys.reference(batches[0]), atol=2e-6)
    assert "closed" in repr(session)


def test_a_precision_that_the_bundle_has_not_is_refused(bundle: Path, onnx_runtime: str) -> None:
    with raises(PrecisionUnavailable, found=(Precision.FP16, Precision.FP32, None)):
        open_frame_session(bundle, onnx_runtime, Precision.FP16)


@pytest.mark.parametrize(("has_uint8", "requested"), [(True, [UINT8]), (False, [UINT8, None])])
def test_the_uint8_graph_is_opened_first(has_uint8: bool, requested: list[FrameFormat | None], toys: Any) -> None:
    opened: list[FrameFormat | None] = []
    plain = open_request("onnxruntime", toys.request(toys.plain()))

    def open_graph(*, io: FrameFormat | None = None) -> Session:
        opened.append(io)
        if io is UINT8 and not has_uint8:
            raise PrecisionUnavailable("no artifact with uint8 frames")
        return plain

    with session_over_graphs(open_graph):
        assert opened == requested


def test_only_the_runtimes_of_sr_edge_compile_open_the_float_graph() -> None:
    assert {entry.name for entry in RUNTIMES if entry.compiled_ahead} == {"tensorrt", "tensorrt-rtx"}
