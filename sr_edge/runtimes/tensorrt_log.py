"""What TensorRT says. It keeps the first logger of a process for good: there is one, whose listeners come and go."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sr_edge.runtimes.tensorrt_api import TensorRTLibrary, logger_class

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
    """One layer of a finished engine: TensorRT's kind and name, and its inputs' types ("Float", "Half", "Int8")."""

    kind: str
    name: str
    input_types: tuple[str, ...]


@dataclass(eq=False)
class Listener:
    """The messages of one piece of work, (severity, text) each."""

    messages: list[tuple[int, str]] = field(default_factory=list)

    def complaints(self) -> list[str]:
        """Errors first, then warnings: where memory runs out, a warning says how much was wanted."""
        errors = [text for severity, text in self.messages if severity <= ERROR]
        return errors + [text for severity, text in self.messages if severity == WARNING]

    def stated_bytes(self, what: str) -> int:
        """Device memory of "activation" or "weights" as TensorRT told it at the end of a build; 0 if it did not."""
        found = [match for _, text in self.messages if (match := _BYTES[what].search(text))]
        return int(found[-1][1]) if found else 0

    def engine_layers(self) -> list[EngineLayer]:
        """The layers of the engine just built, as TensorRT listed them."""
        lists = [text for _, text in self.messages if text.startswith(_LAYERS)]
        lines = lists[-1].splitlines()[1:] if lists else []
        matches = [match for line in lines if (match := _LAYER.match(line))]
        return [
            EngineLayer(match["kind"], match["name"], tuple(_ELEMENT.findall(match["inputs"]))) for match in matches
        ]


class ProcessLog:
    """TensorRT's logger of this process and whoever listens now."""

    def __init__(self, library: TensorRTLibrary) -> None:
        self._listeners: list[Listener] = []
        self.logger = logger_class(library.trt)(self._hear)

    @contextmanager
    def listen(self) -> Iterator[Listener]:
        """Collects everything that is said in the block."""
        listener = Listener()
        self._listeners.append(listener)
        try:
            yield listener
        finally:
            self._listeners.remove(listener)

    def _hear(self, severity: int, text: str) -> None:
        for listener in tuple(self._listeners):
            listener.messages.append((severity, text))


@functools.cache
def process_log(library: TensorRTLibrary) -> ProcessLog:
    """The one log of this library in this process."""
    return ProcessLog(library)
