"""Encodes one segment of a video file, with the same bits on every machine where the encoder allows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from sr_edge.camera.file.encoding import SEGMENT_CONTAINER, VideoFileEncoding
from sr_edge.camera.media.conversion import av_from_frame, reformatted
from sr_edge.camera.media.encoder_settings import open_encoder
from sr_edge.camera.media.frame import VideoFrame
from sr_edge.errors import StreamError

_CPUINFO = Path("/proc/cpuinfo")
_X264_PARAMS = ("x264-params", "x264opts")


def encode_segment(
    path: Path, frames: Iterator[VideoFrame], encoding: VideoFileEncoding, segment_frames: int
) -> tuple[tuple[int, ...], int]:
    """Encodes the frames to a file whose timestamps start at 0.

    Args:
        path: The MP4 file to write.
        frames: The frames; at least one.
        encoding: How they are encoded.
        segment_frames: The largest distance between key frames, and the most frames of a segment.

    Returns:
        The original pts of the frames, and the reorder depth.

    Raises:
        StreamError: The encoder changes timestamps, or a frame has none.
    """
    pts: list[int] = []
    encoded_pts: list[int] = []
    timescale = str(encoding.time_base.denominator)
    options = {"fflags": "+bitexact", "video_track_timescale": timescale, "movie_timescale": timescale}
    with av.open(f"file:{path}", "w", format=SEGMENT_CONTAINER, options=options) as container:
        stream = _add_video_stream(container, encoding, segment_frames)

        def encode(av_frame: av.VideoFrame | None) -> None:
            for packet in stream.encode(av_frame):
                # x265 sets invalid decoding times in segments of one or two frames. `mux` replaces all of them, so
                # here they need only increase and be no later than the pts.
                packet.dts = len(encoded_pts) - segment_frames
                encoded_pts.append(packet.pts)
                container.mux(packet)

        for frame in frames:
            pts.append(_pts_of(frame))
            av_frame = av_from_frame(reformatted(frame, encoding.format))
            av_frame.pts, av_frame.time_base = pts[-1] - pts[0], encoding.time_base
            encode(av_frame)
        encode(None)
    displayed_pts = sorted(encoded_pts)
    if displayed_pts != [time - pts[0] for time in pts]:
        raise StreamError(
            f"{encoding.encoder} returned frames with other timestamps than it was given",
            found=tuple(time + pts[0] for time in displayed_pts),
            wanted=tuple(pts),
            remedy="choose another --codec",
        )
    display_index = {time: index for index, time in enumerate(displayed_pts)}
    return tuple(pts), max(index - display_index[time] for index, time in enumerate(encoded_pts))


def _pts_of(frame: VideoFrame) -> int:
    if frame.pts is None:
        raise StreamError(
            "a decoded frame has no timestamp",
            wanted="a timestamp",
            remedy="please report this as a bug of sr_edge, with the video if possible",
        )
    return frame.pts


def _add_video_stream(container: Any, encoding: VideoFileEncoding, segment_frames: int) -> Any:
    stream = container.add_stream(encoding.encoder, rate=encoding.frame_rate, options=machine_options(encoding))
    context = stream.codec_context
    stream.width, stream.height, stream.pix_fmt = encoding.width, encoding.height, encoding.format.value
    context.time_base = stream.time_base = encoding.time_base
    context.thread_count, context.gop_size = encoding.threads, segment_frames
    context.color_range, context.colorspace = int(encoding.colour.range), encoding.colour.matrix
    context.color_primaries, context.color_trc = encoding.colour.primaries, encoding.colour.transfer
    if encoding.sample_aspect_ratio is not None:
        context.sample_aspect_ratio = encoding.sample_aspect_ratio
    if encoding.display_matrix is not None:
        stream.set_display_matrix(encoding.display_matrix)
    open_encoder(context)
    return stream


def machine_options(encoding: VideoFileEncoding, cpuinfo: Path = _CPUINFO) -> dict[str, str]:
    """The options of the encoder on this machine: those that are planned, and which instructions it may not use.

    The AVX-512 code of x264 produces other bits than its code for AVX2, AVX, SSE4.2 and SSSE3, which all produce the
    same, and not the same bits in every run. Segments that were encoded on several machines, or by an interrupted run,
    must have the bits of an uninterrupted run on one machine. An option `asm` of the user is kept.

    Args:
        encoding: The planned encoding.
        cpuinfo: The file in which Linux lists the instructions of the processor.
    """
    options = dict(encoding.options)
    if encoding.encoder not in ("libx264", "libx264rgb") or not _has_avx512(cpuinfo):
        return options
    if any(option.startswith("asm=") for name in _X264_PARAMS for option in options.get(name, "").split(":")):
        return options
    return {**options, "x264-params": ":".join(filter(None, [options.get("x264-params"), "asm=avx2"]))}


def _has_avx512(cpuinfo: Path) -> bool:
    return cpuinfo.exists() and "avx512" in cpuinfo.read_text(encoding="ascii", errors="replace")
