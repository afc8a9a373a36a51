"""The plugin file fits one Python and one environment, and what is missing is named with the way to get it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from sr_edge.cli.app import app
from sr_edge.cli.failures import run_command
from sr_edge.errors import RuntimeUnavailable, UsageError
from sr_edge.gstreamer import installation
from sr_edge.gstreamer.installation import embedded_python, find_loader, install_element, plugin_text
from tests.camera.gst_here import require_gstreamer

HERE = sys.version_info[:2]
OTHER = (HERE[0], HERE[1] + 1)
Inspect = Callable[..., subprocess.CompletedProcess[str]]


def library(python: tuple[int, int]) -> bytes:
    return b"\x7fELF..libpython%d.%d.so.1.0\0" % python


@pytest.fixture
def loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[tuple[int, int], int, str], None]:
    """A GStreamer that embeds this Python, and answers so about the element; its registry lies in `tmp_path`."""

    def pretend(python: tuple[int, int], code: int = 0, stderr: str = "") -> None:
        plugin = tmp_path / "libgstpython.so"
        plugin.write_bytes(library(python))
        monkeypatch.setenv("GST_REGISTRY", str(tmp_path / "registry.bin"))

        def inspect(name: str, environment: object) -> subprocess.CompletedProcess[str]:
            done = code if name == "sredge" else 0
            return subprocess.CompletedProcess([], done, f"Plugin Details:\n  Filename   {plugin}\n", stderr)

        monkeypatch.setattr(installation, "_inspect", inspect)
        monkeypatch.setattr(installation, "gstreamer_environment", dict)

    return pretend


def test_the_loaders_python_is_read_from_what_it_is_linked_to() -> None:
    assert embedded_python(library((3, 12)), Path("x.so")) == (3, 12)
    with pytest.raises(RuntimeUnavailable, match=r"x\.so names no libpython"):
        embedded_python(b"\x7fELF", Path("x.so"))


def test_the_plugin_refuses_another_python() -> None:
    with pytest.raises(ImportError, match=rf"installed for Python {OTHER[0]}\.{OTHER[1]}"):
        exec(compile(plugin_text(OTHER), "sredge.py", "exec"), {})


def test_the_file_lies_where_it_was_wanted(
    loader: Callable[[tuple[int, int]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader(HERE)
    (tmp_path / "registry.bin").write_bytes(b"old")
    done = install_element(tmp_path / "here")
    assert done.plugin_file == tmp_path / "here" / "python" / "sredge.py"
    assert done.plugin_file.read_text(encoding="utf-8") == plugin_text(HERE)
    assert done.search_path == tmp_path / "here"
    assert not (tmp_path / "registry.bin").exists()


def test_without_a_folder_it_lies_in_the_users_plugins(
    loader: Callable[[tuple[int, int]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader(HERE)
    monkeypatch.setenv("HOME", str(tmp_path))
    done = install_element()
    assert done.plugin_file == tmp_path / ".gstreamer-1.0" / "plugins" / "python" / "sredge.py"
    assert done.search_path is None


def test_another_python_is_refused_with_the_way_out(loader: Callable[[tuple[int, int]], None], tmp_path: Path) -> None:
    loader(OTHER)
    version = f"{OTHER[0]}.{OTHER[1]}"
    with pytest.raises(RuntimeUnavailable, match=rf"GStreamer embeds {version}.*python{version} -m venv gst-env"):
        install_element(tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_a_python_that_is_too_old_has_no_such_way(loader: Callable[[tuple[int, int]], None], tmp_path: Path) -> None:
    loader((3, 8))
    with pytest.raises(RuntimeUnavailable, match=r"embeds Python 3\.8 here.*sr-edge stream"):
        install_element(tmp_path / "here")


def test_an_element_that_does_not_load_is_said_so(
    loader: Callable[[tuple[int, int], int, str], None], tmp_path: Path
) -> None:
    loader(HERE, 1, "ImportError: no gi")
    with pytest.raises(RuntimeUnavailable, match="does not load it: ImportError: no gi"):
        install_element(tmp_path / "here")


def test_a_folder_that_cannot_be_made_is_named(loader: Callable[[tuple[int, int]], None], tmp_path: Path) -> None:
    loader(HERE)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot make the folder .*file/python: Not a directory"):
        install_element(tmp_path / "file")


def test_without_gstreamer_its_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeUnavailable, match=r"apt-get install gstreamer1\.0-tools"):
        find_loader()


def test_without_the_loader_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "gstreamer_environment", dict)
    monkeypatch.setattr(
        installation, "_inspect", lambda *asked: subprocess.CompletedProcess([], 1, "No such element", "")
    )
    with pytest.raises(RuntimeUnavailable, match=r"apt-get install .*python3-plugin-loader"):
        find_loader()


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
