"""Faults of every sort that a campaign must notice: without them its figures would prove nothing."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.fuzz.kinds import CANARY, Bench


def traceback(bench: Bench, rng: random.Random) -> None:
    raise ValueError("not one of sr-edge's errors")


def bug_message(bench: Bench, rng: random.Random) -> None:
    sys.stderr.write("sr-edge: unexpected KeyError: 3; this is a bug in sr-edge, please report it\n")


def several_errors(bench: Bench, rng: random.Random) -> None:
    sys.stderr.write("sr-edge: one\nsr-edge: two\n")


def escape_sequence(bench: Bench, rng: random.Random) -> None:
    sys.stdout.write("\x1b[2J")


def code(bench: Bench, rng: random.Random) -> None:
    Path(CANARY).touch()


def temporary_file(bench: Bench, rng: random.Random) -> None:
    (bench.folder / ".out.png.sr-edge.part").touch()


def result_of_a_failure(bench: Bench, rng: random.Random) -> None:
    sys.stderr.write("sr-edge: failed\n")
    (bench.folder / "out.png").touch()


def memory(bench: Bench, rng: random.Random) -> None:
    bytearray(os.urandom(1 << 20) * 1200)


def crash(bench: Bench, rng: random.Random) -> None:
    os.abort()


def hang(bench: Bench, rng: random.Random) -> None:
    time.sleep(600)


KNOWN_FAULTS: Mapping[str, Callable[[Bench, random.Random], None]] = {
    fault.__name__: fault
    for fault in (
        traceback,
        bug_message,
        several_errors,
        escape_sequence,
        code,
        temporary_file,
        result_of_a_failure,
        memory,
        crash,
        hang,
    )
}
