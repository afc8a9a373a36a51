"""Kills commands at random moments and runs them again:
PYTHONPATH=. python benchmarks/kills.py [KILLS_PER_COMMAND] [SEED].

After each `kill -9` the result must be absent or whole. After the next run of the same command it must be whole, and no
temporary file may be left. The figures go to docs/results/reliability.json.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from reliability import record

from tests.camera.clips import write_clip
from tests.fuzz import material

_ROOT = Path(__file__).resolve().parents[1]
_ON = ("--runtime", "onnxruntime", "--threads", "1")
_NETWORK = ("convnet-tiny", "--scale", "2")
_QUICK = ("--tile", "32x32", "--precisions", "fp32", "--runtimes", "onnxruntime", "--no-memory", "--no-tile-needs")


@dataclass(frozen=True)
class Command:
    """A command that writes `result` in its working folder.

    Attributes:
        name: Name in the table.
        arguments: Arguments of `sr-edge`.
        result: The file or folder that it writes.
        require_whole: Raises unless the result is complete.
        kept: Files beside the result that a killed run may leave, because the next run continues from them.
    """

    name: str
    arguments: tuple[str, ...]
    result: str
    require_whole: Callable[[Path], None]
    kept: tuple[str, ...] = ()


def _whole_picture(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


def _whole_video(path: Path) -> None:
    import av

    with av.open(str(path)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    if frames != 300:
        raise ValueError(f"{frames} frames")


def _whole_bundle(path: Path) -> None:
    from sr_edge.bundle import open_bundle

    with open_bundle(path) as bundle:
        bundle.verify()


def _whole_training(path: Path) -> None:
    from safetensors.numpy import load_file

    weights = path / "weights.safetensors"
    if weights.exists():
        load_file(weights)


COMMANDS = (
    Command("upscale a picture", ("upscale", "toy.sredge", "in.png", "out.png", *_ON), "out.png", _whole_picture),
    Command(
        "upscale a video",
        ("upscale", "toy.sredge", "in.mp4", "out.mp4", *_ON),
        "out.mp4",
        _whole_video,
        kept=("out.mp4.segments",),
    ),
    Command("deploy", ("deploy", *_NETWORK, *_QUICK, "-o", "net.sredge"), "net.sredge", _whole_bundle),
    Command(
        "train",
        ("train", *_NETWORK, "--data", "images", "--val", "images", "--steps", "40", "-o", "run"),
        "run",
        _whole_training,
    ),
)


def prepare(folder: Path) -> None:
    """Writes the inputs of all commands."""
    material.bundle(folder / "toy.sredge")
    noise = np.random.default_rng(1).integers(0, 256, (360, 480, 3), np.uint8)
    Image.fromarray(noise).save(folder / "in.png")
    write_clip(folder / "in.mp4", range(0, 300 * 3000, 3000))
    (folder / "images").mkdir()
    for index in range(2):
        Image.fromarray(np.roll(noise, index)).save(folder / "images" / f"{index}.png")


def _started(command: Command, folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "sr_edge", *command.arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _run_to_the_end(command: Command, folder: Path) -> float:
    started_s = time.monotonic()
    with _started(command, folder) as process:
        _, stderr = process.communicate(timeout=600)
    if process.returncode:
        raise RuntimeError(f"{command.name}: {stderr.decode(errors='replace')[-500:]}")
    return time.monotonic() - started_s


def _kill_after(command: Command, folder: Path, seconds: float) -> bool:
    """Whether the command was still running."""
    with _started(command, folder) as process:
        time.sleep(seconds)
        is_running = process.poll() is None
        if is_running:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    return is_running


def _remove_result(command: Command, folder: Path) -> None:
    for name in (command.result, *command.kept):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).unlink(missing_ok=True)


def tried(command: Command, kills: int, rng: random.Random) -> dict[str, object]:
    """Kills a command so many times; the row of the table."""
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        whole_s = _run_to_the_end(command, folder)
        _remove_result(command, folder)
        names = {path.name for path in folder.iterdir()}
        killed = 0
        while killed < kills:
            if not _kill_after(command, folder, rng.uniform(0, whole_s)):
                _remove_result(command, folder)
                continue
            killed += 1
            if (folder / command.result).exists():
                _note(problems, "half-written", lambda: command.require_whole(folder / command.result))
            if rng.random() < 0.5:
                continue  # killed again before it was complete
            _note(problems, "next run", lambda: _run_to_the_end(command, folder))
            _note(problems, "next run", lambda: command.require_whole(folder / command.result))
            left = {path.name for path in folder.iterdir()} - names - {command.result}
            left |= {path.name for path in folder.rglob("*.part")}
            problems += [f"left: {sorted(left)}"] if left else []
            _remove_result(command, folder)
    sys.stdout.write(f"{command.name}: killed {killed} times, {len(problems)} problems {problems[:3]}\n")
    return {"command": command.name, "kills": killed, "problems": len(problems)}


def _note(problems: list[str], what: str, check: Callable[[], object]) -> None:
    try:
        check()
    except Exception as error:
        problems.append(f"{what}: {error}")


def main(kills: int = 12, seed: int = 0) -> int:
    rows = [tried(command, kills, random.Random(f"{command.name} {seed}")) for command in COMMANDS]
    record("kills", rows)
    return 1 if any(row["problems"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
