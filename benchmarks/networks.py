"""Which of spandrel's families the product deploys: small seeded networks of all of them, with default options.

python benchmarks/networks.py [--only compact,span] [--timeout 900] [--out build/networks] [--arch-mode]

Each network is written as a checkpoint (a state dict), then deployed in a process of its own with a time limit; its
result is written at once to OUT/rows, and rows that exist are kept unless --again is given, so that an interrupted run
goes on where it stopped. OUT/networks.json and OUT/networks.md have the whole table.

An older checkout of the product is measured with PYTHONPATH=CHECKOUT; where it has no detection, --arch-mode brings
the network in through `--arch network_recipes:NAME`.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from network_recipes import DEFAULT_TILE_PX, NOT_COVERED, RECIPES, build, registered_families
from network_rows import Outcome, Row, detected_family, form_of, gates_of, markdown, note_of

HERE = Path(__file__).resolve().parent
FIT_TIMEOUT_S = 600
LINE_PREFIX = "sr-edge: "


@dataclass(frozen=True)
class Settings:
    """What the command line asks for."""

    out: Path
    timeout_s: float
    command: tuple[str, ...]
    options: tuple[str, ...]
    arch_mode: bool

    @property
    def how(self) -> str:
        """One line for the tables: how the networks were deployed."""
        source = "--arch network_recipes:NAME --weights NAME.pth" if self.arch_mode else "NAME.pth"
        return " ".join(("sr-edge deploy", source, *self.options)) + f", at most {self.timeout_s:.0f} s each"


def measure(name: str, settings: Settings) -> Row:
    """Writes the checkpoint of a recipe unless it exists, deploys it and says how that went."""
    try:
        checkpoint, nearness_db = _checkpoint(name, settings.out)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = [line for line in str(error.stderr or error).splitlines() if line.strip()]
        return _row(name, Outcome(None, {}, f"no checkpoint was written: {said[-1]}", 0.0), (), None)
    outcome, stages = _run(_command(name, checkpoint, settings), settings.timeout_s)
    return _row(name, outcome, stages, nearness_db)


def _row(name: str, outcome: Outcome, stages: Sequence[str], nearness_db: float | None) -> Row:
    recipe = RECIPES[name]
    return Row(
        name=name,
        family=recipe.family,
        purpose=recipe.purpose,
        scale=recipe.scale,
        parameters=sum(parameter.numel() for parameter in build(name).parameters()),
        nearness_db=nearness_db,
        detected=detected_family(outcome),
        form=form_of(outcome),
        gates=gates_of(outcome, stages),
        reason=outcome.line,
        seconds=outcome.seconds,
        exit_code=outcome.exit_code,
        note=note_of(outcome),
        stages=stages,
    )


def _command(name: str, checkpoint: Path, settings: Settings) -> list[str]:
    bundle = settings.out / "bundles" / f"{name}.sredge"
    shutil.rmtree(bundle, ignore_errors=True)
    bundle.parent.mkdir(parents=True, exist_ok=True)
    tile_px = RECIPES[name].tile_px
    tile = () if tile_px == DEFAULT_TILE_PX else ("--tile", f"{tile_px}x{tile_px}")
    source = _source(name, checkpoint, settings.arch_mode)
    return [*settings.command, "deploy", *source, "-o", str(bundle), "--json", *tile, *settings.options]


def _source(name: str, checkpoint: Path, arch_mode: bool) -> list[str]:
    if not arch_mode:
        return [str(checkpoint)]
    return ["--arch", f"network_recipes:{name}", "--weights", str(checkpoint), "--scale", str(RECIPES[name].scale)]


def _checkpoint(name: str, out: Path) -> tuple[Path, float | None]:
    """The checkpoint file and how near its network is to the enlarged input; both are made once."""
    path = out / "checkpoints" / f"{name}.pth"
    record = path.with_suffix(".json")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-W", "ignore", str(HERE / "network_fit.py"), name, str(path)]
        finished = subprocess.run(
            command, timeout=FIT_TIMEOUT_S, check=True, capture_output=True, text=True, env=_environment()
        )
        record.write_text(finished.stdout)
    found = json.loads(record.read_text()) if record.exists() else {}
    return path, found.get("nearness_db")


def _run(command: Sequence[str], timeout_s: float) -> tuple[Outcome, list[str]]:
    """The outcome, and the stages that the command named on stderr before it ended."""
    started = time.monotonic()
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
        start_new_session=True,  # memory is measured in processes of its own, which end with it
    ) as process:
        try:
            output, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
            process.returncode = None  # type: ignore[assignment]
    seconds = time.monotonic() - started
    lines = [line for line in errors.splitlines() if line.strip()]
    stages = [line.removesuffix(" ...") for line in lines if line.endswith(" ...")]
    if process.returncode is None:
        line = f"no result within {timeout_s:.0f} s; the last stage was {stages[-1] if stages else 'loading'!r}"
        return Outcome(None, {}, line, seconds), stages
    document = json.loads(output) if output.strip().startswith("{") else {}
    said = [line for line in lines if line.startswith(LINE_PREFIX)]
    line = said[-1].removeprefix(LINE_PREFIX) if said else "" if document else "\n".join(lines[-3:])
    return Outcome(process.returncode, document, line, seconds), stages


def _environment() -> Mapping[str, str]:
    """Ours, with the recipes importable for `--arch network_recipes:NAME`; what the caller put in front stays there."""
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH", ""), str(HERE))))
    return {**os.environ, "PYTHONPATH": path}


def uncovered_families() -> dict[str, str]:
    """Every family of the registry that has no recipe, with the reason where one was written down."""
    covered = {recipe.family for recipe in RECIPES.values()}
    missing = [family for family in registered_families() if family not in covered]
    return {family: NOT_COVERED.get(family, "no recipe has been written yet") for family in missing}


def write_tables(settings: Settings, heading: str) -> None:
    """Writes networks.json and networks.md from the rows there are, in the order of the recipes."""
    out = settings.out
    files = [out / "rows" / f"{name}.json" for name in RECIPES]
    rows = [Row(**json.loads(file.read_text())) for file in files if file.exists()]
    uncovered = uncovered_families()
    document = {
        "heading": heading,
        "how": settings.how,
        "rows": [asdict(row) for row in rows],
        "not_covered": uncovered,
    }
    (out / "networks.json").write_text(json.dumps(document, indent=1) + "\n")
    (out / "networks.md").write_text(markdown(rows, uncovered, heading, settings.how))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="NAME,...", help="run these recipes only, separated by commas")
    parser.add_argument("--timeout", type=float, default=900.0, metavar="SECONDS", help="time limit of one deployment")
    parser.add_argument("--out", type=Path, default=Path("build/networks"), metavar="FOLDER")
    parser.add_argument(
        "--arch-mode", action="store_true", help="deploy with --arch, for tools without detection of the architecture"
    )
    parser.add_argument("--command", default=f"{sys.executable} -m sr_edge", help="command that runs sr-edge")
    parser.add_argument("--options", default="", help="more options of `sr-edge deploy`, in one string")
    parser.add_argument("--again", action="store_true", help="repeat measurements that have a row already")
    parser.add_argument("--heading", default="Deployability of spandrel's families")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    names = arguments.only.split(",") if arguments.only else list(RECIPES)
    unknown = sorted(set(names) - set(RECIPES))
    if unknown:
        sys.exit(f"no recipe {', '.join(unknown)}; there are {', '.join(RECIPES)}")
    command, options = tuple(shlex.split(arguments.command)), tuple(shlex.split(arguments.options))
    out = arguments.out.resolve()
    settings = Settings(out, arguments.timeout, command, options, arguments.arch_mode)
    (out / "rows").mkdir(parents=True, exist_ok=True)
    for name in names:
        file = out / "rows" / f"{name}.json"
        if arguments.again or not file.exists():
            row = measure(name, settings)
            file.write_text(json.dumps(asdict(row), indent=1) + "\n")
            write_tables(settings, arguments.heading)
            stopped = next((gate for gate, verdict in row.gates.items() if verdict == "refused"), "")
            print(f"{name}: {f'refused by {stopped}' if stopped else 'deployed'} in {row.seconds:.0f} s: {row.reason}")
            sys.stdout.flush()
    write_tables(settings, arguments.heading)
    print((out / "networks.md").read_text())


if __name__ == "__main__":
    main()
