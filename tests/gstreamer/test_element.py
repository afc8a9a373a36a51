"""The element in GStreamer: pixels, sizes, strides, colour, counted drops, latency and errors."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sr_edge.bundle.plain import to_plain
from sr_edge.camera.media.frame import Colour, ColourRange, PixelFormat, Plane, VideoFrame
from sr_edge.camera.pipeline.frame_upscaler import NetworkFrameUpscaler
from sr_edge.camera.sources.gst.planes import PIXEL_FORMATS, BufferLayout
from sr_edge.model_sources import open_frame_session
from sr_edge.runtimes import Session
from tests.bundle.bundles import edit_manifest
from tests.channel_networks import SCALES, deployed
from tests.gstreamer.installed_element import GStreamer, require_gstreamer
from tests.upscaler.test_reuse_bound import TABLE

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
    """Frames of one layout in a file, `frame_bytes` each."""

    layout: BufferLayout
    frame_bytes: int

    def frames(self, content: bytes) -> list[VideoFrame]:
        buffers = [content[start : start + self.frame_bytes] for start in range(0, len(content), self.frame_bytes)]
        layout = self.layout
        return [VideoFrame(layout.planes(memoryview(buffer)), layout.format, layout.colour) for buffer in buffers]

    def noise(self, count: int, seed: int) -> bytes:
        """Random images within the limited range, with 0xAB as padding between the rows."""
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
    """GStreamer's default layout, rows padded to 4 bytes and chroma to even sizes, with optional extra padding."""
    pixel_format = PIXEL_FORMATS[name]
    even_height = height if pixel_format.is_rgb else padded(height, 2)
    offsets, strides, start = [], [], 0
    for plane in pixel_format.layout:
        columns = -(-(width if pixel_format.is_rgb else padded(width, 2)) // plane.subsampling_x)
        strides.append(padded(columns * plane.components * pixel_format.dtype.itemsize) + row_padding)
        offsets.append(start)
        start += strides[-1] * (even_height // plane.subsampling_y + row_gap)
    layout = BufferLayout(pixel_format, width, height, offsets, strides, FULL_RGB if pixel_format.is_rgb else BT601)
    return RawVideo(layout, start)


def read_pipeline(path: Path, name: str, video: RawVideo) -> str:
    """The start of a pipeline that reads the frames of a file with explicit offsets and strides."""
    layout = video.layout
    offsets, strides = (f"<{','.join(map(str, numbers))}>" for numbers in (layout.offsets, layout.strides))
    return (
        f"filesrc location={path} ! rawvideoparse format={PARSED_NAMES[name]} width={layout.width} "
        f"height={layout.height} framerate=30/1 plane-offsets={offsets} plane-strides={strides} "
        f"frame-size={video.frame_bytes}"
    )


def upscaled_without_gstreamer(frame: VideoFrame, session: Session) -> VideoFrame:
    upscaler = NetworkFrameUpscaler(session)
    return upscaler.finish(upscaler.infer(upscaler.prepare(frame)), frame)


def with_reuse_table(bundle: Path, copy: Path) -> Path:
    """A copy of a bundle that gives bounds of reuse."""
    shutil.copytree(bundle, copy)
    edit_manifest(copy, lambda manifest: manifest["card"].update(reuse_table=to_plain(TABLE)))
    return copy


def test_importing_the_element_loads_no_heavy_library(gstreamer: GStreamer) -> None:
    """GStreamer imports it in every pipeline that has an element in Python."""
    assert gstreamer.modules_of_element() & {"numpy", "av", "onnxruntime", "openvino", "torch"} == set()


@pytest.mark.parametrize("name", PIXEL_FORMATS)
def test_pixels_of_odd_sizes_are_the_networks_output(
    name: str, gstreamer: GStreamer, sredge: str, session: Session, tmp_path: Path
) -> None:
    small, large = raw_video(name, WIDTH, HEIGHT), raw_video(name, 2 * WIDTH, 2 * HEIGHT)
    source, result = tmp_path / "in.raw", tmp_path / "out.raw"
    source.write_bytes(small.noise(FRAMES, seed=1))
    launch = gstreamer.launch(read_pipeline(source, name, small), "!", sredge, f"! filesink location={result}")
    assert launch.code == 0, launch.output
    upscaled = large.frames(result.read_bytes())
    assert len(upscaled) == FRAMES
    for frame, original in zip(upscaled, small.frames(source.read_bytes()), strict=True):
        for plane, expected in zip(frame.planes, upscaled_without_gstreamer(original, session).planes, strict=True):
            np.testing.assert_array_equal(plane, expected)


@pytest.mark.parametrize("name", ["NV12", "I420"])
def test_nv12_frames_run_in_their_own_graph(
    name: str, gstreamer: GStreamer, sredge: str, session: Session, nv12_session: Session, tmp_path: Path
) -> None:
    """With the graph's colour; with another one a warning names it, and the frames are converted before the graph."""
    small, large = raw_video(name, 64, 48), raw_video(name, 128, 96)
    source, result = tmp_path / "in.raw", tmp_path / "out.raw"
    source.write_bytes(small.noise(FRAMES, seed=4))
    for colorimetry, colour in (("bt709", Colour(ColourRange.LIMITED, 1, 1, 1)), ("bt601", BT601)):
        caps = f"video/x-raw,format={name},width=64,height=48,framerate=30/1,colorimetry={colorimetry}"
        pipeline = f"filesrc location={source} blocksize={small.frame_bytes} ! {caps} !"
        launch = gstreamer.launch(pipeline, sredge, f"nv12=true ! filesink location={result}")
        assert launch.code == 0, launch.output
        assert ("bt601-limited" in launch.output) is (colorimetry == "bt601")
        upscaler = NetworkFrameUpscaler(session, nv12_session=nv12_session)
        for frame, original in zip(large.frames(result.read_bytes()), small.frames(source.read_bytes()), strict=True):
            tagged = original.with_planes(original.planes, colour=colour)
            wanted = upscaler.finish(upscaler.infer(upscaler.prepare(tagged)), tagged)
            for plane, expected in zip(frame.planes, wanted.planes, strict=True):
                np.testing.assert_array_equal(plane, expected)


@pytest.mark.parametrize("channels", SCALES)
def test_networks_with_other_channels_and_of_scale_1(channels: int, gstreamer: GStreamer, tmp_path: Path) -> None:
    bundle, scale = deployed(channels, tmp_path), SCALES[channels]
    small, large = raw_video("I420", 64, 48), raw_video("I420", 64 * scale, 48 * scale)
    source, result = tmp_path / "in.raw", tmp_path / "out.raw"
    source.write_bytes(small.noise(1, seed=3))
    element = f"sredge model={bundle} runtime=onnxruntime"
    launch = gstreamer.launch(read_pipeline(source, "I420", small), "!", element, f"! filesink location={result}")
    assert launch.code == 0, launch.output
    ((upscaled,), (original,)) = large.frames(result.read_bytes()), small.frames(source.read_bytes())
    with open_frame_session(bundle, "onnxruntime") as session:
        wanted = upscaled_without_gstreamer(original, session)
    for plane, expected in zip(upscaled.planes, wanted.planes, strict=True):
        np.testing.assert_array_equal(plane, expected)


@pytest.mark.parametrize("name", ["RGB", "I420"])
def test_rows_and_planes_can_be_padded(
    name: str, gstreamer: GStreamer, sredge: str, session: Session, tmp_path: Path
) -> None:
    padded_video = raw_video(name, 63, 41, row_padding=52, row_gap=3)
    source, result = tmp_path / "in.raw", tmp_path / "out.raw"
    source.write_bytes(padded_video.noise(1, seed=2))
    launch = gstreamer.launch(read_pipeline(source, name, padded_video), "!", sredge, f"! filesink location={result}")
    assert launch.code == 0, launch.output
    (upscaled,) = raw_video(name, 126, 82).frames(result.read_bytes())
    (original,) = padded_video.frames(source.read_bytes())
    for plane, expected in zip(upscaled.planes, upscaled_without_gstreamer(original, session).planes, strict=True):
        np.testing.assert_array_equal(plane, expected)


def test_the_size_of_the_source_is_negotiated_from_downstream(gstreamer: GStreamer, sredge: str) -> None:
    outcome = gstreamer.run_application(
        "videotestsrc name=begin num-buffers=1 !", sredge, "! video/x-raw,width=128,height=96 ! fakesink"
    )
    assert outcome["error"] == ""
    assert "width=(int)64" in outcome["caps"]["src"]
    assert "height=(int)48" in outcome["caps"]["src"]


def test_a_size_that_is_no_multiple_is_refused(gstreamer: GStreamer, sredge: str) -> None:
    outcome = gstreamer.run_application("videotestsrc !", SMALL, "!", sredge, "! video/x-raw,width=127 ! fakesink")
    assert outcome["error"] == "Internal data stream error."
    assert outcome["frames-out"] == 0


def test_colorimetry_is_added_before_the_size_changes(gstreamer: GStreamer, sredge: str) -> None:
    """Without colorimetry, GStreamer assumes BT.601 for 320 rows and BT.709 for 640."""
    caps = "video/x-raw,format=I420,width=16,height=320,framerate=30/1"
    source = f"fakesrc num-buffers=1 format=time sizetype=fixed sizemax={16 * 320 * 3 // 2} ! {caps}"
    outcome = gstreamer.run_application(source, "!", sredge, "! fakesink name=end")
    assert outcome["error"] == ""
    assert "height=(int)640" in outcome["caps"]["sink"]
    assert "colorimetry=(string)bt601" in outcome["caps"]["sink"]


def test_interlaced_video_is_refused(gstreamer: GStreamer, sredge: str) -> None:
    caps = "video/x-raw,format=I420,width=64,height=48,interlace-mode=interleaved"
    outcome = gstreamer.run_application("videotestsrc !", caps, "!", sredge, "! fakesink")
    assert "deinterlace" in outcome["error"]


def test_every_frame_of_a_file_is_upscaled(gstreamer: GStreamer, sredge: str) -> None:
    outcome = gstreamer.run_application("videotestsrc num-buffers=12 !", SMALL, "!", sredge, "! fakesink name=end")
    assert (outcome["error"], outcome["warnings"]) == ("", [])
    assert outcome["pts"]["sink"] == [round(1e9 * number / 30 - 0.4) for number in range(12)]
    assert outcome["engine"].startswith("onnxruntime fp32: ")


WITHOUT_TIMES = f"fakesrc num-buffers=4 sizetype=fixed sizemax={64 * 48 * 3} ! {SMALL},framerate=0/1 !"
"""Frames whose caps have no rate, and without timestamps."""


def test_a_rate_of_its_own_for_video_without_one(gstreamer: GStreamer, sredge: str) -> None:
    outcome = gstreamer.run_application(WITHOUT_TIMES, sredge, "rate=25/2 ! fakesink name=end")
    assert (outcome["error"], outcome["frames-out"]) == ("", 4)
    assert "framerate=(fraction)25/2" in outcome["caps"]["sink"]
    assert outcome["pts"]["sink"] == [80_000_000 * number for number in range(4)]


def test_without_a_rate_of_its_own_the_caps_stay_as_they_are(gstreamer: GStreamer, sredge: str) -> None:
    outcome = gstreamer.run_application(WITHOUT_TIMES, sredge, "! fakesink name=end")
    assert (outcome["error"], outcome["frames-out"]) == ("", 4)
    assert "framerate=(fraction)0/1" in outcome["caps"]["sink"]


@pytest.mark.parametrize(("rate", "named"), [("10", "30"), ("0", "30000/1001"), ("fast", "30000/1001")])
def test_a_rate_for_video_that_has_one_or_that_is_none(
    gstreamer: GStreamer, sredge: str, rate: str, named: str
) -> None:
    source = f"videotestsrc num-buffers=4 ! {SMALL},framerate=30/1 !"
    outcome = gstreamer.run_application(source, sredge, f"rate={rate} ! fakesink")
    assert rate in outcome["error"] and named in outcome["error"]


@pytest.mark.parametrize("policy", ["", "policy=drop-late:1"])
def test_dropped_frames_are_counted(policy: str, gstreamer: GStreamer, sredge: str, tmp_path: Path) -> None:
    """No network here upscales 1000 frames per second."""
    result = tmp_path / "out.raw"
    source = f"videotestsrc is-live=true num-buffers=400 ! {SMALL},framerate=1000/1 !"
    outcome = gstreamer.run_application(source, sredge, "reuse=off", policy, f"! filesink location={result}")
    assert outcome["error"] == ""
    assert outcome["frames-out"] == result.stat().st_size / (128 * 96 * 3)
    assert 0 < outcome["frames-out"] < outcome["frames-in"] == 400
    assert outcome["dropped"] == 400 - outcome["frames-out"]


def test_dropped_frames_are_reported_on_the_bus(gstreamer: GStreamer, sredge: str) -> None:
    source = f"videotestsrc is-live=true num-buffers=400 ! {SMALL},framerate=1000/1 !"
    launch = gstreamer.launch(source, sredge, "reuse=off ! fakesink", options=("-m",))
    assert launch.code == 0, launch.output
    warning = re.match(r"(\d+) of 400 frames were dropped: one takes .* \(policy latest\)", launch.warnings[-1])
    assert warning is not None
    reported = [int(number) for number in re.findall(r"\(qos\).*dropped=\(guint64\)(\d+)", launch.output)]
    assert reported == sorted(reported)
    assert 0 < reported[-1] <= int(warning[1]) < 400


def test_reuse_of_tiles_changes_no_sample(gstreamer: GStreamer, sredge: str, tmp_path: Path) -> None:
    source = "videotestsrc num-buffers=8 pattern=ball ! video/x-raw,format=I420,width=320,height=240 !"
    results, outcomes = {}, {}
    for options in ("reuse=off", "reuse=exact", "reuse-memory=1K"):
        out = tmp_path / options
        outcomes[options] = gstreamer.run_application(source, sredge, options, f"! filesink location={out}")
        assert outcomes[options]["error"] == ""
        results[options] = out.read_bytes()
    assert len(results["reuse=off"]) == 8 * 640 * 480 * 3 // 2
    assert len(set(results.values())) == 1
    exact, little = outcomes["reuse=exact"], outcomes["reuse-memory=1K"]
    assert 0 < exact["reused-tiles"] < exact["tiles"] == little["tiles"]
    assert outcomes["reuse=off"]["tiles"] == outcomes["reuse=off"]["reused-tiles"] == little["reused-tiles"] == 0
    assert (exact["warnings"], ["no tiles are reused" in text for text in little["warnings"]]) == ([], [True])


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ("reuse=often", "'often'"),
        ("reuse=900", "900 dB"),
        ("reuse-memory=lots", "'lots'"),
        ("reuse-refresh=0", "0.001"),
    ],
)
def test_wrong_values_for_reuse_are_refused(gstreamer: GStreamer, sredge: str, options: str, value: str) -> None:
    outcome = gstreamer.run_application("videotestsrc !", SMALL, "!", sredge, options, "! fakesink")
    assert value in outcome["error"]


