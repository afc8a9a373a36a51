"""A session's document as one Markdown page: what was done, what could not be done and why, and what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import page_gpu
from page_cells import row_of

from gpu_session.gpu_report import Document, gpu_report

_REHEARSAL = (
    "**A rehearsal: a stand-in took the GPU's place. These figures say nothing about any GPU, and publishing them is "
    "refused.**"
)


def session_page(document: Document) -> str:
    """The whole page."""
    return "\n\n".join(["# A session on a GPU", *_head(document), *_steps(document), *_measured(document)]) + "\n"


def _head(document: Document) -> Iterator[str]:
    if document["rehearsal"]:
        yield _REHEARSAL
    if document["interrupted"]:
        yield "**The session was interrupted.**"
    yield (
        f"{document['started']}, {document['seconds']:.0f} of at most {document['budget_s']:.0f} s; "
        f"{document['system']}; interpreter {document['interpreter']}"
    )
    doctor = next((step["figures"] for step in document["steps"] if step["name"] == "doctor"), None) or {}
    versions = ", ".join(f"{name} {version}" for name, version in (doctor.get("packages") or {}).items())
    python = (doctor.get("interpreter") or {}).get("python", "of an unknown version")
    yield f"Python {python}; packages: {versions or 'none that matter'}"
    told = next((reading for step in document["steps"] for reading in (step["before"], step["after"]) if reading), None)
    if told:
        yield f"{told['name']}, driver {told['driver']}, compute capability {told['compute_capability']}"
    if document["telemetry"]:
        yield f"Clocks, power and temperature are not known: {document['telemetry']}."


def _steps(document: Document) -> Iterator[str]:
    yield "## Step by step"
    headings = ("step", "ended", "s", "MHz", "W", "°C", "why")
    reasons = ["", *(step["reason"] for step in document["steps"])]
    rows = [row_of(_step_cells(step, last)) for step, last in zip(document["steps"], reasons, strict=False)]
    yield "\n".join([row_of(headings), "|---|---|---:|---:|---:|---:|---|", *rows])
    for step in document["steps"]:
        if step["status"] in ("failed", "crashed", "timed out") and step["last_lines"]:
            yield f"{step['title']}, its last lines:\n\n```\n" + "\n".join(step["last_lines"]) + "\n```"


def _step_cells(step: Mapping[str, Any], last_reason: str) -> tuple[str, ...]:
    after = step["after"] or {}
    readings = (after.get(name) for name in ("clock_mhz", "power_w", "temperature_c"))
    seconds = f"{step['seconds']:.1f}" if step["seconds"] else ""
    told = ("" if value is None else f"{value:.0f}" for value in readings)
    reason = "as above" if step["reason"] and step["reason"] == last_reason else step["reason"].replace("|", "\\|")
    return step["title"], step["status"], seconds, *told, reason


def _measured(document: Document) -> list[str]:
    """Figures come from processes that may have ended in the middle: what of them is odd does not cost the page."""
    try:
        report = gpu_report(document)
        return [] if report is None else ["## What was measured", *page_gpu.gpu(report)]
    except Exception as error:  # whatever is missing or of another type
        return [f"The figures cannot be shown here ({type(error).__name__}: {error}); they are in gpu.json."]
