"""MkDocs hook of the documentation site: reference pages from the docstrings, and the pages outside of docs/.

The reference has one page for each public package, with every name of its `__init__`. README, CONTRIBUTING and the
changelog are pages of the site, too; other files of the repository that a page links to are copied.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import normpath, relpath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PUBLIC_PACKAGES = {
    "sr_edge": "Top level",
    "sr_edge.models": "Networks",
    "sr_edge.model_sources": "Model files",
    "sr_edge.export": "Export",
    "sr_edge.calibration": "INT8",
    "sr_edge.deploy": "Deployment",
    "sr_edge.bundle": "Bundles",
    "sr_edge.runtimes": "Runtimes",
    "sr_edge.upscaler": "Upscaling",
    "sr_edge.image_files": "Image files",
    "sr_edge.camera": "Cameras and video",
    "sr_edge.cluster": "Clusters",
    "sr_edge.bench": "Measurements",
    "sr_edge.serving": "Triton and trtexec",
    "sr_edge.training": "Training",
}
PUBLIC_MODULES = {"sr_edge.spec": "Values", "sr_edge.errors": "Errors"}
"""Modules whose own names are all public."""

PROJECT_PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
PROJECT = "project"

_LINK = re.compile(r"(\]\()([^)#\s]+)([#)])")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lists the pages of the folders that mkdocs.yml names in its navigation."""
    folders: dict[str, list[Any]] = {
        "api": [{title: f"api/{package}.md"} for package, title in (PUBLIC_PACKAGES | PUBLIC_MODULES).items()],
        "adr": [f"adr/{page.name}" for page in sorted((ROOT / "docs" / "adr").glob("*.md"), key=_overview_first)],
    }
    for section in config.nav or []:
        for title, content in section.items():
            if isinstance(content, str) and content in folders:
                section[title] = folders[content]
            for entry in content if isinstance(content, list) else []:
                entry |= {name: folders[page] for name, page in entry.items() if page in folders}
    return config


def _overview_first(page: Path) -> tuple[bool, str]:
    return page.name != "README.md", page.name


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the reference pages, the project's pages, and the files that pages link to."""
    from mkdocs.structure.files import File

    for module, title in PUBLIC_MODULES.items():
        text = f"# {title}\n\n::: {module}\n    options:\n      show_root_heading: false\n"
        files.append(File.generated(config, f"api/{module}.md", content=text))
    for package, title in PUBLIC_PACKAGES.items():
        files.append(File.generated(config, f"api/{package}.md", content=reference_page(package, title)))
    for name in PROJECT_PAGES:
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, f"{PROJECT}/{name}", content=text))
    for target in sorted(linked_files()):
        files.append(File.generated(config, f"{PROJECT}/{target}", abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Points the links of a page at the pages and copies in the site."""
    return _LINK.sub(lambda match: match[1] + site_link(page.file.src_uri, match[2]) + match[3], markdown)


def site_link(page: str, target: str) -> str:
    """The link from a page of the site to what `target` is in the repository; both are relative to docs/."""
    if ":" in target:
        return target
    is_project = page.startswith(f"{PROJECT}/")
    in_repository = normpath(f"{'' if is_project else 'docs/'}{_folder(page, is_project)}{target}")
    in_site = in_repository.removeprefix("docs/") if in_repository.startswith("docs/") else f"{PROJECT}/{in_repository}"
    return relpath(in_site, _folder(page, False) or ".")


def _folder(page: str, is_project: bool) -> str:
    """The folder of a page with a slash at its end; of a page of the project, its folder in the repository."""
    inner = page.removeprefix(f"{PROJECT}/") if is_project else page
    return f"{inner.rpartition('/')[0]}/" if "/" in inner else ""


def linked_files() -> set[str]:
    """The files outside of docs/ to which pages link, other than the project's pages."""
    pages = [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in PROJECT_PAGES)]
    targets = {
        normpath(f"{page.parent.relative_to(ROOT).as_posix()}/{match[2]}")
        for page in pages
        for match in _LINK.finditer(page.read_text(encoding="utf-8"))
        if ":" not in match[2]
    }
    return {each for each in targets if not each.startswith("docs/") and each not in PROJECT_PAGES}


def reference_page(package: str, title: str) -> str:
    """The Markdown of one page: the package's docstring, then each of its public names."""
    source = ROOT.joinpath(*package.split("."), "__init__.py")
    module = ast.parse(source.read_text(encoding="utf-8"))
    parts = [f"# {title}", f"`{package}`", ast.get_docstring(module) or ""]
    for name, home in sorted(public_names(package, module), key=lambda entry: entry[0].lower()):
        parts.append(f"::: {home}\n    options:\n      heading: {name}")
    return "\n\n".join(parts) + "\n"


def public_names(package: str, module: ast.Module) -> Iterator[tuple[str, str]]:
    """The public names of a package and where they are defined, from the imports that its type checker sees."""
    public = next(
        ast.literal_eval(node.value)
        for node in module.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sr_edge"):
            for alias in node.names:
                name = alias.asname or alias.name
                if name in public:
                    yield name, f"{node.module}.{alias.name}"
