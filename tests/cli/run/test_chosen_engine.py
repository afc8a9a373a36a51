"""`upscale`, `stream`, `preview`, the GStreamer element and Python run what was recommended, and say so first."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import sr_edge as face
from sr_edge.bundle import RecommendedEngine
from sr_edge.bundle.plain import to_plain
from sr_edge.camera.preview import server
from sr_edge.gstreamer.network import GstUpscaler, NetworkSettings
from sr_edge.runtimes.measure.recommendations import fingerprint_here
from sr_edge.spec import Precision
from tests.bundle.bundles import edit_manifest
from tests.command_line import SrEdge

FP32 = Precision.FP32
CHOSEN = "torch fp32: fastest within 0.05 dB here, measured by deploy on 2026-12-01"
ELSEWHERE = "another CPU (Elsewhere 3000)"


def copy_of(bundle: Path, out: Path, hardware: str = "") -> Path:
    """A copy that recommends torch, which is never the default where another runtime works."""
    shutil.copytree(bundle, out)
    fingerprint = fingerprint_here("torch", "cpu")
    assert fingerprint is not None
    engine = RecommendedEngine("torch", FP32, FP32, fingerprint, 2.5, 0.0, 0.05, "deploy", "2026-12-01T00:00:00+00:00")
    document = to_plain(engine)
    document["fingerprint"]["hardware"] = hardware or fingerprint.hardware
    edit_manifest(out, lambda manifest: manifest.update(recommendations=[document]))
    return out


@pytest.fixture(scope="module")
def recommending(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that recommends torch on this machine; read only."""
    return copy_of(bundle, tmp_path_factory.mktemp("recommending") / "net.sredge")


def first_line(stderr: str) -> str:
    return stderr.splitlines()[0]


def test_upscale(sr_edge: SrEdge, recommending: Path, pictures: Path, tmp_path: Path) -> None:
    arguments = ("upscale", recommending, pictures / "waves0.png", tmp_path / "out.png")
    outcome = sr_edge(*arguments, "--json")
    assert first_line(outcome.stderr) == CHOSEN
    document = json.loads(outcome.stdout)
    assert document["session"]["runtime"] == document["engine"]["runtime"] == "torch"
    named = sr_edge(*arguments, "--runtime", "onnxruntime", "--precision", "fp32", "--json")
    assert json.loads(named.stdout)["session"]["runtime"] == "onnxruntime"
    assert "fp32: " not in named.stderr


def test_a_recommendation_of_another_machine(sr_edge: SrEdge, bundle: Path, pictures: Path, tmp_path: Path) -> None:
    other = copy_of(bundle, tmp_path / "other.sredge", "Elsewhere 3000")
    outcome = sr_edge("upscale", other, pictures / "waves0.png", tmp_path / "out.png")
    assert f"fp32: measured by deploy on {ELSEWHERE}; run `sr-edge bench {other}`" in first_line(outcome.stderr)
    assert "torch" not in outcome.stdout


def test_stream(sr_edge: SrEdge, recommending: Path, pictures: Path) -> None:
    outcome = sr_edge("stream", recommending, pictures, "null", "--json")
    assert outcome.code == 0, outcome.stderr
    assert first_line(outcome.stderr) == CHOSEN
    assert json.loads(outcome.stdout)["session"]["runtime"] == "torch"


def test_preview(sr_edge: SrEdge, recommending: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    class Server:
        def run(self, sockets: object) -> None:
            started.append(sockets)

    monkeypatch.setattr(server, "preview_app", lambda stream, info, access: started.append(info.engines))
    monkeypatch.setattr(server, "server_for", lambda app: Server())
    outcome = sr_edge("preview", recommending, pictures, "--port", "0")
    assert outcome.code == 0, outcome.stderr
    assert first_line(outcome.stderr) == CHOSEN
    assert ("torch", FP32) in [(option.runtime, option.precision) for option in started[0]]


def test_the_gstreamer_element(recommending: Path) -> None:
    upscaler = GstUpscaler(NetworkSettings(str(recommending), precision="auto"))
    assert str(upscaler.engine) == CHOSEN
    upscaler.close()
    named = GstUpscaler(NetworkSettings(str(recommending), runtime="onnxruntime", precision="fp32"))
    assert (named.engine.runtime, named.engine.precision) == ("onnxruntime", FP32)
    named.close()


def test_sessions_in_python(recommending: Path, pictures: Path) -> None:
    with face.open_session(recommending) as session:
        assert session.spec.runtime == "torch"
    with face.open_frame_session(recommending, "auto", "auto") as session:
        assert session.spec.runtime == "torch"
    with face.open_session(recommending, "onnxruntime") as session:
        assert session.spec.runtime == "onnxruntime"
    with face.camera.stream(pictures, recommending) as frames:
        assert len(list(frames)) == 3


@pytest.mark.parametrize("command", ["upscale", "stream", "preview"])
@pytest.mark.parametrize(
    ("option", "value"), [("--precision", "int9"), ("--runtime", "turbo"), ("--device", "warp"), ("--precision", "")]
)
def test_nonsense_is_one_line(
    option: str, value: str, command: str, sr_edge: SrEdge, recommending: Path, pictures: Path, tmp_path: Path
) -> None:
    if command == "preview" and option == "--device":
        pytest.skip("preview has no --device")
    target = (tmp_path / "out.png",) if command == "upscale" else ("--port", "0") if command == "preview" else ()
    source = pictures / "waves0.png" if command == "upscale" else pictures
    outcome = sr_edge(command, recommending, source, *target, option, value)
    assert outcome.code != 0
    assert (value or option) in outcome.error
