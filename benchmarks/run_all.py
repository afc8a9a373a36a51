"""Every published figure in one go: runs the benchmarks of this folder one after the other, writes docs/benchmarks.md.

python benchmarks/run_all.py --pictures FOLDER_OF_LOW_RESOLUTION_PICTURES
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sr_edge.bench.environment import describe_environment
from sr_edge.bench.tables import machine_line

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
EXAMPLES = HERE.parent / "examples" / "pictures" / "calibration"
CONVNET_TILE, TAYLOR_TILE = "360x640", "96x96"


def run_script(name: str, out: Path, *arguments: str) -> Any:
    """Runs one benchmark, its output on the terminal, and returns the figures that it wrote."""
    print(f"\n== {name} {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, str(HERE / name), *arguments, "--json", str(out)], check=False)
    return json.loads(out.read_text(encoding="utf-8"))


def deploy(model: str, tile: str, precisions: str, pictures: Path, out: Path) -> Any:
    """Deploys random weights (speed does not depend on them) and returns the benchmark's report."""
    command = [sys.executable, "-m", "sr_edge", "deploy", model, "--scale", "2", "--random-weights", "--tile", tile]
    command += ["--images", str(pictures), "--runtimes", "openvino", "--precisions", precisions]
    command += ["--runs", "15", "--no-memory", "--json", "-o", str(out)]
    print(f"\n== {' '.join(command[1:])}", flush=True)
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["bench"]


def help_seconds(repeats: int = 9) -> float:
    """Median time of `sr-edge --help`."""
    samples = []
    for _ in range(repeats):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "sr_edge", "--help"], check=True, stdout=subprocess.DEVNULL)
        samples.append(time.perf_counter() - started)
    return statistics.median(samples)


def forms_section(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## The deployed form of TaylorSwinIR",
        "",
        "Time of each variant as a multiple of the static form's (TaylorSwinIR-light x2, 96x96, interleaved medians);",
        "targets in brackets. *Share*: arithmetic of the static form against the best 2048x2048 matmul of this machine.",
        "",
        "| runtime | traced | softmax 48x48 | SwinIR-light (softmax 8x8) | share of the peak |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            f"{row['ratios'][name]:.2f}" + (f" (≥ {row['targets'][name]:.2f})" if name in row["targets"] else "")
            for name in ("traced", "softmax 48x48", "softmax 8x8")
        ]
        share = f"{row['peak_share']:.0%} (≥ {row['peak_share_target']:.0%})" if row["peak_share"] else ""
        lines.append(f"| {row['runtime']} {row['precision']} | {' | '.join(cells)} | {share} |")
    return [*lines, "", "    python benchmarks/attention_forms.py", ""]


def convnet_section(report: dict[str, Any]) -> list[str]:
    rows = [row for row in report["rows"] if row["latency"]]
    p50 = [row["latency"]["total"]["p50_ms"] for row in rows]
    lines = [
        f"## convnet-tiny x2, one tile of {CONVNET_TILE}, OpenVINO",
        "",
        "| precision | ran | time against fp32 |",
        "|---|---|---|",
    ]
    for row, ms in zip(rows, p50, strict=True):
        variant = row["variant"]
        rest = "" if variant["precision"] != "int8" else f", rest {variant['rest']}"
        lines.append(f"| {variant['precision']}{rest} | {row['spec']['ran']} | {ms / p50[0]:.2f} |")
    return [*lines, ""]


def picture_section(overheads: dict[str, dict[str, Any]], memory: dict[str, Any], seconds: float) -> list[str]:
    lines = [
        "## Around the network",
        "",
        "Upscaling 1280x720, everything outside the network (tiles, blending, frame out; no file coding):",
        "",
        "| network | share of the time | ms per megapixel of output | wanted |",
        "|---|---|---|---|",
    ]
    for name, (figures, wanted) in overheads.items():
        share, per_mpx = figures["outside_share"], figures["outside_ms_per_output_megapixel"]
        lines.append(f"| {name} | {share:.1%} | {per_mpx:.1f} | ≤ {wanted:.0%} |")
    small, large = (memory[name]["peak_rss_bytes"] / 2**20 for name in ("small", "large"))
    verdict = "kept" if memory["holds"] else "exceeded"
    return [
        *lines,
        "",
        f"Peak memory: {small:.0f} MiB for 1280x720, {large:.0f} MiB for 3840x2160; the limit of "
        f"{memory['limit_bytes'] / 2**20:.0f} MiB is {verdict}.",
        "",
        f"`sr-edge --help` takes {seconds:.2f} s.",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, default=EXAMPLES, help="to calibrate with")
    parser.add_argument("--rounds", type=int, default=9, help="of the comparison of attention forms")
    args = parser.parse_args()
    machine = describe_environment()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds = help_seconds()
        forms = run_script("attention_forms.py", folder / "forms.json", "--rounds", str(args.rounds))
        convnet, taylor = folder / "convnet.sredge", folder / "taylor.sredge"
        report = deploy("convnet-tiny", CONVNET_TILE, "fp32,bf16,int8", args.pictures, convnet)
        deploy("taylor-swinir-light", TAYLOR_TILE, "fp32", args.pictures, taylor)
        int8 = ("--bundle", str(convnet), "--precision", "int8", "--io", "uint8")
        fp32 = ("--bundle", str(taylor), "--precision", "fp32", "--io", "uint8")
        overheads = {
            "convnet-tiny INT8": (run_script("tiling_overhead.py", folder / "a.json", *int8), 0.10),
            "TaylorSwinIR-light fp32": (
                run_script("tiling_overhead.py", folder / "b.json", *fp32, "--runs", "1"),
                0.02,
            ),
        }
        memory = run_script("upscale_memory.py", folder / "c.json", *int8)
    lines = [
        "# Figures",
        "",
        "Written by `make bench` (benchmarks/run_all.py). Speed is given as ratios of variants that took turns in one run;",
        "absolute times are kept only from a GPU.",
        "",
        f"Machine: {machine_line(machine)}",
        "",
    ]
    lines += forms_section(forms) + convnet_section(report) + picture_section(overheads, memory, seconds)
    PAGE.write_text("\n".join(lines), encoding="utf-8")
    print(f"\nwrote {PAGE}")


if __name__ == "__main__":
    main()
