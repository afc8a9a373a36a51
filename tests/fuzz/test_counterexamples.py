"""Inputs that a fuzzer found to be handled badly, each made by hand."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from sr_edge.calibration.data.patches import calibration_patches
from sr_edge.camera import SourceOptions, open_source
from sr_edge.camera.file.probe import open_video
from sr_edge.errors import CalibrationError, StreamError
from sr_edge.spec import TileSpec
from tests.camera.clips import write_clip
from tests.expected_errors import raises


@pytest.fixture
def clip_with_odd_title(tmp_path: Path) -> Path:
    """A clip whose title is not UTF-8."""
    plain, titled = write_clip(tmp_path / "plain.mp4", range(0, 18_000, 3000)), tmp_path / "titled.mp4"
    with av.open(plain) as source, av.open(titled, "w") as target:
        target.metadata["title"] = "a title"
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    content = titled.read_bytes()
    assert b"a title" in content
    titled.write_bytes(content.replace(b"a title", b"a \x80itle"))
    return titled


def test_metadata_in_another_encoding_is_no_obstacle(clip_with_odd_title: Path) -> None:
    assert len(list(open_source(str(clip_with_odd_title)).frames())) == 6
    with open_video(clip_with_odd_title) as (_, stream):
        assert stream.codec_context.width == 64


@pytest.mark.parametrize(
    "text",
    ["#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.mp4\n", "ffconcat version 1.0\nfile a.mp4\n"],
    ids=["HLS", "concat"],
)
def test_a_playlist_that_refers_to_itself_is_no_video(text: str, tmp_path: Path) -> None:
    """FFmpeg would read it again and again until the memory is full."""
    playlist = tmp_path / "a.mp4"
    playlist.write_text(text)
    with pytest.raises(StreamError):
        open_source(str(playlist), SourceOptions(open_timeout_s=0.3))
    with raises(CalibrationError, found=playlist, wanted="a picture or a video"):
        calibration_patches(playlist, TileSpec(16, 16), count=4)
    with raises(StreamError, found=playlist, wanted="a video file"), open_video(playlist):
        pass