@pytest.mark.parametrize("nv12", ["", "nv12=true"])
def test_the_tiles_and_what_others_would_gain_are_told_once(gstreamer: GStreamer, sredge: str, nv12: str) -> None:
    caps = "video/x-raw,format=NV12,width=64,height=48,framerate=30/1,colorimetry=bt709"
    pipeline = (f"videotestsrc num-buffers=3 ! {caps} !", sredge, nv12, "! fakesink")
    outcome = gstreamer.run_application(*pipeline)
    (text,) = outcome["infos"]
    assert "tile 32x40: 4 per frame of 64x48" in text and "`sr-edge deploy --frame 64x48`" in text
    assert ("--tile 48x64" in text) is bool(nv12)
    assert outcome["warnings"] == []
    assert gstreamer.launch(*pipeline).output.count(text) == 1


def test_kept_results_are_refreshed_by_the_time_of_the_video(
    gstreamer: GStreamer, bundle: Path, tmp_path: Path
) -> None:
    """One frame a second, each with a change that is too small to count."""
    small, source = raw_video("RGB", 64, 48), tmp_path / "in.raw"
    first = small.noise(1, seed=2)
    source.write_bytes(b"".join(bytes([first[0] ^ number]) + first[1:] for number in range(8)))
    pipeline = read_pipeline(source, "RGB", small).replace("framerate=30/1", "framerate=1/1")
    element = f"sredge name=sredge0 model={with_reuse_table(bundle, tmp_path / 'x.sredge')} runtime=onnxruntime"
    reused = {}
    for seconds in (2, 1000):
        options = f"reuse=0.06 reuse-refresh={seconds} ! fakesink"
        outcome = gstreamer.run_application(pipeline, "!", element, options)
        assert outcome["error"] == ""
        reused[seconds] = outcome["reused-tiles"]
    assert reused[2] < reused[1000] == outcome["tiles"] * 7 // 8


