"""The container recipe copies existing files, installs an existing extra, and contains no engine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCKERFILE = "docker/jetson.Dockerfile"


@pytest.fixture(scope="module")
def recipe(project_root: Path) -> str:
    return (project_root / DOCKERFILE).read_text(encoding="utf-8")


def copied(recipe: str) -> list[str]:
    lines = re.findall(r"^COPY (.+)$", recipe, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def test_it_copies_what_is_there(recipe: str, project_root: Path) -> None:
    assert copied(recipe)
    assert [source for source in copied(recipe) if not (project_root / source).exists()] == []


def test_what_it_copies_can_be_installed(recipe: str, project_root: Path, tmp_path: Path) -> None:
    """The build backend makes a wheel from these files alone, with the extra that the recipe asks for."""
    for source in copied(recipe):
        (tmp_path / source).symlink_to(project_root / source)
    code = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (extra,) = re.findall(r'"/src\[(\w+)\]"', recipe)
    pyproject = (project_root / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(rf"^{extra} = \[", pyproject, re.MULTILINE)


def test_no_engine_is_inside(recipe: str) -> None:
    assert not re.search(r"^(RUN|COPY).*(compile|trtexec|\.plan|\.engine)", recipe, re.MULTILINE)
    assert "VOLUME /cache" in recipe and "SR_EDGE_CACHE=/cache" in recipe
