"""Which engines a bundle can run in here, and changing between them while frames flow."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sr_edge.bundle import Bundle
from sr_edge.camera.enlarger import NetworkFrameUpscaler
from sr_edge.camera.frame import VideoFrame
from sr_edge.camera.turns import FairLock
from sr_edge.controls import Controls
from sr_edge.errors import RuntimeUnavailable
from sr_edge.runtimes import Session, find_entry, load_runtime, runtime_names
from sr_edge.runtimes.variants import Variant, variants_of
from sr_edge.spec import Precision


class EngineOption(Variant):
    """One runtime at one precision, on the device that it always has."""

    @property
    def label(self) -> str:
        return f"{self.runtime} {super().label}"

    @property
    def device(self) -> str:
        return find_entry(self.runtime).device


def engine_options(bundle: Bundle) -> tuple[EngineOption, ...]:
    """Every runtime and precision that works here and that the bundle has a graph for."""
    every = (
        EngineOption(variant.runtime, variant.precision, variant.float_precision)
        for name in runtime_names()
        for variant in variants_of(bundle, [name], list(Precision), find_entry(name).device)
    )
    return tuple(choice for choice in every if _can_run(choice, bundle))


def _can_run(choice: EngineOption, bundle: Bundle) -> bool:
    try:
        runtime = load_runtime(choice.runtime)
        devices = [device for device in runtime.availability().devices if device.name == choice.device]
        is_refused = any(choice.precision in device.caveats for device in devices)
        if not devices or is_refused or runtime.obstacle(choice.precision, choice.device) is not None:
            return False
    except RuntimeUnavailable:
        return False
    return (
        runtime.choose_artifact(bundle.manifest.artifacts, choice.precision, choice.float_precision, None) is not None
    )


Opener = Callable[[EngineOption], Session]


@dataclass
class _OpenEngine:
    """An open engine, and how many frames are in it."""

    choice: EngineOption
    session: Session
    upscaler: NetworkFrameUpscaler
    users: int = 0


@dataclass(frozen=True)
class FrameRecord:
    """One frame's way through the network: as it went in (RGB), through which one, and how long that took."""

    before: VideoFrame
    choice: EngineOption
    model_ms: float


class SwitchableFrameUpscaler:
    """The enlarger of a preview: its network can be changed, and it remembers each frame as the network saw it."""

    def __init__(self, open_choice: Opener, first: EngineOption, controls: Controls | None = None) -> None:
        """Opens the first engine; raises what `open_choice` raises."""
        self._open = open_choice
        self._controls = controls
        self._lock = threading.Lock()
        self._switching = threading.Lock()
        self._records: dict[int, FrameRecord] = {}
        self._current = self._opened(first)
        self.lock = FairLock(1)

    @property
    def choice(self) -> EngineOption:
        """What runs now."""
        return self._current.choice

    @property
    def name(self) -> str:
        return self._current.choice.label

    @property
    def scale(self) -> int:
        return self._current.upscaler.scale

    def switch(self, choice: EngineOption) -> None:
        """Opens another engine while the present one works on, and takes it once it is ready.

        Raises what opening it raises; then the present one stays.
        """
        with self._switching:
            if choice == self.choice:
                return
            opened = self._opened(choice)
            with self._lock:
                left, self._current = self._current, opened
                is_idle = left.users == 0
            if is_idle:
                left.session.close()

    def record(self, sequence: int) -> FrameRecord:
        """Of the frame with this number; asked for once, in rising order."""
        with self._lock:
            for passed in [known for known in self._records if known < sequence]:
                del self._records[passed]
            return self._records.pop(sequence)

    def prepare(self, frame: VideoFrame) -> VideoFrame:
        return self._current.upscaler.prepare(frame)

    def infer(self, prepared: VideoFrame) -> VideoFrame:
        with self._engine() as engine:
            started_s = time.perf_counter()
            upscaled = engine.upscaler.infer(prepared)
            model_ms = 1e3 * (time.perf_counter() - started_s)
        with self._lock:
            self._records[prepared.sequence] = FrameRecord(prepared, engine.choice, model_ms)
        return upscaled

    def finish(self, upscaled: VideoFrame, like: VideoFrame) -> VideoFrame:
        """RGB stays: browsers want nothing else."""
        return upscaled

    def close(self) -> None:
        """Frees the engine; no frame may be in it."""
        with self._switching:
            self._current.session.close()

    @contextmanager
    def _engine(self) -> Iterator[_OpenEngine]:
        """The present engine, which is not closed before the frame is out of it."""
        with self._lock:
            engine = self._current
            engine.users += 1
        try:
            yield engine
        finally:
            with self._lock:
                engine.users -= 1
                is_left = engine.users == 0 and engine is not self._current
            if is_left:
                engine.session.close()

    def _opened(self, choice: EngineOption) -> _OpenEngine:
        session = self._open(choice)
        session.measure(runs=1, warm_up=0)  # the first tile of all is slow in most runtimes
        return _OpenEngine(choice, session, NetworkFrameUpscaler(session, controls=self._controls))
