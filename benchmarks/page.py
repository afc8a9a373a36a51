"""The kept figures as docs/benchmarks.md: each beside its target, with machine, conditions and command."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from attention_int8_rows import section as _attention_int8
from comparison_rows import ComparisonRow
from paper_rows import PaperRow

from sr_edge.bench import BenchReport, markdown_report
from sr_edge.bundle.plain import from_plain

Kept = Mapping[str, Any]  # what run_all.py keeps of one benchmark, as JSON gives it
Body = Callable[[Any], Iterator[str]]

START_UP_LIMIT_MS = 300
INTRODUCTION = (
    "Written by `make bench` (`benchmarks/run_all.py`); nothing here is typed by hand. Variants compared take turns "
    "in one process. Weights are random where quality plays no part. A target that is missed says so."
)
MIB = 1 << 20
OUR_INT8, LARGEST_INT8_DROP_DB = "sr-edge", 0.05
SCALING_PICTURE = "attention_scaling.png"


def benchmarks_page(kept: Mapping[str, Kept]) -> str:
    """The whole page; `kept` has the benchmarks that were run, by their names."""
    titled: dict[str, tuple[str, Body]] = {
        "papers": ("Sizes beside the papers'", _papers),
        "comparisons": ("The papers' comparisons, trained at our size", _comparisons),
        "systems": ("Static against traced form of every system, x2, 96x96", _systems),
        "forms": ("The deployed form of TaylorSwinIR-light x2, 96x96", _forms),
        "float16": ("What half precision costs the bundled networks, whole pictures", _float16),
        "int8": ("INT8 of the bundled networks, ours and others'", _int8),
        "attention-int8": ("INT8 for the attention's own matmuls", _attention_int8),
        "scaling": ("Attention against the number of pixels", _scaling),
        "path-light": ("Around the network: a 1280x720 picture through TaylorSwinIR-light", _path(0.02)),
        "path-convnet": ("Around the network: a 1280x720 picture through convnet-tiny", _path(0.10)),
        "memory": ("Memory of large pictures", _memory),
        "real-time": ("convnet-tiny x2, 640x360", _real_time),
        "rtx-builds": ("Every architecture compiled by TensorRT-RTX, without a GPU", _rtx_builds),
        "gpu": ("On an NVIDIA GPU, x2", _gpu),
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


def _papers(rows: Sequence[Kept]) -> Iterator[str]:
    found = [from_plain(PaperRow, row, "papers").cells() for row in rows]
    shown = [tuple("**missed**" if cell == "missed" else cell for cell in cells) for cells in found]
    yield "\n".join([_line(PaperRow.HEADINGS), "|---|---|---:|---:|---:|---|---|---|", *map(_line, shown)])
    yield (
        "MACs are multiply-accumulates, what the papers call FLOPs; layers take 64 channels of 64x64 pixels. Last "
        "digit: the paper's, rounded or cut off. Where nothing is allowed, nothing was promised."
    )


def _comparisons(report: Kept) -> Iterator[str]:
    for comparison in report["comparisons"]:
        rows = [from_plain(ComparisonRow, row, "comparisons") for row in comparison["rows"]]
        heading = [_line(ComparisonRow.HEADINGS), "|---|---:|---:|---:|---:|---:|---|---|"]
        recipe = comparison["recipe"]
        yield f"**{comparison['title']}** ({comparison['network']}), x2:"
        yield "\n".join([*heading, *(_line(row.cells()) for row in rows)])
        yield (
            f"{recipe['steps']} steps of {recipe['batch']} crops of {recipe['patch_px']}x{recipe['patch_px']}. "
            f"The paper: {comparison['paper']}."
        )
    yield (
        "Variants of a table learn bicubic x2 from the same crops in the same order, by the same recipe. Differences "
        "are to the first variant with the same seed, mean and range over the seeds: one whose range has both signs is "
        "noise, and one seed alone cannot tell. Papers train hundreds of times longer, LabNet's on blurred pictures."
    )


def _systems(report: Kept) -> Iterator[str]:
    table = ["| system | runtime | precision | traced / static | quartiles | |", "|---|---|---|---:|---|---|"]
    for row in report["rows"]:
        ratio = row["ratio"]
        quartiles = f"{ratio['low']:.2f} to {ratio['high']:.2f}"
        verdict = _verdict(ratio["median"], report["least_target"])
        cells = (row["system"], row["runtime"], row["precision"], f"{ratio['median']:.2f}", quartiles, verdict)
        table.append(_line(cells))
    yield "\n".join(table)
    mean = _verdict(report["geometric_mean"], report["mean_target"])
    least = _verdict(report["least"], report["least_target"])
    yield (
        f"Geometric mean {report['geometric_mean']:.2f} (target {report['mean_target']:.1f}: {mean}), least "
        f"{report['least']:.2f} (target {report['least_target']:.1f}: {least}). {_pooled(report['rows'][0])}"
    )


def _forms(rows: Sequence[Kept]) -> Iterator[str]:
    table = [
        "| runtime | precision | form | x the static form's time | quartiles | target | |",
        "|---|---|---|---:|---|---:|---|",
    ]
    for row in rows:
        for form, ratio in row["ratios"].items():
            target = row["targets"].get(form)
            wanted = f">= {target:.2f}" if target else ""
            found, quartiles = f"{ratio['median']:.2f}", f"{ratio['low']:.2f} to {ratio['high']:.2f}"
            verdict = _verdict(ratio["median"], target)
            table.append(_line((row["runtime"], row["precision"], form, found, quartiles, wanted, verdict)))
    yield "\n".join(table)
    yield _pooled(rows[0])
    for row in rows:
        share = row["peak_share"]
        if share:
            verdict = _verdict(share["median"], row["peak_share_target"])
            yield (
                f"{row['runtime']} {row['precision']}: {row['giga_macs']:.1f} GMAC at {share['median']:.0%} "
                f"({share['low']:.0%} to {share['high']:.0%}) of the rate of a 2048x2048 matmul (target "
                f"{row['peak_share_target']:.0%}: {verdict}); {row['threads']} threads."
            )


def _pooled(row: Kept) -> str:
    return (
        f"A ratio is taken in each of {row['rounds']} rounds; of {row['processes']} fresh processes' medians and "
        "quartiles the middle ones are shown."
    )


def _float16(report: Kept) -> Iterator[str]:
    headings = ("network", "pictures", "fp32, dB", "lost in fp16", "", "lost in bf16", "fp32 nodes of the fp16 file")
    table = [_line(headings), "|---|---|---:|---:|---|---:|---:|"]
    for row in report["rows"]:
        bf16 = row["bf16_loss_db"]
        cells = (
            row["network"],
            f"{row['test_set']} ({row['pictures']})",
            f"{row['fp32_db']:.3f}",
            f"{row['fp16_loss_db']:+.4f}",
            _verdict(report["largest_loss_db"], row["fp16_loss_db"]),
            "" if bf16 is None else f"{bf16:+.4f}",
            f"{row['fp32_nodes']} of {row['nodes']}",
        )
        table.append(_line(cells))
    yield "\n".join(table)
    left_out = f" {report['bf16_left_out']}." if report["bf16_left_out"] else ""
    yield (
        f"PSNR of luma; fp16 may lose {report['largest_loss_db']} dB. fp16: the file, islands and all, in real float16 "
        f"arithmetic; bf16: the fp32 file in OpenVINO. Tiles of 96x96.{left_out}"
    )


def _int8(networks: Sequence[Kept]) -> Iterator[str]:
    sets, bases = list(networks[0]["rows"][0]["quality"]), list(networks[0]["rows"][0]["ratios"])
    headings = ("network", "graph", *(f"{key}, dB" for key in sets), *(f"{key}, noise" for key in sets))
    table = [_line((*headings, *(f"x {base}" for base in bases), "")), "|---" * (len(headings) + len(bases) + 1) + "|"]
    table += [_line(cells) for network in networks for cells in _int8_rows(network, sets, bases)]
    yield "\n".join(table)
    yield (
        "dB: PSNR of luma less that of the fp32 graph, whole pictures in tiles of 96x96; at most "
        f"{LARGEST_INT8_DROP_DB} may be lost. noise: what changes in the output, in decibels below what the network "
        "adds to bicubic enlargement. x: time as a multiple of the float graph's, all graphs of a network in turn in "
        "OpenVINO, the rest of an INT8 graph in bf16 where the CPU has it. All calibrate on the same pictures."
    )


def _int8_rows(network: Kept, sets: Sequence[str], bases: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for row in network["rows"]:
        if row["failure"]:
            yield (network["network"], row["maker"], f"gives up: {row['failure'][:80]}", *[""] * (2 * len(sets) + 2))
            continue
        quality, ratios = row["quality"], row["ratios"]
        cells = [f"{quality[key]['change_db']:+.3f}" for key in sets]
        noises = [quality[key]["noise_below_residual_db"] for key in sets]
        cells += ["" if noise is None else f"-{noise:.1f}" for noise in noises]
        cells += [f"{ratios[base]['median']:.2f}" for base in bases]
        yield (network["network"], row["maker"], *cells, _int8_verdict(row, network["targets"]))


def _int8_verdict(row: Kept, targets: Mapping[str, float]) -> str:
    if row["maker"] != OUR_INT8:
        return ""
    kept = all(found["change_db"] >= -LARGEST_INT8_DROP_DB for found in row["quality"].values())
    slow = [base for base, limit in targets.items() if row["ratios"][base]["median"] > limit]
    missed = [*(() if kept else ("dB",)), *(f"{targets[base]} x {base}" for base in slow)]
    return f"**missed** {', '.join(missed)}" if missed else "met"


def _camera(figures: Kept) -> Iterator[str]:
    overlap, kept_up, overhead, latest = (figures[key] for key in ("overlap", "kept_up", "overhead", "latest"))
    lost = kept_up["dropped"] + kept_up["failed"]
    rows = (
        ("stages overlapped, frames a second as a multiple of one after the other", f"{overlap['ratio']:.2f}", "1.25",
         _verdict(overlap["ratio"], 1.25)),
        (f"a model faster than the camera: of {kept_up['frames']} frames lost, times", f"{lost}, "
         f"{'equal' if kept_up['times_equal'] else 'not equal'}", "0, equal",
         _verdict(kept_up["times_equal"] - lost, 1)),
        (f"`latest` for {latest['seconds']:.0f} s, a frame takes {latest['model_ms']:.0f} ms: latency p99",
         f"{latest['latency_p99_ms']:.0f} ms", f"{latest['allowed_p99_ms']:.0f} ms",
         _verdict(latest["allowed_p99_ms"], latest["latency_p99_ms"])),
        ("its memory after the first minute", f"+{latest['memory_growth_mb']:.1f} MB", "5 MB",
         _verdict(5, latest["memory_growth_mb"])),
        ("outside the model, of the model's time", f"{overhead['overhead_share']:.1%}", "10 %",
         _verdict(0.1, overhead["overhead_share"])),
        ("outside the model, a megapixel of output", f"{overhead['overhead_ms_per_output_megapixel']:.2f} ms", "", ""),
    )  # fmt: skip
    yield "\n".join([_line(("", "found", "wanted", "")), "|---|---:|---:|---|", *map(_line, rows)])
    yield f"{figures['session']}. Variants take turns; medians of ratios."


def _scaling(figures: Kept) -> Iterator[str]:
    """Exponents, and ratios at one size; the curves are a picture that the benchmark draws."""
    rows = figures["scaling"]
    sides = sorted({point["side_px"] for point in figures["points"]})
    at = rows[0]["compared_at_px"]
    yield f"![Time and memory of attention layers against N](images/{SCALING_PICTURE})"
    table = ["| attention | | exponent of N | plain | x plain | limit | |", "|---|---|---:|---:|---:|---:|---|"]
    for row in rows:
        for kind in ("time", "memory"):
            ratio, limit = row[f"{kind}_ratio"], row[f"{kind}_limit"]
            cells = (
                row["name"],
                kind,
                f"{row[f'{kind}_exponent']:.2f}",
                f"{row[f'plain_{kind}_exponent']:.2f}",
                f"{ratio:.3f}",
                f"<= {limit:.2f}" if limit else "",
                _verdict(limit, ratio) if limit else "",
            )
            table.append(_line(cells))
    yield "\n".join(table)
    yield (
        f"Layers in training form in PyTorch, pictures of {sides[0]}x{sides[0]} to {sides[-1]}x{sides[-1]}, every "
        f"point in a fresh process; multiples of plain non-local attention of the same width at {at}x{at}. "
        "LCoA's time is a tenth of its ten layers, one LSP and nine CoA."
    )


def _path(limit: float) -> Body:
    def body(figures: Kept) -> Iterator[str]:
        found = figures["overhead"]
        verdict = _verdict(limit, found["outside_share"])
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


def _rtx_builds(report: Kept) -> Iterator[str]:
    table = [
        "| model, x2 | precision | nodes | transposes | layers | of them INT8 | engine MB | scratch MB | build s |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in report["rows"]:
        figures = (
            f"{row['layers']}",
            f"{row['quantized']}",
            f"{row['engine_bytes'] / 1e6:.2f}",
            f"{row['activation_bytes'] / 1e6:.2f}",
            f"{row['build_s']:.1f}",
        )
        refused = (f"**refused**: {row['refused']}", "", "", "", "")
        shown = refused if row["refused"] else figures
        table.append(_line((row["model"], row["precision"], f"{row['nodes']}", f"{row['transposes']}", *shown)))
    yield "\n".join(table)
    built = [row for row in report["rows"] if not row["refused"]]
    parts, reformats = max(row["engine_layers"] for row in built), sum(row["reformats"] for row in built)
    yield (
        f"{report['library']}, tile {report['tile']}, for compute capability {report['compute_capability']}; INT8 has "
        f"an fp16 rest. {len(built)} of {len(report['rows'])} graphs build. It lists at most {parts} layers of an "
        f"engine and {reformats} reformats: what it compiles as one part it does not show."
    )


def _gpu(report: Kept) -> Iterator[str]:
    """Absolute times: the device has a name and a clock that others can have too."""
    yield _gpu_device(report)
    pictures = list(next((row["fps"] for row in report["rows"] if row["fps"]), {}))
    headings = ("system", "runtime", "precision", "form", "tile ms", "p99", "x static", "share", *pictures)
    table = [_line(headings), "|---|---|---|---|" + "---:|" * (4 + len(pictures))]
    ran = [row for row in report["rows"] if row["tile_ms"]]
    table += [_line(_gpu_cells(row, pictures)) for row in ran]
    yield "\n".join(table)
    yield (
        f"x2, tile {report['tile']}, uint8 frames in the host's memory to uint8 frames there, {report['rounds']} "
        "rounds, all runtimes of a system in turn; medians. x static: the traced form's time as a multiple of the "
        "static form's, a ratio a round. share: multiply-accumulates of the network in that time, beside the rate of a "
        "large matmul of that precision in PyTorch. The last columns are whole pictures per second through the "
        "upscaler, doubled in height and width; random weights."
    )
    yield from _gpu_parts([row for row in ran if row["on_device"]])
    warnings = [line for row in ran if row["on_device"] for line in _gpu_warnings(row)]
    absent = dict.fromkeys(f"{row['runtime']} did not run: {row['reason']}" for row in report["rows"] if row["reason"])
    told = [*filter(None, [report["warning"]]), *warnings, *absent]
    if told:
        yield "\n".join(f"- {line}" for line in told)


def _gpu_device(report: Kept) -> str:
    clocks = [
        f"{state['clock_mhz']:.0f} MHz{of_most} and {state['power_w'] or 0:.0f} W {when}"
        for when, state in (("before", report["before"]), ("after", report["after"]))
        if state and state["clock_mhz"]
        for of_most in [f" of {state['max_clock_mhz']:.0f}" if state["max_clock_mhz"] else ""]
    ]
    rates = [f"{precision} {rate / 1e12:.1f}" for precision, rate in report["matmul_macs_per_s"].items()]
    return (
        f"{report['device']}, compute capability {report['compute_capability']}, "
        f"{report['memory_bytes'] / 2**30:.0f} GiB; {', '.join(clocks) or 'clocks not readable'}; "
        f"large matmuls, 10^12 multiply-accumulates a second: {', '.join(rates) or 'not measured'}"
    )


def _gpu_cells(row: Kept, pictures: Sequence[str]) -> tuple[str, ...]:
    ratio, share = row["of_static"], row["peak_share"]
    return (
        *(row[name] for name in ("system", "runtime", "precision", "form")),
        f"{row['tile_ms']['p50_ms']:.2f}",
        f"{row['tile_ms']['p99_ms']:.2f}",
        f"{ratio['median']:.2f}" if ratio else "",
        f"{share:.1%}" if share else "",
        *(f"{row['fps'][name]:.1f}" for name in pictures),
    )


def _gpu_parts(rows: Sequence[Kept]) -> Iterator[str]:
    if not rows:
        return
    headings = ("system", "runtime", "precision", "form", "H2D ms", "compute ms", "D2H ms", "enqueue ms", "MB device")
    table = [_line(headings), "|---|---|---|---|" + "---:|" * 5]
    for row in rows:
        latency, memory = row["on_device"]["latency"], row["on_device"]["memory"]
        times = (f"{latency[part]['p50_ms']:.3f}" for part in ("h2d", "compute", "d2h", "enqueue"))
        names = (row[name] for name in ("system", "runtime", "precision", "form"))
        table.append(_line((*names, *times, f"{sum(memory.values()) / 1e6:.1f}")))
    yield "Of these, by the GPU's own clock:"
    yield "\n".join(table)


def _gpu_warnings(row: Kept) -> Iterator[str]:
    for warning in row["on_device"]["latency"]["warnings"]:
        yield f"{row['system']}, {row['runtime']} {row['precision']} {row['form']}: {warning}"


def _start_up(figures: Kept) -> Iterator[str]:
    yield (
        f"`sr-edge --help`: median {figures['p50_ms']:.0f} ms, longest {figures['max_ms']:.0f} ms of {figures['runs']} "
        f"(limit {START_UP_LIMIT_MS} ms: {_verdict(START_UP_LIMIT_MS, figures['p50_ms'])})."
    )


def _device(figures: Kept) -> Iterator[str]:
    yield (
        f"`[{figures['runtime']}]` on {figures['python']}: {figures['size_mb']} MB, the interpreter's own packages "
        f"included (limit {figures['limit_mb']} MB: {_verdict(figures['limit_mb'], figures['size_mb'])}). No torch; a "
        "bundle passed its self-test and a picture was upscaled there."
    )


def _verdict(value: float, wanted: float | None) -> str:
    """Whether `value` is at least `wanted`."""
    if wanted is None:
        return ""
    return "met" if value >= wanted else "**missed**"


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"
