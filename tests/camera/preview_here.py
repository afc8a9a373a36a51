"""A preview that really serves, over a still picture that a network enlarges again and again."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sr_edge.bundle import open_bundle
from sr_edge.camera.enlarger import NetworkFrameUpscaler
from sr_edge.camera.preview.access import Access
from sr_edge.camera.preview.engines import EngineOption, SwitchableFrameUpscaler
from sr_edge.camera.preview.repeated import RepeatedSource
from sr_edge.camera.preview.server import StreamInfo, listening_socket, preview_app, server_for
from sr_edge.camera.preview.show import PreviewStream
from sr_edge.camera.sources_open import open_source
from sr_edge.camera.wrappers import PacedSource
from sr_edge.frames import Picture
from sr_edge.image_files import write_picture
from sr_edge.runtimes import Session, open_session
from sr_edge.spec import Precision

CHOICES = (EngineOption("onnxruntime", Precision.FP32), EngineOption("openvino", Precision.FP32))
WIDTH, HEIGHT = 160, 90
Pixels = npt.NDArray[np.uint8]


def write_still(folder: Path) -> Path:
    """A folder with one picture of soft waves and hard edges, which enlarging changes visibly."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    waves = np.stack([127 + 90 * np.sin(rows / 4 + columns / period) for period in (3, 5, 8)], -1)
    waves[(rows // 6 + columns // 6) % 5 == 0] = (20, 40, 200)
    folder.mkdir()
    write_picture(folder / "still.png", Picture(waves.astype(np.uint8)))
    return folder


def before_and_after(still: Path, session: Session) -> tuple[Pixels, Pixels]:
    """What the page must show."""
    source = open_source(str(still))
    frame = next(iter(source.frames()))
    source.close()
    upscaler = NetworkFrameUpscaler(session)
    prepared = upscaler.prepare(frame)
    return prepared.planes[0].astype(np.uint8), upscaler.infer(prepared).planes[0].astype(np.uint8)


def psnr_db(left: Pixels, right: Pixels) -> float:
    assert left.shape == right.shape
    error = float(np.mean((left.astype(float) - right) ** 2))
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


@contextmanager
def serving(stream: PreviewStream, stream_info: StreamInfo, access: Access) -> Iterator[int]:
    """The port of a server that runs in a thread of its own."""
    with listening_socket("127.0.0.1", 0) as listening:
        server = server_for(preview_app(stream, stream_info, access))
        thread = threading.Thread(target=lambda: server.run(sockets=[listening]), name="preview-server")
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


@contextmanager
def showing(bundle: Path, still: Path) -> Iterator[PreviewStream]:
    """Thirty times a second the same picture, through ONNX Runtime to begin with."""
    with open_bundle(bundle) as opened:
        upscaler = SwitchableFrameUpscaler(
            lambda choice: open_session(opened, choice.runtime, choice.precision), CHOICES[0]
        )
        stream = PreviewStream(PacedSource(RepeatedSource(lambda: open_source(str(still)))), upscaler)
        stream.start()
        try:
            yield stream
        finally:
            stream.close()
            upscaler.close()


STREAM_INFO = StreamInfo(source="still", model="tiny.sredge", scale=2, policy="latest", choices=CHOICES)


@dataclass(frozen=True)
class SentPair:
    """A message as the page reads it."""

    header: dict[str, Any]
    before: Pixels
    after: Pixels


def unpacked(message: bytes) -> SentPair:
    (length,) = struct.unpack(">I", message[:4])
    header = json.loads(message[4 : 4 + length])
    middle = 4 + length + header["before"][2]
    return SentPair(header, _decoded(message[4 + length : middle]), _decoded(message[middle:]))


def _decoded(jpeg: bytes) -> Pixels:
    image = pytest.importorskip("PIL.Image")
    return np.asarray(image.open(BytesIO(jpeg)).convert("RGB"))
