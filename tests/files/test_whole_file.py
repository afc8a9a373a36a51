"""Output files are written atomically, and a path that cannot be written is refused before the work."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sr_edge.errors import UsageError
from sr_edge.files.whole_file import require_output, require_output_file, whole_file
from tests.expected_errors import raises


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a.txt") as unfinished:
        unfinished.write_text("whole")
        assert not (tmp_path / "a.txt").exists()
    assert (tmp_path / "a.txt").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_an_error_is_about_the_users_path_and_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "absent" / "a.txt"
    with pytest.raises(FileNotFoundError) as caught, whole_file(out) as unfinished:
        unfinished.write_text("whole")
    assert caught.value.filename == str(out)
    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "b.txt") as unfinished:
        unfinished.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "found"), [("absent/a.txt", "absent"), ("file/a.txt", "file"), ("n" * 256, "n" * 256)]
)
def test_a_path_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path, name: str, found: str) -> None:
    (tmp_path / "file").touch()
    with raises(UsageError, found=tmp_path / found) as caught:
        require_output(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert ".part" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_no_file_to_write(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("kept")
    require_output_file(tmp_path / "old")
    require_output(tmp_path)
    with raises(UsageError, found=tmp_path, wanted="a file name"):
        require_output_file(tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["kept"]


def test_a_device_or_a_pipe_is_not_replaced() -> None:
    with raises(UsageError, found=Path("/dev/null"), wanted="a regular file"):
        require_output_file(Path("/dev/null"))


@pytest.mark.parametrize("mode", [0o444, 0o000])
def test_a_file_that_may_not_be_written_is_noticed(tmp_path: Path, bound_by_rights: list[str], mode: int) -> None:
    (tmp_path / "a").write_text("kept")
    (tmp_path / "a").chmod(mode)
    program = f"""
from pathlib import Path
from sr_edge.errors import UsageError
from sr_edge.files.whole_file import require_output_file
try:
    require_output_file(Path("{tmp_path}/a"))
except UsageError as error:
    print(error.found, "is not", error.wanted)
"""
    command = [*bound_by_rights, sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path}/a is not a writable file\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_read_only_file_system_is_noticed(tmp_path: Path) -> None:
    """In a separate mount namespace, because root can write to a folder without write permission."""
    mount = f"mount -t tmpfs -o ro none {tmp_path}"
    unshare = shutil.which("unshare")
    tried = unshare and subprocess.run([unshare, "-rm", "sh", "-c", mount], capture_output=True, check=False)
    if not tried or tried.returncode:
        pytest.skip("user namespaces with mounts are not allowed here")
    program = f"from pathlib import Path; from sr_edge.files.whole_file import *; require_output(Path('{tmp_path}/a'))"
    script = f'{mount} && {sys.executable} -c "{program}"'
    done = subprocess.run([str(unshare), "-rm", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert "UsageError" in done.stderr
    assert f"{tmp_path}/a" in done.stderr and "Read-only file system" in done.stderr
