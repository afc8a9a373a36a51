"""What a killed process leaves is removed by the next one; what another process is writing is left alone."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from sr_edge.files.unfinished import remove_unfinished, temporary_folder, unfinished_file, unfinished_folder
from sr_edge.files.whole_file import whole_file


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock of a temporary file or folder, as a process that uses it does."""
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_next_run_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    program = f"""
import sys, time
from pathlib import Path
from sr_edge.files.unfinished import unfinished_folder
from sr_edge.files.whole_file import whole_file
with whole_file(Path("{tmp_path}/a.txt")) as file, unfinished_folder(Path("{tmp_path}/net")) as folder:
    file.write_text("half")
    (folder / "inner").write_text("half")
    print("written", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with whole_file(tmp_path / "a.txt") as unfinished:
            assert len(names(tmp_path)) == 3, "the file of the other process is still there"
            unfinished.write_text("mine")
        process.send_signal(signal.SIGKILL)
    assert len(names(tmp_path)) == 3
    with whole_file(tmp_path / "a.txt") as unfinished:
        unfinished.write_text("whole")
    with unfinished_folder(tmp_path / "net") as folder:
        assert list(folder.iterdir()) == []
    assert names(tmp_path) == {"a.txt"}
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_all_leftovers_of_an_output_are_removed(tmp_path: Path) -> None:
    for name in (".a.sr-edge.part", ".a.sr-edge-1.part", ".a.sr-edge-2.part", ".b.sr-edge.part", ".a.123.part"):
        (tmp_path / name).touch()
    with locked(tmp_path / ".a.sr-edge-1.part"):
        with whole_file(tmp_path / "a") as unfinished:
            unfinished.write_text("whole")
        assert names(tmp_path) == {"a", ".a.sr-edge-1.part", ".b.sr-edge.part", ".a.123.part"}
        remove_unfinished(tmp_path / "b")
        assert names(tmp_path) == {"a", ".a.sr-edge-1.part", ".a.123.part"}


def test_a_link_under_the_name_of_a_leftover_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / ".a.sr-edge.part").symlink_to(tmp_path / "precious")
    with whole_file(tmp_path / "a") as unfinished:
        unfinished.write_text("whole")
    assert (tmp_path / "precious").read_text() == "kept"
    assert (tmp_path / "a").read_text() == "whole" and not (tmp_path / "a").is_symlink()


def test_folders_of_killed_processes_are_removed_from_the_systems_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("bundle-abc.sr-edge.part", "bundle-def.sr-edge.part", "sr-edge-results"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").touch()
    with locked(tmp_path / "bundle-def.sr-edge.part"), temporary_folder("bundle") as folder:
        assert names(tmp_path) == {"bundle-def.sr-edge.part", "sr-edge-results", folder.name}
        with temporary_folder("bundle") as second:
            assert second != folder and folder.is_dir()
    assert names(tmp_path) == {"bundle-def.sr-edge.part", "sr-edge-results"}


def test_a_name_that_the_next_process_uses_is_not_removed(tmp_path: Path) -> None:
    """Between the rename of one file and the end of its block, another writer of the same output may begin."""
    target = tmp_path / "out.bin"
    with ExitStack() as first, ExitStack() as second:
        written = first.enter_context(unfinished_file(target))
        written.replace(target)
        following = second.enter_context(unfinished_file(target))
        assert following == written
        first.close()
        assert names(tmp_path) == {target.name, following.name}
    assert names(tmp_path) == {target.name}


@pytest.mark.parametrize("name", ["n" * 255, "\u00fc" * 127])
def test_an_output_may_have_the_longest_name_that_a_file_system_allows(tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    with unfinished_file(target) as unfinished:
        unfinished.write_text("content")
        unfinished.replace(target)
    assert names(tmp_path) == {name}
    with unfinished_file(target) as abandoned:
        assert abandoned.exists() and abandoned.name.startswith(".")
    assert names(tmp_path) == {name}
