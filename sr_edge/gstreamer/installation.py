"""Installs the element: writes a small Python file into a folder that GStreamer's plugin loader searches.

The loader embeds the system's Python. Compiled packages, such as NumPy and the runtimes, work with one minor version of
Python only, so the environment of sr_edge must have that version.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from sr_edge.errors import RuntimeUnavailable, UsageError
from sr_edge.files.whole_file import require_output_file, whole_file
from sr_edge.installation import how_to_install

DEBIAN_PACKAGES = (
    "gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-python3-plugin-loader python3-gst-1.0 "
    "gir1.2-gst-plugins-base-1.0"
)
_INSTALL = f"install it, on Debian and Ubuntu with: apt-get install {DEBIAN_PACKAGES}"
FILE_NAME = "sredge.py"
_INSPECT_TIMEOUT_S = 120
_MIN_PYTHON = (3, 10)

_PLUGIN = '''"""GStreamer's element sredge. Written by `sr-edge gst-install`; delete this file to remove the element."""

import site
import sys

if sys.version_info[:2] != {version}:
    raise ImportError(
        "sredge was installed for Python {dotted}, GStreamer now runs {{}}.{{}}; install sr-edge for that version "
        "and run `sr-edge gst-install` again".format(*sys.version_info[:2]),
        name="sredge",
    )

_system = list(sys.path)
for _folder in {folders}:
    site.addsitedir(_folder)
# The packages of the environment come first: the runtimes may not work with the NumPy of the system.
sys.path[:] = [folder for folder in sys.path if folder not in _system] + _system

from gi.repository import Gst  # noqa: E402
from sr_edge.gstreamer.element import SrEdge  # noqa: E402

