"""What every runtime of the registry promises, held against the same tiny network."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sr_edge.errors import EngineError, RuntimeUnavailable, SrEdgeError, TileError, UsageError, WeightsError
from sr_edge.runtimes import Session, SessionRequest, load_runtime, open_request
from sr_edge.spec import FrameFormat, Precision, TileSpec
from tests.expected_errors import raises

Array = npt.NDArray[np.float32]
FLOAT_TOLERANCE = 2e-6


def test_float_batch_gives_the_network(session: Session, toys: Any, batches: list[Array]) -> None:
    upscaled = session.run(batches[0])
    assert upscaled.dtype == np.float32
    np.testing.assert_allclose(upscaled, toys.reference(batches[0]), atol=FLOAT_TOLERANCE)


def test_uint8_frame_is_converted_on_the_host(session: Session, toys: Any) -> None:
    frame = np.random.default_rng(3).integers(0, 256, (16, 24, 3), np.uint8)
    upscaled = session.run(frame)
    exact = 255 * toys.reference((frame.transpose(2, 0, 1)[None] / 255).astype(np.float32))[0].transpose(1, 2, 0)
    assert upscaled.dtype == np.uint8
    assert upscaled.shape == (32, 48, 3)
    assert np.abs(upscaled - exact.clip(0, 255)).max() <= 0.5 + 255 * FLOAT_TOLERANCE


def test_output_is_the_callers_own(session: Session, batches: list[Array]) -> None:
    first = session.run(batches[0])
    kept = first.copy()
    second = session.run(batches[1])
    np.testing.assert_array_equal(first, kept)
    assert not np.shares_memory(first, second)
    first[:] = 0.0


def test_read_only_and_strided_inputs(session: Session, batches: list[Array]) -> None:
    wanted = session.run(batches[0])
    frozen = batches[0].copy()
    frozen.flags.writeable = False
    strided = np.ascontiguousarray(batches[0].transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)
    np.testing.assert_array_equal(session.run(frozen), wanted)
    np.testing.assert_array_equal(session.run(strided), wanted)


@pytest.mark.parametrize(
    ("frames", "error", "found", "wanted"),
    [
        (np.zeros((1, 3, 24, 16), np.float32), TileError, (1, 3, 24, 16), (1, 3, 16, 24)),
        (np.zeros((3, 16, 24), np.float32), TileError, (3, 16, 24), (1, 3, 16, 24)),
        (np.zeros((16, 24, 4), np.uint8), TileError, (16, 24, 4), (16, 24, 3)),
        (np.zeros((1, 3, 16, 24), np.float64), UsageError, "float64", ("float32", "uint8")),
        ([[0.0]], UsageError, "list", "ndarray"),
    ],
)
def test_other_frames_are_refused(
    session: Session, frames: Any, error: type[SrEdgeError], found: object, wanted: object
) -> None:
    for call in (session.run, session.submit):
        with raises(error, found=found, wanted=wanted):
            call(frames)


def test_several_in_flight_come_back_by_ticket(session: Session, batches: list[Array]) -> None:
    wanted = [session.run(batch) for batch in batches]
    tickets = [session.submit(batch) for batch in batches]
    assert len(set(tickets)) == len(batches) > session.spec.slots
    for index in (2, 0, 1, *range(len(batches) - 1, 2, -1)):
        np.testing.assert_array_equal(session.result(tickets[index]), wanted[index])


def test_submitted_frames_may_be_overwritten(session: Session, batches: list[Array]) -> None:
    wanted = session.run(batches[0])
    reused = batches[0].copy()
    ticket = session.submit(reused)
    reused[:] = 0.5
    np.testing.assert_array_equal(session.result(ticket), wanted)


def test_a_ticket_is_good_once(session: Session, batches: list[Array]) -> None:
    ticket = session.submit(batches[0])
    session.result(ticket)
    for wrong in (ticket, ticket + 100):
        with raises(UsageError, found=wrong):
            session.result(wrong)


def test_two_sessions_at_once(runtime: str, toys: Any, batches: list[Array]) -> None:
    request = toys.request_for(runtime)
    with open_request(runtime, request) as one, open_request(runtime, request) as other:
        tickets = [(each, each.submit(batch), batch) for batch in batches for each in (one, other)]
        for each, ticket, batch in tickets:
            np.testing.assert_allclose(each.result(ticket), toys.reference(batch), atol=FLOAT_TOLERANCE)


def test_many_threads_share_a_session(session: Session, toys: Any, batches: list[Array]) -> None:
    with ThreadPoolExecutor(4) as pool:
        for batch, upscaled in zip(batches, pool.map(session.run, batches), strict=True):
            np.testing.assert_allclose(upscaled, toys.reference(batch), atol=FLOAT_TOLERANCE)


def test_spec_tells_what_runs(runtime: str, toys: Any) -> None:
    request: SessionRequest = toys.request_for(runtime, slots=3)
    with open_request(runtime, request) as session:
        spec = session.spec
        assert repr(session) == f"<{type(session).__name__} {runtime} on {request.device}: fp32, x2, tile 16x24>"
    assert (spec.runtime, spec.device, spec.tile, spec.scale) == (runtime, request.device, TileSpec(16, 24), 2)
    assert (spec.requested, spec.ran, spec.float_precision_ran) == (Precision.FP32,) * 3
    threads = 1 if request.device == "cpu" else 0
    assert (spec.threads, spec.slots, spec.controls, spec.io) == (threads, 3, (), FrameFormat.FLOAT_NCHW)
    assert spec.version == load_runtime(runtime).availability().version
    assert spec.load_ms > 0
    assert spec.artifact_bytes == request.artifact.stat().st_size


def test_controls(runtime: str, toys: Any, batches: list[Array]) -> None:
    with open_request(runtime, toys.request_for(runtime, network="Controlled")) as session:
        assert [control.name for control in session.spec.controls] == ["alpha", "beta"]
        plain = session.run(batches[0])
        np.testing.assert_allclose(plain, toys.reference(batches[0]), atol=FLOAT_TOLERANCE)
        for upscaled in (
            session.run(batches[0], {"alpha": 0.5}),
            session.result(session.submit(batches[0], {"beta": 0.25, "alpha": 2})),
        ):
            np.testing.assert_allclose(upscaled, 0.5 * plain, atol=FLOAT_TOLERANCE)
        with raises(UsageError) as caught:
            session.run(batches[0], {"gamma": 1.0})
        assert "gamma" in caught.value.problem
        for wrong in (float("nan"), -0.1, 2.1):
            with raises(UsageError) as caught:
                session.submit(batches[0], {"alpha": wrong})
            assert f"alpha is {wrong}" in caught.value.problem


def test_control_of_a_network_without(session: Session, batches: list[Array]) -> None:
    with raises(UsageError) as caught:
        session.run(batches[0], {"alpha": 0.5})
    assert "alpha" in caught.value.problem


def test_controls_that_the_card_does_not_tell_of(runtime: str, toys: Any) -> None:
    request = toys.request_for(runtime, network="Controlled")
    unaware = replace(request, card=replace(request.card, controls=()))
    with raises(UsageError) as caught:
        open_request(runtime, unaware)
    assert "alpha" in caught.value.problem


def test_measure(session: Session) -> None:
    latency = session.measure(runs=4, warm_up=1)
    assert latency.runs == 4
    assert 0 < latency.min_ms <= latency.p50_ms <= latency.p99_ms


def test_closed_session_refuses_work(runtime: str, toys: Any, batches: list[Array]) -> None:
    with open_request(runtime, toys.request_for(runtime)) as session:
        ticket = session.submit(batches[0])
    session.close()
    assert "closed" in repr(session)
    for use in (
        lambda: session.run(batches[0]),
        lambda: session.submit(batches[0]),
        lambda: session.result(ticket),
        lambda: session.measure(1),
    ):
        with raises(UsageError, found="closed"):
            use()


def test_sessions_leave_no_threads(runtime: str, toys: Any, batches: list[Array]) -> None:
    others = set(threading.enumerate())
    with open_request(runtime, toys.request_for(runtime)) as session:
        session.result(session.submit(batches[0]))
        own = set(threading.enumerate()) - others
        assert any(thread.name.startswith(f"sr-edge-{runtime}") for thread in own)
    assert not own & set(threading.enumerate())


@pytest.mark.parametrize("device", ["gpu:99", "cuda:99", "abacus"])
def test_absent_device(runtime: str, toys: Any, device: str) -> None:
    with raises(RuntimeUnavailable, found=device):
        open_request(runtime, toys.request_for(runtime, device=device))


def test_damaged_file(runtime: str, toys: Any, tmp_path: Path) -> None:
    whole: SessionRequest = toys.request_for(runtime)
    damaged = tmp_path / f"damaged{whole.artifact.suffix}"
    damaged.write_bytes(whole.artifact.read_bytes()[:200])
    request = toys.request(damaged, device=whole.device, architecture=whole.architecture, options=whole.options)
    with raises(WeightsError if runtime == "torch" else EngineError) as caught:
        open_request(runtime, request)
    assert damaged.name in caught.value.problem


def test_unknown_option(runtime: str, toys: Any, tmp_path: Path) -> None:
    whole: SessionRequest = toys.request_for(runtime)
    options = dict(whole.options or {}) | {"graph_optimization_level": "sideways"}
    with pytest.raises(SrEdgeError) as caught:
        open_request(runtime, replace(whole, options=options))
    assert "graph_optimization_level" in caught.value.problem


def test_another_scale_than_the_files(onnx_runtime: str, toys: Any) -> None:
    with raises(TileError, found=(1, 3, 32, 48), wanted=(1, 3, 48, 72)):
        open_request(onnx_runtime, toys.request(toys.plain(), scale=3))


def test_another_tile_than_the_files(onnx_runtime: str, toys: Any) -> None:
    with raises(TileError, found=(1, 3, 16, 24), wanted=(1, 3, 24, 24)):
        open_request(onnx_runtime, toys.request(toys.plain(), tile=TileSpec(24, 24)))


def test_dynamic_graph_takes_the_requests_tile(onnx_runtime: str, toys: Any, batches: list[Array]) -> None:
    with open_request(onnx_runtime, toys.request(toys.dynamic())) as session:
        np.testing.assert_allclose(session.run(batches[0]), toys.reference(batches[0]), atol=FLOAT_TOLERANCE)


def test_uint8_graph_takes_both_formats(onnx_runtime: str, toys: Any) -> None:
    frame = np.random.default_rng(5).integers(0, 256, (16, 24, 3), np.uint8)
    batch = (frame.transpose(2, 0, 1)[None] / 255).astype(np.float32)
    exact = 255 * toys.reference(batch).clip(0, 1)
    with open_request(onnx_runtime, toys.request(toys.uint8(), io=FrameFormat.UINT8_NHWC)) as session:
        upscaled_frame, upscaled_batch = session.run(frame), session.run(batch)
        np.testing.assert_array_equal(session.result(session.submit(frame)), upscaled_frame)
    assert np.abs(upscaled_frame - exact[0].transpose(1, 2, 0)).max() <= 0.5 + 255 * FLOAT_TOLERANCE
    assert upscaled_batch.dtype == np.float32
    np.testing.assert_allclose(upscaled_batch[0].transpose(1, 2, 0), upscaled_frame / 255, atol=1e-6)


def test_torch_runs_foreign_code_only_when_it_is_named(toys: Any) -> None:
    pytest.importorskip("torch")
    whole: SessionRequest = toys.request_for("torch")
    with raises(UsageError, found=whole.architecture):
        open_request("torch", toys.request(whole.artifact, architecture=whole.architecture))


def test_missing_file(toys: Any, tmp_path: Path) -> None:
    with raises(UsageError, found=tmp_path / "absent.onnx"):
        toys.request(tmp_path / "absent.onnx")
