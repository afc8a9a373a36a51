"""GStreamer with the installed element; tests are skipped by name if GStreamer is not installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import sr_edge
from sr_edge.errors import RuntimeUnavailable
from sr_edge.gstreamer.installation import gstreamer_environment, install_element

TIMEOUT_S = 120
SYSTEM_PYTHON = "/usr/bin/python3"


@dataclass(frozen=True)
class LaunchResult:
    """Exit code and output of gst-launch-1.0."""

    code: int
    output: str

    @property
    def errors(self) -> list[str]:
        """The texts of the errors that the element posted."""
        return [line.partition("sredge0: ")[2] for line in self.output.splitlines() if "ERROR: from element" in line]

    @property
    def warnings(self) -> list[str]:
        return [line.partition("sredge0: ")[2] for line in self.output.splitlines() if "WARNING: from element" in line]


@dataclass(frozen=True)
class GStreamer:
    """GStreamer with sredge installed, and with its own registry."""

    environment: dict[str, str]

    def launch(self, *pipeline: str, options: tuple[str, ...] = ()) -> LaunchResult:
        arguments = [argument for text in pipeline for argument in text.split()]
        done = self._run(["gst-launch-1.0", *options, *arguments])
        assert "Traceback" not in done.stderr, done.stderr
        return LaunchResult(done.returncode, done.stdout + done.stderr)

    def run_application(self, *pipeline: str) -> dict[str, Any]:
        """Runs the pipeline in `gst_application.py`.

        gst-launch-1.0 sometimes misses an error that is posted while it waits for the first frame, and never ends.

        Returns:
            "error", "warnings", "latency_ns", the counters of the element, "caps" and "pts" by pad, and what the slow
            sink observed.
        """
        application = str(Path(__file__).with_name("gst_application.py"))
        done = self._run([SYSTEM_PYTHON, application, " ".join(pipeline)])
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        outcome: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return outcome

    def modules_of_element(self) -> set[str]:
        """The top-level modules that are loaded after importing the element in the system's Python."""
        paths = [str(Path(sr_edge.__file__).parents[1]), sysconfig.get_path("purelib")]
        code = f"import sys; sys.path += {paths}; import sr_edge.gstreamer.element; print(*sys.modules)"
        done = self._run([SYSTEM_PYTHON, "-c", code])
        assert done.returncode == 0, done.stderr
        return {name.partition(".")[0] for name in done.stdout.split()}

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )


def require_gstreamer(folder: Path) -> GStreamer:
    """Installs the element into `folder`; skips without GStreamer, its loader or a matching version of Python."""
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
