"""`make` reports in one line which Python it requires if the installed one is too old."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def find_python(root: Path, python: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": python, "PATH": path or os.environ["PATH"]}
    command = [str(root / "scripts" / "find_python")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def make_fake_python(folder: Path, name: str, version: str) -> Path:
    """A program that answers the script's two questions as a Python of that version would."""
    too_old = int(tuple(map(int, version.split("."))) < (3, 10))
    fake = folder / name
    fake.write_text(f'#!/bin/sh\ncase "$2" in *platform*) echo {version};; *) exit {too_old};; esac\n')
    fake.chmod(0o755)
    return fake


def test_a_named_python_is_taken(project_root: Path) -> None:
    assert find_python(project_root, sys.executable).stdout.strip() == sys.executable


def test_an_old_named_python_is_refused_in_one_line(project_root: Path, tmp_path: Path) -> None:
    old = make_fake_python(tmp_path, "old", "3.9.18")
    done = find_python(project_root, str(old))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "Python 3.10 or newer is needed" in done.stderr
    assert f"{old} is 3.9.18" in done.stderr


def test_an_old_python3_is_passed_over_for_a_newer_numbered_one(project_root: Path, tmp_path: Path) -> None:
    make_fake_python(tmp_path, "python3", "3.8.1")
    make_fake_python(tmp_path, "python3.12", "3.12.4")
    for name in ("python3.13", "python3.14"):
        make_fake_python(tmp_path, name, "3.9.0")
    done = find_python(project_root, "", path=f"{tmp_path}:{os.environ['PATH']}")
    assert done.stdout.strip() == "python3.12"
