"""What the reuse of tiles gains and costs: the table in docs/camera.md, and docs/results/reuse.json.

Each row is a network and a clip of `reuse_clips.py`, 640x360 magnified 2 times, decoded beforehand and thrown away
afterwards. Every frame is upscaled without reuse, with exact reuse and within a bound in decibels, one directly after
the other and in turn. Frames are taken from four frames before a key frame on; the first one, for which all tiles are
computed, is not counted. Rows that exist in OUT/rows are kept unless --again is given.

    python benchmarks/reuse.py --prepare        only deploy the networks, which takes some minutes
    python benchmarks/reuse.py --minutes 20 --publish
    python benchmarks/reuse.py --quick

Times are those of one frame after the other, from the decoded frame to the converted result. Results are refreshed by
the time of the clip, as in streams and videos.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from reuse_clips import CLIPS, GOP, SCALE, Clip

from sr_edge.bench import describe_environment, write_text
from sr_edge.camera import NetworkFrameUpscaler, VideoFrame
from sr_edge.frames import Frame
from sr_edge.metrics import flicker_levels, psnr_y_db
from sr_edge.model_sources import open_frame_session
from sr_edge.resize import downscale_bicubic
from sr_edge.reuse_table import BLOCK_PX
from sr_edge.runtimes import Session
from sr_edge.spec import PassChoice, Precision, TileSpec
from sr_edge.upscaler import Upscaler
from sr_edge.upscaler.reuse import FrameReuse
from sr_edge.upscaler.tile_change import block_change

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results" / "reuse.json"
PAGE = ROOT / "docs" / "camera.md"
START, END = "<!-- reuse: written by benchmarks/reuse.py -->", "<!-- end of reuse -->"

NETWORKS = ("convnet-tiny", "swinir-light", "taylor-swinir-light")
"""The fastest first: the others use the time that it does not need."""

WITHOUT_TARGET = ("convnet-tiny",)
TILE = TileSpec(96, 96)
OFF, EXACT, BOUND = "off", "exact", "bound"
REACH_PX = {"scene": 16, "input": TILE.height}
"""Flicker is measured where the scene, or the decoded input, did not change in the same frame within this distance: all
that an output depends on is in its tile."""

BEFORE_KEY = 4
LEAST_FRAMES, MOST_FRAMES = 6, 48
QUICK_FRAMES = 6


@dataclass
class Mode:
    """One way to upscale, and its figures.

    Attributes:
        upscaler: Keeps the tiles of this mode.
        times_s: Seconds of each frame that counts.
        tiles: Number of tiles of these frames.
        reused: Number of them that were not computed.
        psnr_db: PSNR of the luma of each frame against its original.
        outputs: The last two outputs.
    """

    upscaler: Upscaler
    times_s: list[float] = field(default_factory=list)
    tiles: int = 0
    reused: int = 0
    psnr_db: list[float] = field(default_factory=list)
    outputs: list[Frame] = field(default_factory=list)

    @property
    def share(self) -> float:
        return self.reused / self.tiles if self.tiles else 0.0

    @property
    def fps(self) -> float:
        return len(self.times_s) / sum(self.times_s)


@contextmanager
def opened(network: str, out: Path) -> Iterator[Session]:
    with open_frame_session(prepare(network, out), "openvino", Precision.FP32) as session:
        session.measure(runs=1)
        yield session


def prepare(network: str, out: Path) -> Path:
    """The bundle of a network; deployed if it does not exist."""
    from sr_edge.deploy import DeployPlan, deploy_network  # loads PyTorch, which measuring does not need
    from sr_edge.models import load_model

    bundle = out / f"{network}.sredge"
    if not bundle.exists():
        out.mkdir(parents=True, exist_ok=True)
        plan = DeployPlan(
            TILE, ("openvino",), (Precision.FP32,), rounds=1, with_memory=False, passes=PassChoice.STRUCTURE
        )
        deploy_network(load_model(network, SCALE), None, bundle, plan)
    return bundle


class Row:
    """The measurement of one network on one clip."""

    def __init__(self, session: Session, clip: Clip, bound_db: float) -> None:
        self._converter = NetworkFrameUpscaler(session)
        self._clip = clip
        self._modes = {
            OFF: Mode(Upscaler(session)),
            EXACT: Mode(Upscaler(session, reuse="exact")),
            BOUND: Mode(Upscaler(session, reuse=bound_db)),
        }
        self._is_equal, self._local_error = True, 0.0
        self._key_frames: list[int] = []
        self._flicker: dict[str, dict[str, list[float]]] = {kind: {} for kind in REACH_PX}
        self._before: tuple[Frame, Frame] | None = None

    def measure(self, folder: Path, seconds: float, most: int) -> dict[str, Any]:
        """Upscales frames until the time is over, at least LEAST_FRAMES and at most `most`."""
        first = GOP - BEFORE_KEY
        frames = self._clip.decoded(folder, first, MOST_FRAMES + 1)
        until_s = time.monotonic() + seconds
        for index, (frame, original) in enumerate(zip(frames, self._clip.originals(first, len(frames)), strict=True)):
            if index > most or (index > LEAST_FRAMES and time.monotonic() > until_s):
                break
            if index and (first + index) % GOP == 0:
                self._key_frames.append(index - 1)
            self._add(frame, original, index)
        return self._figures()

    def _add(self, frame: VideoFrame, original: Frame, index: int) -> None:
        names = list(self._modes)
        for name in names[index % 3 :] + names[: index % 3]:
            self._run(self._modes[name], frame, original, is_counted=index > 0)
        latest = {name: mode.outputs[-1] for name, mode in self._modes.items()}
        self._is_equal &= np.array_equal(latest[OFF], latest[EXACT])
        if index:
            self._local_error = max(self._local_error, block_change(latest[OFF], latest[BOUND], BLOCK_PX * SCALE))
        inputs = downscale_bicubic(original, SCALE), self._converter.prepare(frame).planes[0]
        if self._before is not None:
            for name, mode in self._modes.items():
                for kind, before, now in zip(self._flicker, self._before, inputs, strict=True):
                    pair = [(before, mode.outputs[0]), (now, mode.outputs[1])]
                    levels = flicker_levels(pair, SCALE, REACH_PX[kind])
                    if levels is not None:
                        self._flicker[kind].setdefault(name, []).append(levels)
        self._before = inputs

    def _run(self, mode: Mode, frame: VideoFrame, original: Frame, is_counted: bool) -> None:
        counted: list[FrameReuse] = []
        started_s = time.perf_counter()
        prepared = self._converter.prepare(frame)
        rgb = mode.upscaler.upscale(prepared.planes[0], on_reuse=counted.append, time_s=frame.time_s)
        upscaled = prepared.with_planes((rgb,))
        self._converter.finish(upscaled, frame)
        elapsed_s = time.perf_counter() - started_s
        mode.outputs = [*mode.outputs[-1:], upscaled.planes[0]]
        if is_counted:
            mode.times_s.append(elapsed_s)
            mode.psnr_db.append(psnr_y_db(upscaled.planes[0], original, SCALE))
            mode.tiles += sum(each.tiles for each in counted)
            mode.reused += sum(each.tiles - each.computed for each in counted)

    def _figures(self) -> dict[str, Any]:
        off, exact, bound = (self._modes[name] for name in (OFF, EXACT, BOUND))
        losses = [before - after for before, after in zip(off.psnr_db, bound.psnr_db, strict=True)]
        exact_ratios = [mine / plain for mine, plain in zip(exact.times_s, off.times_s, strict=True)]
        keys = self._key_frames
        return {
            "frames": len(off.times_s),
            "fps": {name: mode.fps for name, mode in self._modes.items()},
            "share": {name: self._modes[name].share for name in (EXACT, BOUND)},
            "exact_equal": self._is_equal,
            "psnr_off_db": statistics.mean(off.psnr_db),
            "loss_mean_db": statistics.mean(losses),
            "loss_worst_db": max(losses),
            "local_error_levels": self._local_error,
            "flicker_levels": {
                kind: {name: statistics.mean(levels) for name, levels in by_mode.items()}
                for kind, by_mode in self._flicker.items()
            },
            "memory_bytes": bound.upscaler.reuse_statistics.memory_bytes,
            "overhead": statistics.median(exact_ratios) - 1 if exact.share == 0 else None,
            "key_frames": {
                name: [self._modes[name].times_s[key] / off.times_s[key] for key in keys] for name in (EXACT, BOUND)
            },
        }


@dataclass(frozen=True)
class Target:
    """A sentence of the targets, and the measured figure that is the worst of all rows; None if nothing has it."""

    name: str
    measured: float | None
    is_met: Callable[[float], bool]

    def __str__(self) -> str:
        if self.measured is None:
            return f"{self.name}: not measured"
        return f"{self.name}: {self.measured:.3f}, {'met' if self.is_met(self.measured) else 'missed'}"


def targets(rows: Sequence[Mapping[str, Any]]) -> list[Target]:
    """The targets on the networks that have some."""
    chosen = [row for row in rows if row["network"] not in WITHOUT_TARGET]
    noisy = [
        row for row in chosen if "crf23" in row["clip"] and row["clip"].startswith(("still-noise1", "still-noise2"))
    ]
    exact = [row["fps"][EXACT] / row["fps"][OFF] * (1 - row["share"][EXACT]) for row in chosen]
    overheads = [row["overhead"] for row in chosen if row["overhead"] is not None]
    keys = [ratio for row in chosen for ratio in row["key_frames"][EXACT]]
    return [
        Target("exact is bit-equal on every clip", _least([float(r["exact_equal"]) for r in chosen]), lambda x: x == 1),
        Target("exact: frames/s as a share of 1/(1 - share reused), at least 0.85", _least(exact), lambda x: x >= 0.85),
        Target("exact on key frames: time against off, the longest", _most(keys), lambda x: x <= 1.02),
        Target("bound: mean loss in dB, at most 0.05", _most([r["loss_mean_db"] for r in chosen]), lambda x: x <= 0.05),
        Target("bound: worst loss in dB, at most 0.3", _most([r["loss_worst_db"] for r in chosen]), lambda x: x <= 0.3),
        Target(
            "bound: frames/s against exact at noise 1 to 2.5 and crf 23, at least 1.5",
            _least([row["fps"][BOUND] / row["fps"][EXACT] for row in noisy]),
            lambda x: x >= 1.5,
        ),
        Target("exact: overhead where everything moves, at most 0.02", _most(overheads), lambda x: x <= 0.02),
    ]


def _least(values: Sequence[float]) -> float | None:
    return min(values, default=None)


def _most(values: Sequence[float]) -> float | None:
    return max(values, default=None)


def page_section(kept: Mapping[str, Any]) -> str:
    """The table and the targets as Markdown."""
    lines = [
        f"Measured by `{kept['command']}` on {kept['environment']}; OpenVINO in fp32, tiles of {TILE}, "
        f"bound {kept['bound_db']:g} dB. *Frames* is the number of frames of each mode.",
        "",
        "| network | clip | frames | frames/s off | exact | bound | reused exact | bound | loss dB mean | worst "
        "| local error | flicker off | exact | bound | MB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in kept["rows"]:
        fps, share, flicker = row["fps"], row["share"], row["flicker_levels"]["scene"]
        lines.append(
            f"| {row['network']} | {row['clip']} | {row['frames']} | {fps[OFF]:.2f} | {fps[EXACT]:.2f} "
            f"| {fps[BOUND]:.2f} | {share[EXACT]:.0%} | {share[BOUND]:.0%} | {row['loss_mean_db']:+.3f} "
            f"| {row['loss_worst_db']:+.3f} | {row['local_error_levels']:.1f} "
            f"| {' | '.join(f'{flicker[name]:.3f}' if name in flicker else '-' for name in (OFF, EXACT, BOUND))} "
            f"| {row['memory_bytes'] / 1e6:.0f} |"
        )
    pending = f"\n\nNot measured yet: {', '.join(kept['pending'])}." if kept["pending"] else ""
    return "\n".join([*lines, "", *(f"- {target}" for target in targets(kept["rows"]))]) + pending


def publish(kept: Mapping[str, Any]) -> None:
    """Writes the results and the section of docs/camera.md."""
    write_text(RESULTS, json.dumps(kept, indent=1) + "\n")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    _, _, after = rest.partition(END)
    if not rest:
        sys.exit(f"{PAGE} has no line {START}")
    write_text(PAGE, f"{before}{START}\n{page_section(kept)}\n{END}{after}")


def row_file(out: Path, network: str, clip: Clip) -> Path:
    return out / "rows" / f"{network}-{clip.name}.json"


def measure_all(pairs: Sequence[tuple[str, Clip]], arguments: argparse.Namespace, out: Path) -> None:
    """Measures the rows that are missing; each gets an equal share of the time that is left."""
    for network in dict.fromkeys(network for network, _ in pairs):
        prepare(network, out)
    missing = [pair for pair in pairs if arguments.again or not row_file(out, *pair).exists()]
    deadline_s = time.monotonic() + 60 * arguments.minutes
    done = 0
    for network in dict.fromkeys(network for network, _ in missing):
        with opened(network, out) as session:
            for clip in (clip for each, clip in missing if each == network):
                share_s = (deadline_s - time.monotonic()) / (len(missing) - done)
                done += 1
                if share_s <= 0:
                    print(f"{network} {clip.name}: the time is over; left for another run", flush=True)
                    continue
                most = QUICK_FRAMES if arguments.quick else MOST_FRAMES
                figures = Row(session, clip, arguments.bound).measure(out / "clips", share_s, most)
                row = {"network": network, "clip": clip.name, "bound_db": arguments.bound, **figures}
                row_file(out, network, clip).parent.mkdir(parents=True, exist_ok=True)
                write_text(row_file(out, network, clip), json.dumps(row, indent=1) + "\n")
                print(f"{network} {clip.name}: {summary(row)}", flush=True)


def summary(row: Mapping[str, Any]) -> str:
    fps, share = row["fps"], row["share"]
    return (
        f"{row['frames']} frames, {fps[OFF]:.2f} {fps[EXACT]:.2f} {fps[BOUND]:.2f} frames/s, reused "
        f"{share[EXACT]:.0%} {share[BOUND]:.0%}, loss {row['loss_mean_db']:+.3f} dB, worst {row['loss_worst_db']:+.3f}"
    )


def document(every: Sequence[tuple[str, Clip]], command: str, bound_db: float, out: Path) -> dict[str, Any]:
    files = {f"{network} {clip.name}": row_file(out, network, clip) for network, clip in every}
    rows = [json.loads(file.read_text()) for file in files.values() if file.exists()]
    machine = describe_environment()
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    environment = f"{machine.machine.cpu}, {machine.machine.usable_cores} cores; {versions}; {machine.started}"
    return {
        "command": command,
        "environment": environment,
        "bound_db": bound_db,
        "rows": rows,
        "pending": [name for name, file in files.items() if not file.exists()],
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0, help="time for all rows that are missing")
    parser.add_argument("--only", metavar="NAME,...", help=f"these of {', '.join(NETWORKS)} only")
    parser.add_argument("--clips", metavar="NAME,...", help=f"these of {', '.join(clip.name for clip in CLIPS)} only")
    parser.add_argument("--bound", type=float, default=0.05, metavar="DB", help="the bound in decibels")
    parser.add_argument("--quick", action="store_true", help=f"a trial of {QUICK_FRAMES} frames a row, in two minutes")
    parser.add_argument("--prepare", action="store_true", help="only deploy the networks")
    parser.add_argument("--again", action="store_true", help="repeat rows that exist")
    parser.add_argument("--out", type=Path, default=Path("build/reuse"), metavar="FOLDER")
    parser.add_argument("--publish", action="store_true", help="write the results and docs/camera.md")
    arguments = parser.parse_args()
    if arguments.quick and arguments.publish:
        parser.error("--quick is a trial and cannot be published")
    return arguments


def chosen_names(given: str | None, every: Sequence[str]) -> list[str]:
    names = given.split(",") if given else list(every)
    unknown = sorted(set(names) - set(every))
    if unknown:
        sys.exit(f"there is no {', '.join(unknown)}, but {', '.join(every)}")
    return names


def main() -> None:
    arguments = parse_arguments()
    out = arguments.out.resolve()
    networks = chosen_names(arguments.only, NETWORKS)
    clips = chosen_names(arguments.clips, [clip.name for clip in CLIPS])
    if arguments.prepare:
        for network in networks:
            print(f"{network}: {prepare(network, out)}", flush=True)
        return
    if arguments.quick:
        arguments.minutes, arguments.again = 2.0, True
    every = [(network, clip) for network in NETWORKS for clip in CLIPS]
    pairs = [(network, clip) for network, clip in every if network in networks and clip.name in clips]
    measure_all(pairs, arguments, out)
    command = f"python benchmarks/reuse.py --minutes {arguments.minutes:g} --publish"
    kept = document(every, command, arguments.bound, out)
    for target in targets(kept["rows"]):
        print(target)
    if arguments.publish:
        publish(kept)


if __name__ == "__main__":
    main()
