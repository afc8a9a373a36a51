"""Wheels and libraries that are carried to a GPU: unpacked, joined from pieces, found by later steps."""

from __future__ import annotations

import lzma
import sys
import zipfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.benchmarks.gpu_sessions import GpuSession, loaded

OURS = f"cp{sys.version_info.major}{sys.version_info.minor}"


@pytest.fixture(scope="module")
def gpu() -> Iterator[GpuSession]:
    yield from loaded()


def write_wheel(folder: Path, name: str, files: dict[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / name
    with zipfile.ZipFile(file, "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
    return file


def cut(file: Path, pieces: int) -> None:
    """Replaces a file by pieces of its compressed form."""
    content = lzma.compress(file.read_bytes())
    size = -(-len(content) // pieces)
    for index in range(pieces):
        piece = file.with_name(f"{file.name}.xz.part{index:02d}")
        piece.write_bytes(content[index * size : (index + 1) * size])
    file.unlink()


def test_wheels_are_unpacked_and_their_folders_told(gpu: GpuSession, tmp_path: Path) -> None:
    files = {
        "carried/__init__.py": "value = 7",
        "carried_libs/libcarried.so.1": "",
        "carried-1.data/purelib/beside.py": "value = 8",
    }
    write_wheel(tmp_path / "wheels", "carried-1-py3-none-any.whl", files)
    unpacked = gpu.libraries.unpack_all([tmp_path / "wheels"], tmp_path / "target")
    assert unpacked.problems == [] and unpacked.files == ["carried-1-py3-none-any.whl"]
    target = tmp_path / "target"
    assert {str(target), str(target / "carried-1.data" / "purelib")} <= set(unpacked.paths.modules)
    assert unpacked.paths.shared_libraries == (str(target / "carried_libs"),)


def test_pieces_of_a_compressed_wheel_are_joined(gpu: GpuSession, tmp_path: Path) -> None:
    cut(write_wheel(tmp_path / "wheels", "carried-1-py3-none-any.whl", {"carried.py": "value = 7\n" * 500}), 3)
    unpacked = gpu.libraries.unpack_all([tmp_path / "wheels"], tmp_path / "target")
    assert unpacked.problems == []
    assert (tmp_path / "target" / "carried.py").read_text().startswith("value = 7")
    assert not list((tmp_path / "target").glob("*.whl"))


def test_pieces_of_a_library_are_joined(gpu: GpuSession, tmp_path: Path) -> None:
    library = tmp_path / "wheels" / "libcarried.so.1"
    library.parent.mkdir()
    library.write_bytes(bytes(range(256)) * 300)
    cut(library, 2)
    unpacked = gpu.libraries.unpack_all([tmp_path / "wheels"], tmp_path / "target")
    assert (tmp_path / "target" / "libcarried.so.1").read_bytes() == bytes(range(256)) * 300
    assert str(tmp_path / "target") in unpacked.paths.shared_libraries


def test_an_unpacked_library_is_used_where_it_is(gpu: GpuSession, tmp_path: Path) -> None:
    folder = tmp_path / "tensorrt"
    (folder / "lib").mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "lib" / "libnvinfer.so.10").write_text("")
    unpacked = gpu.libraries.unpack_all([folder], tmp_path / "target")
    assert str(folder) in unpacked.paths.modules
    assert unpacked.paths.shared_libraries == (str(folder / "lib"),)
    assert unpacked.paths.programs == (str(folder / "bin"),)


def test_what_is_damaged_costs_itself_alone(gpu: GpuSession, tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    write_wheel(folder, "good-1-py3-none-any.whl", {"good.py": ""})
    (folder / "bad-1-py3-none-any.whl").write_bytes(b"no zip")
    cut(write_wheel(folder, "short-1-py3-none-any.whl", {"short.py": "x = 1\n" * 999}), 2)
    (folder / "short-1-py3-none-any.whl.xz.part01").unlink()
    write_wheel(folder, "old-1-cp27-cp27m-linux_x86_64.whl", {"old.py": ""})
    unpacked = gpu.libraries.unpack_all([folder, tmp_path / "nowhere"], tmp_path / "target")
    assert unpacked.files == ["good-1-py3-none-any.whl"]
    assert (tmp_path / "target" / "good.py").is_file()
    for name in ("bad-1", "short-1", "old-1", "nowhere"):
        assert any(name in problem for problem in unpacked.problems)


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("a-1-py3-none-any.whl", True),
        ("a-1-py2.py3-none-any.whl", True),
        (f"a-1-{OURS}-{OURS}-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", True),
        ("a-1-1build-cp38-abi3-linux_x86_64.whl", True),
        ("a-1-cp27-cp27mu-linux_x86_64.whl", False),
        ("no-wheels-name.whl", False),
        ("nothing.whl", False),
        ("libnvinfer.so.10", True),
    ],
)
def test_wheels_of_other_pythons_are_left_packed(gpu: GpuSession, name: str, fits: bool) -> None:
    with nullcontext() if fits else pytest.raises(ValueError):
        gpu.libraries.require_fitting(name)


def test_a_path_out_of_the_folder_is_not_followed(gpu: GpuSession, tmp_path: Path) -> None:
    write_wheel(tmp_path / "wheels", "evil-1-py3-none-any.whl", {"../../outside.py": ""})
    gpu.libraries.unpack_all([tmp_path / "wheels"], tmp_path / "a" / "target")
    assert not (tmp_path / "outside.py").exists() and not (tmp_path / "a" / "outside.py").exists()


def test_later_steps_import_what_was_carried(gpu: GpuSession, tmp_path: Path) -> None:
    files = {"carried.py": "value = 7", "carried_libs/libcarried.so": ""}
    write_wheel(tmp_path / "wheels", "carried-1-py3-none-any.whl", files)
    program = "import carried, os; print(carried.value, 'carried_libs' in os.environ['LD_LIBRARY_PATH'])"
    record = gpu.run(tmp_path / "results", gpu.step("uses", program), libraries=(tmp_path / "wheels",))
    assert [str(step.status) for step in record.steps] == ["done", "done"]
    assert list(record.steps[1].last_lines) == ["7 True"]
    assert not record.rehearsal
    assert not (tmp_path / "results" / "scratch").exists()
