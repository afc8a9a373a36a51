"""Progress on stderr: bars that count, disappear and name each step; and the width of piped results."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Group

from sr_edge.cli.output import during, named_steps, progress_on_stderr, result_on_stdout, stage_on_stderr

ERASE_LINE = "\x1b[2K"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal_on_stderr(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Replaces stderr; called in the test itself, because pytest replaces it again after the fixtures."""
    stream = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_a_bar_counts_and_is_erased(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    terminal = terminal_on_stderr(monkeypatch)
    monkeypatch.setenv("COLUMNS", str(columns))
    with progress_on_stderr() as report:
        report("exporting", 6, 6)
        report("timing rounds", 3, 23)
    shown = terminal.getvalue()
    assert "timing rounds" in shown and "3/23" in shown
    assert shown.rindex(ERASE_LINE) > shown.rindex("3/23"), "the last line is erased"
    assert "exporting" not in shown, "a stage that is done has no bar"


@pytest.mark.parametrize("columns", [60, 80, 100, 120])
def test_a_detail_is_shown_whole_below_the_bar(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    terminal = terminal_on_stderr(monkeypatch)
    monkeypatch.setenv("COLUMNS", str(columns))
    detail = "12.3 pictures/s, 45.6 frames/s, 128 workers, 7 failed"
    with progress_on_stderr() as report:
        report("items", 123_456, 1_234_567, detail)
    assert "123456/1234567" in terminal.getvalue()
    assert detail in terminal.getvalue()


@pytest.mark.parametrize("has_time_left", [True, False])
def test_the_time_left_is_shown_unless_it_cannot_be_estimated(
    monkeypatch: pytest.MonkeyPatch, has_time_left: bool
) -> None:
    terminal = terminal_on_stderr(monkeypatch)
    with progress_on_stderr() as report:
        for done in range(4):
            report("items", done, 23, has_time_left=has_time_left)
    assert "3/23" in terminal.getvalue()
    assert ("left" in terminal.getvalue()) is has_time_left


def test_a_stage_of_one_step_has_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_on_stderr(monkeypatch)
    with progress_on_stderr() as report:
        report("loading PyTorch", 0, 1)
    assert "loading PyTorch" in terminal.getvalue()
    assert "0/1" not in terminal.getvalue()


def test_without_a_terminal_each_stage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_on_stderr() as report, during(report, "loading PyTorch"):
        for done in range(3):
            report("timing rounds", done, 3)
    assert capsys.readouterr().err.splitlines() == ["loading PyTorch ...", "timing rounds ..."]


def test_a_short_stage_without_a_terminal_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with stage_on_stderr("trying the runtimes"):
        pass
    assert capsys.readouterr().err == ""


def test_a_named_step_lasts_until_the_next_one() -> None:
    events: list[tuple[str, int, int]] = []
    with named_steps(lambda *event: events.append(event)) as begin:
        begin("tracing")
        begin("writing")
        assert events == [("tracing", 0, 1), ("tracing", 1, 1), ("writing", 0, 1)]
    assert events[3:] == [("writing", 1, 1)]


def test_columns_sets_the_width_of_piped_results(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def longest_line() -> int:
        with result_on_stdout(as_json=False) as show:
            show({}, Group("word " * 100))
        return max(map(len, capsys.readouterr().out.splitlines()))

    monkeypatch.delenv("COLUMNS", raising=False)
    assert 190 < longest_line() <= 200
    monkeypatch.setenv("COLUMNS", "60")
    assert 50 < longest_line() <= 60
