"""Slots and tickets, held against an engine that the test can stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from sr_edge.errors import EngineError, FrameError, UsageError
from sr_edge.runtimes.engine.host_format import Tile
from sr_edge.runtimes.engine.session import EngineSession
from sr_edge.runtimes.engine.vendor_errors import reason_of, vendor_errors
from sr_edge.runtimes.session import SessionSpec
from sr_edge.spec import FrameFormat, Precision, TileSpec
from tests.expected_errors import raises

PATIENCE_S = 10.0
BRIEF_S = 0.05


class GatedEngine:
    """Repeats the picture 1x1; waits for `gate`, fails on a negative first value, notes which slots ran at once."""

    controls: tuple[str, ...] = ()

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.busy: set[int] = set()
        self.most_busy = 0
        self.closed = 0
        self._lock = threading.Lock()

    def infer(self, slot: int, tile: Tile, controls: Any, out: Tile) -> None:
        with self._lock:
            assert slot not in self.busy
            self.busy.add(slot)
            self.most_busy = max(self.most_busy, len(self.busy))
        self.entered.set()
        assert self.gate.wait(PATIENCE_S)
        with self._lock:
            self.busy.remove(slot)
        if tile.flat[0] < 0:
            raise EngineError("negative", found=float(tile.flat[0]))
        np.copyto(out, tile)

    def close(self) -> None:
        self.closed += 1


def spec(slots: int) -> SessionSpec:
    fp32 = Precision.FP32
    return SessionSpec(
        "gated", "1", "cpu", fp32, fp32, fp32, FrameFormat.FLOAT_NCHW, TileSpec(2, 2), 1, 1, 0.0, 0, slots=slots
    )


def tile(value: float) -> Any:
    return np.full((1, 3, 2, 2), value, np.float32)


@pytest.fixture
def engine() -> GatedEngine:
    return GatedEngine(2)


@pytest.fixture
def session(engine: GatedEngine) -> Iterator[EngineSession]:
    opened = EngineSession(engine, spec(engine.slots))
    yield opened
    engine.gate.set()
    opened.close()


def test_submit_blocks_while_all_slots_are_busy(engine: GatedEngine, session: EngineSession) -> None:
    tickets = [session.submit(tile(0.1)), session.submit(tile(0.2))]
    third = threading.Thread(target=lambda: tickets.append(session.submit(tile(0.3))))
    third.start()
    third.join(BRIEF_S)
    assert third.is_alive()
    engine.gate.set()
    third.join(PATIENCE_S)
    assert [float(session.result(ticket)[0, 0, 0, 0]) for ticket in tickets] == pytest.approx([0.1, 0.2, 0.3])
    assert engine.most_busy == 2


def test_more_tickets_than_slots_without_redeeming(engine: GatedEngine, session: EngineSession) -> None:
    engine.gate.set()
    tickets = [session.submit(tile(index / 10)) for index in range(9)]
    assert [float(session.result(ticket)[0, 0, 0, 0]) for ticket in tickets] == pytest.approx(
        [index / 10 for index in range(9)]
    )


def test_a_failed_tile_gives_its_slot_back(engine: GatedEngine, session: EngineSession) -> None:
    engine.gate.set()
    for _ in range(3):
        ticket = session.submit(tile(-1))
        with raises(EngineError, found=-1.0):
            session.result(ticket)
        with raises(EngineError, found=-1.0):
            session.run(tile(-1))
    assert session.run(tile(0.5))[0, 0, 0, 0] == 0.5


@pytest.mark.parametrize("how", ["run", "submit"])
def test_close_waits_for_what_is_in_flight(engine: GatedEngine, session: EngineSession, how: str) -> None:
    working = threading.Thread(target=getattr(session, how), args=(tile(0.1),))
    working.start()
    assert engine.entered.wait(PATIENCE_S)
    closing = threading.Thread(target=session.close)
    closing.start()
    closing.join(BRIEF_S)
    assert closing.is_alive()
    assert engine.closed == 0
    engine.gate.set()
    for thread in (working, closing):
        thread.join(PATIENCE_S)
    session.close()
    assert engine.closed == 1


def test_waiting_submit_is_told_of_the_close(engine: GatedEngine, session: EngineSession) -> None:
    refused = threading.Event()

    def submit() -> None:
        try:
            session.submit(tile(0.3))
        except UsageError:
            refused.set()

    session.submit(tile(0.1))
    session.submit(tile(0.2))
    closing = threading.Thread(target=session.close)
    closing.start()
    closing.join(BRIEF_S)
    waiting = threading.Thread(target=submit)
    waiting.start()
    engine.gate.set()
    for thread in (closing, waiting):
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert refused.is_set()


def test_nan_does_not_become_a_picture(engine: GatedEngine) -> None:
    class NanEngine(GatedEngine):
        def infer(self, slot: int, tile: Tile, controls: Any, out: Tile) -> None:
            out.fill(np.nan)

    with EngineSession(NanEngine(1), spec(1)) as session, raises(FrameError) as caught:
        session.run(np.zeros((2, 2, 3), np.uint8))
    assert "NaN" in caught.value.problem


def test_vendor_errors_become_one_line() -> None:
    message = "Exception from src/core.cpp:118:\nCheck 'x' failed at src/a.cpp:1:\n  Unsupported operation Foo\n\n"
    wanted = raises(
        EngineError, problem="cannot compile: Unsupported operation Foo", found="net.onnx", remedy="update it"
    )
    with wanted as caught, vendor_errors("cannot compile", "update it", "net.onnx"):
        raise RuntimeError(message)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert reason_of(KeyError()) == "KeyError"
    assert len(reason_of(RuntimeError("x" * 5000))) == 300


def test_our_own_errors_pass_unchanged() -> None:
    with raises(UsageError, problem="mine", remedy=None), vendor_errors("failed", "advice"):
        raise UsageError("mine")
