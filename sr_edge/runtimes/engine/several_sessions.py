"""A session that selects one of several sessions of the same network for each tile."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TypeVar

from sr_edge.controls import Controls
from sr_edge.errors import UsageError
from sr_edge.frames import Batch, Uint8Frame
from sr_edge.runtimes.session import Latency, Session, SessionSpec, StageTimes

Self = TypeVar("Self", bound="SeveralSessions")


class SeveralSessions(ABC):
    """A `Session` over a main session and further ones, each opened when its first tile arrives.

    The protocol documents the methods.
    """

    def __init__(self, main: Session, openers: Sequence[Callable[[], Session]], resources: ExitStack) -> None:
        """Takes over an open session.

        Args:
            main: The session at position 0.
            openers: Open the sessions at the following positions; each is called at most once.
            resources: What the openers need. All sessions, and then the resources, are closed together with this one.
        """
        self._main = main
        self._openers = openers
        self._sessions: list[Session | None] = [main, *(None for _ in openers)]
        self._resources = resources
        self._opening = threading.Lock()
        self._is_closed = False

    @property
    @abstractmethod
    def spec(self) -> SessionSpec: ...

    @abstractmethod
    def _position_for(self, frames: Batch | Uint8Frame) -> int:
        """The position of the session for these frames; 0, whose session raises the error, for unsuitable ones."""

    def run(self, frames: Batch | Uint8Frame, controls: Controls | None = None) -> Batch | Uint8Frame:
        return self._session_for(frames)[0].run(frames, controls)

    def run_staged(
        self, frames: Batch | Uint8Frame, controls: Controls | None = None
    ) -> tuple[Batch | Uint8Frame, StageTimes]:
        return self._session_for(frames)[0].run_staged(frames, controls)

    def submit(self, frames: Batch | Uint8Frame, controls: Controls | None = None) -> int:
        """The remainder of a ticket by the number of sessions is the position of its session."""
        session, position = self._session_for(frames)
        return len(self._sessions) * session.submit(frames, controls) + position

    def result(self, ticket: int) -> Batch | Uint8Frame:
        inner, position = divmod(ticket, len(self._sessions))
        session = self._sessions[position]
        if session is None:
            raise UsageError(
                f"ticket {ticket} was never issued",
                found=ticket,
                wanted="a ticket whose result was not taken yet",
                remedy="pass each ticket that submit() returns to result() once",
            )
        return session.result(inner)

    def measure(self, runs: int = 20, warm_up: int = 3) -> Latency:
        """Latency of the main session."""
        return self._main.measure(runs, warm_up)

    def close(self) -> None:
        # `_open` opens under this lock, so that no session is opened after the flag is set.
        with self._opening:
            self._is_closed = True
        for session in self._sessions:
            if session is not None:
                session.close()
        self._resources.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'closed, ' if self._is_closed else ''}{self.spec}>"

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _session_for(self, frames: Batch | Uint8Frame) -> tuple[Session, int]:
        position = self._position_for(frames)
        return (self._main, 0) if position == 0 else self._open(position)

    def _open(self, position: int) -> tuple[Session, int]:
        """The session at a position other than 0 and the position; the main session after `close`."""
        # One thread opens the session, and the others that need it wait here.
        with self._opening:
            session = self._sessions[position]
            if session is None and not self._is_closed:
                session = self._sessions[position] = self._openers[position - 1]()
        return (self._main, 0) if session is None else (session, position)
