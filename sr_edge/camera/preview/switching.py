"""A frame upscaler whose engine, and a second one to compare with, can be changed while frames are upscaled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sr_edge.camera.flow.fair_lock import FairLock
from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.pipeline.frame_upscaler import NetworkFrameUpscaler
from sr_edge.camera.preview.engines import EngineOption
from sr_edge.controls import Controls, control_values
from sr_edge.runtimes import Session
from sr_edge.upscaler import OnTiles
from sr_edge.upscaler.reuse_options import EXACT, ReuseOptions

OpenEngine = Callable[[EngineOption], Session]


@dataclass(eq=False)
class _Engine:
    """An open engine, and how many frames it is upscaling."""

    option: EngineOption
    session: Session
    upscaler: NetworkFrameUpscaler
    users: int = 0


@dataclass(frozen=True)
class EngineOutput:
    """A frame that an engine has upscaled, in RGB, and the duration of `infer`."""

    option: EngineOption
    frame: VideoFrame
    model_ms: float


@dataclass(frozen=True)
class FrameRecord:
    """How one frame was upscaled.

    Attributes:
        before: The frame as the network received it (RGB).
        outputs: What each engine made of it: that of the stream first, then the one to compare with, if any.
    """

    before: VideoFrame
    outputs: tuple[EngineOutput, ...]


def _always() -> bool:
    return True


class SwitchableFrameUpscaler:
    """The frame upscaler of a preview: its engines can be changed, and it keeps a record of each frame.

    `_lock` guards the current engines, the users of every engine, the settings of the network and the records; it is
    never held while an engine is opened, closed or run. `_switching` serialises `switch` and `close`, so that of
    several engines that are opened at once none is lost unclosed.
    """

    def __init__(
        self,
        open_engine: OpenEngine,
        first: EngineOption,
        controls: Controls | None = None,
        reuse: ReuseOptions | str | float = EXACT,
        on_tiles: OnTiles | None = None,
    ) -> None:
        """Opens the first engine.

        Args:
            open_engine: Opens the session of an engine; what it raises is raised here and by `switch`.
            first: The engine to start with.
            controls: Settings of the network.
            reuse: Which tiles are reused, see `Upscaler`. Each engine reuses its own tiles.
            on_tiles: See `Upscaler`.
        """
        self._open_engine = open_engine
        self._controls = dict(controls or {})
        self.reuse = ReuseOptions.parse(reuse)
        self._on_tiles = on_tiles
        self._lock = threading.Lock()
        self._switching = threading.Lock()
        self._frames_in_engines = 0
        self._records: dict[int, FrameRecord] = {}
        self._current: tuple[_Engine, ...] = (self._opened(first),)
        self.lock = FairLock(1)
        self.set_controls({})

    @property
    def options(self) -> tuple[EngineOption, ...]:
        """The engine of the stream, then the one to compare with, if any."""
        return tuple(engine.option for engine in self._current)

    @property
    def name(self) -> str:
        return self._current[0].option.label

    @property
    def scale(self) -> int:
        return self._current[0].upscaler.scale

    @property
    def controls(self) -> dict[str, float]:
        """The values of the network's controls."""
        return dict(self._controls)

    def set_controls(self, values: Controls) -> None:
        """Sets values of the network's controls for the frames from the next one on; the others keep theirs.

        Args:
            values: By name of the control.

        Raises:
            UsageError: A name is unknown, or a value is not a number or out of range; nothing is changed then.
        """
        with self._lock:
            declared = self._current[0].session.spec.controls
            self._controls = control_values(declared, {**self._controls, **values})
            self._set_upscalers(self._current)

    def _set_upscalers(self, engines: Sequence[_Engine]) -> None:
        """Gives engines the settings of the network; called while holding `_lock`.

        A frame that is being upscaled keeps the settings with which it began.
        """
        for engine in engines:
            engine.upscaler = self._upscaler_over(engine.session)

    def _upscaler_over(self, session: Session) -> NetworkFrameUpscaler:
        return NetworkFrameUpscaler(session, controls=self._controls, reuse=self.reuse, on_tiles=self._on_tiles)

    @property
    def is_busy(self) -> bool:
        """Whether an engine is upscaling a frame, be it one that has been replaced meanwhile."""
        return self._frames_in_engines > 0

    def switch(self, options: Sequence[EngineOption], is_wanted: Callable[[], bool] = _always) -> None:
        """Opens other engines while the current ones continue to run, and replaces them when the new ones are ready.

        If an engine cannot be opened, the error is raised and the current engines stay.

        Args:
            options: The engine of the stream, and optionally another one that upscales the same frames.
            is_wanted: Asked before each engine is opened and before the current ones are replaced. When it returns
                false, the current engines stay, and what was opened is closed.
        """
        with self._switching:
            kept = {engine.option: engine for engine in self._current}
            opened: dict[EngineOption, _Engine] = {}
            try:
                for option in options:
                    if not is_wanted():
                        return
                    if option not in kept and option not in opened:
                        opened[option] = self._opened(option)
                if is_wanted():
                    self._replace([opened.get(option) or kept[option] for option in dict.fromkeys(options)])
                    opened.clear()
            finally:
                for unused in opened.values():
                    unused.session.close()

    def _replace(self, engines: Sequence[_Engine]) -> None:
        with self._lock:
            self._set_upscalers(engines)  # whose settings were changed while they were loaded
            previous, self._current = self._current, tuple(engines)
            idle = [engine for engine in previous if engine not in self._current and engine.users == 0]
        # No frame can enter a replaced engine any more. If it still has users, the last of them closes it.
        for engine in idle:
            engine.session.close()

    def record(self, sequence: int) -> FrameRecord:
        """Removes and returns the record of a frame; called once per frame, with increasing sequence numbers."""
        with self._lock:
            # Frames that were dropped or failed after inference are never asked for.
            for dropped in [number for number in self._records if number < sequence]:
                del self._records[dropped]
            return self._records.pop(sequence)

    def prepare(self, frame: VideoFrame) -> VideoFrame:
        return self._current[0].upscaler.prepare(frame)

    def infer(self, prepared: VideoFrame) -> VideoFrame:
        """The output of the stream's engine; that of the other one is only in the record of the frame."""
        with self._use_engines() as engines:
            outputs = tuple(_run(engine, prepared) for engine in engines)
        with self._lock:
            self._records[prepared.sequence] = FrameRecord(prepared, outputs)
        return outputs[0].frame

    def finish(self, upscaled: VideoFrame, like: VideoFrame) -> VideoFrame:
        """Keeps the frame in RGB, which the JPEG encoder needs."""
        return upscaled

    def for_stream(self) -> SwitchableFrameUpscaler:
        """Itself: it belongs to one stream."""
        return self

    def count_changed(self, frame: VideoFrame) -> int | None:
        return self._current[0].upscaler.count_changed(frame)

    def close(self) -> None:
        """Closes the current engines. No frame may be in `infer`."""
        with self._switching:
            for engine in self._current:
                engine.session.close()

    @contextmanager
    def _use_engines(self) -> Iterator[tuple[_Engine, ...]]:
        """The current engines, which stay open until the block ends.

        The count of users is changed under the lock under which `switch` reads it: exactly one of the two, `switch` or
        the last user, finds a replaced engine idle and closes it.
        """
        with self._lock:
            engines = self._current
            self._frames_in_engines += 1
            for engine in engines:
                engine.users += 1
        try:
            yield engines
        finally:
            with self._lock:
                self._frames_in_engines -= 1
                for engine in engines:
                    engine.users -= 1
                unused = [engine for engine in engines if engine.users == 0 and engine not in self._current]
            for engine in unused:
                engine.session.close()

    def _opened(self, option: EngineOption) -> _Engine:
        session = self._open_engine(option)
        session.measure(runs=1, warm_up=0)  # in most runtimes the first inference is slow
        return _Engine(option, session, self._upscaler_over(session))


def _run(engine: _Engine, prepared: VideoFrame) -> EngineOutput:
    started_s = time.perf_counter()
    upscaled = engine.upscaler.infer(prepared)
    return EngineOutput(engine.option, upscaled, 1e3 * (time.perf_counter() - started_s))