__gstelementfactory__ = ("sredge", Gst.Rank.NONE, SrEdge)
'''


@dataclass(frozen=True)
class PythonLoader:
    """GStreamer's plugin that loads plugins written in Python, and the version of Python that it embeds."""

    path: Path
    python: tuple[int, int]


@dataclass(frozen=True)
class Installation:
    """An installed element.

    Attributes:
        plugin_file: The file that was written.
        search_path: What GST_PLUGIN_PATH must contain; None if GStreamer searches the folder by default.
        loader: GStreamer's loader for plugins in Python.
        environment: The Python environment whose packages the element uses.
        hides_bindings: Whether the environment, while it is first on the PATH, hides the bindings from GStreamer's
            Python.
    """

    plugin_file: Path
    search_path: Path | None
    loader: PythonLoader
    environment: Path
    hides_bindings: bool = False


def install_element(folder: Path | None = None) -> Installation:
    """Writes the plugin file and checks that GStreamer loads it.

    Args:
        folder: A folder for GST_PLUGIN_PATH; None selects the plugin folder of the user, which GStreamer searches by
            default.

    Raises:
        RuntimeUnavailable: GStreamer, its loader or a package is missing, the versions of Python differ, or GStreamer
            does not load the element.
        UsageError: The file cannot be written.
    """
    loader = find_loader()
    _require_same_python(loader.python)
    _require_packages()
    plugin_file = (folder or _user_plugins()) / "python" / FILE_NAME
    _write_plugin(plugin_file, plugin_text(loader.python))
    _remove_registry()
    _require_element(folder)
    hides_bindings = _inspect("sredge", _with_plugin_path(folder, dict(os.environ))).returncode != 0
    return Installation(plugin_file.resolve(), folder and folder.resolve(), loader, Path(sys.prefix), hides_bindings)


def find_loader() -> PythonLoader:
    """Asks GStreamer for its loader of plugins in Python.

    Raises:
        RuntimeUnavailable: GStreamer or the loader is not installed.
    """
    inspection = _inspect("python", gstreamer_environment())
    filename = re.search(r"^\s*Filename\s+(\S+)", inspection.stdout, re.MULTILINE)
    if filename is None:
        raise RuntimeUnavailable(
            "GStreamer cannot load elements written in Python: its plugin `python` is not installed",
            wanted="python",
            remedy=_INSTALL,
        )
    path = Path(filename[1])
    return PythonLoader(path, embedded_python(path.read_bytes(), path))


def embedded_python(library: bytes, path: Path) -> tuple[int, int]:
    """The version of Python that the loader is linked to.

    Args:
        library: The content of the loader's shared library.
        path: Its path, for the error message.

    Raises:
        RuntimeUnavailable: It is not linked to libpython.
    """
    version = re.search(rb"libpython(\d+)\.(\d+)", library)
    if version is None:
        raise RuntimeUnavailable(
            f"{path} is not linked to libpython",
            found=path,
            wanted="libpython",
            remedy="install GStreamer's Python loader again",
        )
    return int(version[1]), int(version[2])


def plugin_text(python: tuple[int, int]) -> str:
    """The content of the plugin file for this environment."""
    folders = tuple(dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib")))
    return _PLUGIN.format(version=python, dotted=_dotted(python), folders=folders)


def _require_same_python(embedded: tuple[int, int]) -> None:
    if embedded == sys.version_info[:2]:
        return
    current_version, embedded_version = _dotted(sys.version_info[:2]), _dotted(embedded)
    if embedded < _MIN_PYTHON:
        raise RuntimeUnavailable(
            f"GStreamer embeds Python {embedded_version}, but sr-edge needs {_dotted(_MIN_PYTHON)} or later",
            found=embedded,
            wanted=_MIN_PYTHON,
            remedy="pipe raw frames through `sr-edge stream` instead",
        )
    raise RuntimeUnavailable(
        f"sr-edge runs in Python {current_version}, GStreamer embeds Python {embedded_version}, and compiled packages "
        "work in one version only",
        found=sys.version_info[:2],
        wanted=embedded,
        remedy=f"create an environment with the other version: /usr/bin/python{embedded_version} -m venv gst-env && "
        f"{how_to_install('camera', 'openvino', pip='gst-env/bin/pip')} && gst-env/bin/sr-edge gst-install",
    )


def _require_packages() -> None:
    if importlib.util.find_spec("av") is None:
        raise RuntimeUnavailable(
            "the element needs the package av, which is not installed",
            wanted="av",
            remedy=f"run: {how_to_install('camera')}",
        )


def _user_plugins() -> Path:
    """The folder that the loader searches in the user's home; GStreamer has another one for compiled plugins."""
    return Path.home() / ".gstreamer-1.0" / "plugins"


def _write_plugin(plugin_file: Path, text: str) -> None:
    try:
        plugin_file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot create the folder {plugin_file.parent}: {error.strerror}",
            found=plugin_file.parent,
            remedy="choose another with --folder",
        ) from error
    require_output_file(plugin_file)
    with whole_file(plugin_file) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def _remove_registry() -> None:
    """Removes GStreamer's cached list of plugins, which it does not update for new plugins in Python."""
    selected = os.environ.get("GST_REGISTRY_1_0") or os.environ.get("GST_REGISTRY")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gstreamer-1.0"
    for registry in [Path(selected)] if selected else cache.glob("registry.*.bin"):
        registry.unlink(missing_ok=True)


def gstreamer_environment() -> dict[str, str]:
    """Environment variables with which GStreamer's Python finds its bindings in any activated environment.

    The embedded Python searches for packages relative to the first python3 on the PATH. This PATH begins with the
    folder of GStreamer's programs, where the python3 of the system is.

    Raises:
        RuntimeUnavailable: GStreamer's programs are not installed.
    """
    program = shutil.which("gst-inspect-1.0")
    if program is None:
        raise RuntimeUnavailable(
            "GStreamer's program gst-inspect-1.0 is not installed", wanted="gst-inspect-1.0", remedy=_INSTALL
        )
    return {**os.environ, "PATH": os.pathsep.join([str(Path(program).parent), os.environ["PATH"]])}


def _require_element(folder: Path | None) -> None:
    inspection = _inspect("sredge", _with_plugin_path(folder, gstreamer_environment()))
    if inspection.returncode != 0:
        reason = " ".join(inspection.stderr.split())[-500:] or "it gives no reason"
        raise RuntimeUnavailable(f"the element was written, but GStreamer does not load it: {reason}", found="sredge")


def _with_plugin_path(folder: Path | None, environment: dict[str, str]) -> dict[str, str]:
    """The environment variables with `folder` added to GST_PLUGIN_PATH."""
    folders = [str(folder)] if folder else []
    folders += filter(None, [environment.get("GST_PLUGIN_PATH")])
    return {**environment, "GST_PLUGIN_PATH": os.pathsep.join(folders)} if folders else environment


def _inspect(name: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = ["gst-inspect-1.0", name]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=_INSPECT_TIMEOUT_S
    )


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
