"""The programs in examples/ are short, listed, and work; test_readme.py runs the scripts as their page prints them."""

from __future__ import annotations

import ast
import asyncio
import json
import runpy
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sr_edge.frames import Picture
from sr_edge.image_files import read_picture, write_picture
from sr_edge.resize import resize_bicubic

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
MAX_LINES = 40


def notebook_cells(notebook: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return cells


def code_cells(notebook: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in notebook_cells(notebook) if cell["cell_type"] == "code"]


def run_cell(source: str, namespace: dict[str, Any]) -> Any:
    """Runs one cell, and gives the value of its last expression, which a notebook shows; None without one."""
    *body, last = ast.parse(source).body
    if not isinstance(last, ast.Expr):
        exec(compile(source, "<cell>", "exec"), namespace)
        return None
    exec(compile(ast.Module(body, []), "<cell>", "exec"), namespace)
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace)


def name_of(path: Path) -> str:
    return path.name


def test_all_examples_are_there_short_and_listed() -> None:
    assert (len(SCRIPTS), len(NOTEBOOKS)) == (5, 1)
    lengths = {script.name: len(script.read_text(encoding="utf-8").splitlines()) for script in SCRIPTS}
    lengths |= {each.name: sum(len(cell.splitlines()) for cell in code_cells(each)) for each in NOTEBOOKS}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [name for name in lengths if f"]({name})" not in page] == []


def test_the_notebook_is_stored_without_outputs() -> None:
    for notebook in NOTEBOOKS:
        cells = notebook_cells(notebook)
        assert [cell["id"] for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []


def test_a_cell_shows_its_last_expression() -> None:
    namespace: dict[str, Any] = {}
    assert run_cell("a = 2", namespace) is None
    assert run_cell("b = 3\na * b", namespace) == 6


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_a_script_without_arguments_says_how_to_call_it(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(script)])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(script), run_name="__main__")
    usage = stopped.value.code
    assert isinstance(usage, str)
    assert f"python examples/{script.name} " in usage


class WaitingUpscaler:
    """Doubles pictures, each as soon as the event loop has released it."""

    scale = 2

    def __init__(self) -> None:
        self.started, self.released = threading.Event(), threading.Event()

    def upscale_picture(self, picture: Picture, on_tile: object = None) -> Picture:
        self.started.set()
        assert self.released.wait(5), "the event loop is blocked while a picture is upscaled"
        return Picture(resize_bicubic(picture.pixels, self.scale))


def test_the_event_loop_runs_while_pictures_are_upscaled(tmp_path: Path) -> None:
    upscale_all = runpy.run_path(str(EXAMPLES / "asyncio_pictures.py"))["upscale_all"]
    sources = [tmp_path / f"{index}.png" for index in range(3)]
    for source in sources:
        write_picture(source, Picture(np.zeros((4, 6, 3), np.uint8)))
    (tmp_path / "large").mkdir()
    upscaler = WaitingUpscaler()

    async def release() -> None:
        while not upscaler.started.is_set():
            await asyncio.sleep(0.001)
        upscaler.released.set()

    async def both() -> None:
        await asyncio.gather(upscale_all(upscaler, sources, tmp_path / "large", in_memory=2), release())

    asyncio.run(both())
    sizes = [read_picture(tmp_path / "large" / source.name).pixels.shape for source in sources]
    assert sizes == [(8, 12, 3)] * 3


@pytest.mark.services
def test_the_notebook_deploys_and_shows_pictures_and_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(EXAMPLES / "pictures", tmp_path / "pictures")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    shown = [run_cell(cell, namespace) for cell in code_cells(EXAMPLES / "deploy.ipynb")]
    _, picture, report = shown
    before, after = np.split(np.asarray(picture), 2, axis=1)
    assert before.shape == (400, 600, 3)
    assert 0 < np.abs(before.astype(int) - after).mean() < 10
    assert picture._repr_png_().startswith(b"\x89PNG")
    page = report._repr_html_()
    assert page.count("<table>") == 1
    assert all(f">{runtime}<" in page for runtime in ("openvino", "onnxruntime"))
