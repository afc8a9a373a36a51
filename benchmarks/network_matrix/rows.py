"""One row of the matrix: a verdict for every column, from the documents of `sr-edge deploy --json` and of checks.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from sr_edge.export.checks.float16 import noise_loss_db
from sr_edge.export.checks.tensorrt_releases import TENSORRT_RELEASES

Document = Mapping[str, Any]


class Verdict(str, Enum):
    """What a cell says; RED is what keeps a network from a device or from one of its precisions."""

    GOOD = "good"
    RED = "red"
    NOT_REACHED = "not reached"
    NOT_MEASURED = "not measured"


DETECTION, FORM, PARITY, FP16, INT8, SELF_TEST, RTX, HALO = (
    "detection", "form", "parity", "fp16", "INT8", "self-test", "TensorRT-RTX", "halo",
)  # fmt: skip
RELEASES = tuple(str(release) for release in TENSORRT_RELEASES)
RUNTIMES = ("ONNX Runtime", "OpenVINO")
TIMES = tuple(f"time, {runtime}" for runtime in RUNTIMES)
COLUMNS = (DETECTION, FORM, PARITY, FP16, INT8, SELF_TEST, *RELEASES, RTX, HALO, *TIMES)

MAX_SPREAD = 1.15
"""How many times the lower quartile of a ratio of times its upper one may be."""

TOO_BUSY = "the machine was too busy for comparisons of times"

_STAGE_COLUMNS = {
    None: DETECTION,
    "measuring the effect of tiles": DETECTION,
    "exporting": FORM,
    "calibrating": INT8,
    "sensitivity": INT8,
    "joint checks": INT8,
    "quantizing": INT8,
}
"""The column that is red if a deployment fails in a stage; for every other stage it is the self-test's."""


@dataclass(frozen=True)
class Cell:
    """A cell: its verdict, what the table shows, and for a red one the cause and the way out."""

    verdict: Verdict
    text: str = ""
    cause: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Outcome:
    """How one `sr-edge deploy --json` ended.

    Attributes:
        exit_code: None if it was stopped because it took too long.
        document: the report, or {"error": ...}; empty if it printed nothing.
        stages: the seconds of each stage, in order.
        output: the last lines on stderr, for a process that ended without a document.
    """

    exit_code: int | None
    document: Document
    stages: Mapping[str, float]
    output: str = ""

    @property
    def error(self) -> Document:
        """The fields of the error; empty for a deployment that wrote a report."""
        if "manifest" in self.document:
            return {}
        if "error" in self.document:
            return dict(self.document["error"])
        last = next(reversed(tuple(self.stages)), None)
        problem = "the time limit was reached" if self.exit_code is None else f"the process ended: {self.output}"
        return {"type": "", "problem": problem, "found": None, "remedy": "", "stage": last}


@dataclass(frozen=True)
class Row:
    """One network of the matrix; `bundle` is whether it counts as deployed."""

    name: str
    source: str
    family: str
    trained: bool
    scale: int = 0
    parameters: int = 0
    licence: str = ""
    tile: str = ""
    bundle: bool = False
    cells: Mapping[str, Cell] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    seconds: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)

    @property
    def red(self) -> Iterator[tuple[str, Cell]]:
        return ((column, self.cells[column]) for column in COLUMNS if self.cells[column].verdict is Verdict.RED)

    def plain(self) -> dict[str, Any]:
        """The row as JSON."""
        return asdict(self)

    @classmethod
    def read(cls, document: Document) -> Row:
        """The row that `plain` wrote."""
        cells = {
            name: Cell(**{**cell, "verdict": Verdict(cell["verdict"])}) for name, cell in document["cells"].items()
        }
        return cls(**{**document, "cells": cells, "remarks": tuple(document["remarks"])})


def cells_of(outcome: Outcome, checks: Document, trained: bool) -> dict[str, Cell]:
    """All cells of a row.

    Args:
        outcome: of the deployment.
        checks: what checks.py found in the bundle; empty without one.
        trained: whether losses in decibels say something about a network that is in use.
    """
    return _cells_of_failure(outcome.error) if outcome.error else _cells_of_bundle(outcome, checks, trained)


