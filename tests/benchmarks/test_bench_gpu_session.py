"""The session behind `make bench-gpu`: steps that crash, hang, flood or are interrupted, a full disk, the time kept."""

from __future__ import annotations

import json
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.gpu_sessions import GpuSession, bare_interpreter, bench_gpu, loaded, plain_environment, tells

pytestmark = pytest.mark.services

CRASHES = "import os, signal; print('about to crash', flush=True); os.kill(os.getpid(), signal.SIGSEGV)"
HANGS = "import time; print('waiting', flush=True); time.sleep(600)"
HANGS_WITH_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""
IGNORES_REQUESTS = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
LEAVES_A_CHILD = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])"
FULL_DISK = "-f 0"


@pytest.fixture(scope="module")
def gpu() -> Iterator[GpuSession]:
    yield from loaded()


def kept(results: Path) -> Any:
    return json.loads((results / "gpu.json").read_text(encoding="utf-8"))


def by_name(document: Any) -> dict[str, Any]:
    return {step["name"]: step for step in document["steps"]}


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_what_goes_wrong_costs_its_own_step_alone(gpu: GpuSession, tmp_path: Path) -> None:
    record = gpu.run(
        tmp_path,
        gpu.step("crash", tells({"built": 1}) + CRASHES),
        gpu.step("hang", tells({"first": 1}) + HANGS, limit_s=0.7),
        gpu.step("fail", "import sys; print('the parser refuses it'); sys.exit(1)"),
        gpu.step("absent", "import sys; print('no tensorrt here'); sys.exit(3)"),
        gpu.step("works", tells({"ms": 1.5})),
    )
    steps = by_name(kept(tmp_path))
    assert {name: step["status"] for name, step in steps.items()} == {
        "crash": "crashed",
        "hang": "timed out",
        "fail": "failed",
        "absent": "not possible here",
        "works": "done",
    }
    assert "SIGSEGV" in steps["crash"]["reason"] and "about to crash" in steps["crash"]["last_lines"]
    assert steps["fail"]["reason"] == "the parser refuses it" and steps["absent"]["reason"] == "no tensorrt here"
    assert steps["works"]["figures"] == {"ms": 1.5}
    assert steps["crash"]["figures"] == {"built": 1} and steps["hang"]["figures"] == {"first": 1}
    assert by_name(record.document()) == steps
    assert "about to crash" in (tmp_path / "gpu.log").read_text()
    assert all(step["title"] in (tmp_path / "gpu.md").read_text() for step in steps.values())


def test_figures_are_on_the_disk_before_the_step_ends(gpu: GpuSession, tmp_path: Path) -> None:
    reads = f"import json, time; time.sleep(0.5); print(json.load(open({str(tmp_path / 'gpu.json')!r}))['steps'][0])"
    record = gpu.run(tmp_path, gpu.step("only", tells({"ms": 1.5}) + reads))
    assert "1.5" in record.steps[0].last_lines[-1]


@pytest.mark.parametrize("program", [HANGS, HANGS_WITH_CHILD, IGNORES_REQUESTS])
def test_a_hanging_step_ends_at_its_limit_with_all_that_it_started(
    gpu: GpuSession, tmp_path: Path, program: str
) -> None:
    started = time.monotonic()
    (step,) = gpu.run(tmp_path, gpu.step("hang", program, limit_s=0.7)).steps
    assert step.status is gpu.process.Status.TIMED_OUT
    assert time.monotonic() - started < 6
    pids = [int(line) for line in step.last_lines if line.isdigit()]
    deadline = time.monotonic() + 5  # a killed process that is not our child may take a moment to end
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, pids
        time.sleep(0.01)


def test_a_child_that_is_left_behind_does_not_hold_the_session(gpu: GpuSession, tmp_path: Path) -> None:
    started = time.monotonic()
    (step,) = gpu.run(tmp_path, gpu.step("leaves", LEAVES_A_CHILD, limit_s=20)).steps
    assert step.status is gpu.process.Status.DONE
    assert time.monotonic() - started < 10


def test_the_budget_holds_and_what_it_did_not_reach_says_so(gpu: GpuSession, tmp_path: Path) -> None:
    started = time.monotonic()
    steps = [gpu.step(f"hang{index}", HANGS, limit_s=60) for index in range(3)]
    record = gpu.run(tmp_path, gpu.step("first", HANGS, 60, until=0.5), *steps, budget_s=3.0)
    assert time.monotonic() - started < 3.0 + 2.0
    statuses = [str(step.status) for step in record.steps]
    assert statuses[:2] == ["timed out", "timed out"] and statuses[-1] == "skipped"
    assert record.steps[0].seconds < 2.5  # half of the time, so that the next gets some
    assert record.steps[-1].reason


