"""Frames/s of whole commands on one clip: tiles of 96x96, the tile that fits the frame, and a plain loop.

    python benchmarks/frame_tiles.py                 # convnet-tiny x2, 320x180, five rounds
    python benchmarks/frame_tiles.py --rounds 1 --frames 30 --json frame_tiles.json

Deploys convnet-tiny x2 with `--tile 96x96`, and once more with `--frame` as well. Each variant upscales the clip to an
H.264 file in a new process, start-up included; they run in turn, and a ratio is taken in each round.

    tiles         sr-edge upscale, fp32 in OpenVINO, tiles of 96x96
    fitted        the same with the tile that fits
    tiles int8    INT8 in tiles of 96x96
    fitted int8   INT8 with the tile that fits
    plain         a loop as one writes it with PyAV and OpenVINO: decode to RGB, fp32 graph of the whole frame, encode
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FRAME_RATE = 30
CRF = "20"


def write_clip(path: Path, width: int, height: int, frames: int) -> None:
    """Writes a clip with much moving detail: FFmpeg's test pattern, encoded as H.264."""
    with (
        av.open(f"testsrc2=size={width}x{height}:rate={FRAME_RATE}", format="lavfi") as source,
        av.open(str(path), "w") as target,
    ):
        stream = target.add_stream("libx264", rate=FRAME_RATE, options={"crf": CRF})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index, frame in enumerate(source.decode(video=0)):
            if index == frames:
                break
            converted = frame.reformat(format="yuv420p")
            converted.pts, converted.time_base = index, Fraction(1, FRAME_RATE)
            target.mux(stream.encode(converted))
        target.mux(stream.encode())


def run_plain_loop(graph: Path, clip: Path, out: Path) -> None:
    """Decodes, upscales and encodes frame by frame, with the libraries alone."""
    import openvino  # type: ignore[import-untyped]

    compiled = openvino.Core().compile_model(str(graph), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with av.open(str(clip)) as source, av.open(str(out), "w") as target:
        video = source.streams.video[0]
        stream = target.add_stream("libx264", rate=video.average_rate, options={"crf": CRF})
        stream.width, stream.height, stream.pix_fmt = 2 * video.width, 2 * video.height, "yuv420p"
        for frame in source.decode(video):
            batch = frame.to_ndarray(format="rgb24").astype(np.float32).transpose(2, 0, 1)[np.newaxis] / 255
            upscaled = compiled(batch)[0][0].transpose(1, 2, 0)
            pixels = np.ascontiguousarray(np.clip(upscaled * 255 + 0.5, 0, 255).astype(np.uint8))
            written = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            written.pts, written.time_base = frame.pts, frame.time_base
            target.mux(stream.encode(written))
        target.mux(stream.encode())


def deploy(out: Path, *further: str) -> Path:
    return written_by("deploy", "96x96", out, "--runtimes", "openvino", "--no-memory", *further)


def written_by(command: str, tile: str, out: Path, *options: str) -> Path:
    """The output of a command on convnet-tiny x2."""
    words = [sys.executable, "-m", "sr_edge", command, "convnet-tiny", "--scale", "2", "--tile", tile, "-o", str(out)]
    subprocess.run([*words, *options], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return out


def upscale_command(bundle: Path, clip: Path, out: Path, precision: str) -> list[str]:
    options = ["--runtime", "openvino", "--precision", precision, "--codec", "h264", "--crf", CRF, "--no-resume"]
    options += ["--reuse", "off"]  # parts of the clip stand still
    return [sys.executable, "-m", "sr_edge", "upscale", str(bundle), str(clip), str(out), *options]


def seconds_of(command: list[str], out: Path) -> float:
    """The time of a command from its start to its end; raises SystemExit if it fails."""
    out.unlink(missing_ok=True)
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return seconds


def measure(commands: dict[str, list[str]], out: Path, rounds: int) -> dict[str, list[float]]:
    """The seconds of every command in each round; in a round, each runs once."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for done in range(rounds):
        print(f"round {done + 1} of {rounds}")
        for name, command in commands.items():
            seconds[name].append(seconds_of(command, out))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="320x180", help="width and height of the clip")
    parser.add_argument("--frames", type=int, default=300, help="frames of the clip")
    parser.add_argument("--rounds", type=int, default=5, help="how often every variant runs")
    parser.add_argument("--json", type=Path, help="also write the measurements to this JSON file")
    parser.add_argument("--plain", nargs=3, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.plain:
        run_plain_loop(*args.plain)
        return
    width, height = map(int, args.size.split("x"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip, out = folder / "clip.mp4", folder / "out.mp4"
        write_clip(clip, width, height, args.frames)
        tiled, fitted = deploy(folder / "tiles.sredge"), deploy(folder / "fitted.sredge", "--frame", args.size)
        graph = written_by("export", f"{height}x{width}", folder / "whole.onnx")
        print("fitted:", ", ".join(path.name for path in fitted.iterdir() if path.is_dir() and path.name != "golden"))
        commands = {
            "tiles": upscale_command(tiled, clip, out, "fp32"),
            "fitted": upscale_command(fitted, clip, out, "fp32"),
            "tiles int8": upscale_command(tiled, clip, out, "int8"),
            "fitted int8": upscale_command(fitted, clip, out, "int8"),
            "plain": [sys.executable, __file__, "--plain", str(graph), str(clip), str(out)],
        }
        seconds = measure(commands, out, args.rounds)
    report(seconds, args.frames)
    if args.json is not None:
        args.json.write_text(
            json.dumps({"frames": args.frames, "size": args.size, "seconds": seconds}, indent=2) + "\n"
        )


def report(seconds: dict[str, list[float]], frames: int) -> None:
    """Prints frames/s, and the median ratio of each round to the plain loop."""
    for name, samples in seconds.items():
        ratios = sorted(plain / own for plain, own in zip(seconds["plain"], samples, strict=True))
        rate = frames / statistics.median(samples)
        spread = f"{statistics.median(ratios):5.2f} x plain ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"{name:12}{rate:7.1f} frames/s, {spread}")


if __name__ == "__main__":
    main()
