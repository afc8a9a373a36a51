"""NV12 frames in tiles, through sessions whose graph converts them, against the converter and the uint8 graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from sr_edge.errors import FrameError, TileError, UsageError
from sr_edge.export.passes.nv12_io import wrap_frames
from sr_edge.runtimes import Session, SessionRequest, open_request
from sr_edge.spec import FrameFormat, ModelCard, Nv12Colour, Precision, TileSpec
from sr_edge.upscaler import Upscaler
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