def test_a_flood_of_output_is_cut_and_odd_bytes_pass(gpu: GpuSession, tmp_path: Path) -> None:
    floods = "import os\nfor _ in range(200): os.write(1, b'\\xff\\xfe' + b'x' * 500 + b'\\n' + b'y\\n' * 100)"
    (step,) = gpu.run(tmp_path, gpu.step("floods", floods)).steps
    assert step.status is gpu.process.Status.DONE
    lines = (tmp_path / "gpu.log").read_text().splitlines()
    assert len(lines) < 5000 and max(map(len, lines)) <= 500


def test_an_interpreter_that_is_not_there_is_told_of(gpu: GpuSession, tmp_path: Path) -> None:
    plan = gpu.session.SessionPlan(str(tmp_path / "python9"), tmp_path, [gpu.step("any", "")], 5.0)
    (step,) = gpu.session.Session(plan).run().steps
    assert step.status is gpu.process.Status.FAILED and "python9" in step.reason


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_ends_the_step_and_the_page_is_still_written(tmp_path: Path, number: signal.Signals) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        f"sys.path[:0] = {[str(Path(path)) for path in bench_paths()]!r}\n"
        "from gpu_session.plan import Step; from gpu_session.session import Session, SessionPlan\n"
        "steps = [Step('first', 'first', ('-c', 'import time; print(7); time.sleep(600)'), 60), "
        "Step('second', 'second', ('-c', ''), 60)]\n"
        f"Session(SessionPlan(sys.executable, Path({str(tmp_path)!r}), steps, 60.0)).run()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL) as process:
        log, deadline = tmp_path / "gpu.log", time.monotonic() + 20
        while not (log.exists() and "7" in log.read_text().splitlines()) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        process.wait(20)
    document = kept(tmp_path)
    assert document["interrupted"]
    assert [step["status"] for step in document["steps"]] == ["interrupted", "skipped"]
    assert (tmp_path / "gpu.md").is_file()


def bench_paths() -> list[Path]:
    root = Path(__file__).resolve().parents[2]
    return [root / "benchmarks", root]


def test_on_a_full_disk_everything_is_told_on_standard_output(tmp_path: Path) -> None:
    python, results = bare_interpreter(tmp_path / "bare"), tmp_path / "results"
    command = bench_gpu(python, "--only", "doctor", "--results", results, "--budget", "60", limits=FULL_DISK)
    done = subprocess.run(command, capture_output=True, text=True, env=plain_environment(), timeout=60, check=False)
    assert done.returncode == 1
    assert "## Step by step" in done.stdout and "Driver, device" in done.stdout
    assert f"Python {platform.python_version()};" in done.stdout  # what the step told came through a pipe
    assert not [file for file in results.rglob("*") if file.is_file() and file.stat().st_size]


def test_a_disk_that_fills_up_in_between_keeps_the_last_whole_document(gpu: GpuSession, tmp_path: Path) -> None:
    session = gpu.session.Session(gpu.session.SessionPlan(sys.executable, tmp_path, [], 5.0))
    assert session.files.save(session.record)
    before = kept(tmp_path)
    (tmp_path / ".gpu.json.part").mkdir()  # nothing can be written there any more
    session.record.steps = [gpu.session.StepRecord("late", "late")]
    assert not session.files.save(session.record)
    assert session.files.obstacle
    assert kept(tmp_path) == before


@pytest.mark.parametrize("budget", ["0", "-1", "701", "86400"])
def test_a_budget_that_is_none_is_refused(tmp_path: Path, budget: str) -> None:
    command = bench_gpu(sys.executable, "--budget", budget, "--results", tmp_path)
    done = subprocess.run(command, capture_output=True, text=True, env=plain_environment(), timeout=60, check=False)
    assert done.returncode == 2 and not list(tmp_path.iterdir())


def test_no_step_can_keep_the_whole_session_from_its_twelve_minutes(gpu: GpuSession) -> None:
    steps = gpu.plan.standard_steps()
    assert len({step.name for step in steps}) == len(steps)
    assert gpu.plan.DEFAULT_BUDGET_S <= gpu.plan.LONGEST_BUDGET_S <= 720
    shares = [step.until for step in steps]
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_the_parent_keeps_no_descriptors(gpu: GpuSession, tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    gpu.run(tmp_path, *[gpu.step(f"s{index}", "") for index in range(3)])
    assert len(list(Path("/proc/self/fd").iterdir())) == before
