"""NV12 frames in tiles, through sessions whose graph converts them, against the converter and the uint8 graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest

from sr_edge.errors import FrameError, TileError, UsageError
from sr_edge.export.passes.nv12_io import wrap_frames
from sr_edge.nv12.colour import Nv12Colour
from sr_edge.runtimes import Session, SessionRequest, open_request
from sr_edge.spec import FrameFormat, ModelCard, Precision, TileSpec
from sr_edge.upscaler import Upscaler
from sr_edge.upscaler.reuse import FrameReuse
from tests.expected_errors import raises
from tests.nv12_frames import largest_difference, planes_of, random_nv12, rgb_of

TILE = TileSpec(16, 24)
COLOUR = Nv12Colour.BT601_LIMITED
SMOOTH = """g (float[1,3,16,24] input) => (float[1,3,32,48] output) <float[12,3,3,3] w, float[1,1,1,1] quarter = {0.25}>
{ scaled = Mul(input, quarter)  features = Conv<pads = [1,1,1,1]>(scaled, w)
  output = DepthToSpace<blocksize = 2, mode = "CRD">(features) }"""


@pytest.fixture(scope="module")
def graph() -> onnx.ModelProto:
    """A convolution that sees its neighbours, so that the border of a tile matters."""
    text = SMOOTH.replace("float[12,3,3,3] w, ", "")
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    weights = np.random.default_rng(1).random((12, 3, 3, 3), np.float32)
    weights /= weights.sum(axis=(1, 2, 3), keepdims=True) / 4
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    return model


def opened(graph: onnx.ModelProto, io: FrameFormat, runtime: str, folder: Path) -> Session:
    colour = COLOUR if io is FrameFormat.NV12 else None
    path = folder / f"{io}-{runtime}.onnx"
    onnx.save(wrap_frames(graph, io, colour), path)
    card = ModelCard("smooth", 2, 1, overlap_px=4)
    return open_request(runtime, SessionRequest(path, card, TILE, Precision.FP32, io=io, threads=1, nv12_colour=colour))


@pytest.fixture(params=["onnxruntime", "openvino"])
def sessions(request: pytest.FixtureRequest, graph: onnx.ModelProto, tmp_path: Path) -> Iterator[tuple[Session, ...]]:
    with (
        opened(graph, FrameFormat.NV12, request.param, tmp_path) as nv12,
        opened(graph, FrameFormat.UINT8_NHWC, request.param, tmp_path) as uint8,
    ):
        yield nv12, uint8


@pytest.mark.parametrize("size", [(16, 24), (16, 60), (46, 74)])
def test_tiles_join_as_those_of_the_converters_path(sessions: tuple[Session, ...], size: tuple[int, int]) -> None:
    frame = random_nv12(*size, COLOUR)
    planes = planes_of(frame)
    upscaled = Upscaler(sessions[0]).upscale_nv12(planes.luma, planes.chroma)
    expected = Upscaler(sessions[1]).upscale(rgb_of(frame))
    assert upscaled.shape == (2 * size[0], 2 * size[1], 3)
    assert largest_difference(upscaled, expected) <= 1


def test_the_result_goes_where_it_is_wanted_and_tiles_are_counted(sessions: tuple[Session, ...]) -> None:
    planes = planes_of(random_nv12(46, 74, COLOUR))
    out, counted = np.empty((92, 148, 3), np.uint8), []
    upscaler = Upscaler(sessions[0])
    upscaled = upscaler.upscale_nv12(planes.luma, planes.chroma, out, lambda *tiles: counted.append(tiles))
    assert upscaled is out
    assert counted[-1] == (16, 16)
    padded = np.zeros((46, 80), np.uint8)
    padded[:, :74] = planes.luma
    np.testing.assert_array_equal(upscaler.upscale_nv12(padded[:, :74], planes.chroma), out)


class CountingSession:
    """A session that counts the tiles that it computes."""

    def __init__(self, session: Session) -> None:
        self.spec, self._session, self.computed = session.spec, session, 0

    def submit(self, frames: Any, controls: Any = None) -> int:
        self.computed += 1
        return self._session.submit(frames, controls)

    def result(self, ticket: int) -> Any:
        return self._session.result(ticket)


@pytest.mark.parametrize(("size", "tiles"), [((16, 24), 1), ((46, 74), 16)])
def test_tiles_that_did_not_change_are_not_computed(
    sessions: tuple[Session, ...], size: tuple[int, int], tiles: int
) -> None:
    counting = CountingSession(sessions[0])
    off, exact = Upscaler(sessions[0]), Upscaler(cast(Session, counting), reuse="exact")
    frame = planes_of(random_nv12(*size, COLOUR))
    expected_counts = []
    for change in ("first", "none", "luma", "chroma", "none"):
        if change == "luma":
            frame.luma[10, 9] ^= 1  # in two tiles of the larger frame
        elif change == "chroma":
            frame.chroma[-1, -1, 1] ^= 1
        before, reuses = counting.computed, list[FrameReuse]()
        expected = exact.count_changed(frame)
        upscaled = exact.upscale_nv12(frame.luma, frame.chroma, on_reuse=reuses.append)
        np.testing.assert_array_equal(upscaled, off.upscale_nv12(frame.luma, frame.chroma))
        upscaled[...] = 0  # it belongs to the caller
        (reuse,) = reuses
        assert counting.computed - before == expected == reuse.tiles - len(reuse.reused)
        expected_counts.append(expected)
    assert expected_counts == ([1, 0, 1, 1, 0] if tiles == 1 else [16, 0, 2, 1, 0])
    statistics = exact.reuse_statistics
    assert statistics.memory_bytes == statistics.needed_bytes == tiles * (24 * 32 * 3 // 2 + 32 * 48 * 3)


def test_sessions_that_share_kept_tiles_do_not_mix_them_up(sessions: tuple[Session, ...]) -> None:
    frame = random_nv12(46, 74, COLOUR)
    planes, pixels = planes_of(frame), rgb_of(frame)
    uint8 = Upscaler(sessions[1], reuse="exact")
    nv12 = uint8.with_session(sessions[0])
    expected = Upscaler(sessions[0]).upscale_nv12(planes.luma, planes.chroma), Upscaler(sessions[1]).upscale(pixels)
    for _ in range(2):
        np.testing.assert_array_equal(nv12.upscale_nv12(planes.luma, planes.chroma), expected[0])
        np.testing.assert_array_equal(uint8.upscale(pixels), expected[1])
    assert uint8.reuse_statistics == nv12.reuse_statistics
    assert (uint8.reuse_statistics.tiles, uint8.reuse_statistics.reused) == (64, 32)
    own = uint8.with_own_reuse().with_session(sessions[0])
    assert (nv12.count_changed(planes), own.count_changed(planes)) == (0, 16)


def test_the_session_says_what_it_takes_and_refuses_pictures(sessions: tuple[Session, ...]) -> None:
    session, uint8 = sessions
    assert (session.spec.io, session.spec.nv12_colour) == (FrameFormat.NV12, COLOUR)
    assert session.measure(runs=1, warm_up=0).p50_ms > 0
    for frames in (np.zeros((16, 24, 3), np.uint8), np.zeros((1, 3, 16, 24), np.float32)):
        with raises(TileError, found=frames.shape):
            session.run(frames)
    with raises(FrameError, found="RGB or gray"):
        Upscaler(session).upscale(np.zeros((16, 24, 3), np.uint8))
    planes = planes_of(random_nv12(16, 24))
    with raises(UsageError, found="uint8", wanted="nv12"):
        Upscaler(uint8).upscale_nv12(planes.luma, planes.chroma)


def test_odd_overlaps_and_small_frames_are_refused(sessions: tuple[Session, ...]) -> None:
    planes = planes_of(random_nv12(46, 74))
    with raises(TileError, found=3):
        Upscaler(sessions[0], overlap_px=3).upscale_nv12(planes.luma, planes.chroma)
    with raises(FrameError, found=(14, 74)):
        Upscaler(sessions[0]).upscale_nv12(planes.luma[:14], planes.chroma[:7])


def test_a_request_needs_a_colour_for_nv12_and_for_nothing_else(sessions: tuple[Session, ...], tmp_path: Path) -> None:
    path = tmp_path / "nv12-onnxruntime.onnx"
    path.touch()
    request = SessionRequest(
        path, ModelCard("smooth", 2, 1), TILE, Precision.FP32, io=FrameFormat.NV12, nv12_colour=COLOUR
    )
    with raises(UsageError, found=None):
        replace(request, nv12_colour=None)
    with raises(UsageError, found=str(COLOUR)):
        replace(request, io=FrameFormat.FLOAT_NCHW)


def test_a_bound_in_decibels_is_refused_since_it_was_measured_with_rgb(sessions: tuple[Session, ...]) -> None:
    with raises(UsageError, found="nv12"):
        Upscaler(sessions[0], reuse=0.05)
