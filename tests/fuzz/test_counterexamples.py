"""Inputs that a fuzzer found to be handled badly, each made by hand."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from sr_edge.camera import open_source
from sr_edge.camera.file.probe import open_video
from tests.camera.clips import write_clip


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
