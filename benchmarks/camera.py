"""The camera loop's figures: what overlap gains, what it loses, what `latest` costs in latency, what the loop costs.

python benchmarks/camera.py                      # ten minutes of `latest`; the others a minute each
python benchmarks/camera.py --smallest           # seconds: does it run?
python benchmarks/camera.py --clip city.mp4 --bundle convnet-tiny-x2.sredge --json camera.json

Without --bundle the bundled convnet-tiny x2 is deployed for 320x180 first; without --clip it is the sample clip of the
folder that SR_EDGE_DATA names, or else one that is generated. Variants are interleaved, A B A B, and a ratio is taken
in each round: a shared machine changes its speed for seconds at a time. `latest` is measured in fp32, all else there
and in INT8 with a bf16 rest.

    overlap   the loop as `sr-edge upscale` runs it for a video file, with several frames in the engine, against
              reading, enlarging and writing one frame after the other with an engine set for latency
    latest    a camera of 30 frames a second and the same model, made slower by running it twice over if it holds real
              time: end-to-end latency p99 against the model's own time, and memory after the first minute
    kept_up   a clip played by the clock under `latest`, by a model that holds real time: frames lost, times that
              differ; a frame that the machine holds up for longer than two intervals costs the one that waits
    overhead  what a frame takes besides the engine's own computing: colour, tiles, hand-overs
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from sr_edge.camera import (
    Loop,
    LoopOptions,
    NetworkFrameUpscaler,
    NullSink,
    Policy,
    SourceOptions,
    StreamReport,
    VideoFrame,
    open_sink,
    open_source,
)
from sr_edge.cli.run.upscale_video import VIDEO_SLOTS
from sr_edge.model_sources import open_frame_session
from sr_edge.runtimes import Session, supports
from sr_edge.spec import Precision, TileSpec

WIDTH, HEIGHT, RATE = 320, 180, 30
PATTERN = f"testsrc2=size={WIDTH}x{HEIGHT}"


class SlowedFrameUpscaler(NetworkFrameUpscaler):
    """Runs the network `times` over, so that it cannot hold real time on any machine."""

    def __init__(self, session: Session, times: int) -> None:
        super().__init__(session, reuse="off")
        self._times = times

    def infer(self, prepared: VideoFrame) -> VideoFrame:
        for _ in range(self._times - 1):
            super().infer(prepared)
        return super().infer(prepared)


@contextmanager
def deployed(bundle: Path | None) -> Iterator[Path]:
    """The bundle given, or convnet-tiny x2 for whole frames."""
    if bundle is not None:
        yield bundle
        return
    from sr_edge.deploy import DeployPlan, deploy_network
    from sr_edge.models import load_model

    pictures = Path(__file__).resolve().parents[1] / "examples" / "pictures" / "calibration"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "convnet-tiny-x2.sredge"
        plan = DeployPlan(
            TileSpec(HEIGHT, WIDTH),
            ("openvino",),
            (Precision.FP32, Precision.INT8),
            rounds=1,
            with_memory=False,
            with_tile_needs=False,
        )
        deploy_network(load_model("convnet-tiny", 2), pictures, out, plan)
        yield out


def serial_fps(clip: str, session: Session, out: Path) -> float:
    """Frames a second, one frame after the other."""
    upscaler = NetworkFrameUpscaler(session, reuse="off")
    source = open_source(clip)
    sink = open_sink(str(out), source)
    count = 0
    started_s = time.perf_counter()
    for frame in source.frames():
        sink.write(upscaler.finish(upscaler.infer(upscaler.prepare(frame)), frame))
        count += 1
    sink.close()
    return count / (time.perf_counter() - started_s)


def overlapped_fps(clip: str, session: Session, out: Path) -> float:
    """Frames a second of the loop."""
    source = open_source(clip)
    started_s = time.perf_counter()
    report = Loop(source, NetworkFrameUpscaler(session, session.spec.slots + 1, reuse="off")).run(
        open_sink(str(out), source)
    )
    return report.frames_out / (time.perf_counter() - started_s)


def measure_overlap(clip: str, session: Session, several: Session, rounds: int) -> dict[str, Any]:
    ratios, serial, overlapped = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            serial.append(serial_fps(clip, session, Path(folder) / "serial.mp4"))
            overlapped.append(overlapped_fps(clip, several, Path(folder) / "overlapped.mp4"))
            ratios.append(overlapped[-1] / serial[-1])
    return {
        "serial_fps": statistics.median(serial),
        "overlapped_fps": statistics.median(overlapped),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }


def measure_kept_up(clip: str, session: Session) -> dict[str, Any]:
    """Every frame must come out, at its own time: nothing may be dropped while the model is faster than the camera."""
    wanted = [frame.pts for frame in open_source(clip).frames()]
    source = open_source(clip, SourceOptions(is_paced=True))
    loop = Loop(source, NetworkFrameUpscaler(session, reuse="off"), LoopOptions(Policy.parse("latest")))
    found = [frame.pts for frame in loop.frames()]
    report = loop.report()
    return {
        "frames": len(wanted),
        "dropped": report.dropped,
        "failed": report.failed,
        "times_equal": found == wanted,
        "longest_in_model_ms": report.stages["infer"].max_ms,
        "latency_p99_ms": None if report.latency is None else report.latency.p99_ms,
    }


def infer_ms(upscaler: NetworkFrameUpscaler, runs: int) -> float:
    """The slowed model's own time for a frame, alone."""
    (frame,) = list(open_source(f"lavfi:{PATTERN}:rate=1:duration=1,format=yuv420p").frames())
    prepared = upscaler.prepare(frame)
    samples = []
    for _ in range(runs):
        started_s = time.perf_counter()
        upscaler.infer(prepared)
        samples.append(1e3 * (time.perf_counter() - started_s))
    return statistics.median(samples)


