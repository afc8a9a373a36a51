"""A running preview server whose stream upscales the same image repeatedly."""

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
from sr_edge.camera.pipeline.frame_upscaler import NetworkFrameUpscaler
from sr_edge.camera.preview.access import Access
from sr_edge.camera.preview.engines import EngineOption
from sr_edge.camera.preview.repeating_source import RepeatingSource
from sr_edge.camera.preview.server import StreamInfo, listening_socket, preview_app, server_for
from sr_edge.camera.preview.stream import PreviewStream
from sr_edge.camera.preview.switching import SwitchableFrameUpscaler
from sr_edge.camera.sources.open import open_source
from sr_edge.camera.sources.wrappers import PacedSource
from sr_edge.frames import Picture
from sr_edge.image_files import write_picture
from sr_edge.model_sources import open_session
from sr_edge.runtimes import Session
from sr_edge.spec import Precision

ENGINES = (EngineOption("onnxruntime", Precision.FP32), EngineOption("openvino", Precision.FP32))
WIDTH, HEIGHT = 160, 90
Pixels = npt.NDArray[np.uint8]


def write_image(folder: Path) -> Path:
    """A folder with one image of smooth waves and hard edges, which upscaling changes visibly."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    waves = np.stack([127 + 90 * np.sin(rows / 4 + columns / period) for period in (3, 5, 8)], -1)
    waves[(rows // 6 + columns // 6) % 5 == 0] = (20, 40, 200)
    folder.mkdir()
    write_picture(folder / "still.png", Picture(waves.astype(np.uint8)))
    return folder


def before_and_after(images: Path, session: Session) -> tuple[Pixels, Pixels]:
    """The pixels that the page must show."""
    source = open_source(str(images))
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
    """Runs a server in another thread and yields its port."""
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
def running_stream(bundle: Path, images: Path) -> Iterator[PreviewStream]:
    """A stream of the same image at 30 frames per second, upscaled with ONNX Runtime at first."""
    with open_bundle(bundle) as opened:
        upscaler = SwitchableFrameUpscaler(
            lambda option: open_session(opened, option.runtime, option.precision), ENGINES[0]
        )
        stream = PreviewStream(PacedSource(RepeatingSource(lambda: open_source(str(images)))), upscaler)
        stream.start()
        try:
            yield stream
        finally:
            stream.close()
            upscaler.close()


STREAM_INFO = StreamInfo("still", "tiny.sredge", scale=2, policy="latest", engines=ENGINES, recommended=ENGINES[1])


@dataclass(frozen=True)
class ReceivedFrame:
    """A message with images, decoded as the page does: the input, then the outputs; a snapshot has only outputs."""

    header: dict[str, Any]
    images: tuple[Pixels, ...]

    @property
    def number(self) -> int:
        return int(self.header["number"])

    @property
    def engines(self) -> list[str]:
        return [output["engine"] for output in self.header["outputs"]]


def decode_frame(message: bytes) -> ReceivedFrame:
    (length,) = struct.unpack(">I", message[:4])
    header = json.loads(message[4 : 4 + length])
    start, images = 4 + length, []
    for size in header["bytes"]:
        images.append(_decode_image(message[start : start + size]))
        start += size
    assert start == len(message)
    return ReceivedFrame(header, tuple(images))


def _decode_image(file: bytes) -> Pixels:
    image = pytest.importorskip("PIL.Image")
    return np.asarray(image.open(BytesIO(file)).convert("RGB"))
