"""The tests that are marked `gpu`, as far as this interpreter can import them and the time goes."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from gpu_session.process import NOT_POSSIBLE
from gpu_session.reporting import publish

ROOT = Path(__file__).resolve().parents[3]
_NO_TESTS = 5


def marked_files(folder: Path) -> list[Path]:
    """Test files that name the mark: collecting the others would cost seconds and packages that may be absent."""
    pattern = re.compile(r"pytest\.mark\.gpu\b")
    return [file for file in sorted(folder.rglob("test_*.py")) if pattern.search(file.read_text(encoding="utf-8"))]


class _Counts:
    """pytest tells a plugin every result; each is handed over at once, so that a crash leaves the earlier ones."""

    def __init__(self) -> None:
        self.counts = {"passed": 0, "failed": 0, "skipped": 0, "error": 0}
        self.reasons: list[str] = []

    def pytest_runtest_logreport(self, report: object) -> None:
        outcome, phase = getattr(report, "outcome", ""), getattr(report, "when", "")
        if outcome == "passed" and phase != "call":
            return
        self._count("error" if outcome == "failed" and phase != "call" else outcome, report)

    def pytest_collectreport(self, report: object) -> None:
        if getattr(report, "failed", False):
            self._count("error", report)

    def _count(self, outcome: str, report: object) -> None:
        self.counts[outcome] = self.counts.get(outcome, 0) + 1
        if outcome != "passed":
            self.reasons.append(f"{getattr(report, 'nodeid', '')}: {outcome}: {_reason(report)}")
        publish({**self.counts, "reasons": self.reasons})


def _reason(report: object) -> str:
    """The last line of why a test did not pass."""
    longer = getattr(report, "longrepr", "")
    text = str(longer[2]) if isinstance(longer, tuple) else str(longer)
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else ""


def main(arguments: Sequence[str]) -> None:
    import pytest

    files = [str(file) for file in marked_files(ROOT / "tests")]
    options = ["-m", "gpu", "-q", "-p", "no:cacheprovider", "--continue-on-collection-errors", "--rootdir", str(ROOT)]
    plugin = _Counts()
    exit_code = int(pytest.main([*options, *files], plugins=[plugin]))
    publish({**plugin.counts, "reasons": plugin.reasons})
    if exit_code == _NO_TESTS or not (plugin.counts["passed"] or plugin.counts["failed"] or plugin.counts["error"]):
        print(f"no marked test can run here: {plugin.reasons[0] if plugin.reasons else 'none was found'}")
        sys.exit(NOT_POSSIBLE)
    if exit_code:
        print(", ".join(f"{count} {name}" for name, count in plugin.counts.items()))
        sys.exit(1)
