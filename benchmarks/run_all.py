"""Every published figure again: runs the benchmarks one after the other and writes docs/benchmarks.md.

Leave the machine alone meanwhile. The figures are kept in docs/results, one JSON file a benchmark.

    python benchmarks/run_all.py                  all of them
    python benchmarks/run_all.py --only forms     some of them; the page keeps the figures of the others
    python benchmarks/run_all.py --only           none of them; the page is written again from what is kept
    python benchmarks/run_all.py --only int8 --networks swinir-light-x2     of this one network, the others stay
    python benchmarks/run_all.py --only comparisons     networks that are trained for it, an hour and more; nor these:
        of runs/zoo it takes the light pair, which `python -m scripts.train_zoo --work runs/zoo` trains

Those of an NVIDIA GPU are not among them: `make bench-gpu` measures and keeps them.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from page import benchmarks_page

from sr_edge.bench import describe_environment, write_text

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
GPU = "gpu"
"""Kept by `bench_gpu.py`, shown on the page with the others."""
_DEPLOY = (
    "sr-edge deploy {} --random-weights --scale 2 --images examples/pictures/calibration --runtimes openvino --runs 3"
)
BUNDLES = {
    "light.sredge": f"{_DEPLOY.format('taylor-swinir-light')} --tile 96x96 --precisions fp32 -o light.sredge",
    "convnet.sredge": f"{_DEPLOY.format('convnet-tiny')} --tile 360x640 --precisions fp32,int8 -o convnet.sredge",
}
STEPS = {  # name: a command that prints its figures as JSON, or writes them to {json}
    "papers": "python benchmarks/paper_tables.py --json {json}",
    "systems": "python benchmarks/system_forms.py --json {json}",
    "forms": "python benchmarks/attention_forms.py --json {json}",
    "movement": "python benchmarks/data_movement.py --json {json}",
    "float16": "python benchmarks/float16_loss.py --json {json}",
    "int8": "python benchmarks/int8_comparison.py --json {json}",
    "attention-int8": "python benchmarks/attention_int8.py --json {json}",
    "finetuning": "python benchmarks/finetuning.py --json {json}",
    "scaling": ("python benchmarks/attention_scaling.py --plot docs/images/attention_scaling.png --json {json}"),
    "path-light": "python benchmarks/tiling_overhead.py --bundle light.sredge --io uint8 --runs 2 --json {json}",
    "path-convnet": (
        "python benchmarks/tiling_overhead.py --bundle convnet.sredge --precision int8 --io uint8 --json {json}"
    ),
    "real-time": "sr-edge bench convnet.sredge --runtimes openvino --precisions fp32,bf16,int8 --runs 30 --json",
    "memory": "python benchmarks/upscale_memory.py --bundle convnet.sredge --precision int8 --io uint8 --json {json}",
    "rtx-builds": "python benchmarks/rtx_builds.py --json {json}",
    "camera": "python benchmarks/camera.py --json {json}",
    "start-up": "python benchmarks/start_up.py --json {json}",
    "device": "scripts/device_env openvino convnet.sredge --json {json}",
}
TRAINED_STEPS = {"comparisons": "python benchmarks/paper_comparisons.py --seeds 1 --pair runs/zoo --json {json}"}


def run_networks(name: str, networks: list[str], folder: Path) -> None:
    """One benchmark of some networks anew; what the file says of the machine and of the others stays."""
    file, figures = RESULTS / f"{name}.json", folder / f"{name}.json"
    if not file.exists():
        raise SystemExit(f"there are no figures of others to keep; measure all networks first: --only {name}")
    kept = json.loads(file.read_text(encoding="utf-8"))
    here, there = asdict(describe_environment())["machine"], kept["environment"]["machine"]
    if any(here[key] != there[key] for key in ("cpu", "usable_cores")):
        raise SystemExit(f"{file} was measured on another machine; measure all networks here: --only {name}")
    figures.write_text(json.dumps(kept["figures"]), encoding="utf-8")
    done = run(f"{STEPS[name]} --only {' '.join(networks)}", folder, figures)
    found = json.loads(figures.read_text(encoding="utf-8"))
    lost = {*named_networks(kept["figures"]), *networks} - named_networks(found)
    if lost or (done.returncode != 0 and found == kept["figures"]):  # a missed limit also fails, but leaves its figures
        raise SystemExit(f"{name} failed ({', '.join(sorted(lost)) or 'all'}); the figures kept are as they were")
    write_text(file, json.dumps({**kept, "figures": found}, indent=1) + "\n")


def named_networks(figures: Any) -> set[str]:
    """Of a benchmark that goes through the bundled networks."""
    return {row["network"] for row in (figures["rows"] if isinstance(figures, dict) else figures)}


def run_step(name: str, folder: Path) -> None:
    """Runs one benchmark, with the bundles that it names, and keeps its figures."""
    command, figures = {**STEPS, **TRAINED_STEPS}[name], folder / f"{name}.json"
    needed = [BUNDLES[word] for word in command.split() if word in BUNDLES]
    for deploy in needed:
        if not (folder / deploy.split()[-1]).exists():
            run(deploy, folder).check_returncode()
    environment = describe_environment()
    done = run(command, folder, figures)
    if done.returncode != 0 and not figures.exists():  # a missed limit also fails, but leaves its figures
        raise SystemExit(f"{name} failed; the figures kept are as they were")
    document = figures.read_text(encoding="utf-8") if figures.exists() else done.stdout
    kept = {
        "environment": asdict(environment),
        "commands": [*needed, command.replace(" --json {json}", "")],
        "figures": json.loads(document),
    }
    keep(name, kept)


def keep(name: str, kept: Any) -> None:
    """Writes the figures of one benchmark to docs/results."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_text(RESULTS / f"{name}.json", json.dumps(kept, indent=1) + "\n")


def write_page() -> str:
    """Writes the page from everything that is kept and returns its path within the repository."""
    files = {name: RESULTS / f"{name}.json" for name in (*STEPS, GPU, *TRAINED_STEPS)}
    kept = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.exists()}
    write_text(PAGE, benchmarks_page(kept))
    return str(PAGE.relative_to(ROOT))


def run(command: str, folder: Path, figures: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command as printed, in the repository's root; the bundles that it names are in `folder`."""
    words = [word.format(json=figures) for word in shlex.split(command)]
    words = [str(folder / word) if word in BUNDLES else word for word in words]
    program = {"python": [sys.executable], "sr-edge": [sys.executable, "-m", "sr_edge"]}.get(words[0], words[:1])
    print(f"$ {command}", flush=True)
    return subprocess.run([*program, *words[1:]], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)


def main() -> None:
    names = [*STEPS, *TRAINED_STEPS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=names, default=list(STEPS), metavar="NAME", help=", ".join(names))
    parser.add_argument(
        "--networks", nargs="+", metavar="NAME-xSCALE", help="measure these networks only; with --only int8 or float16"
    )
    args = parser.parse_args()
    if args.networks and args.only not in (["int8"], ["float16"]):
        parser.error("--networks goes with --only int8, or with --only float16")
    with tempfile.TemporaryDirectory() as folder:
        if args.networks:
            run_networks(args.only[0], args.networks, Path(folder))
        else:
            for name in args.only:
                run_step(name, Path(folder))
    print(f"wrote {write_page()}")


if __name__ == "__main__":
    main()
