"""A small bundle that was really deployed, and its session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sr_edge.camera.media.codecs import CodecKind, CodecVerdict, hardware_codecs, try_codecs
from sr_edge.deploy import DeployPlan, deploy_network
from sr_edge.frames import Picture
from sr_edge.image_files import write_picture
from sr_edge.model_sources import open_frame_session, open_session
from sr_edge.models import load_model
from sr_edge.nv12.colour import Nv12Colour
from sr_edge.runtimes import Session
from sr_edge.spec import FrameFormat, PassChoice, Precision, TileSpec


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """convnet-tiny x2 with its bundled weights, of a tile that no frame here has; read only."""
    folder = tmp_path_factory.mktemp("pictures")
    rows, columns = np.mgrid[0:48, 0:64]
    waves = np.stack([np.sin(rows / 7 + columns / period) for period in (5, 9, 13)], -1)
    write_picture(folder / "waves.png", Picture((127.5 + 127.5 * waves).astype(np.uint8)))
    out = tmp_path_factory.mktemp("bundle") / "tiny.sredge"
    plan = DeployPlan(
        TileSpec(32, 40),
        ("onnxruntime",),
        (Precision.FP32,),
        rounds=1,
        with_memory=False,
        with_tile_needs=False,
        passes=PassChoice.STRUCTURE,
        nv12_colour=Nv12Colour.BT709_LIMITED,
    )
    deploy_network(load_model("convnet-tiny", 2), folder, out, plan)
    return out


@pytest.fixture(scope="session")
def nv12_session(bundle: Path) -> Iterator[Session]:
    """The graph of the bundle that takes NV12 frames, BT.709 in limited range."""
    with open_session(bundle, "onnxruntime", io=FrameFormat.NV12) as opened:
        yield opened


@pytest.fixture(scope="session")
def session(bundle: Path) -> Iterator[Session]:
    with open_frame_session(bundle, "onnxruntime") as opened:
        yield opened


@pytest.fixture(scope="session")
def absent_encoder() -> CodecVerdict:
    """A hardware encoder of this build of FFmpeg that does not work on this machine; skipped where all work."""
    encoders = [trial for trial in hardware_codecs() if trial.kind is CodecKind.ENCODER]
    absent = next((verdict for verdict in try_codecs(encoders) if verdict.works is False), None)
    if absent is None:
        pytest.skip("every hardware encoder of this build of FFmpeg works here, or it has none")
    return absent
