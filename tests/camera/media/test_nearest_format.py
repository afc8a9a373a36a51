"""Formats that libswscale reads become the nearest supported one, with the colours that FFmpeg shows for them."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from sr_edge.camera.file.job import plan_video, upscale_video
from sr_edge.camera.media.conversion import frame_from_av, rgb_from_frame
from sr_edge.camera.media.frame import ColourRange, PixelFormat
from sr_edge.camera.media.nearest_format import nearest_format
from sr_edge.camera.pipeline.frame_upscaler import BicubicFrameUpscaler
from sr_edge.camera.sources.open import SourceOptions, open_source
from sr_edge.errors import FrameError
from sr_edge.frames import Frame
from tests.camera.damage import noisy_clip
from tests.expected_errors import raises

SWATCHES = np.array(
    [[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [128, 128, 128], [64, 128, 192]], np.uint8
)
EXACT = 4 | 0x2000 | 0x40000
BT601_LUMA = (0.299, 0.587, 0.114)
"""With these weights libswscale makes the gray frames of this test."""
TOLERANCES = {"rgb555le": 6.5, "bgr565le": 6.5, "yuv410p": 5.5, "yuv411p": 6.5, "yuvj411p": 4.5}
"""The levels between two values of 5 bits, and what cubic interpolation overshoots beside an edge of chroma."""

NEAREST = {
    "yuv411p": PixelFormat.I422,
    "yuvj411p": PixelFormat.I422,
    "yuv410p": PixelFormat.I420,
    "yuv440p": PixelFormat.I444,
    "yuvj440p": PixelFormat.I444,
    "yuvj420p": PixelFormat.I420,
    "yuva420p": PixelFormat.I420,
    "yuva422p": PixelFormat.I422,
    "yuva444p10le": PixelFormat.I444_10,
    "yuv444p12le": PixelFormat.I444_10,
    "yuva444p12le": PixelFormat.I444_10,
    "yuv420p12le": PixelFormat.I420_10,
    "yuv422p16le": PixelFormat.I422_10,
    "yuv420p9le": PixelFormat.I420_10,
    "yuv422p10be": PixelFormat.I422_10,
    "p016le": PixelFormat.I420_10,
    "nv21": PixelFormat.NV12,
    "nv16": PixelFormat.I422,
    "yuyv422": PixelFormat.I422,
    "ayuv64le": PixelFormat.I444_10,
    "rgb555le": PixelFormat.RGB,
    "bgr565le": PixelFormat.RGB,
    "rgba": PixelFormat.RGB,
    "gbrap": PixelFormat.RGB,
    "gbrp10le": PixelFormat.RGB_16,
    "gbrap12le": PixelFormat.RGB_16,
    "x2rgb10le": PixelFormat.RGB_16,
    "gray12le": PixelFormat.GRAY_10,
    "gray16be": PixelFormat.GRAY_10,
    "ya8": PixelFormat.GRAY,
    "grayf32le": PixelFormat.GRAY_10,
}


def swatches() -> Frame:
    return SWATCHES.repeat(16, 0)[None].repeat(16, 0)


@pytest.mark.parametrize("colour_range", [ColourRange.LIMITED, ColourRange.FULL], ids=["limited", "full"])
@pytest.mark.parametrize(("name", "nearest"), NEAREST.items())
def test_colours_and_range_are_right(name: str, nearest: PixelFormat, colour_range: ColourRange) -> None:
    picture = av.VideoFrame.from_ndarray(swatches(), "rgb24").reformat(
        format=name, dst_colorspace=1, src_color_range=2, dst_color_range=colour_range, interpolation=EXACT
    )
    if not picture.format.is_rgb:
        picture.color_range = 2 if name.startswith("yuvj") else colour_range
        picture.colorspace = 1
    frame = frame_from_av(picture)
    assert frame.format is nearest
    shown = rgb_from_frame(frame)
    levels = shown[8, 8::16] / (1 if shown.dtype == np.uint8 else 257)
    expected = SWATCHES.astype(float)
    if nearest in (PixelFormat.GRAY, PixelFormat.GRAY_10):
        expected = (expected @ BT601_LUMA)[:, None].repeat(3, 1)
    assert np.abs(levels - expected).max() < TOLERANCES.get(name, 1.5)


@pytest.mark.parametrize(("name", "white"), [("gbrp10le", 1023), ("gray16le", 65535), ("yuv444p12le", 4095)])
def test_white_stays_white(name: str, white: int) -> None:
    picture = av.VideoFrame(32, 16, name)
    for index, plane in enumerate(picture.planes):
        np.frombuffer(plane, np.uint16)[:] = white if index == 0 or name.startswith("gbr") else (white + 1) // 2  # type: ignore[call-overload]
    picture.color_range, picture.colorspace = 2, 1
    assert np.all(rgb_from_frame(frame_from_av(picture)) == 65535)


def test_chroma_of_411_stays_at_its_pixels() -> None:
    """In DV a chroma sample belongs to the first of four pixels; libswscale would move it to their middle."""
    picture = av.VideoFrame(64, 8, "yuv411p")
    for index, plane in enumerate(picture.planes):
        samples = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)  # type: ignore[call-overload]
        samples[:, : plane.width] = 64 + 4 * np.arange(plane.width) if index else 100
    blue = frame_from_av(picture).planes[1]
    assert np.array_equal(blue[3, :31], 64 + 2 * np.arange(31))


def test_matrix_of_the_frame_is_kept() -> None:
    for matrix in (1, 6, 9):
        picture = av.VideoFrame.from_ndarray(swatches(), "rgb24").reformat(
            format="yuva444p", dst_colorspace=5 if matrix == 6 else matrix, src_color_range=2, dst_color_range=1
        )
        picture.colorspace, picture.color_range = matrix, 1
        frame = frame_from_av(picture)
        assert frame.colour.matrix == matrix
        assert np.abs(rgb_from_frame(frame)[8, 8::16].astype(int) - SWATCHES).max() <= 3


@pytest.mark.parametrize("name", ["bayer_rggb8", "bayer_gbrg16le", "cuda", "vaapi", "yaf32le", "rgb4"])
def test_what_libswscale_cannot_read_is_refused(name: str) -> None:
    with raises(FrameError, found=name, wanted=[pixel_format.value for pixel_format in PixelFormat]):
        nearest_format(name)


@pytest.mark.parametrize("name", ["nv21", "bgr24", "yuvj420p", "yuyv422", "rgba", "p210le"])
def test_rearranged_samples_are_not_mentioned(name: str) -> None:
    assert nearest_format(name).note == ""


@pytest.mark.parametrize(
    ("codec", "source", "written", "notes"),
    [
        ("ffv1", "yuv411p", "yuv422p", ["yuv411p pixels are converted to yuv422p: chroma is interpolated"]),
        (
            "ffv1",
            "yuv420p12le",
            "yuv420p10le",
            ["yuv420p12le pixels are converted to yuv420p10le: 12-bit samples become 10-bit"],
        ),
        ("ffv1", "yuva420p", "yuv420p", ["its alpha channel is left out"]),
        (
            "prores_ks",
            "yuva444p10le",
            "yuv444p10le",
            [
                "yuva444p12le pixels are converted to yuv444p10le: 12-bit samples become 10-bit",
                "its alpha channel is left out",
            ],
        ),
        (
            "rawvideo",
            "rgb555le",
            "yuv420p",
            [
                "rgb555le pixels are converted to rgb24: 5-bit samples become 8-bit without loss",
                "the RGB pixels are converted to yuv420p, BT.709",
            ],
        ),
    ],
)
def test_videos_are_converted_and_say_so(
    tmp_path: Path, codec: str, source: str, written: str, notes: list[str]
) -> None:
    name = "in.nut" if codec == "rawvideo" else "in.mov" if codec == "prores_ks" else "in.mkv"
    path = noisy_clip(tmp_path / name, codec, source, frames=2)
    job = plan_video(path, tmp_path / "out.mp4", 2)
    assert list(job.notes) == notes
    upscale_video(job, BicubicFrameUpscaler(2))
    with av.open(tmp_path / "out.mp4") as container:
        assert next(container.decode(video=0)).format.name == written
    events: list[str] = []
    frames = list(open_source(str(path), SourceOptions(on_event=events.append)).frames())
    assert len(frames) == 2
    assert any(("alpha" if source.startswith("yuva") else "converted") in event for event in events)
