"""The command that installs an extra names what its reader has; nothing says that a package index has sr-edge."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sr_edge.installation import VERSION, how_to_install, install_target, wheel_name

INSTALL = re.compile(r"pip install ([^`#\n&]*)")
FROM_AN_INDEX = re.compile(r"""(?<![\w./-])sr[-_]edge(\[[\w,-]*\])?(?=["'\s]|$)""")
WHEEL = re.compile(r"sr_edge-([\w.]+?)-py3-none-any\.whl")
EXTRAS = re.compile(r"""(?:sr-edge|\.whl|["' ]\.)\[([\w,-]+)\]""")
TEXTS = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/**/*.md",
    "sr_edge/**/*.py",
    "docker/*",
    "examples/**/*.*",
    "benchmarks/**/*.py",
)


@pytest.fixture(scope="module")
def texts(project_root: Path) -> dict[str, str]:
    """Pages and modules by their path; the published results are what machines printed at the time."""
    files = [
        file for pattern in TEXTS for file in project_root.glob(pattern) if file.suffix in (".md", ".py", ".Dockerfile")
    ]
    return {str(file.relative_to(project_root)): file.read_text(encoding="utf-8") for file in files}


def from_an_index(text: str) -> list[str]:
    """The arguments of each `pip install` that has pip search an index for sr-edge."""
    found = [arguments for arguments in INSTALL.findall(text) if FROM_AN_INDEX.search(arguments)]
    return [arguments for arguments in found if "--no-index" not in arguments]


@pytest.mark.parametrize(
    ("line", "published"),
    [
        ('pip install "sr-edge[openvino]"', True),
        ("sr/bin/pip install sr-edge", True),
        ("install it with: pip install 'sr_edge[camera]'", True),
        ('pip install --no-index --find-links wheelhouse "sr-edge[openvino]"', False),
        ('pip install "sr_edge-0.1.0-py3-none-any.whl[openvino]"', False),
        ('pip install -e ".[openvino]"', False),
        ('pip install -e "/home/me/sr-edge[openvino]"', False),
    ],
)
def test_what_counts_as_installing_from_an_index(line: str, published: bool) -> None:
    assert bool(from_an_index(line)) == published


def test_nothing_says_that_an_index_has_sr_edge(texts: dict[str, str]) -> None:
    assert len(texts) > 300
    assert {path: found for path, text in texts.items() if (found := from_an_index(text))} == {}


def test_wheels_are_named_by_this_version(texts: dict[str, str]) -> None:
    pages = {path: set(WHEEL.findall(text)) for path, text in texts.items() if path.endswith(".md")}
    assert pages["docs/install.md"] == {VERSION}
    assert {path: found for path, found in pages.items() if found - {VERSION}} == {}


def test_the_extras_that_are_named_exist(texts: dict[str, str], project_root: Path) -> None:
    pyproject = (project_root / "pyproject.toml").read_text(encoding="utf-8")
    section = pyproject.partition("[project.optional-dependencies]")[2].partition("\n[project.scripts]")[0]
    known = set(re.findall(r"^([\w-]+) = \[", section, re.MULTILINE))
    calls = re.compile(r"how_to_install\(([^)]*)\)")
    named = {name for path, text in texts.items() for found in EXTRAS.findall(text) for name in found.split(",")}
    named |= {
        name for text in texts.values() for call in calls.findall(text) for name in re.findall("'([\\w-]+)'", call)
    }
    assert {"openvino", "camera", "tensorrt", "sixteen-bit"} <= named
    assert named <= known


def test_in_a_checkout_the_command_installs_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").touch()
    assert install_target(("camera", "openvino"), tmp_path / "sr_edge") == f'-e "{tmp_path}[camera,openvino]"'
    monkeypatch.chdir(tmp_path)
    assert install_target(("camera",), tmp_path / "sr_edge") == '-e ".[camera]"'


def test_elsewhere_the_command_installs_the_wheel(tmp_path: Path) -> None:
    assert install_target(("camera",), tmp_path / "sr_edge") == f'"{wheel_name()}[camera]"'


def test_another_pip_can_be_named() -> None:
    assert how_to_install("camera", pip="gst-env/bin/pip") == f"gst-env/bin/{how_to_install('camera')}"
