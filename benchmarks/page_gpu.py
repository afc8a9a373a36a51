"""Sections of the page about NVIDIA's GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from page_cells import Kept, row_of


def rtx_builds(report: Kept) -> Iterator[str]:
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
        table.append(row_of((row["model"], row["precision"], f"{row['nodes']}", f"{row['transposes']}", *shown)))
    yield "\n".join(table)
    built = [row for row in report["rows"] if not row["refused"]]
    parts, reformats = max(row["engine_layers"] for row in built), sum(row["reformats"] for row in built)
    yield (
        f"{report['library']}, tile {report['tile']}, for compute capability {report['compute_capability']}; INT8 has "
        f"an fp16 rest. {len(built)} of {len(report['rows'])} graphs build. It lists at most {parts} layers of an "
        f"engine and {reformats} reformats: what it compiles as one part it does not show."
    )


def gpu(report: Kept) -> Iterator[str]:
    """Absolute times: the device has a name and a clock that others can have too."""
    yield _gpu_device(report)
    pictures = list(next((row["fps"] for row in report["rows"] if row["fps"]), {}))
    headings = ("system", "runtime", "precision", "form", "tile ms", "p99", "x static", "share", *pictures)
    table = [row_of(headings), "|---|---|---|---|" + "---:|" * (4 + len(pictures))]
    ran = [row for row in report["rows"] if row["tile_ms"]]
    table += [row_of(_gpu_cells(row, pictures)) for row in ran]
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
    table = [row_of(headings), "|---|---|---|---|" + "---:|" * 5]
    for row in rows:
        latency, memory = row["on_device"]["latency"], row["on_device"]["memory"]
        times = (f"{latency[part]['p50_ms']:.3f}" for part in ("h2d", "compute", "d2h", "enqueue"))
        names = (row[name] for name in ("system", "runtime", "precision", "form"))
        table.append(row_of((*names, *times, f"{sum(memory.values()) / 1e6:.1f}")))
    yield "Of these, by the GPU's own clock:"
    yield "\n".join(table)


def _gpu_warnings(row: Kept) -> Iterator[str]:
    for warning in row["on_device"]["latency"]["warnings"]:
        yield f"{row['system']}, {row['runtime']} {row['precision']} {row['form']}: {warning}"
