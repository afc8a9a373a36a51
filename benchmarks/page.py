"""The kept figures as docs/benchmarks.md: each beside its target, with machine, conditions and command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

import page_gpu
import page_networks
from attention_int8_rows import section as _attention_int8
from finetuning_rows import section as _finetuning
from page_cells import Body, Kept, judged, row_of

from sr_edge.bench import BenchReport, markdown_report
from sr_edge.bundle.plain import from_plain

START_UP_LIMIT_MS = 300
INTRODUCTION = (
    "Written by `make bench` (`benchmarks/run_all.py`); nothing here is typed by hand. Variants compared take turns "
    "in one process. Weights are random where quality plays no part. A target that is missed says so."
)
MIB = 1 << 20


def benchmarks_page(kept: Mapping[str, Kept]) -> str:
    """The whole page; `kept` has the benchmarks that were run, by their names."""
    titled: dict[str, tuple[str, Body]] = {
        "papers": ("Sizes beside the papers'", page_networks.papers),
        "comparisons": ("The papers' comparisons, trained at our size", page_networks.comparisons),
        "systems": ("Static against traced form of every system, x2, 96x96", page_networks.systems),
        "forms": ("The deployed form of TaylorSwinIR-light x2, 96x96", page_networks.forms),
        "movement": ("Where the static form of TaylorSwinIR-light spends its time", page_networks.movement),
        "float16": ("What half precision costs the bundled networks, whole pictures", page_networks.float16),
        "int8": ("INT8 of the bundled networks, ours and others'", page_networks.int8),
        "attention-int8": ("INT8 for the attention's own matmuls", _attention_int8),
        "finetuning": ("Fine-tuning over calibration alone", _finetuning),
        "scaling": ("Attention against the number of pixels", page_networks.scaling),
        "path-light": ("Around the network: a 1280x720 picture through TaylorSwinIR-light", _path(0.02)),
        "path-convnet": ("Around the network: a 1280x720 picture through convnet-tiny", _path(0.10)),
        "memory": ("Memory of large pictures", _memory),
        "real-time": ("convnet-tiny x2, 640x360", _real_time),
        "rtx-builds": ("Every architecture compiled by TensorRT-RTX, without a GPU", page_gpu.rtx_builds),
        "gpu": ("On an NVIDIA GPU, x2", page_gpu.gpu),
        "camera": ("The camera loop, convnet-tiny x2, 320x180", _camera),
        "start-up": ("Starting the command line", _start_up),
        "device": ("What a device installs", _device),
    }
    sections = [_section(title, kept[name], body) for name, (title, body) in titled.items() if name in kept]
    return "\n\n".join(["# Benchmarks", INTRODUCTION, *chain.from_iterable(sections)]) + "\n"


def _section(title: str, kept: Kept, body: Body) -> Iterator[str]:
    machine, environment = kept["environment"]["machine"], kept["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    clock = f"{environment['clock_mhz']:.0f} MHz, " if environment["clock_mhz"] else ""
    yield f"## {title}"
    yield "```console\n" + "\n".join(kept["commands"]) + "\n```"
    yield (
        f"{machine['cpu']}, {machine['usable_cores']} cores, {clock}load {environment['load_average']:.1f} before it "
        f"began; {', '.join(machine['cpu_flags'] or ())}; {versions}; {environment['started']}"
    )
    yield from body(kept["figures"])


def _camera(figures: Kept) -> Iterator[str]:
    latest = figures["latest"]
    rows = (
        *(row for name, found in figures["precisions"].items() for row in _camera_precision(name, found)),
        (f"`latest` for {latest['seconds']:.0f} s, a frame takes {latest['model_ms']:.0f} ms: latency p99",
         f"{latest['latency_p99_ms']:.0f} ms", f"{latest['allowed_p99_ms']:.0f} ms",
         judged(latest["allowed_p99_ms"], latest["latency_p99_ms"])),
        ("its memory after the first minute", f"+{latest['memory_growth_mb']:.1f} MB", "5 MB",
         judged(5, latest["memory_growth_mb"])),
    )  # fmt: skip
    yield "\n".join([row_of(("", "found", "wanted", "")), "|---|---:|---:|---|", *map(row_of, rows)])
    sessions = "; ".join(found["session"] for found in figures["precisions"].values())
    yield f"{figures['clip']}; {sessions}. Variants take turns; medians of ratios."


def _camera_precision(name: str, found: Kept) -> Iterator[tuple[str, str, str, str]]:
    ratio, overhead, kept_up = found["overlap"]["ratio"], found["overhead"], found["kept_up"]
    lost = kept_up["dropped"] + kept_up["failed"]
    share, megapixel_ms = overhead["overhead_share"], overhead["overhead_ms_per_output_megapixel"]
    yield (
        f"{name}: a video file through the loop, frames a second as a multiple of one after the other",
        f"{ratio:.2f}",
        "1.25",
        judged(ratio, 1.25),
    )
    yield (
        f"{name}: outside the model, of the model's {overhead['engine_ms']:.1f} ms",
        f"{share:.1%}",
        "10 %",
        judged(0.1, share),
    )
    yield f"{name}: outside the model, a megapixel of output", f"{megapixel_ms:.2f} ms", "", ""
    yield (
        f"{name}: of {kept_up['frames']} frames at 30 a second lost, times "
        f"(longest in the model: {kept_up['longest_in_model_ms']:.0f} ms)",
        f"{lost}, {'equal' if kept_up['times_equal'] else 'not equal'}",
        "0, equal",
        judged(kept_up["times_equal"] - lost, 1),
    )


def _path(limit: float) -> Body:
    def body(figures: Kept) -> Iterator[str]:
        found = figures["overhead"]
        verdict = judged(limit, found["outside_share"])
        yield f"{found['runtime']}, {found['ran']}, {found['tiles']} tiles of {found['tile']}, {found['runs']} runs:"
        yield "\n".join(
            [
                f"- in the network {found['network_ms']:,.0f} ms",
                "- outside (cutting, conversion, blending, the output frame; not file coding) "
                f"{found['outside_ms']:.1f} ms, {found['outside_ms_per_output_megapixel']:.2f} ms per output megapixel",
                f"- share outside {found['outside_share']:.2%} (limit {limit:.0%}: {verdict})",
            ]
        )

    return body


def _memory(figures: Kept) -> Iterator[str]:
    yield "\n".join(
        f"- {peak['picture']}: peak RSS {peak['peak_rss_bytes'] / MIB:.0f} MiB ({peak['runtime']}, {peak['ran']})"
        for peak in (figures["small"], figures["large"])
    )
    verdict = "kept" if figures["holds"] else "**exceeded**"
    yield (
        "Limit for the larger one: that of the smaller, and three times the bytes of the larger input and output, "
        f"{figures['limit_bytes'] / MIB:.0f} MiB: {verdict}."
    )


def _real_time(figures: Kept) -> Iterator[str]:
    untested = {**figures, "rows": [{**row, "self_test": None} for row in figures["rows"]]}  # JSON has no infinite dB
    yield markdown_report(from_plain(BenchReport, untested, "real-time")).strip()
    yield "The aim is 40 ms in INT8."


def _start_up(figures: Kept) -> Iterator[str]:
    yield (
        f"`sr-edge --help`: median {figures['p50_ms']:.0f} ms, longest {figures['max_ms']:.0f} ms of {figures['runs']} "
        f"(limit {START_UP_LIMIT_MS} ms: {judged(START_UP_LIMIT_MS, figures['p50_ms'])})."
    )


def _device(figures: Kept) -> Iterator[str]:
    yield (
        f"`[{figures['runtime']}]` on {figures['python']}: {figures['size_mb']} MB, the interpreter's own packages "
        f"included (limit {figures['limit_mb']} MB: {judged(figures['limit_mb'], figures['size_mb'])}). No torch; a "
        "bundle passed its self-test and a picture was upscaled there."
    )
