"""The kinds of hostile input. Each makes one input from a seed and gives it to sr-edge, in this process."""

from __future__ import annotations

import io
import json
import pickle
import random
import socket
import struct
import threading
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from sr_edge.bundle import sha256_of
from sr_edge.cli.app import COMMANDS, app
from sr_edge.cli.failures import run_command
from tests.camera.sources.hostile_servers import HEADER, REPLIES, Reply, hostile_server
from tests.fuzz import material
from tests.fuzz.mutations import HOSTILE_TEXTS, mutated, mutated_document

CANARY = "code-was-run"
OPEN_S = 0.3
_MAX_FRAMES = 40
_ON = ("--runtime", "onnxruntime", "--threads", "1")


class _Attack:
    """An object whose unpickling would create the canary."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (Path(CANARY), "")


@dataclass
class Bench:
    """A folder to work in, and the valid files.

    Attributes:
        folder: An empty folder for each input.
        valid: The folder with the valid files.
    """

    folder: Path
    valid: Path

    @cached_property
    def bundle(self) -> Path:
        return material.bundle(self.valid / "toy.sredge")

    @cached_property
    def pictures(self) -> dict[str, bytes]:
        return material.pictures()

    @cached_property
    def clips(self) -> dict[str, bytes]:
        return material.clips(self.valid)

    @cached_property
    def checkpoints(self) -> dict[str, bytes]:
        return material.checkpoints(self.valid)

    def copied_bundle(self) -> Path:
        copy = self.folder / "toy.sredge"
        copy.mkdir()
        for file in self.bundle.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
        return copy


def cli(*arguments: str | Path) -> int:
    return run_command(app, [str(argument) for argument in arguments])


def manifests(bench: Bench, rng: random.Random) -> None:
    bundle = bench.copied_bundle()
    manifest = bundle / "manifest.json"
    document = mutated_document(json.loads(manifest.read_text()), rng)
    text = json.dumps(document, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    manifest.write_bytes(mutated(text, rng) if rng.random() < 0.3 else text)
    _use_bundle(bench, bundle, rng)


def zips(bench: Bench, rng: random.Random) -> None:
    archive, content = bench.folder / "toy.zip", io.BytesIO()
    compression = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(content, "w", compression) as target, suppress(ValueError, UnicodeEncodeError):
        for file in bench.bundle.iterdir():
            target.writestr(file.name, file.read_bytes())
        if rng.random() < 0.5:
            target.writestr(f"x{rng.choice(HOSTILE_TEXTS)}", bytes(rng.randint(0, 1 << 16)))
    archive.write_bytes(mutated(content.getvalue(), rng) if rng.random() < 0.8 else content.getvalue())
    _use_bundle(bench, archive, rng)


def graphs(bench: Bench, rng: random.Random) -> None:
    bundle = bench.copied_bundle()
    graph = bundle / "model.onnx"
    graph.write_bytes(mutated(graph.read_bytes(), rng))
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["artifacts"][0]["sha256"] = sha256_of(graph)
    manifest["sizes"]["model.onnx"] = graph.stat().st_size
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    _use_bundle(bench, bundle, rng)


def _use_bundle(bench: Bench, bundle: Path, rng: random.Random) -> None:
    if rng.random() < 0.5:
        cli("inspect", bundle, *(["--json"] if rng.random() < 0.5 else []))
        return
    source = bench.folder / "in.png"
    source.write_bytes(bench.pictures[".png"])
    cli("upscale", bundle, source, bench.folder / "out.png", *_ON)


def pictures(bench: Bench, rng: random.Random) -> None:
    suffix = rng.choice(list(bench.pictures))
    source = bench.folder / f"in{suffix}"
    source.write_bytes(mutated(bench.pictures[suffix], rng, bench.pictures[rng.choice(list(bench.pictures))]))
    out = rng.choice((".png", ".jpg", ".tif"))
    cli("upscale", bench.bundle, source, bench.folder / f"out{out}", *_ON)


def videos(bench: Bench, rng: random.Random) -> None:
    from sr_edge.camera import open_source

    suffix = rng.choice(list(bench.clips))
    clip = bench.folder / f"clip{suffix}"
    clip.write_bytes(mutated(bench.clips[suffix], rng, bench.clips[rng.choice(list(bench.clips))]))
    if rng.random() < 0.3:
        cli("upscale", bench.bundle, clip, bench.folder / "out.mp4", *_ON)
        return
    source = open_source(str(clip))
    for _ in islice(source.frames(), _MAX_FRAMES):
        pass
    source.close()


def checkpoints(bench: Bench, rng: random.Random) -> None:
    from sr_edge.models.checkpoints import read_checkpoint

    suffix = rng.choice([*bench.checkpoints, "attack"])
    if suffix == "attack":
        attack = pickle.dumps({"state_dict": _Attack(), "x": [1.0]}, protocol=rng.choice((0, 2, 4)))
        content, suffix = (attack if rng.random() < 0.5 else _zipped_pickle(attack)), ".pth"
    else:
        content = mutated(bench.checkpoints[suffix], rng, pickle.dumps(_Attack()))
    file = bench.folder / f"weights{suffix}"
    file.write_bytes(content)
    read_checkpoint(file)


def _zipped_pickle(content: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("archive/data.pkl", content)
        target.writestr("archive/version", "3")
    return archive.getvalue()


def servers(bench: Bench, rng: random.Random) -> None:
    from sr_edge.camera import SourceOptions, open_source

    scheme = rng.choice(("http", "http", "rtsp"))
    with hostile_server(rng.choice([*REPLIES, *[_random_reply(bench, rng.randrange(1 << 30))] * 10])) as server:
        path = rng.choice(("live.m3u8", "clip.ts", "clip.mp4", "list.mpd", "x"))
        options = SourceOptions(open_timeout_s=OPEN_S, timeout_s=OPEN_S, reconnects=False)
        source = open_source(f"{scheme}://127.0.0.1:{server.port}/{path}", options)
        for _ in islice(source.frames(), _MAX_FRAMES):
            pass
        source.close()


def _random_reply(bench: Bench, seed: int) -> Reply:
    """Damaged headers, then a damaged body that is a clip, a playlist or noise; in pieces."""
    rng = random.Random(seed)
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nclip.ts\n#EXTINF:1,\nx.m3u8\n#EXT-X-ENDLIST\n"
    description = b"<MPD><Period><AdaptationSet><SegmentTemplate media='clip.ts'/></AdaptationSet></Period></MPD>"
    sdp = b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
    body = rng.choice((playlist, description, sdp, *bench.clips.values(), rng.randbytes(3000)))
    rtsp = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n" % len(sdp)
    header = rng.choice((HEADER, b"HTTP/1.0 206 Partial\r\nContent-Length: -5\r\n\r\n", rtsp))
    content = (mutated(header, rng) if rng.random() < 0.4 else header) + mutated(body, rng)
    pieces = [content[start : start + 1400] for start in range(0, len(content), 1400)]

    def reply(connection: socket.socket, request: bytes, stopped: threading.Event) -> None:
        for piece in pieces:
            connection.sendall(piece)
        if struct.unpack("<I", rng.randbytes(4))[0] % 4 == 0:
            stopped.wait(2 * OPEN_S)

    return reply


_NAMES = tuple(command.__name__.replace("_", "-") for command in COMMANDS)
_LONG_RUNNING = {
    "batch",
    "train",
    "deploy",
    "calibrate",
    "preview",
    "gst-install",
    "models",
    "doctor",
    "compare",
    "export",
}
"""Their arguments are parsed and refused in the same way; a random command that happens to be valid runs minutes."""


def arguments(bench: Bench, rng: random.Random) -> None:
    command = rng.choice([*(name for name in _NAMES if name not in _LONG_RUNNING), "no-such-command", ""])
    picture = bench.folder / "in.png"
    picture.write_bytes(bench.pictures[".png"])
    pool = [*HOSTILE_TEXTS, bench.bundle, picture, bench.folder, bench.folder / "out.png", "test:16x16@5", "null"]
    pool += ["--precision", "--runtime", "--json", "--set", "alpha=2", "--io", "uint8", "--tile", "--help", "--every"]
    pool += ["--threads", "0", "1e9", "--roi", "1,2,3", "--policy", "drop-late x", "--raw", "nv12:9x9@0", "--for", "x"]
    chosen = [str(rng.choice(pool)) for _ in range(rng.randint(0, 6))]
    cli(command, *(text for text in chosen if text not in ("-", "test:16x16@5") or command != "stream"))


KINDS: Mapping[str, Callable[[Bench, random.Random], None]] = {
    "manifests": manifests,
    "zips": zips,
    "ONNX files": graphs,
    "checkpoints": checkpoints,
    "pictures": pictures,
    "videos": videos,
    "servers": servers,
    "arguments": arguments,
}

EVERY_KIND = "every kind"
"""The kinds in turn, in one process."""
