"""Videos with damaged pictures: written with noise in every frame, and copied with some packets changed or left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

FRAMES = 8
TS_PACKET_BYTES = 188


def noisy_clip(
    path: Path,
    codec: str,
    pixel_format: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    frames: int = FRAMES,
) -> Path:
    """Writes a clip of 96x64 pixels at 25 frames per second; noise needs many bits in every part of a picture."""
    generator = np.random.default_rng(3)
    own = {"libx265": {"x265-params": "log-level=none", "bf": "0"}, "libx264": {"bf": "0"}}
    with av.open(path, "w") as container:
        video: Any = container.add_stream(codec, rate=25, options={**own.get(codec, {}), **(options or {})})
        video.width, video.height, video.pix_fmt = 96, 64, pixel_format
        for number in range(frames):
            rgb = generator.integers(0, 256, (64, 96, 3), np.uint8)
            picture = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=pixel_format)
            picture.pts, picture.time_base = number, Fraction(1, 25)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
    return path


def copy_changed(source: Path, target: Path, change: Callable[[int, bytes], bytes]) -> Path:
    """Copies the packets of a video; `change` is called with the number and content of each, and b"" leaves it out."""
    with av.open(source) as container, av.open(target, "w") as out:
        video = container.streams.video[0]
        stream = out.add_stream_from_template(video, opaque=True)
        for number, packet in enumerate(packet for packet in container.demux(video) if packet.size):
            content = change(number, bytes(packet))
            if not content:
                continue
            changed = av.Packet(content)
            changed.pts, changed.dts, changed.duration = packet.pts, packet.dts, packet.duration or 0
            changed.time_base, changed.is_keyframe, changed.stream = packet.time_base, packet.is_keyframe, stream
            out.mux(changed)
    return target


def halved(*numbers: int) -> Callable[[int, bytes], bytes]:
    """Cuts these packets in half."""
    return lambda number, content: content[: len(content) // 2] if number in numbers else content


def left_out(*numbers: int) -> Callable[[int, bytes], bytes]:
    """Leaves these packets out."""
    return lambda number, content: b"" if number in numbers else content


def without_slice(packet_number: int) -> Callable[[int, bytes], bytes]:
    """Removes the last but one NAL unit of a packet of H.264, in which each picture has several slices."""

    def change(number: int, content: bytes) -> bytes:
        if number != packet_number:
            return content
        units, start = [], 0
        while start < len(content):
            end = start + 4 + int.from_bytes(content[start : start + 4], "big")
            units.append(content[start:end])
            start = end
        return b"".join((*units[:-2], units[-1]))

    return change


def lose_ts_packets(path: Path, count: int = 4) -> Path:
    """Removes packets of 188 bytes from the middle of a transport stream, as a lossy network does."""
    content = path.read_bytes()
    middle = len(content) // (2 * TS_PACKET_BYTES) * TS_PACKET_BYTES
    path.write_bytes(content[:middle] + content[middle + count * TS_PACKET_BYTES :])
    return path


def with_unknown_track(source: Path, target: Path) -> Path:
    """Copies an MP4 file with its audio track twice; the second one has the codec of an iPhone's spatial audio."""
    with av.open(source) as container, av.open(target, "w") as out:
        tracks = [*container.streams, *container.streams.audio]
        streams = [out.add_stream_from_template(track, opaque=True) for track in tracks]
        for packet in container.demux():
            for track, stream in zip(tracks, streams, strict=True):
                if packet.stream is track and packet.size:
                    packet.stream = stream
                    out.mux(packet)
                    packet.stream = track
    content = target.read_bytes()
    for known, unknown in ((b"mp4a", b"apac"), (b"esds", b"apad")):
        content = unknown.join(content.rsplit(known, 1))
    target.write_bytes(content)
    return target
