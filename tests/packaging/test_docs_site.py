"""The documentation site: every public package has a reference page with all of its names; the site builds."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sr_edge
from scripts.docs_content.outputs import EXAMPLES, NOT_SHOWN, PAGE, kept_outputs, without_local_paths
from scripts.docs_content.pictures import IMAGES, MAX_LOOP_BYTES
from scripts.docs_site import PUBLIC_PACKAGES, public_names, site_link
from sr_edge.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
MAX_PICTURES_BYTES = 2_000_000


def faces() -> dict[str, list[str]]:
    """sr_edge and its packages with public names, apart from the command line, and these names."""
    faces = {}
    package_folder = Path(sr_edge.__file__).parent
    for source in (package_folder / "__init__.py", *sorted(package_folder.glob("*/__init__.py"))):
        names = [
            ast.literal_eval(node.value)
            for node in ast.parse(source.read_text(encoding="utf-8")).body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ]
        if names:
            package = ".".join(source.parent.relative_to(ROOT).parts)
            faces[package] = names[0]
    return faces


def test_every_public_package_has_a_page_with_all_its_names() -> None:
    listed = faces()
    assert listed.keys() - {"sr_edge.cli"} == PUBLIC_PACKAGES.keys()
    for package in PUBLIC_PACKAGES:
        module = ast.parse(ROOT.joinpath(*package.split("."), "__init__.py").read_text(encoding="utf-8"))
        assert sorted(name for name, _ in public_names(package, module)) == sorted(listed[package]), package


@pytest.mark.parametrize(
    ("page", "target", "link"),
    [
        ("export.md", "calibrate.md", "calibrate.md"),
        ("export.md", "../README.md", "project/README.md"),
        ("adr/0001.md", "../export.md", "../export.md"),
        ("adr/0001.md", "../../CONTRIBUTING.md", "../project/CONTRIBUTING.md"),
        ("project/README.md", "docs/export.md", "../export.md"),
        ("project/README.md", "LICENSE", "LICENSE"),
        ("project/README.md", "https://example.org/docs/a.md", "https://example.org/docs/a.md"),
    ],
)
def test_links_lead_to_the_same_file_in_the_site(page: str, target: str, link: str) -> None:
    assert site_link(page, target) == link


def test_the_output_of_every_command_is_shown_or_the_reason_given() -> None:
    commands = {command.name for command in app.registered_commands}
    shown = [example.command for example in EXAMPLES]
    assert {*shown, *NOT_SHOWN} == commands
    sections = kept_outputs(PAGE.read_text(encoding="utf-8"))
    assert [name for name in sections if name in commands] == shown
    assert all(f"$ {example.shown or example.line}\n" in sections[example.command] for example in EXAMPLES)


def test_recorded_outputs_name_no_folder_of_the_machine(tmp_path: Path) -> None:
    output = f"wrote {tmp_path}/a.onnx  \nrun: pip install -e {ROOT}\n\n"
    assert without_local_paths(output, tmp_path) == "wrote ./a.onnx\nrun: pip install -e ~/sr_edge"
    assert "more lines" in without_local_paths("a line\n" * 1000, tmp_path)


def test_pictures_are_small_and_used() -> None:
    pictures = [path for path in IMAGES.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in pictures) < MAX_PICTURES_BYTES
    assert (IMAGES / "preview.webp").stat().st_size < MAX_LOOP_BYTES
    pages = "".join(page.read_text(encoding="utf-8") for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    assert [path.name for path in pictures if f"images/{path.name}" not in pages] == []


@pytest.mark.services
def test_the_site_builds_without_a_warning_and_loads_nothing_from_other_hosts(tmp_path: Path) -> None:
    """Strict mode makes a broken link, a missing anchor and an unresolved name of the reference an error."""
    pytest.importorskip("mkdocstrings", reason="the extra docs is not installed, which needs Python 3.11")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    finished = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, timeout=300
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    page = (tmp_path / "api" / "sr_edge.html").read_text(encoding="utf-8")
    homes = ("sr_edge.model_sources.open_session", "sr_edge.upscaler.Upscaler")
    assert all(f'id="{home}"' in page for home in homes)
    loaded = [path for path in tmp_path.rglob("*.html") if 'src="http' in path.read_text(encoding="utf-8")]
    assert not loaded
