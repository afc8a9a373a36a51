"""The element in the real GStreamer: pixels, sizes, strides, colour, drops that are counted, and clear errors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sr_edge.camera.enlarger import NetworkFrameUpscaler
from sr_edge.camera.frame import Colour, ColourRange, PixelFormat, Plane, VideoFrame
from sr_edge.gstreamer.planes import PIXEL_FORMATS, BufferLayout
from sr_edge.runtimes import Session
from tests.camera.gst_here import GStreamer, require_gstreamer

pytestmark = pytest.mark.services

WIDTH, HEIGHT, FRAMES = 323, 181, 2
SMALL = "video/x-raw,format=RGB,width=64,height=48"
FULL_RGB = Colour(ColourRange.FULL, 0, 1, 13)
BT601 = Colour(ColourRange.LIMITED, 6, 6, 6)
PARSED_NAMES = {"RGB": "rgb", "NV12": "nv12", "I420": "i420", "P010_10LE": "p010-10le", "I420_10LE": "i420-10le"}


@pytest.fixture(scope="session")
def gstreamer(tmp_path_factory: pytest.TempPathFactory) -> GStreamer:
    return require_gstreamer(tmp_path_factory.mktemp("gst"))


@pytest.fixture(scope="session")
def sredge(bundle: Path) -> str:
    return f"sredge name=sredge0 model={bundle} runtime=onnxruntime"


@dataclass(frozen=True)
class RawVideo:
    """Frames of one layout, one after the other, `frame_bytes` each."""

    layout: BufferLayout
    frame_bytes: int

    def frames(self, content: bytes) -> list[VideoFrame]:
        pieces = [content[start : start + self.frame_bytes] for start in range(0, len(content), self.frame_bytes)]
        layout = self.layout
        return [VideoFrame(layout.planes(memoryview(piece)), layout.format, layout.colour) for piece in pieces]

    def noise(self, count: int, seed: int) -> bytes:
        """Random pictures with codes that are legal in 10 bits too, and 0xAB between the rows."""
        generator = np.random.default_rng(seed)
        content = bytearray(b"\xab" * (count * self.frame_bytes))
        for index in range(count):
            frame = memoryview(content)[index * self.frame_bytes : (index + 1) * self.frame_bytes]
            for plane in self.layout.planes(frame):
                plane[...] = self._samples(generator, plane)
        return bytes(content)

    def _samples(self, generator: np.random.Generator, plane: Plane) -> Plane:
        low, high = (16, 236) if plane.dtype == np.uint8 else (64, 941)
        coarse = generator.integers(low, high, (plane.shape[0] // 6 + 1, plane.shape[1] // 6 + 1, *plane.shape[2:]))
        samples = coarse.repeat(6, 0).repeat(6, 1)[: plane.shape[0], : plane.shape[1]]
        return (samples << (6 if self.layout.format is PixelFormat.P010 else 0)).astype(plane.dtype)


def padded(value: int, multiple: int = 4) -> int:
    return -(-value // multiple) * multiple


def raw_video(name: str, width: int, height: int, row_padding: int = 0, row_gap: int = 0) -> RawVideo:
    """GStreamer's usual layout: rows padded to 4 bytes, chroma of even sizes; more room where it is asked for."""
    form = PIXEL_FORMATS[name]
    even_height = height if form.is_rgb else padded(height, 2)
    offsets, strides, start = [], [], 0
    for part in form.layout:
        columns = -(-(width if form.is_rgb else padded(width, 2)) // part.subsampling_x)
        strides.append(padded(columns * part.components * form.dtype.itemsize) + row_padding)
        offsets.append(start)
        start += strides[-1] * (even_height // part.subsampling_y + row_gap)
    layout = BufferLayout(form, width, height, offsets, strides, FULL_RGB if form.is_rgb else BT601)
    return RawVideo(layout, start)


def reading(path: Path, name: str, video: RawVideo) -> str:
    """A pipeline's beginning: the file's frames, with every offset and stride told."""
    layout = video.layout
    offsets, strides = (f"<{','.join(map(str, numbers))}>" for numbers in (layout.offsets, layout.strides))
    return (
        f"filesrc location={path} ! rawvideoparse format={PARSED_NAMES[name]} width={layout.width} "
        f"height={layout.height} framerate=30/1 plane-offsets={offsets} plane-strides={strides} "
        f"frame-size={video.frame_bytes}"
    )


def enlarged_by_hand(frame: VideoFrame, session: Session) -> VideoFrame:
    upscaler = NetworkFrameUpscaler(session)
    return upscaler.finish(upscaler.infer(upscaler.prepare(frame)), frame)


@pytest.mark.parametrize("name", PIXEL_FORMATS)
def test_pixels_of_an_odd_size_are_the_networks(
    name: str, gstreamer: GStreamer, sredge: str, session: Session, tmp_path: Path
) -> None:
    small, large = raw_video(name, WIDTH, HEIGHT), raw_video(name, 2 * WIDTH, 2 * HEIGHT)
    source, result = tmp_path / "in.raw", tmp_path / "out.raw"
    source.write_bytes(small.noise(FRAMES, seed=1))
    launched = gstreamer.launch(reading(source, name, small), "!", sredge, f"! filesink location={result}")
    assert launched.code == 0, launched.output
    found = large.frames(result.read_bytes())
    assert len(found) == FRAMES
    for frame, wanted in zip(found, small.frames(source.read_bytes()), strict=True):
        for plane, expected in zip(frame.planes, enlarged_by_hand(wanted, session).planes, strict=True):
            np.testing.assert_array_equal(plane, expected)


@pytest.mark.parametrize("name", ["RGB", "I420"])
def test_rows_and_planes_may_lie_apart(
    name: str, gstreamer: GStreamer, sredge: str, session: Session, tmp_path: Path
) -> None:
    loose = raw_video(name, 63, 41, row_padding=52, row_gap=3)
    source, result = tmp_path / "in.raw", tmp_path / "out.raw"
    source.write_bytes(loose.noise(1, seed=2))
    launched = gstreamer.launch(reading(source, name, loose), "!", sredge, f"! filesink location={result}")
    assert launched.code == 0, launched.output
    (found,) = raw_video(name, 126, 82).frames(result.read_bytes())
    (wanted,) = loose.frames(source.read_bytes())
    for plane, expected in zip(found.planes, enlarged_by_hand(wanted, session).planes, strict=True):
        np.testing.assert_array_equal(plane, expected)


def test_the_source_learns_its_size_from_what_comes_after(gstreamer: GStreamer, sredge: str) -> None:
    launched = gstreamer.launch(
        "videotestsrc num-buffers=1 !", sredge, "! video/x-raw,width=128,height=96 ! fakesink name=end", options=("-v",)
    )
    assert launched.code == 0, launched.output
    caps = re.search(r"videotestsrc0.GstPad:src: caps = (.*)", launched.output)
    assert caps is not None
    assert "width=(int)64" in caps[1]
    assert "height=(int)48" in caps[1]


def test_a_size_that_is_no_multiple_is_refused(gstreamer: GStreamer, sredge: str) -> None:
    ended = gstreamer.apply("videotestsrc !", SMALL, "!", sredge, "! video/x-raw,width=127 ! fakesink")
    assert ended["error"] == "Internal data stream error."
    assert ended["frames-out"] == 0


def test_colour_that_the_size_decides_is_told_before_the_size_changes(gstreamer: GStreamer, sredge: str) -> None:
    """320 rows mean BT.601 where nobody says otherwise, 640 mean BT.709."""
    caps = "video/x-raw,format=I420,width=16,height=320,framerate=30/1"
    source = f"fakesrc num-buffers=1 format=time sizetype=fixed sizemax={16 * 320 * 3 // 2} ! {caps}"
    launched = gstreamer.launch(source, "!", sredge, "! fakesink name=end", options=("-v",))
    assert launched.code == 0, launched.output
    found = re.search(r"GstFakeSink:end.GstPad:sink: caps = (.*)", launched.output)
    assert found is not None
    assert "height=(int)640" in found[1]
    assert "colorimetry=(string)bt601" in found[1]


def test_interlaced_video_is_refused(gstreamer: GStreamer, sredge: str) -> None:
    caps = "video/x-raw,format=I420,width=64,height=48,interlace-mode=interleaved"
    ended = gstreamer.apply("videotestsrc !", caps, "!", sredge, "! fakesink")
    assert "deinterlace" in ended["error"]


def test_every_frame_of_a_file_comes_out(gstreamer: GStreamer, sredge: str) -> None:
    launched = gstreamer.launch(
        "videotestsrc num-buffers=12 !", SMALL, "!", sredge, "! fakesink silent=false", options=("-v",)
    )
    assert launched.code == 0, launched.output
    assert shown_times(launched.output) == [f"0:00:00.{round(1e9 * number / 30 - 0.4):09}" for number in range(12)]
    assert launched.warnings == []


def shown_times(output: str, element: str = "fakesink0") -> list[str]:
    """The pts of each frame that the element saw."""
    return re.findall(rf"= chain .*?\({element}:sink\).*?pts: ([0-9:.]+)", output)


@pytest.mark.parametrize("policy", ["", "policy=drop-late:1"])
def test_dropped_frames_are_counted(policy: str, gstreamer: GStreamer, sredge: str, tmp_path: Path) -> None:
    """A thousand frames a second are more than any network enlarges here."""
    result = tmp_path / "out.raw"
    source = f"videotestsrc is-live=true num-buffers=400 ! {SMALL},framerate=1000/1 !"
    ended = gstreamer.apply(source, sredge, policy, f"! filesink location={result}")
    assert ended["error"] == ""
    assert ended["frames-out"] == result.stat().st_size / (128 * 96 * 3)
    assert 0 < ended["frames-out"] < ended["frames-in"] == 400
    assert ended["dropped"] == 400 - ended["frames-out"]


def test_dropped_frames_are_said_aloud(gstreamer: GStreamer, sredge: str) -> None:
    source = f"videotestsrc is-live=true num-buffers=400 ! {SMALL},framerate=1000/1 !"
    launched = gstreamer.launch(source, sredge, "! fakesink", options=("-m",))
    assert launched.code == 0, launched.output
    said = re.match(r"(\d+) of 400 frames were dropped: one takes .* \(policy latest\)", launched.warnings[-1])
    assert said is not None
    told = [int(number) for number in re.findall(r"\(qos\).*dropped=\(guint64\)(\d+)", launched.output)]
    assert told == sorted(told)
    assert 0 < told[-1] <= int(said[1]) < 400


def test_latest_ends_with_the_last_frame(gstreamer: GStreamer, sredge: str) -> None:
    source = f"videotestsrc is-live=true num-buffers=200 ! {SMALL},framerate=1000/1 ! identity name=before silent=false"
    launched = gstreamer.launch(source, "!", sredge, "! fakesink silent=false", options=("-v",))
    sent, shown = shown_times(launched.output, "before"), shown_times(launched.output)
    assert len(shown) < len(sent)
    assert shown[-1] == sent[-1]


def test_the_pipelines_latency_includes_the_networks(gstreamer: GStreamer, sredge: str) -> None:
    source = "videotestsrc is-live=true num-buffers=6 ! video/x-raw,format=I420,width=64,height=48,framerate=30/1 !"
    without = gstreamer.apply(source, "fakesink sync=true")
    assert gstreamer.apply(source, sredge, "! fakesink sync=true")["latency_ns"] > without["latency_ns"] > 0


def test_the_network_goes_on_while_a_sink_waits_for_the_time_of_a_frame(gstreamer: GStreamer, sredge: str) -> None:
    ended = gstreamer.apply(f"videotestsrc num-buffers=5 ! {SMALL} !", sredge, "policy=block ! fakesink name=held")
    assert ended["error"] == ""
    assert ended["another_while_held"]
    assert ended["frames-out"] == 5


@pytest.mark.parametrize("policy", ["latest", "block", "drop-late:100000"])
def test_decoders_do_not_hear_of_late_frames(policy: str, gstreamer: GStreamer, sredge: str) -> None:
    """They would drop frames that nobody counts."""
    source = f"videotestsrc is-live=true num-buffers=20 ! identity name=before ! {SMALL},framerate=100/1 !"
    ended = gstreamer.apply(source, sredge, f"policy={policy} ! fakesink name=held")
    assert ended["error"] == ""
    assert not ended["lateness_heard"]


@pytest.mark.parametrize(
    ("properties", "value"),
    [
        ("", "model=NAME.sredge"),
        ("model=/nowhere/x.sredge", "/nowhere/x.sredge"),
        (f"model={__file__}", __file__),
        ("model={bundle} policy=fast", "policy 'fast'"),
        ("model={bundle} precision=int4", "precision 'int4'"),
        ("model={bundle} precision=int8 runtime=onnxruntime", r"onnxruntime .*int8"),
    ],
)
def test_wrong_properties_end_in_one_clear_error(
    properties: str, value: str, gstreamer: GStreamer, bundle: Path
) -> None:
    element = f"sredge name=sredge0 {properties.format(bundle=bundle)}"
    launched = gstreamer.launch("videotestsrc num-buffers=1 !", SMALL, "!", element, "! fakesink")
    assert launched.code != 0
    assert any(re.search(value, error) for error in launched.errors), launched.output
