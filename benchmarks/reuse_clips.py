"""Clips for benchmarks/reuse.py: a still scene with moving objects, or one in which everything moves.

They are made of the bundled picture in the public domain, which is mirrored until it fills the frame. The original of
each frame has twice the size of the clip; it is downscaled, gets the noise of a sensor, and is compressed as H.264 with
one key frame in GOP frames, as surveillance cameras send it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from sr_edge.camera import VideoFrame, open_source
from sr_edge.frames import Frame
from sr_edge.image_files import read_picture
from sr_edge.resize import downscale_bicubic

PICTURE = Path(__file__).resolve().parents[1] / "examples" / "pictures" / "hr" / "astronaut.png"
SCALE, WIDTH, HEIGHT, RATE = 2, 640, 360, 25
GOP = 25
PAN_PX = 3
"""How far the whole scene moves in a frame where everything moves, in pixels of the original."""

_SEED = 7


@dataclass(frozen=True)
class Clip:
    """One clip.

    Attributes:
        noise_levels: Standard deviation of the sensor noise, in 8-bit levels.
        crf: Quality of the compression; less is better.
        everything_moves: Whether the camera pans.
    """

    noise_levels: float
    crf: int
    everything_moves: bool = False

    @property
    def name(self) -> str:
        return f"{'moving' if self.everything_moves else 'still'}-noise{self.noise_levels:g}-crf{self.crf}"

    def originals(self, first: int, count: int) -> Iterator[Frame]:
        """The frames before downscaling, (SCALE * HEIGHT, SCALE * WIDTH, 3)."""
        picture = read_picture(PICTURE).pixels
        width, height = SCALE * WIDTH, SCALE * HEIGHT
        pan_px = PAN_PX * (first + count) if self.everything_moves else 0
        grown = ((0, height - picture.shape[0]), (0, width + pan_px - picture.shape[1]), (0, 0))
        scene = np.pad(picture, grown, mode="symmetric")
        large = np.ascontiguousarray(picture[60:156, 80:176].transpose(1, 0, 2))
        small = np.ascontiguousarray(picture[60:124, 90:154][::-1])
        for index in range(first, first + count):
            left = PAN_PX * index if self.everything_moves else 0
            frame = scene[:, left : left + width].copy()
            _paste(frame, large, 380 + round(40 * np.sin(index / 8)), 100 + 4 * index)
            _paste(frame, small, 120, 1000 - index // 4)  # slow: an eighth of a pixel of the clip in a frame
            yield frame

    def file(self, folder: Path, frames: int) -> Path:
        """The clip as H.264; made if it does not exist."""
        path = folder / f"{self.name}-{frames}.mp4"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _encode(self, path, frames)
        return path

    def decoded(self, folder: Path, first: int, count: int) -> list[VideoFrame]:
        """The frames from `first` on, as a camera of this quality sends them."""
        source = open_source(str(self.file(folder, first + count)))
        try:
            return list(source.frames())[first:]
        finally:
            source.close()


def _paste(frame: Frame, piece: Frame, top: int, left: int) -> None:
    part = frame[top : top + piece.shape[0], left : left + piece.shape[1]]
    part[...] = piece[: part.shape[0], : part.shape[1]]


def _encode(clip: Clip, path: Path, frames: int) -> None:
    random = np.random.default_rng(_SEED)
    options = {"crf": str(clip.crf), "preset": "veryfast", "tune": "zerolatency", "sc_threshold": "0"}
    unfinished = path.with_suffix(".part.mp4")
    with av.open(str(unfinished), "w") as container:
        stream = container.add_stream("libx264", Fraction(RATE), options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = GOP
        for original in clip.originals(0, frames):
            noisy = downscale_bicubic(original, SCALE) + clip.noise_levels * random.standard_normal((HEIGHT, WIDTH, 3))
            sent = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(sent, "rgb24")))
        container.mux(stream.encode())
    unfinished.replace(path)


CLIPS = (
    *(Clip(noise, crf) for crf in (23, 30) for noise in (0.0, 1.0, 2.5)),
    Clip(1.0, 23, everything_moves=True),
)
