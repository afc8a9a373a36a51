"""The wheel and the sdist contain every module once, the bundled weights, and nothing of the top-level links."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

LINKS = ("calibration", "export", "runtimes")
NOT_SHIPPED = shutil.ignore_patterns(
    ".*_cache", ".venv", ".git", "__pycache__", "dist", "build", "runs", "demo-output", "wheelhouse"
)


class Distributions(NamedTuple):
    source: Path
    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def distributions(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """Builds the sdist, and the wheel from that sdist, in a copy of the project."""
    folder = tmp_path_factory.mktemp("distributions")
    source = folder / "source"
    shutil.copytree(project_root, source, symlinks=True, ignore=NOT_SHIPPED)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return Distributions(source, next(folder.glob("*.whl")), next(folder.glob("*.tar.gz")))


def package_files(source: Path) -> list[str]:
    return sorted(str(file.relative_to(source)) for file in (source / "sr_edge").rglob("*") if file.is_file())


def wheel_files(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return sorted(archive.namelist())


def sdist_members(sdist: Path) -> list[tarfile.TarInfo]:
    with tarfile.open(sdist) as archive:
        return archive.getmembers()


def below_top_folder(member: tarfile.TarInfo) -> str:
    return member.name.partition("/")[2]


def test_the_links_stand_in_the_source_tree(distributions: Distributions) -> None:
    for link in LINKS:
        assert (distributions.source / link).readlink() == Path("sr_edge") / link


def test_the_wheel_is_the_package_and_its_metadata(distributions: Distributions) -> None:
    names = wheel_files(distributions.wheel)
    package = [name for name in names if not name.partition("/")[0].endswith(".dist-info")]
    assert package == package_files(distributions.source)


def test_the_sdist_has_the_package_once(distributions: Distributions) -> None:
    names = sorted(map(below_top_folder, sdist_members(distributions.sdist)))
    assert [name for name in names if name.startswith("sr_edge/")] == package_files(distributions.source)
    assert not {name.partition("/")[0] for name in names} & set(LINKS)


def test_the_sdist_has_no_link(distributions: Distributions) -> None:
    assert [member.name for member in sdist_members(distributions.sdist) if not member.isfile()] == []


def test_the_sdist_can_test_itself(distributions: Distributions) -> None:
    names = set(map(below_top_folder, sdist_members(distributions.sdist)))
    wanted = {
        "LICENSE",
        "README.md",
        "Makefile",
        "constraints.txt",
        "pyproject.toml",
        "scripts/make_venv",
        "tests/conftest.py",
    }
    assert wanted <= names


def test_the_wheel_carries_bundled_weights_and_stays_small(distributions: Distributions) -> None:
    with zipfile.ZipFile(distributions.wheel) as archive:
        sizes = {
            entry.filename: entry.file_size for entry in archive.infolist() if entry.filename.endswith(".safetensors")
        }
    assert sizes
    assert {name: size for name, size in sizes.items() if size > 2_000_000} == {}
    assert sum(sizes.values()) <= 12_000_000


def test_the_wheel_carries_the_graphs_that_run_without_torch(distributions: Distributions) -> None:
    graphs = {f"sr_edge/models/weights/convnet-tiny-x{scale}.onnx" for scale in (2, 4)}
    assert graphs <= set(wheel_files(distributions.wheel))


def test_the_wheel_tells_type_checkers_that_it_has_types(distributions: Distributions) -> None:
    assert "sr_edge/py.typed" in wheel_files(distributions.wheel)


def test_the_wheel_carries_the_licence(distributions: Distributions) -> None:
    assert [name for name in wheel_files(distributions.wheel) if name.endswith("licenses/LICENSE")]
