"""Writes docs/commands.md: every command of sr-edge with an example and its real output on this machine.

Usage: python scripts/docs_content/outputs.py             runs every example (about ten minutes on two cores)
       python scripts/docs_content/outputs.py --only doctor inspect    runs these again, and what they need
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "commands.md"
COLUMNS = 100
SHOWN_ROOT = "~/sr_edge"
LIMIT_S = 3600
MAX_LINES = 120
BUNDLE = "convnet-tiny-x2.sredge"
CALIBRATION = "examples/pictures/calibration"
INTRODUCTION = """# Commands and their output

What each command prints, as `python scripts/docs_content/outputs.py` recorded it on a shared machine with two cores,
in a terminal of {columns} columns. Times depend on the machine; [benchmarks](benchmarks.md) has those to compare. The
folder of the checkout is shown as `{root}`. `sr-edge COMMAND --help` lists all options of a command.
"""


@dataclass(frozen=True)
class Example:
    """One example of a command.

    Attributes:
        command: The name of the command.
        text: What it does, and the page with details.
        line: The command line that is run.
        needs_bundle: Whether it uses the bundle that `deploy` wrote.
        shown: The command line that is shown; empty if it is `line`.
    """

    command: str
    text: str
    line: str
    needs_bundle: bool = True
    shown: str = ""


EXAMPLES = (
    Example("models", "The networks that can be deployed by name ([networks](models.md)).", "sr-edge models", False),
    Example("doctor", "What runs on this machine ([runtimes](runtimes.md)).", "sr-edge doctor", False),
    Example(
        "export",
        "The ONNX graph of a network, checked against PyTorch and the rules of a target ([export](export.md)).",
        "sr-edge export convnet-tiny --scale 2 --tile 64x64 --for tensorrt-10.3 -o convnet-tiny.onnx",
        False,
    ),
    Example(
        "calibrate",
        "An INT8 graph within a quality budget ([INT8](calibrate.md)).",
        f"sr-edge calibrate convnet-tiny --scale 2 --tile 64x64 --images {CALIBRATION} -o convnet-tiny.int8.onnx",
        False,
    ),
    Example(
        "deploy",
        "From the network to a bundle that was verified and timed ([bundles](bundle.md)).",
        f"sr-edge deploy convnet-tiny --scale 2 --images {CALIBRATION} --hr examples/pictures/hr -o {BUNDLE}",
        False,
    ),
    Example("inspect", "What a bundle contains.", f"sr-edge inspect {BUNDLE}"),
    Example("selftest", "Whether it computes the same here.", f"sr-edge selftest {BUNDLE} --runtimes openvino"),
    Example(
        "upscale",
        "A picture, a folder of pictures or a video file ([pictures](images.md), [video](video.md)).",
        f"sr-edge upscale {BUNDLE} {CALIBRATION}/coffee.png coffee-x2.png",
    ),
    Example(
        "batch",
        "An archive of pictures and videos, on one or many machines ([more than one machine](cluster.md)).",
        f"sr-edge batch {BUNDLE} {CALIBRATION} pictures-x2",
    ),
    Example(
        "stream",
        "A camera or live stream ([cameras](camera.md)); here a test picture, which runs until Ctrl-C.",
        f"timeout --signal INT 12 sr-edge stream {BUNDLE} test:160x90@10 null: || true",
        shown=f"sr-edge stream {BUNDLE} test:160x90@10 null:",
    ),
    Example(
        "preview",
        "The same in a browser ([preview page](preview.md)), until Ctrl-C.",
        f"timeout --signal INT 90 sr-edge preview {BUNDLE} test:160x90@10 || true",
        shown=f"sr-edge preview {BUNDLE} test:160x90@10",
    ),
    Example(
        "bench",
        "Speed and memory of every variant ([measurement](runtimes.md)).",
        f"sr-edge bench {BUNDLE} --runtimes onnxruntime,openvino --precisions fp32,int8",
    ),
    Example(
        "evaluate",
        "PSNR and SSIM against originals ([bundled networks](zoo.md)).",
        f"sr-edge evaluate {BUNDLE} --hr examples/pictures/hr",
    ),
    Example(
        "compare",
        "Where two variants differ, patch by patch and layer by layer ([comparing](compare.md)).",
        f"sr-edge compare {BUNDLE} {BUNDLE}@int8:openvino --patches 4 --picture worst.png",
    ),
    Example(
        "export-trtexec",
        "Files and a command line for trtexec ([Jetson](jetson.md)).",
        f"sr-edge export-trtexec {BUNDLE}",
    ),
    Example(
        "export-triton",
        "A model repository for the Triton server ([Jetson](jetson.md)).",
        f"sr-edge export-triton {BUNDLE} triton",
    ),
)
NOT_SHOWN = {
    "compile": "which needs TensorRT ([Jetson](jetson.md))",
    "gst-install": "which needs GStreamer ([GStreamer](gstreamer.md))",
    "train": "which takes hours ([training](training.md))",
}
"""Commands without output here, and why."""


def recorded(example: Example, folder: Path) -> str:
    """The output of an example, stdout and stderr in their order.

    Raises:
        SystemExit: The command failed.
    """
    environment = {
        **os.environ,
        "COLUMNS": str(COLUMNS),
        "NO_COLOR": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SR_EDGE_CACHE": str(folder / "cache"),
    }
    line = re.sub(r"\bsr-edge (?=[a-z])", f"{shlex.quote(sys.executable)} -m sr_edge ", example.line, count=1)
    print(f"$ {example.shown or example.line}", flush=True)
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
    )
    if done.returncode:
        raise SystemExit(f"{example.line} failed:\n{done.stdout}")
    return without_local_paths(done.stdout, folder)


def without_local_paths(output: str, folder: Path) -> str:
    """The output with folders of this machine replaced, without its kernel and trailing spaces, of bounded length."""
    for path, shown in ((str(folder), "."), (str(ROOT), SHOWN_ROOT), (str(Path.home()), "~")):
        output = output.replace(path, shown)
    output = re.sub(r"^Linux \S+", "Linux", output)
    lines = [line.rstrip() for line in output.strip("\n").splitlines()]
    if len(lines) > MAX_LINES:
        lines = [*lines[:MAX_LINES], f"({len(lines) - MAX_LINES} more lines)"]
    return "\n".join(lines)


def section(example: Example, output: str) -> str:
    """The part of the page about one example."""
    block = f"```console\n$ {example.shown or example.line}\n{output}\n```"
    return f"## {example.command}\n\n{example.text}\n\n{block}\n"


def kept_outputs(page: str) -> dict[str, str]:
    """The sections of a page that was written before, by command."""
    return {part.split("\n", 1)[0]: f"## {part.rstrip()}\n" for part in page.split("\n## ")[1:]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[example.command for example in EXAMPLES], help="commands to run")
    only = parser.parse_args().only
    sections = kept_outputs(PAGE.read_text(encoding="utf-8")) if only else {}
    wanted = [example for example in EXAMPLES if not only or example.command in only]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(ROOT / "examples", folder / "examples")
        if any(example.needs_bundle for example in wanted) and not any(each.command == "deploy" for each in wanted):
            recorded(next(example for example in EXAMPLES if example.command == "deploy"), folder)
        for example in wanted:
            sections[example.command] = section(example, recorded(example, folder))
    parts = [INTRODUCTION.format(columns=COLUMNS, root=SHOWN_ROOT)]
    parts += [sections[example.command] for example in EXAMPLES]
    missing = "; ".join(f"`sr-edge {command}`, {reason}" for command, reason in NOT_SHOWN.items())
    parts.append(f"## Commands without an example\n\n{missing}.\n")
    PAGE.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
