"""The engines that can run a bundle on this machine, and switching between them while frames are upscaled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sr_edge.bundle import Bundle
from sr_edge.camera.flow.fair_lock import FairLock
from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.pipeline.frame_upscaler import NetworkFrameUpscaler
from sr_edge.controls import Controls
from sr_edge.errors import RuntimeUnavailable
from sr_edge.runtimes import Session, find_entry, load_runtime, runtime_names
from sr_edge.runtimes.variants import Variant, variants_of
from sr_edge.spec import Precision


class EngineOption(Variant):
    """A runtime at a precision, on the default device of the runtime."""

    @property
    def label(self) -> str:
        return f"{self.runtime} {super().label}"

    @property
    def device(self) -> str:
        return find_entry(self.runtime).device


def engine_options(bundle: Bundle) -> tuple[EngineOption, ...]:
    """All runtimes and precisions that run on this machine and for which the bundle has a graph."""
    options = (
        EngineOption(variant.runtime, variant.precision, variant.float_precision)
        for name in runtime_names()
        for variant in variants_of(bundle, [name], list(Precision), find_entry(name).device)
    )
    return tuple(option for option in options if _can_run(option, bundle))


def _can_run(option: EngineOption, bundle: Bundle) -> bool:
    try:
        runtime = load_runtime(option.runtime)
        devices = [device for device in runtime.availability().devices if device.name == option.device]
        is_refused = any(option.precision in device.caveats for device in devices)
        if not devices or is_refused or runtime.obstacle(option.precision, option.device) is not None:
            return False
    except RuntimeUnavailable:
        return False
    return (
        runtime.choose_artifact(bundle.manifest.artifacts, option.precision, option.float_precision, None) is not None
    )


OpenEngine = Callable[[EngineOption], Session]


@dataclass
class _Engine:
    """An open engine, and how many frames it is upscaling."""

    option: EngineOption
    session: Session
    upscaler: NetworkFrameUpscaler
    users: int = 0


@dataclass(frozen=True)
class FrameRecord:
    """How one frame was upscaled.

    Attributes:
        before: The frame as the network received it (RGB).
        option: The engine.
        model_ms: Duration of `infer`.
    """

    before: VideoFrame
    option: EngineOption
    model_ms: float


class SwitchableFrameUpscaler:
    """The frame upscaler of a preview: its engine can be changed, and it keeps a record of each frame.

    `_lock` guards the current engine, the users of every engine and the records; it is never held while an engine is
    opened, closed or run. `_switching` serialises `switch` and `close`, so that of several engines that are opened at
    once none is lost unclosed.
    """

    def __init__(self, open_engine: OpenEngine, first: EngineOption, controls: Controls | None = None) -> None:
        """Opens the first engine.

        Args:
            open_engine: Opens the session of an engine; what it raises is raised here and by `switch`.
            first: The engine to start with.
            controls: Settings of the network.
        """
        self._open_engine = open_engine
        self._controls = controls
        self._lock = threading.Lock()
        self._switching = threading.Lock()
        self._records: dict[int, FrameRecord] = {}
        self._current = self._opened(first)
        self.lock = FairLock(1)

    @property
    def option(self) -> EngineOption:
        """The current engine."""
        return self._current.option

    @property
    def name(self) -> str:
        return self._current.option.label

    @property
    def scale(self) -> int:
        return self._current.upscaler.scale

    def switch(self, option: EngineOption) -> None:
        """Opens another engine while the current one continues to run, and replaces it when the new one is ready.

        If the engine cannot be opened, the error is raised and the current engine stays.
        """
        with self._switching:
            if option == self.option:
                return
            opened = self._opened(option)
            with self._lock:
                previous, self._current = self._current, opened
                is_idle = previous.users == 0
            # No frame can enter the previous engine any more. If it still has users, the last of them closes it.
            if is_idle:
                previous.session.close()

    def record(self, sequence: int) -> FrameRecord:
        """Removes and returns the record of a frame; called once per frame, with increasing sequence numbers."""
        with self._lock:
            # Frames that were dropped or failed after inference are never asked for.
            for dropped in [number for number in self._records if number < sequence]:
                del self._records[dropped]
            return self._records.pop(sequence)

    def prepare(self, frame: VideoFrame) -> VideoFrame:
        return self._current.upscaler.prepare(frame)

    def infer(self, prepared: VideoFrame) -> VideoFrame:
        with self._use_engine() as engine:
            started_s = time.perf_counter()
            upscaled = engine.upscaler.infer(prepared)
            model_ms = 1e3 * (time.perf_counter() - started_s)
        with self._lock:
            self._records[prepared.sequence] = FrameRecord(prepared, engine.option, model_ms)
        return upscaled

    def finish(self, upscaled: VideoFrame, like: VideoFrame) -> VideoFrame:
        """Keeps the frame in RGB, which the JPEG encoder needs."""
        return upscaled

    def close(self) -> None:
        """Closes the current engine. No frame may be in `infer`."""
        with self._switching:
            self._current.session.close()

    @contextmanager
    def _use_engine(self) -> Iterator[_Engine]:
        """The current engine, which stays open until the block ends.

        The count of users is changed under the lock under which `switch` reads it: exactly one of the two, `switch` or
        the last user, finds a replaced engine idle and closes it.
        """
        with self._lock:
            engine = self._current
            engine.users += 1
        try:
            yield engine
        finally:
            with self._lock:
                engine.users -= 1
                is_last_user_of_replaced = engine.users == 0 and engine is not self._current
            if is_last_user_of_replaced:
                engine.session.close()

    def _opened(self, option: EngineOption) -> _Engine:
        session = self._open_engine(option)
        session.measure(runs=1, warm_up=0)  # in most runtimes the first inference is slow
        return _Engine(option, session, NetworkFrameUpscaler(session, controls=self._controls))
