"""Collects TensorRT's log messages.

TensorRT keeps the first logger of a process until the process ends. So there is one, to which listeners are added.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sr_edge.runtimes.tensorrt.api import TensorRTLibrary, logger_class

ERROR, WARNING = 1, 2

_BYTES = {
    "activation": re.compile(r"Total Activation Memory: (\d+) bytes"),
    "weights": re.compile(r"Total Weights Memory: (\d+) bytes"),
}
_LAYERS = "Engine Layer Information:"
_LAYER = re.compile(r"Layer\((?P<kind>\w+)\): (?P<name>.*?), Tactic: \S+, (?P<inputs>.*?) -> (?P<outputs>.*)")
_ELEMENT = re.compile(r"\((\w+)\[")


@dataclass(frozen=True)
class EngineLayer:
    """One layer of an engine: TensorRT's kind and name, and the types of its inputs ("Float", "Half", "Int8")."""

    kind: str
    name: str
    input_types: tuple[str, ...]


@dataclass(eq=False)
class Listener:
    """Collects the messages logged while it is registered, as (severity, text)."""

    messages: list[tuple[int, str]] = field(default_factory=list)

    def errors_and_warnings(self) -> list[str]:
        """Errors, then warnings: where memory runs out, a warning has the requested amount."""
        errors = [text for severity, text in self.messages if severity <= ERROR]
        return errors + [text for severity, text in self.messages if severity == WARNING]

    def logged_bytes(self, memory: str) -> int:
        """Device memory for "activation" or "weights", as TensorRT logs it at the end of a build; 0 if it does not."""
        matches = [match for _, text in self.messages if (match := _BYTES[memory].search(text))]
        return int(matches[-1][1]) if matches else 0

    def engine_layers(self) -> list[EngineLayer]:
        """The layers of the engine that was just built, as TensorRT logs them."""
        lists = [text for _, text in self.messages if text.startswith(_LAYERS)]
        lines = lists[-1].splitlines()[1:] if lists else []
        matches = [match for line in lines if (match := _LAYER.match(line))]
        return [
            EngineLayer(match["kind"], match["name"], tuple(_ELEMENT.findall(match["inputs"]))) for match in matches
        ]


class ProcessLog:
    """TensorRT's logger of this process and its current listeners."""

    def __init__(self, library: TensorRTLibrary) -> None:
        self._listeners: list[Listener] = []
        self.logger = logger_class(library.trt)(self._dispatch)

    @contextmanager
    def listen(self) -> Iterator[Listener]:
        """Collects the messages that are logged inside the `with` block."""
        listener = Listener()
        self._listeners.append(listener)
        try:
            yield listener
        finally:
            self._listeners.remove(listener)

    def _dispatch(self, severity: int, text: str) -> None:
        # TensorRT logs from its own threads: the copy lets listeners come and go meanwhile.
        for listener in tuple(self._listeners):
            listener.messages.append((severity, text))


@functools.cache
def process_log(library: TensorRTLibrary) -> ProcessLog:
    """The only log of this library in this process."""
    return ProcessLog(library)
