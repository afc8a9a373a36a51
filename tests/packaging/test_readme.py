"""The commands in README.md, docs/*.md and examples/README.md run as printed, and their links lead somewhere.

Every fenced block marked `bash` or `python` is run, the blocks of one page in order, in a folder that holds `examples`
and `checkpoint.pth`; pages other than the README find what the README's walk made there, as they tell their reader.
Left out, by rule and never by name: blocks marked `console` (shown, not run) and commands that start with NOT_RUN.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sr_edge.image_files import read_picture
from sr_edge.metrics import psnr_y_db
from sr_edge.models.registry import bundled_weights

NOT_RUN = ("make ", "pip ", "git ")
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands_of(page: str) -> list[str]:
    """The commands that a reader would run, in order; a Python block is one command."""
    commands = []
    for language, block in BLOCK.findall(page):
        commands += _lines_of(block) if language == "bash" else [f"python -W error -c {shlex.quote(block)}"]
    return commands


def _lines_of(block: str) -> list[str]:
    """Lines that end in a backslash are joined, comments left out."""
    lines = (line.strip() for line in block.replace("\\\n", " ").splitlines())
    return [line for line in lines if line and not line.startswith(("#", *NOT_RUN))]


def run_as_a_reader(commands: list[str], folder: Path) -> None:
    """Runs the commands with bash, and fails with the output of the first that fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in commands:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=folder,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_commands_are_found_joined_and_filtered() -> None:
    page = "```bash\n# a comment\nmake demo\nsr-edge a \\\n  --b 1\n```\n```console\nsr-edge c\n```\n"
    page += "```python\nprint(1)\n```\n"
    assert commands_of(page) == ["sr-edge a    --b 1", "python -W error -c 'print(1)\n'"]


def test_the_readme_has_commands_to_run() -> None:
    assert len(commands_of(README.read_text(encoding="utf-8"))) >= 5


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reader's folder after the README's walk, whose checkpoint is the bundled convnet-tiny: quick to deploy."""
    import torch
    from safetensors.torch import load_file

    weights = bundled_weights("convnet-tiny", 2)
    assert weights is not None, "the walk needs the bundled weights of convnet-tiny x2"
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(ROOT / "examples", folder / "examples")
    torch.save({"params": load_file(weights)}, folder / "checkpoint.pth")
    run_as_a_reader(commands_of(README.read_text(encoding="utf-8")), folder)
    return folder


@pytest.mark.services
def test_the_readmes_walk_makes_what_it_says(walked: Path) -> None:
    made = {path.name for path in walked.iterdir()}
    assert {"tiny-x2.sredge", "coffee-x2.png", "large"} <= made


@pytest.mark.services
def test_the_demos_picture_shows_more_than_bicubic(walked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    demo = importlib.import_module("demo")
    bicubic, ours, original = demo.show_before_and_after(walked / "tiny-x2.sredge", walked)
    assert psnr_y_db(ours.frame_hwc, original.frame_hwc, 2) > psnr_y_db(bicubic.frame_hwc, original.frame_hwc, 2) + 0.5
    picture = read_picture(walked / "before_after.png").pixels
    assert picture.shape[1] > 3 * picture.shape[0] // 2


@pytest.mark.services
@pytest.mark.parametrize("page", [page for page in PAGES if page != README], ids=page_name)
def test_the_commands_run_as_printed(page: Path, request: pytest.FixtureRequest) -> None:
    commands = commands_of(page.read_text(encoding="utf-8"))
    if not commands:
        pytest.skip(f"{page_name(page)} prints no command to run")
    run_as_a_reader(commands, request.getfixturevalue("walked"))


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
