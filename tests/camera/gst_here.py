"""The real GStreamer with the element in it; tests that need what is absent are skipped by name."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sr_edge.errors import RuntimeUnavailable
from sr_edge.gstreamer.installation import gstreamer_environment, install_element

LIMIT_S = 120
SYSTEM_PYTHON = "/usr/bin/python3"


@dataclass(frozen=True)
class Launched:
    """What gst-launch-1.0 said and how it ended."""

    code: int
    output: str

    @property
    def errors(self) -> list[str]:
        """The text behind each ERROR that the element posted."""
        return [line.partition("sredge0: ")[2] for line in self.output.splitlines() if "ERROR: from element" in line]

    @property
    def warnings(self) -> list[str]:
        return [line.partition("sredge0: ")[2] for line in self.output.splitlines() if "WARNING: from element" in line]


@dataclass(frozen=True)
class GStreamer:
    """A GStreamer that knows sredge, with a registry of its own."""

    environment: dict[str, str]

    def launch(self, *pipeline: str, options: tuple[str, ...] = ()) -> Launched:
        words = [word for part in pipeline for word in part.split()]
        done = self._run(["gst-launch-1.0", *options, *words])
        assert "Traceback" not in done.stderr, done.stderr
        return Launched(done.returncode, done.stdout + done.stderr)

    def apply(self, *pipeline: str) -> dict[str, Any]:
        """What became of the pipeline in an application: "error", "latency_ns" and the element's counts.

        gst-launch-1.0 sometimes misses an error that comes while it waits for the first frame, and waits for good.
        """
        application = str(Path(__file__).with_name("gst_application.py"))
        done = self._run([SYSTEM_PYTHON, application, " ".join(pipeline)])
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=LIMIT_S
        )


def require_gstreamer(folder: Path) -> GStreamer:
    """Installs the element into `folder`; skips where GStreamer, its loader or a Python that fits is absent."""
    if shutil.which("gst-launch-1.0") is None:
        pytest.skip("gstreamer: gst-launch-1.0 is absent; `make setup-gst` installs it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GST_REGISTRY", str(folder / "registry.bin"))
        try:
            install_element(folder)
        except RuntimeUnavailable as error:
            pytest.skip(f"gstreamer: {error}")
        patch.setenv("GST_PLUGIN_PATH", str(folder))
        return GStreamer(gstreamer_environment())
