"""The plugin file fits one Python and one environment, and what is missing is named with the way to get it."""

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
from tests.camera.gst_here import require_gstreamer
from tests.expected_errors import raises

HERE = sys.version_info[:2]
OTHER = (HERE[0], HERE[1] + 1)

INSPECT = """#!/bin/sh
# gst-inspect-1.0 of a GStreamer that has the plugin `python`, or has not, and loads the element, or does not.
if [ "$1" = sredge ]; then printf '%s' "{stderr}" >&2; exit {code}; fi
if [ -e "{plugin}" ]; then printf 'Plugin Details:\\n  Filename   %s\\n' "{plugin}"; else exit 1; fi
"""


def library(python: tuple[int, int]) -> bytes:
    return b"\x7fELF..libpython%d.%d.so.1.0\0" % python


@dataclass(frozen=True)
class GStreamerHere:
    """A GStreamer on the PATH, which is nothing but its program gst-inspect-1.0."""

    folder: Path

    @property
    def plugin(self) -> Path:
        return self.folder / "libgstpython.so"

    def embed(self, python: tuple[int, int]) -> None:
        """Installs the plugin for elements in Python."""
        self.plugin.write_bytes(library(python))

    def answer(self, code: int, stderr: str) -> None:
        """How gst-inspect-1.0 ends that is asked for the element."""
        program = self.folder / "gst-inspect-1.0"
        program.write_text(INSPECT.format(stderr=stderr, code=code, plugin=self.plugin), encoding="utf-8")
        program.chmod(0o755)


@pytest.fixture
def gstreamer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GStreamerHere:
    """Loads the element, and has no plugin for Python yet; its registry lies in `tmp_path`."""
    here = GStreamerHere(tmp_path / "gstreamer")
    here.folder.mkdir()
    here.answer(0, "")
    monkeypatch.setenv("PATH", str(here.folder), prepend=os.pathsep)
    monkeypatch.setenv("GST_REGISTRY", str(tmp_path / "registry.bin"))
    return here


def test_the_loaders_python_is_read_from_what_it_is_linked_to() -> None:
    assert embedded_python(library((3, 12)), Path("x.so")) == (3, 12)
    with raises(RuntimeUnavailable, found=Path("x.so"), wanted="libpython"):
        embedded_python(b"\x7fELF", Path("x.so"))


def test_the_plugin_refuses_another_python() -> None:
    with pytest.raises(ImportError, match=rf"installed for Python {OTHER[0]}\.{OTHER[1]}"):
        exec(compile(plugin_text(OTHER), "sredge.py", "exec"), {})


def test_the_file_lies_where_it_was_wanted(gstreamer: GStreamerHere, tmp_path: Path) -> None:
    gstreamer.embed(HERE)
    (tmp_path / "registry.bin").write_bytes(b"old")
    done = install_element(tmp_path / "here")
    assert done.plugin_file == tmp_path / "here" / "python" / "sredge.py"
    assert done.plugin_file.read_text(encoding="utf-8") == plugin_text(HERE)
    assert done.search_path == tmp_path / "here"
    assert not (tmp_path / "registry.bin").exists()


def test_without_a_folder_it_lies_in_the_users_plugins(
    gstreamer: GStreamerHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gstreamer.embed(HERE)
    monkeypatch.setenv("HOME", str(tmp_path))
    done = install_element()
    assert done.plugin_file == tmp_path / ".gstreamer-1.0" / "plugins" / "python" / "sredge.py"
    assert done.search_path is None


def test_another_python_is_refused_with_the_way_out(gstreamer: GStreamerHere, tmp_path: Path) -> None:
    gstreamer.embed(OTHER)
    with raises(RuntimeUnavailable, found=HERE, wanted=OTHER) as caught:
        install_element(tmp_path / "here")
    assert f"python{OTHER[0]}.{OTHER[1]} -m venv" in str(caught.value.remedy)
    assert not (tmp_path / "here").exists()


def test_a_python_that_is_too_old_has_no_such_way(gstreamer: GStreamerHere, tmp_path: Path) -> None:
    gstreamer.embed((3, 8))
    with raises(RuntimeUnavailable, found=(3, 8), wanted=(3, 10)) as caught:
        install_element(tmp_path / "here")
    assert "sr-edge stream" in str(caught.value.remedy)


def test_an_element_that_does_not_load_is_said_so(gstreamer: GStreamerHere, tmp_path: Path) -> None:
    gstreamer.embed(HERE)
    gstreamer.answer(1, "ImportError: no gi")
    with raises(RuntimeUnavailable, found="sredge") as caught:
        install_element(tmp_path / "here")
    assert "ImportError: no gi" in caught.value.problem


def test_a_folder_that_cannot_be_made_is_named(gstreamer: GStreamerHere, tmp_path: Path) -> None:
    gstreamer.embed(HERE)
    (tmp_path / "file").touch()
    with raises(UsageError, found=tmp_path / "file" / "python") as caught:
        install_element(tmp_path / "file")
    assert os.strerror(errno.ENOTDIR) in caught.value.problem


def test_without_gstreamer_its_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with raises(RuntimeUnavailable, wanted="gst-inspect-1.0") as caught:
        find_loader()
    assert "gstreamer1.0-tools" in str(caught.value.remedy)


def test_without_the_loader_its_package_is_named(gstreamer: GStreamerHere) -> None:
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


def test_an_environment_that_hides_the_bindings_is_pointed_out(
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
