"""The messages with images that the page receives: a JSON header and the image files that it describes."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sr_edge.camera.media.conversion import reformatted
from sr_edge.camera.media.frame import PixelFormat, VideoFrame
from sr_edge.camera.preview.switching import EngineOutput, FrameRecord
from sr_edge.image_files import jpeg_from_frame, png_from_frame
from sr_edge.metrics import psnr_y_db


@dataclass(frozen=True)
class PreviewFrame:
    """One frame before and after upscaling, in RGB; `number` increases by one from frame to frame."""

    number: int
    record: FrameRecord
    latency_ms: float

    def encoded(self) -> bytes:
        """The message that shows the frame: JPEG images of the input and of each output. Encoded once for all pages."""
        return self._encoded

    @cached_property
    def _encoded(self) -> bytes:
        frames = [self.record.before, *(output.frame for output in self.record.outputs)]
        header = {
            "kind": "frame",
            "number": self.number,
            "latency_ms": round(self.latency_ms, 1),
            "before": {"width": self.record.before.width, "height": self.record.before.height},
            "outputs": [
                {
                    "engine": output.option.label,
                    "width": output.frame.width,
                    "height": output.frame.height,
                    "model_ms": round(output.model_ms, 2),
                    "reused": _reused(output.frame),
                }
                for output in self.record.outputs
            ],
            "difference_db": _difference_db(self.record.outputs),
        }
        return _message(header, [jpeg_from_frame(_rgb(frame)) for frame in frames])

    def snapshot(self) -> bytes:
        """The message with a PNG file of each output at its full size, without the losses of JPEG."""
        names = [
            f"sr-edge-frame-{self.number}-{output.option.label.replace(' ', '-')}.png" for output in self.record.outputs
        ]
        header = {"kind": "snapshot", "number": self.number, "names": names}
        return _message(header, [png_from_frame(_rgb(output.frame)) for output in self.record.outputs])


def _message(header: Mapping[str, object], files: Sequence[bytes]) -> bytes:
    """The length of the header (4 bytes, big-endian), the header with the sizes of the files, and the files."""
    text = json.dumps({**header, "bytes": [len(file) for file in files]}).encode()
    return b"".join([struct.pack(">I", len(text)), text, *files])


def _reused(upscaled: VideoFrame) -> list[tuple[int, int, int, int]]:
    """The parts of the input (x, y, width, height) that show reused tiles; empty without reuse."""
    regions = upscaled.reuse.reused_parts if upscaled.reuse else ()
    return [(region.left, region.top, region.width, region.height) for region in regions]


def _difference_db(outputs: Sequence[EngineOutput]) -> float | None:
    """The PSNR of the luma between two outputs; None if there is one output, or both are the same."""
    if len(outputs) < 2:
        return None
    difference_db = psnr_y_db(_rgb(outputs[0].frame), _rgb(outputs[1].frame), border=0)
    return None if math.isinf(difference_db) else round(difference_db, 2)


def _rgb(frame: VideoFrame) -> npt.NDArray[np.uint8]:
    return reformatted(frame, PixelFormat.RGB).planes[0].astype(np.uint8, copy=False)
