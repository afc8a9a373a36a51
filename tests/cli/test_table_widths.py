"""What each command prints on terminals of 80, 100 and 120 columns: no number is cut, and no line is longer."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from sr_edge.cli import output
from sr_edge.cli.tables import fitted
from tests.command_line import SrEdge

WIDTHS = (80, 100, 120)
UNLIMITED = 5000
TO_COPY = ("    sr-edge ", "    sr_edge.")
"""How the lines begin that are to be copied, which are never wrapped."""
NUMBER = re.compile(r"[-+]?[\d.,]*\d[\d.,]*")
MEASURED = ("--runtimes", "onnxruntime,openvino", "--precisions", "fp32,int8")
IMAGES = ("--images", "{pictures}")
DEPLOYED = ("--runtimes", "onnxruntime", "--precisions", "fp32,int8", "--runs", "5", "--no-memory", "--no-tile-needs")
TINY = ("convnet-tiny", "--scale", "2", "--tile", "24")

COMMANDS = {
    "models": ("models",),
    "families": ("models", "--families"),
    "doctor": ("doctor",),
    "codecs": ("doctor", "--codecs"),
    "inspect": ("inspect", "{bundle}"),
    "selftest": ("selftest", "{bundle}"),
    "bench": ("bench", "{bundle}", *MEASURED, "--runs", "5", "--warm-up", "0", "--no-memory"),
    "evaluate": ("evaluate", "{bundle}", "--hr", "{pictures}", *MEASURED),
    "compare": ("compare", "{bundle}", "{bundle}@int8", "--images", "{pictures}"),
    "calibrate": ("calibrate", *TINY, "--random-weights", *IMAGES, "--patches", "4", "-o", "{out}/model.onnx"),
    "deploy": ("deploy", *TINY, *DEPLOYED, *IMAGES, "--hr", "{pictures}", "-o", "{out}/tiny.sredge"),
}

Printed = tuple[RenderableType, Sequence[str]]


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[Printed]:
    """What commands print in readable form, with the columns that may be left out."""
    results: list[Printed] = []

    def record(readable: RenderableType, width: int, least_important: Sequence[str] = ()) -> RenderableType:
        results.append((readable, least_important))
        return fitted(readable, width, least_important)

    monkeypatch.setattr(output, "fitted", record)
    return results


def shown(result: Printed, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width, markup=False, highlight=False).print(fitted(result[0], width, result[1]), crop=False)
    return out.getvalue()


def words_of(text: str) -> set[str]:
    return set(re.split(r"[\s│┃]+", text))


@pytest.mark.parametrize("command", COMMANDS)
def test_no_number_is_cut_and_no_line_is_too_long(
    command: str, sr_edge: SrEdge, printed: list[Printed], bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    places = {"bundle": bundle, "pictures": pictures, "out": tmp_path}
    outcome = sr_edge(*(argument.format(**places) for argument in COMMANDS[command]))
    assert outcome.code == 0, outcome.stderr
    (result,) = printed
    whole = words_of(shown(result, UNLIMITED))
    for width in WIDTHS:
        text = shown(result, width)
        assert "…" not in text
        assert [word for word in words_of(text) if NUMBER.fullmatch(word) and word not in whole] == []
        assert [line for line in text.splitlines() if len(line) > width and not line.startswith(TO_COPY)] == []
