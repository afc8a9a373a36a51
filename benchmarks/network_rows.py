"""What one deployment says about a network: which gates it passed, which one refused it, and the tables of all rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PASSED, REFUSED, LEFT_OUT, NOT_REACHED = "passed", "refused", "left out", "not reached"

GATES = ("load", "export", "simplify", "rules", "parity", "fp16", "int8", "bundle", "self-test")
"""In the order in which `sr-edge deploy` comes to them."""

_REFUSALS: tuple[tuple[str, str], ...] = (
    (r"float16|half precision|GridSample interpolation", "fp16"),
    (r"differs from the PyTorch|the graph gives|the PyTorch module", "parity"),
    (r"no ONNX form|exporter|decides in Python", "export"),
    (r"onnxsim|simplified graph|cannot run the graph", "simplify"),
    (r"graph is not static|TensorRT|shapes or types contradict", "rules"),
    (r"cannot run on a|gave a |turns 1x3|cannot call|checkpoint|weights|recogni|holds no|does not fit|--scale", "load"),
    (r"did not reproduce", "self-test"),
    (r"INT8|calibrat|quanti", "int8"),
)
"""The words of an error line that name the gate behind it; the first that is found decides.

GridSample is what the reference evaluator of the float16 check says of a mode that it does not know.
"""


@dataclass(frozen=True)
class Outcome:
    """How one `sr-edge deploy --json` ended: its document is empty and `line` is its error unless it wrote a bundle."""

    exit_code: int | None
    document: Mapping[str, Any]
    line: str
    seconds: float

    @property
    def timed_out(self) -> bool:
        return self.exit_code is None


@dataclass(frozen=True)
class Row:
    """One network in the table; `gates` has a verdict for each of GATES, `reason` says why not all were passed."""

    name: str
    family: str
    purpose: str
    scale: int
    parameters: int
    nearness_db: float | None
    detected: str
    form: str
    gates: Mapping[str, str]
    reason: str
    seconds: float
    exit_code: int | None = None
    note: str = ""
    stages: Sequence[str] = field(default_factory=tuple)


def gates_of(outcome: Outcome, stages: Sequence[str]) -> dict[str, str]:
    """The verdict of each gate, from the bundle that was written or from the line that refused it."""
    if outcome.document:
        return _gates_of_bundle(outcome)
    refusing = refusing_gate(outcome, stages)
    verdicts, verdict = {}, PASSED
    for gate in GATES:
        if gate == refusing:
            verdict = REFUSED
        verdicts[gate] = verdict
        verdict = NOT_REACHED if verdict is REFUSED else verdict
    return verdicts if refusing else dict.fromkeys(GATES, NOT_REACHED)


def refusing_gate(outcome: Outcome, stages: Sequence[str]) -> str:
    """The gate behind an error line; where the line does not tell, that of the last stage that began."""
    for pattern, gate in () if outcome.timed_out else _REFUSALS:
        if re.search(pattern, outcome.line):
            return gate
    return {"": "load", "exporting": "export", "calibrating": "int8"}.get(stages[-1] if stages else "", "bundle")


def _gates_of_bundle(outcome: Outcome) -> dict[str, str]:
    precisions = {artifact["precision"] for artifact in outcome.document["manifest"]["artifacts"]}
    verdicts = dict.fromkeys(GATES, PASSED)
    verdicts |= {gate: LEFT_OUT for gate in ("fp16", "int8") if gate not in precisions}
    return verdicts if _reproduced(outcome.document["bench"]["rows"]) else {**verdicts, "self-test": REFUSED}


def _reproduced(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the golden frames were replayed by a variant, and well by all that ran; no PSNR is equality."""
    results = [result for row in rows for result in (row.get("self_test") or {}).get("results", ())]
    return bool(results) and all(
        result["psnr_db"] is None or result["psnr_db"] >= result["min_psnr_db"] for result in results
    )


def form_of(outcome: Outcome) -> str:
    """Whether the static form was written or, as a fall-back, the traced one; "" where nothing was."""
    exports = outcome.document.get("exports") or [{}]
    return str(exports[0].get("metadata", {}).get("form", ""))


def note_of(outcome: Outcome) -> str:
    """What the deployment remarked, in one line; older products wrote one note, newer ones a list."""
    return " ".join((outcome.document.get("note") or "", *outcome.document.get("notes", ()))).strip()


def detected_family(outcome: Outcome) -> str:
    """The family that the product recognised in the checkpoint, as the bundle's card has it."""
    card = outcome.document.get("manifest", {}).get("card", {})
    return str(card.get("family", "") or "")


def counts(rows: Iterable[Row]) -> dict[str, Counter[str]]:
    """For each gate how many networks have each verdict."""
    rows = list(rows)
    return {gate: Counter(row.gates[gate] for row in rows) for gate in GATES}


def markdown(rows: Sequence[Row], uncovered: Mapping[str, str], heading: str, how: str) -> str:
    """The page: the table of networks, the counts of every gate, and the families without a recipe."""
    return "\n".join(
        [f"# {heading}", "", f"`{how}`", "", *_networks(rows), "", *_counts(rows), "", *_uncovered(uncovered), ""]
    )


def _networks(rows: Sequence[Row]) -> Iterator[str]:
    columns = ("network", "family", "scale", "parameters", "detected", "form", *GATES, "seconds", "reason")
    yield f"| {' | '.join(columns)} |"
    yield "|" + " --- |" * len(columns)
    for row in rows:
        cells = (row.name, row.family, f"x{row.scale}", f"{row.parameters:,}", row.detected or "no", row.form or "")
        verdicts = (row.gates[gate] for gate in GATES)
        yield f"| {' | '.join((*cells, *verdicts, f'{row.seconds:.0f}', _cell(row.reason)))} |"


def _counts(rows: Sequence[Row]) -> Iterator[str]:
    verdicts = (PASSED, REFUSED, LEFT_OUT, NOT_REACHED)
    yield f"| gate, of {len(rows)} networks | {' | '.join(verdicts)} |"
    yield "|" + " --- |" * (1 + len(verdicts))
    for gate, found in counts(rows).items():
        yield f"| {gate} | {' | '.join(str(found[verdict]) for verdict in verdicts)} |"


def _uncovered(uncovered: Mapping[str, str]) -> Iterator[str]:
    yield "Families in spandrel's registry without a network here:"
    for family, reason in sorted(uncovered.items()):
        yield f"- {family}: {reason}"


def _cell(text: str, limit: int = 300) -> str:
    line = " ".join(text.split()).replace("|", "\\|")
    return line if len(line) <= limit else f"{line[:limit]} ..."