def test_latest_upscales_the_last_frame(gstreamer: GStreamer, sredge: str) -> None:
    source = f"videotestsrc is-live=true num-buffers=200 ! {SMALL},framerate=1000/1 ! identity name=begin"
    outcome = gstreamer.run_application(source, "!", sredge, "reuse=off ! fakesink name=end")
    sent, received = outcome["pts"]["src"], outcome["pts"]["sink"]
    assert 0 < len(received) < len(sent) == 200
    assert received[-1] == sent[-1]


def test_the_pipelines_latency_includes_the_networks(gstreamer: GStreamer, sredge: str) -> None:
    source = "videotestsrc is-live=true num-buffers=6 ! video/x-raw,format=I420,width=64,height=48,framerate=30/1 !"
    without = gstreamer.run_application(source, "fakesink sync=true")
    assert gstreamer.run_application(source, sredge, "! fakesink sync=true")["latency_ns"] > without["latency_ns"] > 0


def test_the_network_continues_while_a_sink_holds_a_frame(gstreamer: GStreamer, sredge: str) -> None:
    outcome = gstreamer.run_application(
        f"videotestsrc num-buffers=5 ! {SMALL} !", sredge, "policy=block ! fakesink name=held"
    )
    assert outcome["error"] == ""
    assert outcome["upscaled_while_held"]
    assert outcome["frames-out"] == 5


@pytest.mark.parametrize("policy", ["latest", "block", "drop-late:100000"])
def test_qos_events_do_not_reach_decoders(policy: str, gstreamer: GStreamer, sredge: str) -> None:
    """They would drop frames that the element cannot count."""
    source = f"videotestsrc is-live=true num-buffers=20 ! identity name=before ! {SMALL},framerate=100/1 !"
    outcome = gstreamer.run_application(source, sredge, f"policy={policy} ! fakesink name=held")
    assert outcome["error"] == ""
    assert not outcome["qos_received"]


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
def test_invalid_properties_are_one_error(properties: str, value: str, gstreamer: GStreamer, bundle: Path) -> None:
    element = f"sredge name=sredge0 {properties.format(bundle=bundle)}"
    launch = gstreamer.launch("videotestsrc num-buffers=1 !", SMALL, "!", element, "! fakesink")
    assert launch.code != 0
    assert any(re.search(value, error) for error in launch.errors), launch.output