def counts_as_deployed(cells: Mapping[str, Cell]) -> bool:
    """Whether a bundle was written that passes its self-test and agrees with PyTorch in float64."""
    return all(cells[column].verdict is Verdict.GOOD for column in (DETECTION, FORM, PARITY, SELF_TEST))


def missing_cells(problem: str) -> dict[str, Cell]:
    """The cells of a row without a network."""
    return _cells_of_failure({"problem": problem, "remedy": "write a recipe", "stage": None})


def _cells_of_failure(error: Document) -> dict[str, Cell]:
    failed = _failed_column(error)
    reached = COLUMNS.index(failed)
    cells = {column: Cell(Verdict.GOOD, "yes") for column in COLUMNS[:reached]}
    cells[failed] = Cell(Verdict.RED, "no", one_line(error["problem"]), one_line(error.get("remedy") or ""))
    return cells | {column: Cell(Verdict.NOT_REACHED) for column in COLUMNS[reached + 1 :]}


def _failed_column(error: Document) -> str:
    """The column of a failure: that of its stage; an export whose numbers are wrong is a failure of parity."""
    stage = error.get("stage")
    is_loading = isinstance(stage, str) and stage.startswith("loading ")
    column = _STAGE_COLUMNS.get(None if is_loading else stage, SELF_TEST)
    is_number = isinstance(error.get("found"), int | float)
    return PARITY if column is FORM and error.get("type") == "ExportError" and is_number else column


def _cells_of_bundle(outcome: Outcome, checks: Document, trained: bool) -> dict[str, Cell]:
    document = outcome.document
    is_onnx = str(document["manifest"]["card"].get("weights_source", "")).partition(";")[0].endswith(".onnx")
    card, left_out = document["manifest"]["card"], document["manifest"]["left_out"]
    return {
        DETECTION: Cell(Verdict.GOOD, card.get("family") or ("ONNX file" if is_onnx else "as named")),
        FORM: _form_cell(document["exports"][0]),
        PARITY: _parity_cell(document["exports"][0], checks.get("float64", {})),
        FP16: _left_out_cell(left_out, "fp16") or _fp16_cell(document["exports"], checks.get("fp16", {})),
        INT8: _left_out_cell(left_out, "int8")
        or _int8_cell(document["bench"]["rows"], checks.get("int8", {}), trained),
        SELF_TEST: _self_test_cell(document["bench"]["rows"]),
        **{release: _tensorrt_cell(checks.get("tensorrt", {}), release) for release in RELEASES},
        RTX: _rtx_cell(checks.get("rtx", {})),
        HALO: _halo_cell(card),
        **{column: _time_cell(checks.get("times", {}), name) for column, name in zip(TIMES, RUNTIMES, strict=True)},
    }


def _form_cell(export: Document) -> Cell:
    form = export["metadata"]["form"]
    passes = ", ".join(export.get("passes") or ())
    return Cell(Verdict.GOOD, f"{form} ({passes})" if passes else form)


def _parity_cell(export: Document, float64: Document) -> Cell:
    """Against float64 where the network can be run in it, and else what the export measured against float32."""
    if "max_abs_error" in float64:
        error, bound = float64["max_abs_error"], float64["bound"]
        if error <= bound:
            return Cell(Verdict.GOOD, f"{error:.0e}")
        cause = f"differs from PyTorch in float64 by {error:.2g} on a photograph, allowed {bound:g}"
        return Cell(Verdict.RED, f"{error:.0e}", cause, "report the network, since its graph is not what it computes")
    patches = [patch for patch in export["parity"]["patches"] if patch["kind"] == "photograph"]
    error = max(patch["difference"]["max_abs_error"] for patch in patches)
    return Cell(Verdict.GOOD, f"{error:.0e}, in float32", float64.get("failed", ""))


def _fp16_cell(exports: Sequence[Document], nodes: Document) -> Cell:
    check = next((export["float16"] for export in exports if export["float16"]), None)
    if check is None or "nodes" not in nodes:
        return Cell(Verdict.NOT_MEASURED, cause=nodes.get("failed", ""))
    photographs = [patch["fidelity"]["psnr_db"] for patch in check["patches"] if patch["kind"] == "photograph"]
    loss = max(0.0 if psnr_db is None else noise_loss_db(psnr_db) for psnr_db in photographs)
    return Cell(Verdict.GOOD, f"{nodes['fp32_nodes']} of {nodes['nodes']}, {_db(loss)}")


