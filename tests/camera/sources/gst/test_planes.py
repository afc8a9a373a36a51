"""Planes of frames as views of GStreamer's buffers, which need no GStreamer."""

from __future__ import annotations

from sr_edge.camera.media.frame import Colour, PixelFormat
from sr_edge.camera.sources.gst.planes import BufferLayout
from sr_edge.errors import FrameError
from tests.expected_errors import raises


def test_planes_are_views_at_their_offsets_and_strides() -> None:
    layout = BufferLayout(PixelFormat.NV12, 5, 3, (4, 40), (8, 10), Colour())
    memory = memoryview(bytearray(range(60)))
    luma, chroma = layout.planes(memory)
    assert luma.tolist() == [[4, 5, 6, 7, 8], [12, 13, 14, 15, 16], [20, 21, 22, 23, 24]]
    assert chroma[1].tolist() == [[50, 51], [52, 53], [54, 55]]
    luma[0, 0] = 99
    assert memory[4] == 99


def test_a_plane_beyond_the_buffer_is_refused() -> None:
    layout = BufferLayout(PixelFormat.RGB, 64, 48, (0,), (192,), Colour())
    with raises(FrameError, found=9215, wanted=9216):
        layout.planes(memoryview(bytes(9215)))
