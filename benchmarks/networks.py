"""The deployability matrix: which networks `sr-edge deploy` turns into a bundle, and what each target says about it.

Every family of spandrel's registry (small networks with seeded weights), the files in a folder of published
checkpoints, an ONNX file as torch exports it, and our own networks. Each is deployed in its own process with a time
limit. Its row is written at once to OUT/rows, and rows that exist are kept unless --again is given, so that an
interrupted run goes on where it stopped. --publish writes docs/results/networks.json and docs/networks.md.

    python benchmarks/networks.py --checkpoints FOLDER --rtx --times --jobs 2 --publish
    python benchmarks/networks.py --only compact,span
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from network_fit import recipe_digest
from network_matrix.page import page
from network_matrix.rows import Outcome, Row, cells_of, counts_as_deployed, missing_cells, one_line
from network_matrix.subjects import Source, Subject, families_of_other_purposes, subjects
from network_recipes import RECIPES
from speed_matrix.page import section

from sr_edge.bench import describe_environment, write_text
from sr_edge.models.recognition.families import NOT_STATED, find_family

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs"
RESULTS, PAGE = DOCS / "results" / "networks.json", DOCS / "networks.md"
SPEED_RESULTS = DOCS / "results" / "foreign-speed.json"
"""What benchmarks/foreign_speed.py measured."""
SHORTER_TIMING = ("--runs", "1", "--no-memory", "--threads", "1")
SCRIPT_LIMIT_S = 600.0
SHOWN_LINES = 3
_PREPARING = threading.Lock()
CHECKS_SCRIPT = "network_matrix/checks.py"
CHECKS = ("tensorrt", "float64", "fp16", "int8", "rtx", "times")
"""What checks.py prints."""


@dataclass(frozen=True)
class Settings:
    """What the command line asks for; without `tile`, that of `sr-edge deploy`."""

    out: Path
    timeout_s: float
    rtx: bool
    times: bool
    tile: str = ""

    @property
    def networks(self) -> Path:
        """The folder of the networks that are made here."""
        return self.out / "networks"

    def folder_of(self, subject: Subject) -> Path:
        """The folder in which commands run, so that no message names it."""
        return subject.file.parent if subject.file and subject.source is Source.FILE else self.networks


def measure(subject: Subject, settings: Settings) -> Row:
    """Deploys a network, checks its bundle, and returns its row."""
    if subject.missing:
        return _row(subject, missing_cells(subject.missing))
    try:
        _prepare(subject, settings.networks)
    except subprocess.SubprocessError as error:
        said = [line for line in str(getattr(error, "stderr", "") or error).splitlines() if line.strip()]
        return _row(subject, missing_cells(f"the network could not be made: {said[-1]}"))
    started = time.monotonic()
    bundle = settings.out / "bundles" / f"{subject.name}.sredge"
    outcome = _deploy(subject, bundle, settings)
    checks = _check(subject, bundle, settings) if not outcome.error else {}
    cells = cells_of(outcome, checks, subject.trained)
    shutil.rmtree(bundle, ignore_errors=True)
    return _row(subject, cells, outcome, time.monotonic() - started)


def _row(subject: Subject, cells: Mapping[str, Any], outcome: Outcome | None = None, seconds: float = 0.0) -> Row:
    document = outcome.document if outcome is not None and not outcome.error else {}
    manifest = document.get("manifest", {})
    card = manifest.get("card", {})
    remarks = [
        remark for export in document.get("exports", ())[:1] for remark in (export["form_reason"], *export["remarks"])
    ]
    return Row(
        name=subject.name,
        source=subject.source.value,
        family=subject.family,
        trained=subject.trained,
        scale=card.get("scale") or (RECIPES[subject.recipe].scale if subject.recipe in RECIPES else 0),
        parameters=card.get("parameters", 0),
        licence=_licence(subject),
        tile=" ".join(subject.tile),
        bundle=counts_as_deployed(cells),
        cells=cells,
        remarks=tuple(one_line(remark) for remark in remarks if remark),
        seconds=round(seconds, 1),
        stages=outcome.stages if outcome is not None else {},
    )


def _licence(subject: Subject) -> str:
    if subject.source is Source.BUNDLED:
        return "as sr-edge"
    return find_family(subject.family).licence if subject.family else NOT_STATED


def _prepare(subject: Subject, folder: Path) -> None:
    """Makes the checkpoint of a recipe, or the ONNX file, unless it exists and its recipe has not changed."""
    if not subject.recipe and subject.source is not Source.ONNX_EXPORT:
        return
    with _PREPARING:  # two rows may need the same checkpoint
        _make(subject, folder)


def _make(subject: Subject, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = subject.file or folder / f"{subject.recipe}.pth"
    if subject.recipe:
        digest, wanted = checkpoint.with_suffix(".recipe"), recipe_digest(subject.recipe)
        if not checkpoint.exists() or not digest.exists() or digest.read_text() != wanted:
            _run_script("network_fit.py", subject.recipe, str(checkpoint))
            digest.write_text(wanted)
    if subject.source is Source.ONNX_EXPORT:
        _run_script("network_matrix/onnx_export.py", str(checkpoint), str(folder / subject.choice[0]))


def _run_script(script: str, *arguments: str, folder: Path | None = None) -> str:
    command = [sys.executable, "-W", "ignore", str(HERE / script), *arguments]
    done = subprocess.run(
        command,
        timeout=SCRIPT_LIMIT_S,
        check=True,
        capture_output=True,
        text=True,
        env=_environment(),
        cwd=folder,
    )
    return done.stdout


def _deploy(subject: Subject, bundle: Path, settings: Settings) -> Outcome:
    shutil.rmtree(bundle, ignore_errors=True)
    bundle.parent.mkdir(parents=True, exist_ok=True)
    tile = subject.tile or (("--tile", settings.tile) if settings.tile and subject.recipe else ())
    words = ("deploy", *subject.choice, "-o", str(bundle), "--json", *tile, *SHORTER_TIMING)
    return run_staged([sys.executable, "-m", "sr_edge", *words], settings.timeout_s, settings.folder_of(subject))


def _check(subject: Subject, bundle: Path, settings: Settings) -> Mapping[str, Any]:
    flags = [flag for flag, is_set in (("--rtx", settings.rtx), ("--times", settings.times)) if is_set]
    try:
        printed = _run_script(
            CHECKS_SCRIPT, str(bundle), *flags, "--", *subject.choice, folder=settings.folder_of(subject)
        )
        found: Mapping[str, Any] = json.loads(printed)
        return found
    except subprocess.SubprocessError as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()[-1:]
        return {name: {"failed": " ".join(said)} for name in CHECKS}


def run_staged(command: Sequence[str], timeout_s: float, folder: Path | None = None) -> Outcome:
    """Runs `sr-edge ... --json` and takes the time of each stage that it names on stderr.

    Args:
        command: the command and its arguments.
        timeout_s: after this time the process and its children are killed.
        folder: the folder to run it in.
    """
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
        cwd=folder,
        start_new_session=True,  # engines are opened in processes of their own, which end with it
    ) as process:
        expired = threading.Event()

        def stop() -> None:
            expired.set()
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(timeout_s, stop)
        timer.start()
        output: list[str] = []
        reader = threading.Thread(target=lambda: output.append(_all_of(process.stdout)))
        reader.start()
        stages, said = _stages(process.stderr)
        reader.join()
        timer.cancel()
        code = process.wait()
    document = json.loads(output[0]) if output[0].strip().startswith("{") else {}
    return Outcome(None if expired.is_set() else code, document, stages, " ".join(said[-SHOWN_LINES:]))


def _all_of(stream: IO[str] | None) -> str:
    return stream.read() if stream is not None else ""


def _stages(stream: IO[str] | None) -> tuple[dict[str, float], list[str]]:
    """The seconds of each stage, and the other lines."""
    starts: dict[str, float] = {}
    lines: list[str] = []
    for line in stream or ():
        if line.rstrip().endswith(" ..."):
            starts[line.strip().removesuffix(" ...")] = time.monotonic()
        elif line.strip():
            lines.append(line.strip())
    ends = [*list(starts.values())[1:], time.monotonic()]
    return {name: round(end - start, 1) for (name, start), end in zip(starts.items(), ends, strict=False)}, lines


def _environment() -> Mapping[str, str]:
    """Ours, with this folder importable for `--arch network_matrix.variants:NAME`, and one thread for torch."""
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH", ""), str(HERE))))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def measure_all(chosen: Sequence[Subject], settings: Settings, jobs: int, again: bool) -> None:
    """Writes the row of every network that has none, several at a time."""
    folder = settings.out / "rows"
    folder.mkdir(parents=True, exist_ok=True)

    def work(subject: Subject) -> None:
        file = folder / f"{subject.name}.json"
        if file.exists() and not again:
            return
        row = measure(subject, settings)
        write_text(file, json.dumps(row.plain(), indent=1) + "\n")
        red = "; ".join(f"{column}: {cell.cause}" for column, cell in row.red)
        print(f"{row.name}: {'bundle' if row.bundle else 'NO BUNDLE'} in {row.seconds:.0f} s. {red}", flush=True)

    _in_parallel(work, chosen, jobs)


def _in_parallel(work: Callable[[Subject], None], chosen: Sequence[Subject], jobs: int) -> None:
    with ThreadPoolExecutor(jobs) as pool:
        for _ in pool.map(work, chosen):
            pass


def read_rows(folder: Path, every: Sequence[Subject]) -> tuple[list[Row], list[str]]:
    """The rows there are, in the order of the table, and the names of those that are missing."""
    files = {subject.name: folder / f"{subject.name}.json" for subject in every}
    rows = [Row.read(json.loads(file.read_text())) for file in files.values() if file.exists()]
    return rows, [name for name, file in files.items() if not file.exists()]


def published(kept: Mapping[str, Any]) -> str:
    """The page, from the document in docs/results/networks.json and that of benchmarks/foreign_speed.py."""
    rows = [Row.read(row) for row in kept["rows"]]
    speed = section(json.loads(SPEED_RESULTS.read_text(encoding="utf-8"))) if SPEED_RESULTS.exists() else ()
    return page(rows, kept["pending"], kept["families_without_a_row"], kept["measured"], speed)


def publish(rows: Sequence[Row], pending: Sequence[str], command: str, tile: str) -> None:
    """Writes the results and the page; `tile` is empty for the default one."""
    options = " ".join(SHORTER_TIMING)
    exception = f", those made from recipes with tiles of {tile}" if tile else ""
    kept = {
        "measured": {"command": command, "options": options, "except": exception, "environment": _machine()},
        "rows": [row.plain() for row in rows],
        "pending": list(pending),
        "families_without_a_row": families_of_other_purposes(),
    }
    write_text(RESULTS, json.dumps(kept, indent=1) + "\n")
    write_text(PAGE, published(kept))


def _machine() -> str:
    found = describe_environment()
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    return f"{found.machine.cpu}, {found.machine.usable_cores} cores; {versions}; {found.started}"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="NAME,...", help="measure these networks only, separated by commas")
    parser.add_argument("--checkpoints", type=Path, metavar="FOLDER", help="published files, each of which is a row")
    parser.add_argument("--rtx", action="store_true", help="build engines with TensorRT-RTX, which needs no GPU")
    parser.add_argument("--times", action="store_true", help="time each fp32 graph against the plain traced graph")
    parser.add_argument(
        "--tile", default="", metavar="HxW", help="tile of the networks made from recipes (default: that of deploy)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="networks that are measured at a time")
    parser.add_argument("--timeout", type=float, default=900.0, metavar="SECONDS", help="time limit of one deployment")
    parser.add_argument("--out", type=Path, default=Path("build/networks"), metavar="FOLDER")
    parser.add_argument("--again", action="store_true", help="repeat measurements that have a row already")
    parser.add_argument("--prepare", action="store_true", help="only make the checkpoints, which takes some minutes")
    parser.add_argument(
        "--publish", action="store_true", help="write docs/results/networks.json and docs/networks.md from all rows"
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    every = subjects(arguments.checkpoints)
    names = arguments.only.split(",") if arguments.only else [subject.name for subject in every]
    unknown = sorted(set(names) - {subject.name for subject in every})
    if unknown:
        sys.exit(f"no network {', '.join(unknown)}; there are {', '.join(subject.name for subject in every)}")
    chosen = [subject for subject in every if subject.name in names]
    settings = Settings(arguments.out.resolve(), arguments.timeout, arguments.rtx, arguments.times, arguments.tile)
    if arguments.prepare:
        _in_parallel(lambda subject: _prepare(subject, settings.networks), chosen, arguments.jobs)
        return
    measure_all(chosen, settings, arguments.jobs, arguments.again)
    rows, pending = read_rows(settings.out / "rows", every)
    print(f"{sum(row.bundle for row in rows)} of {len(rows)} networks make a bundle; {len(pending)} were not measured")
    if arguments.publish:
        publish(rows, pending, _command(arguments), arguments.tile)


def _command(arguments: argparse.Namespace) -> str:
    """The command that reproduces the rows; the folder of checkpoints has another name elsewhere."""
    flags = [name for name, is_set in (("--rtx", arguments.rtx), ("--times", arguments.times)) if is_set]
    folder = ["--checkpoints FOLDER"] if arguments.checkpoints else []
    tile = [f"--tile {arguments.tile}"] if arguments.tile else []
    return " ".join(["python benchmarks/networks.py", *folder, *flags, *tile, f"--jobs {arguments.jobs}", "--publish"])


if __name__ == "__main__":
    main()
