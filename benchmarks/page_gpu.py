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
    yield from _engines(report)
    yield from _features(report)
    ran = [row for row in report["rows"] if row["tile_ms"]]
    if ran:
        yield from _comparison(report, ran)
    warnings = [line for row in ran if row["on_device"] for line in _gpu_warnings(row)]
    absent = dict.fromkeys(f"{row['runtime']} did not run: {row['reason']}" for row in report["rows"] if row["reason"])
    notes = [*filter(None, [report["warning"]]), *warnings, *absent, *_tests(report), *_not_done(report)]
    if notes:
        yield "\n".join(f"- {line}" for line in notes)


def _comparison(report: Kept, ran: Sequence[Kept]) -> Iterator[str]:
    pictures = list(next((row["fps"] for row in ran if row["fps"]), {}))
    names, measured = ("system", "tile", "runtime", "precision", "form"), ("tile ms", "p99", "x static", "share")
    table = [
        row_of((*names, *measured, "roofline", *pictures)),
        "|---|---|---|---|---|" + "---:|" * (5 + len(pictures)),
    ]
    table += [row_of(_gpu_cells(row, pictures)) for row in ran]
    yield "\n".join(table)
    yield (
        f"x2, uint8 frames in the host's memory to uint8 frames there, {report['rounds']} "
        "rounds, all runtimes of a system in turn (torch.compile beside torch, apart from the others); medians. "
        "x static: the traced form's time as a multiple of the static form's, the median of one ratio for each "
        "round. share: "
        "multiply-accumulates of the network in that time, beside the rate of a large matmul of that precision. "
        "roofline: the shortest time in which the convolutions and matrix products could be computed at that rate and "
        "at the rate of a copy within the GPU's memory, beside that time. The last columns are whole pictures per "
        "second through the upscaler, doubled in height and width; random weights."
    )
    yield from _gpu_parts([row for row in ran if row["on_device"]])


def _engines(report: Kept) -> Iterator[str]:
    """Bundled networks in TensorRT."""
    if not report["engines"]:
        return
    names, measured = ("bundle", "runtime", "precision", "ran"), ("ready after s", "golden dB", "at least", "tile ms")
    table = [row_of((*names, *measured, "MB device")), "|---|---|---|---|" + "---:|" * 5]
    table += [row_of(_engine_cells(row)) for row in report["engines"]]
    yield "\n".join(table)
    yield (
        "Bundled networks with their own weights, engines built here. golden dB: the worst golden frame against the "
        "reference that was written with the bundle. tile ms: copy in, engine and copy out by the GPU's own clock."
    )
    notes = dict.fromkeys(row["note"] for row in report["engines"] if row["note"])
    if notes:
        yield "\n".join(f"- {note}" for note in notes)


def _engine_cells(row: Kept) -> tuple[str, ...]:
    names = (row["network"], row["runtime"], row["precision"])
    if not row["ran"]:
        return (*names, f"**no engine**: {row['reason']}", *5 * ("",))
    missed = "" if row["passed"] else " **not reproduced**"
    device = row["on_device"]
    golden = "equal" if row["golden_db"] is None and row["passed"] else f"{row['golden_db'] or 0:.1f}{missed}"
    return (
        *names,
        row["ran"],
        f"{row['open_s']:.1f}",
        golden,
        "" if row["golden_min_db"] is None else f"{row['golden_min_db']:.0f}",
        f"{device['latency']['total']['p50_ms']:.3f}" if device else "",
        f"{sum(device['memory'].values()) / 1e6:.1f}" if device else "",
    )


def _features(report: Kept) -> Iterator[str]:
    for tried in report["features"]:
        verdicts = {True: "kept", False: "**broken**", None: "not tried"}
        rows = [row_of((check["name"], verdicts[check["kept"]], check["told"])) for check in tried["checks"]]
        yield f"{tried['network']} in {tried['runtime']}, fp16:"
        yield "\n".join([row_of(("promise", "", "")), "|---|---|---|", *rows])


def _tests(report: Kept) -> Iterator[str]:
    tests = report["tests"]
    if tests:
        counts = ", ".join(f"{tests[name]} {name}" for name in ("passed", "failed", "error", "skipped") if tests[name])
        yield f"`pytest -m gpu`: {counts or 'nothing was run'}"


def _not_done(report: Kept) -> Iterator[str]:
    """Each reason once, with the steps that it kept from being done."""
    titles: dict[str, list[str]] = {}
    for step in report["steps"]:
        if step["status"] != "done":
            titles.setdefault(f"{step['status']}: {step['reason']}", []).append(step["title"])
    yield from (f"{'; '.join(names)}: {reason}" for reason, names in titles.items())


def _gpu_device(report: Kept) -> str:
    clocks = [
        f"{state['clock_mhz']:.0f} MHz{of_most} and {state['power_w'] or 0:.0f} W {when}"
        for when, state in (("before", report["before"]), ("after", report["after"]))
        if state and state["clock_mhz"]
        for of_most in [f" of {state['max_clock_mhz']:.0f}" if state["max_clock_mhz"] else ""]
    ]
    rates = [f"{precision} {rate / 1e12:.1f}" for precision, rate in report["matmul_macs_per_s"].items()]
    copied = report["copy_bytes_per_s"]
    source = f" ({report['rates_source']})" if report["rates_source"] else ""
    return (
        f"{report['device']}, compute capability {report['compute_capability']}, "
        f"{report['memory_bytes'] / 2**30:.0f} GiB; driver {report['driver'] or 'not known'}; "
        f"{', '.join(clocks) or 'clocks not readable'}; large matmuls, 10^12 multiply-accumulates a second: "
        f"{', '.join(rates) or 'not measured'}; a copy reads and writes "
        f"{f'{copied / 1e9:,.0f} GB a second' if copied else 'at a rate that was not measured'}{source}"
    )


def _gpu_cells(row: Kept, pictures: Sequence[str]) -> tuple[str, ...]:
    ratio, share, roofline = row["of_static"], row["peak_share"], row["roofline_share"]
    return (
        *(row[name] for name in ("system", "tile", "runtime", "precision", "form")),
        f"{row['tile_ms']['p50_ms']:.2f}",
        f"{row['tile_ms']['p99_ms']:.2f}",
        f"{ratio['median']:.2f}" if ratio else "",
        f"{share:.1%}" if share else "",
        f"{roofline:.1%}" if roofline else "",
        *(f"{row['fps'][name]:.1f}" if name in row["fps"] else "" for name in pictures),
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