def _int8_cell(rows: Sequence[Document], layers: Document, trained: bool) -> Cell:
    if "of" not in layers:
        return Cell(Verdict.NOT_MEASURED, cause=layers.get("failed", ""))
    share = f"{layers['layers']} of {layers['of']}"
    costs = [row["quality"]["cost_db"] for row in rows if row["quality"] and _is_int8(row["variant"])]
    known = [cost for cost in costs if cost is not None]
    return Cell(Verdict.GOOD, f"{share}, {_db(max(known))}" if trained and known else share)


def _is_int8(variant: Document) -> bool:
    return bool(variant["precision"] == "int8" and variant["float_precision"] == "fp32")


def _left_out_cell(left_out: Mapping[str, str], precision: str) -> Cell | None:
    """A red cell for a precision that the bundle does not contain; None if it does."""
    if precision not in left_out:
        return None
    problem, _, remedy = left_out[precision].rpartition("; ")
    return Cell(Verdict.RED, "left out", one_line(problem or remedy), one_line(remedy if problem else ""))


def _self_test_cell(rows: Sequence[Document]) -> Cell:
    """Whether the golden frames were reproduced by all variants that ran; no PSNR means equal frames."""
    tests = [(row["variant"], result) for row in rows for result in (row["self_test"] or {}).get("results", ())]
    failed = [
        f"{variant['runtime']} {variant['precision']}"
        for variant, result in tests
        if result["psnr_db"] is not None and result["psnr_db"] < result["min_psnr_db"]
    ]
    if failed or not tests:
        cause = f"frames differ in {', '.join(dict.fromkeys(failed))}" if failed else "no variant ran"
        return Cell(Verdict.RED, "no", cause, "leave out these runtimes or precisions")
    runtimes = {variant["runtime"] for variant, _ in tests}
    return Cell(Verdict.GOOD, f"{len(runtimes)} runtimes")


def _tensorrt_cell(verdicts: Document, release: str) -> Cell:
    if release not in verdicts:
        return Cell(Verdict.NOT_MEASURED, cause=verdicts.get("failed", ""))
    refused = verdicts[release]
    if not refused:
        return Cell(Verdict.GOOD, "yes")
    return Cell(Verdict.RED, "no", "; ".join(item["problem"] for item in refused), refused[0]["remedy"])


def _rtx_cell(builds: Document) -> Cell:
    precisions = [name for name in ("fp32", "fp16", "int8") if name in builds]
    refused = {name: builds[name] for name in precisions if "refused" in builds[name]}
    if refused:
        cause = "; ".join(f"{name}: {build['refused']}" for name, build in refused.items())
        return Cell(Verdict.RED, "no", one_line(cause), next(iter(refused.values()))["remedy"])
    if not precisions:
        return Cell(Verdict.NOT_MEASURED, cause=builds.get("failed", ""))
    return Cell(Verdict.GOOD, ", ".join(precisions))


def _halo_cell(card: Document) -> Cell:
    needs = card["tile_needs"]
    if needs is None:
        return Cell(Verdict.NOT_MEASURED)
    halo = "all" if needs["halo_px"] is None else str(needs["halo_px"])
    reach = "all" if needs["reach_px"] is None else str(needs["reach_px"])
    return Cell(Verdict.GOOD, f"{halo} / {reach}")


def _time_cell(times: Document, runtime: str) -> Cell:
    if runtime not in times:
        return Cell(Verdict.NOT_MEASURED, cause=times.get("failed", ""))
    found = times[runtime]
    if found["high"] > MAX_SPREAD * found["low"]:
        return Cell(Verdict.NOT_MEASURED, cause=TOO_BUSY)
    return Cell(Verdict.GOOD, f"{found['ratio']:.2f}")


def _db(loss: float) -> str:
    return f"{loss:.3f} dB"


def one_line(text: str, limit: int = 400) -> str:
    """A text without line breaks, cut after `limit` characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else f"{line[:limit]} ..."