def measure_latest(session: Session, seconds: float) -> dict[str, Any]:
    times = 1
    while (model_ms := infer_ms(SlowedFrameUpscaler(session, times), 5)) < 1.3e3 / RATE:
        times += 1
    source = open_source(f"test:{WIDTH}x{HEIGHT}@{RATE}")
    loop = Loop(source, SlowedFrameUpscaler(session, times), LoopOptions(Policy.parse("latest")))
    memory: list[tuple[float, int]] = []
    started_s = time.monotonic()

    def tick(report: StreamReport) -> None:
        now_s = time.monotonic() - started_s
        memory.append((now_s, psutil.Process().memory_info().rss))
        if now_s >= seconds:
            loop.stop()

    report = loop.run(NullSink(), tick)
    assert report.latency is not None
    settled = [rss for at_s, rss in memory if at_s >= min(60.0, seconds / 2)]
    allowed_ms = 2 * model_ms + 50
    return {
        "seconds": seconds,
        "model_ms": model_ms,
        "model_runs_per_frame": times,
        "frames_in": report.frames_in,
        "frames_out": report.frames_out,
        "dropped": report.dropped,
        "latency_p50_ms": report.latency.p50_ms,
        "latency_p99_ms": report.latency.p99_ms,
        "allowed_p99_ms": allowed_ms,
        "memory_growth_mb": (max(settled) - settled[0]) / 1e6,
    }


def measure_overhead(clip: str, session: Session, rounds: int) -> dict[str, Any]:
    """Everything a frame costs in one thread against the engine's own computing of the same tiles, in turn."""
    upscaler = NetworkFrameUpscaler(session, reuse="off")
    frames = list(open_source(clip).frames())[: 10 * rounds]
    tile = session.spec.tile
    shares, extra_ms, engine_ms = [], [], []
    for frame in frames:
        prepared = upscaler.prepare(frame)
        tiles = -(-frame.height // tile.height) * -(-frame.width // tile.width)
        batch = prepared.planes[0][: tile.height, : tile.width]
        if batch.shape[:2] != (tile.height, tile.width):
            raise SystemExit(
                f"frames of {frame.width}x{frame.height} are smaller than the tile {tile}; give a larger clip"
            )
        started_s = time.perf_counter()
        upscaler.finish(upscaler.infer(upscaler.prepare(frame)), frame)
        whole_ms = 1e3 * (time.perf_counter() - started_s)
        compute_ms = tiles * session.run_staged(batch.copy())[1].compute_ms  # type: ignore[arg-type]
        extra_ms.append(whole_ms - compute_ms)
        engine_ms.append(compute_ms)
        shares.append(extra_ms[-1] / compute_ms)
    megapixels = session.spec.scale**2 * frames[0].width * frames[0].height / 1e6
    return {
        "frames": len(frames),
        "engine_ms": statistics.median(engine_ms),
        "overhead_ms": statistics.median(extra_ms),
        "overhead_share": statistics.median(shares),
        "overhead_ms_per_output_megapixel": statistics.median(extra_ms) / megapixels,
    }


def measure_precision(clip: str, session: Session, several: Session, rounds: int) -> dict[str, Any]:
    session.measure()
    several.measure()
    spec = session.spec
    return {
        "session": f"{spec.runtime} {spec.version} {spec.ran}, "
        f"float layers in {spec.float_precision_ran}, {spec.threads} threads, tile "
        f"{spec.tile}, {spec.note}",
        "overlap": measure_overlap(clip, session, several, rounds),
        "overhead": measure_overhead(clip, session, rounds),
        "kept_up": measure_kept_up(clip, session),
    }


def sample_clip() -> str | None:
    folder = os.environ.get("SR_EDGE_DATA")
    clip = Path(folder or "") / "samples" / f"city_{WIDTH}x{HEIGHT}_{RATE}fps.mp4"
    return str(clip) if folder and clip.is_file() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--clip", help="video file or other source")
    parser.add_argument("--runtime", default="openvino")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--seconds", type=float, default=600.0, help="duration of the measurement with the policy latest"
    )
    parser.add_argument("--smallest", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the measurements to this JSON file")
    args = parser.parse_args()
    rounds, seconds, length_s = (1, 3.0, 1) if args.smallest else (args.rounds, args.seconds, 10)
    clip = args.clip or sample_clip() or f"lavfi:{PATTERN}:rate={RATE}:duration={length_s},format=yuv420p"
    float_precision = Precision.BF16 if supports(args.runtime, Precision.BF16) else Precision.FP32
    with deployed(args.bundle) as bundle:
        opened = partial(open_frame_session, bundle, args.runtime, threads=args.threads)
        figures: dict[str, Any] = {"clip": Path(clip).name, "precisions": {}}
        int8, fp32 = (
            partial(opened, precision=Precision.INT8, float_precision=float_precision),
            partial(opened, precision=Precision.FP32),
        )
        for name, graph in (("int8", int8), ("fp32", fp32)):
            with graph() as session, graph(slots=VIDEO_SLOTS) as several:
                figures["precisions"][name] = measure_precision(clip, session, several, rounds)
        with fp32() as session:
            session.measure()
            figures["latest"] = measure_latest(session, seconds)
    print(json.dumps(figures, indent=1))
    if args.json is not None:
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
