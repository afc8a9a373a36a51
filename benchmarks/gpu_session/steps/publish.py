"""Writes docs/results/gpu.json and the GPU section of docs/benchmarks.md from a session's document.

Needs what the page needs (numpy, onnx, psutil and the like), so it can be run on another machine than the session.
A rehearsal, and a session in which nothing ran on a GPU, is refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_session.gpu_report import gpu_report, has_measurements
from gpu_session.record import SCHEMA_VERSION
from sr_edge.errors import UsageError

COMMAND = "make bench-gpu"


def kept_figures(document: dict[str, Any]) -> dict[str, Any]:
    """What docs/results keeps of a session; raises UsageError where there is nothing to publish."""
    if document.get("schema_version") != SCHEMA_VERSION:
        raise UsageError(
            f"the document has schema version {document.get('schema_version')}, not {SCHEMA_VERSION}",
            found=document.get("schema_version"),
            wanted=SCHEMA_VERSION,
            remedy="give the gpu.json that `make bench-gpu` wrote",
        )
    if document["rehearsal"]:
        raise UsageError(
            "this session was a rehearsal with a stand-in for the GPU",
            found="rehearsal",
            wanted="a session on a GPU",
            remedy="publish a session that ran on a GPU",
        )
    report = gpu_report(document)
    if report is None or not has_measurements(report):
        raise UsageError(
            "nothing ran on a GPU in this session, so there is nothing to publish",
            wanted="measurements on a GPU",
            remedy="read the reasons on the session's page",
        )
    doctor = next(step["figures"] for step in document["steps"] if step["name"] == "doctor")
    if "environment" not in doctor:
        raise UsageError(
            f"the session could not describe its machine ({doctor['problems'].get('environment')})",
            wanted="environment",
            remedy="run it again with an interpreter that has numpy and psutil",
        )
    return {"environment": doctor["environment"], "commands": [COMMAND], "figures": report}


def main(arguments: Sequence[str]) -> None:
    """Publishes the session whose document is named."""
    (file,) = arguments
    kept = kept_figures(json.loads(Path(file).read_text(encoding="utf-8")))
    import run_all

    run_all.keep("gpu", kept)
    print(f"wrote {run_all.write_page()} and the figures behind it")
