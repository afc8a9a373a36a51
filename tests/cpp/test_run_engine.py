"""examples/cpp: compiles against the real headers where they are, and against stand-ins it does what it says.

The stand-ins (stand_in/) prove the program's own work, files, sizes and messages, not TensorRT's.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "examples" / "cpp" / "run_engine.cpp"
STAND_IN = Path(__file__).parent / "stand_in"
HEADER_FOLDERS = ("/usr/include", "/usr/include/aarch64-linux-gnu", "/usr/include/x86_64-linux-gnu")
CUDA_FOLDERS = ("/usr/local/cuda/include", *HEADER_FOLDERS)
MAX_LINES = 150
UINT8, FLOAT = 5, 0


@pytest.fixture(scope="module")
def compiler() -> str:
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    return compiler


def compile_with(compiler: str, folders: list[str], *arguments: str) -> None:
    includes = [word for folder in folders for word in ("-isystem", folder)]
    command = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", *includes, *arguments, str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def first_with(header: str, folders: tuple[str, ...]) -> str | None:
    return next((folder for folder in folders if (Path(folder) / header).is_file()), None)


def test_it_is_short() -> None:
    assert len(SOURCE.read_text().splitlines()) < MAX_LINES


def test_it_compiles_against_the_real_headers(compiler: str) -> None:
    tensorrt = first_with("NvInfer.h", HEADER_FOLDERS)
    cuda = first_with("cuda_runtime_api.h", CUDA_FOLDERS)
    if tensorrt is None or cuda is None:
        pytest.skip(f"TensorRT's NvInfer.h: {tensorrt or 'absent'}; CUDA's cuda_runtime_api.h: {cuda or 'absent'}")
    compile_with(compiler, [tensorrt, cuda], "-fsyntax-only")


@pytest.fixture(scope="module")
def program(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example over the stand-ins, which enlarge by repeating pixels."""
    path = tmp_path_factory.mktemp("cpp") / "run_engine"
    compile_with(compiler, [str(STAND_IN)], "-fsanitize=address,undefined", "-o", str(path))
    return path


def run(program: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_raw_picture_comes_out_enlarged(program: Path, tmp_path: Path, channels: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (6, 8, channels), np.uint8)
    (tmp_path / "in.rgb").write_bytes(picture.tobytes())
    (tmp_path / "model.plan").write_text(f"engine 6 8 {channels} {UINT8}")
    done = run(program, tmp_path / "model.plan", tmp_path / "in.rgb", tmp_path / "out.rgb", "3")
    assert done.returncode == 0, done.stderr
    assert f"16x12x{channels}, median of 3 runs" in done.stdout
    upscaled = np.frombuffer((tmp_path / "out.rgb").read_bytes(), np.uint8).reshape(12, 16, channels)
    np.testing.assert_array_equal(upscaled, picture.repeat(2, 0).repeat(2, 1))


REFUSED = {  # plan, bytes of the picture, values that the message names
    "another size": (f"engine 6 8 3 {UINT8}", 100, ("in.rgb", "100 bytes", "8x6x3", "144 bytes")),
    "float frames": (f"engine 6 8 3 {FLOAT}", 144, ("--io uint8",)),
    "planes": (f"engine 3 6 8 {UINT8}", 144, ("uint8 (1, height, width, 1, 3 or 4)",)),
    "no engine": ("something else", 144, ("model.plan", "TensorRT")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_said(case: str, program: Path, tmp_path: Path) -> None:
    plan, size, values = REFUSED[case]
    (tmp_path / "model.plan").write_text(plan)
    (tmp_path / "in.rgb").write_bytes(bytes(size))
    done = run(program, tmp_path / "model.plan", tmp_path / "in.rgb", tmp_path / "out.rgb")
    assert done.returncode == 1
    for value in values:
        assert value in done.stderr
    assert not (tmp_path / "out.rgb").exists()


def test_an_absent_file_is_named_and_wrong_usage_is_shown(program: Path, tmp_path: Path) -> None:
    done = run(program, tmp_path / "absent.plan", tmp_path / "in.rgb", tmp_path / "out.rgb")
    assert done.returncode == 1 and "absent.plan" in done.stderr
    assert run(program, "model.plan").returncode == 2
