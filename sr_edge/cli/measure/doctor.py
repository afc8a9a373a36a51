"""`sr-edge doctor`: shows which runtimes and devices work on this machine, and what to install for the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.cli.options import JsonOption

if TYPE_CHECKING:
    from rich.console import Group

    from sr_edge.runtimes import Diagnosis, RuntimeReport

MARK = "*"
"""Marks a precision that the library can compute, but that sessions refuse for the graphs that sr-edge writes."""


CodecsOption = Annotated[
    bool,
    typer.Option(
        "--codecs",
        help="Instead, try the hardware encoders and decoders of FFmpeg and GStreamer, each with a few frames.",
    ),
]


def doctor(codecs: CodecsOption = False, as_json: JsonOption = False) -> None:
    """Report which runtimes and devices work on this machine."""
    from sr_edge.cli.measure.video_codecs import compiled_line, readable, try_video_codecs
    from sr_edge.cli.output import result_on_stdout, stage_on_stderr

    with result_on_stdout(as_json) as show:
        if codecs:
            with stage_on_stderr("trying the video codecs"):
                tried = try_video_codecs()
            show(tried, readable(tried))
            return
        with stage_on_stderr("trying the runtimes"):
            from sr_edge.runtimes import diagnose

            diagnosis = diagnose()
        show(diagnosis, _readable(diagnosis, compiled_line()))


def _readable(diagnosis: Diagnosis, codecs: str) -> Group:
    from rich.console import Group
    from rich.table import Table

    machine = diagnosis.machine
    flags = "unknown" if machine.cpu_flags is None else ", ".join(machine.cpu_flags) or "none"
    machine_text = (
        f"{machine.system}, Python {machine.python}\n{machine.cpu}, {machine.usable_cores} cores, "
        f"{machine.memory_bytes / 1e9:.1f} GB\ninstructions for low precision: {flags}\n"
    )
    table = Table("runtime", "works", "version", "device", "precisions", "description")
    for report in diagnosis.runtimes:
        for row in _rows(report):
            table.add_row(*row)
    missing = [_advice(report) for report in diagnosis.runtimes if not report.availability.works]
    return Group(machine_text, table, *_caveats(diagnosis), *missing, codecs)


def _rows(report: RuntimeReport) -> list[tuple[str, ...]]:
    availability = report.availability
    if not availability.devices:
        works = "yes" if availability.works else "no"
        return [(report.entry.name, works, availability.version, "", "", report.entry.description)]
    return [
        (
            report.entry.name,
            "yes",
            availability.version,
            device.name,
            ", ".join(f"{precision}{MARK if precision in device.caveats else ''}" for precision in device.precisions),
            device.description,
        )
        for device in availability.devices
    ]


def _caveats(diagnosis: Diagnosis) -> list[str]:
    return [
        f"{MARK} {report.entry.name} on {device.name}, {precision}: {caveat}"
        for report in diagnosis.runtimes
        for device in report.availability.devices
        for precision, caveat in device.caveats.items()
    ]


def _advice(report: RuntimeReport) -> str:
    reason, how_to_install = report.availability.reason, report.availability.how_to_install
    install = f"; install it with: {how_to_install}" if how_to_install not in reason else ""
    return f"{report.entry.name}: {reason}{install}"
