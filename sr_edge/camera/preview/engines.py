"""Which engines a bundle can run in here, and changing between them while frames flow."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sr_edge.bundle import Bundle
from sr_edge.camera.enlarger import NetworkEnlarger
from sr_edge.camera.frame import VideoFrame
from sr_edge.camera.turns import Turns
from sr_edge.controls import Controls
from sr_edge.errors import RuntimeUnavailable
from sr_edge.runtimes import Session, find_entry, load_runtime, runtime_names
from sr_edge.runtimes.variants import Variant, variants_of
from sr_edge.spec import Precision


class Choice(Variant):
    """One runtime at one precision, on the device that it always has."""

    @property
    def label(self) -> str:
        return f"{self.runtime} {super().label}"

    @property
    def device(self) -> str:
        return find_entry(self.runtime).device


def choices_of(bundle: Bundle) -> tuple[Choice, ...]:
    """Every runtime and precision that works here and that the bundle has a graph for."""
    every = (
        Choice(variant.runtime, variant.precision, variant.rest)
        for name in runtime_names()
        for variant in variants_of(bundle, [name], list(Precision), find_entry(name).device)
    )
    return tuple(choice for choice in every if _can_run(choice, bundle))


def _can_run(choice: Choice, bundle: Bundle) -> bool:
    try:
        runtime = load_runtime(choice.runtime)
        devices = [device for device in runtime.availability().devices if device.name == choice.device]
        is_refused = any(choice.precision in device.caveats for device in devices)
        if not devices or is_refused or runtime.obstacle(choice.precision, choice.device) is not None:
            return False
    except RuntimeUnavailable:
        return False
    return runtime.choose_artifact(bundle.manifest.artifacts, choice.precision, choice.rest, None) is not None


Opener = Callable[[Choice], Session]


@dataclass
class _Held:
    """An open engine, and how many frames are in it."""

    choice: Choice
    session: Session
    enlarger: NetworkEnlarger
    users: int = 0


@dataclass(frozen=True)
class Passage:
    """One frame's way through the network: as it went in (RGB), through which one, and how long that took."""

    before: VideoFrame
    choice: Choice
    model_ms: float


class SwitchableEnlarger:
    """The enlarger of a preview: its network can be changed, and it remembers each frame as the network saw it."""

    def __init__(self, open_choice: Opener, first: Choice, controls: Controls | None = None) -> None:
        """Opens the first engine; raises what `open_choice` raises."""
        self._open = open_choice
        self._controls = controls
        self._lock = threading.Lock()
        self._switching = threading.Lock()
        self._passages: dict[int, Passage] = {}
        self._held = self._opened(first)
        self.turns = Turns(1)

    @property
    def choice(self) -> Choice:
        """What runs now."""
        return self._held.choice

    @property
    def name(self) -> str:
        return self._held.choice.label

    @property
    def scale(self) -> int:
        return self._held.enlarger.scale

    def switch(self, choice: Choice) -> None:
        """Opens another engine while the present one works on, and takes it once it is ready.

        Raises what opening it raises; then the present one stays.
        """
        with self._switching:
            if choice == self.choice:
                return
            opened = self._opened(choice)
            with self._lock:
                left, self._held = self._held, opened
                is_idle = left.users == 0
            if is_idle:
                left.session.close()

    def passage(self, sequence: int) -> Passage:
        """Of the frame with this number; asked for once, in rising order."""
        with self._lock:
            for passed in [known for known in self._passages if known < sequence]:
                del self._passages[passed]
            return self._passages.pop(sequence)

    def prepare(self, frame: VideoFrame) -> VideoFrame:
        return self._held.enlarger.prepare(frame)

    def infer(self, prepared: VideoFrame) -> VideoFrame:
        with self._engine() as held:
            started_s = time.perf_counter()
            enlarged = held.enlarger.infer(prepared)
            model_ms = 1e3 * (time.perf_counter() - started_s)
        with self._lock:
            self._passages[prepared.sequence] = Passage(prepared, held.choice, model_ms)
        return enlarged

    def finish(self, enlarged: VideoFrame, like: VideoFrame) -> VideoFrame:
        """RGB stays: browsers want nothing else."""
        return enlarged

    def close(self) -> None:
        """Frees the engine; no frame may be in it."""
        with self._switching:
            self._held.session.close()

    @contextmanager
    def _engine(self) -> Iterator[_Held]:
        """The present engine, which is not closed before the frame is out of it."""
        with self._lock:
            held = self._held
            held.users += 1
        try:
            yield held
        finally:
            with self._lock:
                held.users -= 1
                is_left = held.users == 0 and held is not self._held
            if is_left:
                held.session.close()

    def _opened(self, choice: Choice) -> _Held:
        session = self._open(choice)
        session.measure(runs=1, warm_up=0)  # the first tile of all is slow in most runtimes
        return _Held(choice, session, NetworkEnlarger(session, controls=self._controls))
