"""Installing the element: the plugin file is for one version of Python, and errors name missing packages."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

from sr_edge.cli.app import app
from sr_edge.cli.failures import run_command
from sr_edge.errors import RuntimeUnavailable, UsageError
from sr_edge.gstreamer import installation
from sr_edge.gstreamer.installation import embedded_python, find_loader, install_element, plugin_text
from tests.expected_errors import raises
from tests.gstreamer.installed_element import require_gstreamer

CURRENT = sys.version_info[:2]
OTHER = (CURRENT[0], CURRENT[1] + 1)

INSPECT = """#!/bin/sh
# Stands in for gst-inspect-1.0: answers for the plugin `python` and for the element.
if [ "$1" = sredge ]; then printf '%s' "{stderr}" >&2; exit {code}; fi
if [ -e "{plugin}" ]; then printf 'Plugin Details:\\n  Filename   %s\\n' "{plugin}"; else exit 1; fi
"""


def loader_library(python: tuple[int, int]) -> bytes:
    return b"\x7fELF..libpython%d.%d.so.1.0\0" % python


@dataclass(frozen=True)
class FakeGStreamer:
    """A stand-in for GStreamer on the PATH: only the program gst-inspect-1.0."""

    folder: Path

    @property
    def plugin(self) -> Path:
        return self.folder / "libgstpython.so"

    def embed(self, python: tuple[int, int]) -> None:
        """Installs the loader for plugins in Python, linked to this version of Python."""
        self.plugin.write_bytes(loader_library(python))

    def set_answer(self, code: int, stderr: str) -> None:
        """Sets the exit code and stderr of gst-inspect-1.0 for the element."""
        program = self.folder / "gst-inspect-1.0"
        program.write_text(INSPECT.format(stderr=stderr, code=code, plugin=self.plugin), encoding="utf-8")
        program.chmod(0o755)


@pytest.fixture
def gstreamer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGStreamer:
    """A GStreamer that would load the element, without the loader for Python; its registry is in `tmp_path`."""
    fake = FakeGStreamer(tmp_path / "gstreamer")
    fake.folder.mkdir()
    fake.set_answer(0, "")
    monkeypatch.setenv("PATH", str(fake.folder), prepend=os.pathsep)
    monkeypatch.setenv("GST_REGISTRY", str(tmp_path / "registry.bin"))
    return fake


def test_the_loaders_version_of_python_is_that_of_its_libpython() -> None:
    assert embedded_python(loader_library((3, 12)), Path("x.so")) == (3, 12)
    with raises(RuntimeUnavailable, found=Path("x.so"), wanted="libpython"):
        embedded_python(b"\x7fELF", Path("x.so"))


def test_the_plugin_file_refuses_another_version_of_python() -> None:
    with pytest.raises(ImportError) as caught:
        exec(compile(plugin_text(OTHER), "sredge.py", "exec"), {})
    assert caught.value.name == "sredge", "no package is missing"


def test_the_plugin_file_is_written_to_the_folder(gstreamer: FakeGStreamer, tmp_path: Path) -> None:
    gstreamer.embed(CURRENT)
    (tmp_path / "registry.bin").write_bytes(b"old")
    installed = install_element(tmp_path / "here")
    assert installed.plugin_file == tmp_path / "here" / "python" / "sredge.py"
    assert installed.plugin_file.read_text(encoding="utf-8") == plugin_text(CURRENT)
    assert installed.search_path == tmp_path / "here"
    assert not (tmp_path / "registry.bin").exists()


def test_without_a_folder_it_is_written_to_the_users_plugins(
    gstreamer: FakeGStreamer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gstreamer.embed(CURRENT)
    monkeypatch.setenv("HOME", str(tmp_path))
    installed = install_element()
    assert installed.plugin_file == tmp_path / ".gstreamer-1.0" / "plugins" / "python" / "sredge.py"
    assert installed.search_path is None


def test_another_version_of_python_is_refused_with_a_remedy(gstreamer: FakeGStreamer, tmp_path: Path) -> None:
    gstreamer.embed(OTHER)
    with raises(RuntimeUnavailable, found=CURRENT, wanted=OTHER) as caught:
        install_element(tmp_path / "here")
    assert f"python{OTHER[0]}.{OTHER[1]} -m venv" in str(caught.value.remedy)
    assert not (tmp_path / "here").exists()


def test_a_version_of_python_that_is_too_old_has_another_remedy(gstreamer: FakeGStreamer, tmp_path: Path) -> None:
    gstreamer.embed((3, 8))
    with raises(RuntimeUnavailable, found=(3, 8), wanted=(3, 10)) as caught:
        install_element(tmp_path / "here")
    assert "sr-edge stream" in str(caught.value.remedy)


def test_an_element_that_does_not_load_is_an_error(gstreamer: FakeGStreamer, tmp_path: Path) -> None:
    gstreamer.embed(CURRENT)
    gstreamer.set_answer(1, "ImportError: no gi")
    with raises(RuntimeUnavailable, found="sredge") as caught:
        install_element(tmp_path / "here")
    assert "ImportError: no gi" in caught.value.problem


def test_a_folder_that_cannot_be_created_is_an_error(gstreamer: FakeGStreamer, tmp_path: Path) -> None:
    gstreamer.embed(CURRENT)
    (tmp_path / "file").touch()
    with raises(UsageError, found=tmp_path / "file" / "python") as caught:
        install_element(tmp_path / "file")
    assert os.strerror(errno.ENOTDIR) in caught.value.problem


def test_without_gstreamer_its_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with raises(RuntimeUnavailable, wanted="gst-inspect-1.0") as caught:
        find_loader()
    assert "gstreamer1.0-tools" in str(caught.value.remedy)


def test_without_the_loader_its_package_is_named(gstreamer: FakeGStreamer) -> None:
    with raises(RuntimeUnavailable, wanted="python") as caught:
        find_loader()
    assert "gstreamer1.0-python3-plugin-loader" in str(caught.value.remedy)


def test_the_command_says_how_gstreamer_finds_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    require_gstreamer(tmp_path)
    monkeypatch.setenv("GST_REGISTRY", str(tmp_path / "registry.bin"))
    assert run_command(app, ["gst-install", "--folder", str(tmp_path)]) == 0
    assert f"export GST_PLUGIN_PATH={tmp_path}" in capsys.readouterr().out
    assert run_command(app, ["gst-install", "--folder", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["search_path"] == str(tmp_path)


def test_an_environment_that_hides_the_bindings_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    require_gstreamer(tmp_path)
    monkeypatch.setenv("GST_REGISTRY", str(tmp_path / "registry.bin"))
    venv.create(tmp_path / "activated", symlinks=True)
    monkeypatch.setenv("PATH", str(tmp_path / "activated" / "bin"), prepend=os.pathsep)
    assert run_command(app, ["gst-install", "--folder", str(tmp_path)]) == 0
    assert "run pipelines after `deactivate`" in capsys.readouterr().out


def test_make_installs_the_packages_that_messages_name() -> None:
    recipe = (Path(__file__).resolve().parents[2] / "Makefile").read_text(encoding="utf-8").partition("setup-gst:")[2]
    assert set(installation.DEBIAN_PACKAGES.split()) == set(re.findall(r"\S+1\.0\S*", recipe.partition("\n\n")[0]))
