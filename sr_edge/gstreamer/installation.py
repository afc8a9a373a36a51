"""Makes the element known to GStreamer: a small Python file where its plugin loader looks.

The loader embeds the system's Python. Compiled packages, such as numpy and the runtimes, fit one minor version of
Python, so the environment that holds sr_edge must be of that version.
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
from sr_edge.whole_file import require_output_file, whole_file

DEBIAN_PACKAGES = (
    "gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-python3-plugin-loader python3-gst-1.0 "
    "gir1.2-gst-plugins-base-1.0"
)
_INSTALL = f"install it, on Debian and Ubuntu with: apt-get install {DEBIAN_PACKAGES}"
FILE_NAME = "sredge.py"
_INSPECT_S = 120
_OLDEST_PYTHON = (3, 10)

_PLUGIN = '''"""GStreamer's element sredge. Written by `sr-edge gst-install`; delete this file to remove the element."""

import site
import sys

if sys.version_info[:2] != {version}:
    raise ImportError(
        "sredge was installed for Python {dotted}, GStreamer now runs {{}}.{{}}; install sr-edge for that one and run "
        "`sr-edge gst-install` again".format(*sys.version_info[:2])
    )

_system = list(sys.path)
for _folder in {folders}:
    site.addsitedir(_folder)
# The environment's packages come first: a system's own numpy would not fit the runtimes that were installed here.
sys.path[:] = [folder for folder in sys.path if folder not in _system] + _system

from gi.repository import Gst  # noqa: E402
from sr_edge.gstreamer.element import SrEdge  # noqa: E402

__gstelementfactory__ = ("sredge", Gst.Rank.NONE, SrEdge)
'''


@dataclass(frozen=True)
class PythonLoader:
    """GStreamer's plugin for plugins in Python, and the Python that it embeds."""

    path: Path
    python: tuple[int, int]


@dataclass(frozen=True)
class Installation:
    """Where the element was put.

    Attributes:
        search_path: must be in GST_PLUGIN_PATH; None where GStreamer looks by itself.
        environment: what the element's packages come from.
        hides_bindings: whether the environment, as it is on the PATH now, keeps GStreamer's Python from its bindings.
    """

    plugin_file: Path
    search_path: Path | None
    loader: PythonLoader
    environment: Path
    hides_bindings: bool = False


def install_element(folder: Path | None = None) -> Installation:
    """Writes the plugin file, and has GStreamer load it.

    Args:
        folder: for GST_PLUGIN_PATH; None takes the user's own, where GStreamer always looks.

    Raises:
        RuntimeUnavailable: GStreamer, its loader or a package is absent, the Pythons differ, or it does not load.
        UsageError: the file cannot be written.
    """
    loader = find_loader()
    _require_same_python(loader.python)
    _require_packages()
    plugin_file = (folder or _user_plugins()) / "python" / FILE_NAME
    _write(plugin_file, plugin_text(loader.python))
    _forget_registry()
    _require_element(folder)
    hides_bindings = _inspect("sredge", _searching(folder, dict(os.environ))).returncode != 0
    return Installation(plugin_file.resolve(), folder and folder.resolve(), loader, Path(sys.prefix), hides_bindings)


def find_loader() -> PythonLoader:
    """Asks GStreamer; raises RuntimeUnavailable where it or the loader is absent."""
    asked = _inspect("python", gstreamer_environment())
    found = re.search(r"^\s*Filename\s+(\S+)", asked.stdout, re.MULTILINE)
    if found is None:
        raise RuntimeUnavailable(
            "GStreamer cannot load elements written in Python: its plugin `python` is not installed",
            wanted="python",
            remedy=_INSTALL,
        )
    path = Path(found[1])
    return PythonLoader(path, embedded_python(path.read_bytes(), path))


def embedded_python(library: bytes, path: Path) -> tuple[int, int]:
    """The version of libpython that the loader is linked to; raises RuntimeUnavailable where there is none."""
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
    """The plugin file for this environment."""
    folders = tuple(dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib")))
    return _PLUGIN.format(version=python, dotted=_dotted(python), folders=folders)


def _require_same_python(embedded: tuple[int, int]) -> None:
    if embedded == sys.version_info[:2]:
        return
    ours, theirs = _dotted(sys.version_info[:2]), _dotted(embedded)
    if embedded < _OLDEST_PYTHON:
        raise RuntimeUnavailable(
            f"GStreamer embeds Python {theirs}, but sr-edge needs {_dotted(_OLDEST_PYTHON)} or later",
            found=embedded,
            wanted=_OLDEST_PYTHON,
            remedy="pipe raw frames through `sr-edge stream` instead",
        )
    raise RuntimeUnavailable(
        f"sr-edge runs in Python {ours}, GStreamer embeds Python {theirs}, and compiled packages work in one version "
        "only",
        found=sys.version_info[:2],
        wanted=embedded,
        remedy=f"create an environment with the other version: /usr/bin/python{theirs} -m venv gst-env && "
        'gst-env/bin/pip install "sr-edge[camera,openvino]" && gst-env/bin/sr-edge gst-install',
    )


def _require_packages() -> None:
    if importlib.util.find_spec("av") is None:
        raise RuntimeUnavailable(
            "the element needs the package av, which is not installed",
            wanted="av",
            remedy='run: pip install "sr-edge[camera]"',
        )


def _user_plugins() -> Path:
    """Where the loader looks in a user's home; not where GStreamer looks for compiled plugins."""
    return Path.home() / ".gstreamer-1.0" / "plugins"


def _write(plugin_file: Path, text: str) -> None:
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


def _forget_registry() -> None:
    """GStreamer remembers which plugins there are, and does not look again for those in Python."""
    given = os.environ.get("GST_REGISTRY_1_0") or os.environ.get("GST_REGISTRY")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gstreamer-1.0"
    for registry in [Path(given)] if given else cache.glob("registry.*.bin"):
        registry.unlink(missing_ok=True)


def gstreamer_environment() -> dict[str, str]:
    """The variables with which GStreamer's Python finds its bindings, whatever environment is activated.

    It takes the python3 that is first on the PATH for its own and looks for packages beside that one; here it is the
    one beside GStreamer's programs. Raises RuntimeUnavailable where there are none.
    """
    program = shutil.which("gst-inspect-1.0")
    if program is None:
        raise RuntimeUnavailable(
            "GStreamer's program gst-inspect-1.0 is not installed", wanted="gst-inspect-1.0", remedy=_INSTALL
        )
    return {**os.environ, "PATH": os.pathsep.join([str(Path(program).parent), os.environ["PATH"]])}


def _require_element(folder: Path | None) -> None:
    asked = _inspect("sredge", _searching(folder, gstreamer_environment()))
    if asked.returncode != 0:
        reason = " ".join(asked.stderr.split())[-500:] or "it does not say why"
        raise RuntimeUnavailable(f"the element was written, but GStreamer does not load it: {reason}", found="sredge")


def _searching(folder: Path | None, environment: dict[str, str]) -> dict[str, str]:
    """The environment with `folder` among those that are searched for plugins."""
    searched = [str(folder)] if folder else []
    searched += filter(None, [environment.get("GST_PLUGIN_PATH")])
    return {**environment, "GST_PLUGIN_PATH": os.pathsep.join(searched)} if searched else environment


def _inspect(name: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = ["gst-inspect-1.0", name]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=_INSPECT_S)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
