"""Stores which graph was the fastest, so that deploying the same network again on this machine does not time again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from sr_edge.bundle import PassMeasurement
from sr_edge.bundle.consistency import require_printable
from sr_edge.bundle.plain import from_plain, json_text
from sr_edge.errors import BundleError
from sr_edge.files.cache_folder import cache_folder
from sr_edge.files.whole_file import whole_file

RULE = 2
"""The version of the way in which graphs are timed and chosen; results of another one are not used."""

_MAX_BYTES = 1 << 16


@dataclass(frozen=True)
class CacheKey:
    """Everything that the choice depends on.

    Attributes:
        graphs: The digest of each candidate by its passes.
        runtime: Name of the runtime.
        version: Version of the runtime.
        precision: Precision in which the graphs ran.
        cpu: Model of the processor.
        threads: Number of threads; 0 for the default of the runtime.
        rule: The version of the rule.
    """

    graphs: Mapping[str, str]
    runtime: str
    version: str
    precision: str
    cpu: str
    threads: int
    rule: int = RULE

    @property
    def name(self) -> str:
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


class PassCache:
    """Measurements in a folder, one file each. A file that cannot be read counts as missing."""

    def __init__(self, folder: Path | None = None) -> None:
        """Uses `folder`, by default `passes` in the cache folder of sr-edge."""
        self._folder = folder

    @property
    def folder(self) -> Path:
        """The folder; raises FileNotFoundError where there is none for a cache."""
        return self._folder or cache_folder("passes")

    def load(self, key: CacheKey) -> PassMeasurement | None:
        """The measurement that was stored for this key; None if there is none."""
        try:
            path = self._file(key)
            if not path.is_file():  # opening a pipe would wait
                return None
            with path.open("rb") as file:
                measurement = from_plain(PassMeasurement, json.loads(file.read(_MAX_BYTES)), "the measurement")
            require_printable(measurement, "the measurement")
        except (OSError, ValueError, RecursionError, BundleError):
            return None
        return measurement

    def store(self, key: CacheKey, measurement: PassMeasurement) -> str:
        """Stores a measurement; returns why it could not be stored, or an empty text."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with whole_file(self._file(key)) as unfinished:
                unfinished.write_text(json_text(measurement), encoding="utf-8")
        except OSError as error:
            return f"the times of passes could not be stored ({error})"
        return ""

    def _file(self, key: CacheKey) -> Path:
        return self.folder / f"{key.name}.json"
