"""Fixtures that several test modules share, and the limit of one core for each worker."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import Outcome, SrEdge

# One thread for each worker: two workers with two threads each are slower on two cores. torch reads these variables
# when it is first imported, which is after this file.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.pop("COLUMNS", None)  # tables are as wide as a pipe's, whatever terminal the tests are started from


def pytest_configure(config: pytest.Config) -> None:
    """Keeps each worker of pytest-xdist on a core of its own, so that the runtimes, too, start one thread.

    Tests of servers and browsers keep all cores: their processes inherit the core of the worker that starts them.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and hasattr(os, "sched_setaffinity") and config.getoption("markexpr") != "services":
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the public test sets: SR_EDGE_DATA, else `../shared/data` beside the repository; skips without it."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SR_EDGE_DATA") or beside)
    if not (folder / "test" / "set5").is_dir():
        pytest.skip(f"the Set5 test pictures are not in {folder}; set SR_EDGE_DATA to the folder that has test/set5")
    return folder


@pytest.fixture(scope="session")
def openvino_core() -> Any:
    """The only `openvino.Core` of this process (`shared_core` says why); skips without OpenVINO."""
    return pytest.importorskip("sr_edge.runtimes.openvino.runtime").shared_core()


@pytest.fixture(scope="session")
def bound_by_rights() -> list[str]:
    """Prefix of a command with which file permissions apply even to root; skips the test if that is impossible."""
    if os.geteuid() != 0:
        return []
    command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if (
        shutil.which("setpriv") is None
        or subprocess.run([*command, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("file permissions do not apply to root here, and setpriv is not installed or not allowed")
    return command


@pytest.fixture
def sr_edge(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> SrEdge:
    """Runs `sr-edge ARGUMENTS...` in this process and gives exit code, stdout and stderr."""
    from sr_edge.cli.app import app
    from sr_edge.cli.failures import run_command

    for variable in ("SR_EDGE_DEBUG", "COLUMNS"):
        monkeypatch.delenv(variable, raising=False)

    def run(*arguments: str | Path) -> Outcome:
        capsys.readouterr()
        code = run_command(app, [str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session", autouse=True)
def engines_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Gives the tests an engine cache of their own instead of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SR_EDGE_CACHE", str(tmp_path_factory.mktemp("engines")))
        yield
