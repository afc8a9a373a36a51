"""Everything about an NVIDIA GPU that is at hand for fifteen minutes, in one command and at most twelve of them.

Runs with any Python from 3.10 on, installs nothing, needs no network: what the interpreter lacks costs the steps that
need it, and the page says so. Writes gpu.json, gpu.md and gpu.log to a folder of its own, again after every step.

    make bench-gpu                            with python3; `PY=/path/to/python make bench-gpu` with another
    python3 benchmarks/bench_gpu.py --only doctor engines-convnet-tiny-x2        these steps alone
    python3 benchmarks/bench_gpu.py --publish gpu-results/.../gpu.json           a session's figures into docs/
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036  # whoever runs this may have any Python
    sys.exit(
        f"this is Python {sys.version.split()[0]}; bench_gpu.py needs 3.10 or newer: PY=/path/to/python make bench-gpu"
    )

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # for sr_edge, where it is not installed

from gpu_session.page import session_page  # noqa: E402
from gpu_session.plan import DEFAULT_BUDGET_S, LONGEST_BUDGET_S, Step, standard_steps  # noqa: E402
from gpu_session.process import run_process  # noqa: E402
from gpu_session.record import SessionRecord  # noqa: E402
from gpu_session.reporting import Context  # noqa: E402
from gpu_session.search_paths import SearchPaths, step_environment  # noqa: E402
from gpu_session.session import Session, SessionPlan  # noqa: E402

PUBLISHING_S = 15.0


def parsed_arguments() -> argparse.Namespace:
    names = [step.name for step in standard_steps()]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--results", type=Path, default=ROOT / "gpu-results", help="each session has a folder of its own in it"
    )
    parser.add_argument(
        "--material", type=Path, default=ROOT / "gpu-material", help="folder that bench-gpu-prepare wrote"
    )
    parser.add_argument(
        "--libraries", default="", metavar=f"FOLDER[{os.pathsep}FOLDER]", help="wheels or unpacked packages to use"
    )
    parser.add_argument(
        "--budget", type=float, default=DEFAULT_BUDGET_S, metavar="SECONDS", help="time limit of the whole session"
    )
    parser.add_argument(
        "--only", nargs="+", choices=names, metavar="STEP", help=f"run these steps only: {', '.join(names)}"
    )
    parser.add_argument(
        "--publish", type=Path, metavar="GPU_JSON", help="run nothing; update docs/ from the results of a session"
    )
    arguments = parser.parse_args()
    if not 0 < arguments.budget <= LONGEST_BUDGET_S:
        parser.error(
            f"a budget of {arguments.budget:g} s cannot be kept; give more than 0 and at most {LONGEST_BUDGET_S:g}"
        )
    return arguments


def chosen_steps(only: list[str] | None) -> list[Step]:
    return [step for step in standard_steps() if not only or step.name in only]


def publish(document: Path) -> bool:
    """Writes docs/ in a process of its own, as it needs packages that this one does not; says what came of it."""
    environment = step_environment(os.environ, SearchPaths(), ROOT, ROOT, Context())
    command = (sys.executable, "-m", "gpu_session", "publish", str(document.resolve()))
    ending = run_process(command, environment, ROOT, PUBLISHING_S, print, print)
    return ending.exit_code == 0


def show(session: Session, record: SessionRecord) -> bool:
    """Says where the page is, or prints it where no disk takes it."""
    if session.files.save(record):
        print(session.files.page_file)
        return True
    print(session_page(record.document()))
    print(f"nothing more could be written, so the page is above: {session.files.obstacle}", file=sys.stderr)
    return False


def main() -> int:
    arguments = parsed_arguments()
    if arguments.publish:
        return 0 if publish(arguments.publish) else 1
    libraries = tuple(Path(folder) for folder in arguments.libraries.split(os.pathsep) if folder)
    plan = SessionPlan(
        sys.executable,
        arguments.results / time.strftime("%Y%m%d-%H%M%S"),
        chosen_steps(arguments.only),
        arguments.budget,
        libraries,
        arguments.material,
    )
    session = Session(plan)
    record = session.run()
    written = show(session, record)
    if written and not record.rehearsal and not record.interrupted:
        publish(session.files.json_file)
    if record.interrupted:
        return 130
    return 0 if written else 1


if __name__ == "__main__":
    sys.exit(main())
