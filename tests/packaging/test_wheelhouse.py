"""The wheelhouse is complete for the device, and the walks of docs/install.md and docs/jetson.md work from it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scripts.wheelhouse import Device, absent_wheels, collect, device_of, require_extras, wishes
from sr_edge.errors import UsageError
from sr_edge.image_files import write_picture
from sr_edge.installation import wheel_name
from tests.expected_errors import raises

JETPACK_6 = Device("aarch64", (3, 10))
JETPACK_7 = Device("aarch64", (3, 12))
WALK = re.compile(r"<!-- the offline walk.*?-->\n+```console\n(.*?)```", re.DOTALL)
SETUP = re.compile(r"```console\n(python3 -m venv --system-site-packages sr.*?)```", re.DOTALL)
UNREACHABLE = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0"}
"""Settings with which pip finds no package index."""
HOUSE = re.compile(r"^make wheelhouse[^#\n]*", re.MULTILINE)


def make_wheel(folder: Path, name: str, *requires: str, version: str = "1.0", extras: tuple[str, ...] = ()) -> Path:
    """A wheel with nothing but metadata."""
    wheel = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    lines = [
        f"Name: {name}",
        *(f"Provides-Extra: {extra}" for extra in extras),
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info/METADATA", "\n".join(lines) + "\n")
    return wheel


@pytest.mark.parametrize(
    ("device", "absent"),
    [(JETPACK_6, ["backport<3,>=2"]), (JETPACK_7, []), (Device("x86_64", (3, 12)), ["only-on-intel"])],
)
def test_dependencies_are_those_of_the_device(tmp_path: Path, device: Device, absent: list[str]) -> None:
    """Whatever machine runs this: `pip download` decides by its own platform and Python."""
    make_wheel(tmp_path, "sr-edge", "tool", 'only-on-intel; platform_machine == "x86_64"', 'torch; extra == "export"')
    make_wheel(tmp_path, "tool", 'backport<3,>=2; python_version < "3.11"')
    assert absent_wheels(["sr-edge[openvino]"], tmp_path, device) == absent


def test_extras_are_followed_through_extras(tmp_path: Path) -> None:
    make_wheel(tmp_path, "sr-edge", 'sr-edge[camera]; extra == "preview"', 'av>=17; extra == "camera"')
    assert absent_wheels(["sr-edge"], tmp_path, JETPACK_7) == []
    assert absent_wheels(["sr-edge[preview]"], tmp_path, JETPACK_7) == ["av>=17"]
    make_wheel(tmp_path, "av", version="16.0")
    assert absent_wheels(["sr-edge[preview]"], tmp_path, JETPACK_7) == ["av>=17"]
    (tmp_path / "av-16.0-py3-none-any.whl").unlink()
    make_wheel(tmp_path, "av", version="17.1")
    assert absent_wheels(["sr-edge[preview]"], tmp_path, JETPACK_7) == []


@pytest.mark.parametrize(
    ("device", "also", "bindings"),
    [
        (JETPACK_6, [], ["cuda-python<13"]),
        (JETPACK_6, ["cuda-python==12.6.2"], ["cuda-python==12.6.2"]),
        (JETPACK_7, [], []),
        (Device("x86_64", (3, 10)), [], []),
    ],
)
def test_jetpack_6_gets_bindings_for_its_cuda(device: Device, also: list[str], bindings: list[str]) -> None:
    assert wishes(Path("x.whl"), ["tensorrt"], also, device)[1:] == bindings


@pytest.mark.parametrize("machine", ["arm64", "armv7l", "", "aarch64 "])
def test_another_machine_is_refused(machine: str) -> None:
    with raises(UsageError, found=machine, wanted=("aarch64", "x86_64")):
        device_of(machine, "3.10")


@pytest.mark.parametrize("python", ["3.9", "3", "2.7", "310", "3.10.12", "/usr/bin/python3.10", "", "3.x", "3.²"])
def test_another_python_is_refused(python: str) -> None:
    with raises(UsageError, found=python, wanted=(3, 10)):
        device_of("aarch64", python)


def test_an_extra_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "sr-edge", extras=("openvino", "sixteen-bit"))
    require_extras(wheel, ["openvino", "sixteen_bit"])
    with raises(UsageError, found=["opencv"], wanted=["openvino", "sixteen-bit"]):
        require_extras(wheel, ["openvino", "opencv"])
    with raises(UsageError, found=tmp_path, wanted="a wheel"):
        require_extras(tmp_path, [])


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "sr-edge", extras=("openvino",))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with raises(UsageError, found=tmp_path / "mine"):
        collect(wheel, ["openvino"], [], JETPACK_7, tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").exists()


def test_the_readme_sets_up_a_jetson_as_its_guide_does(project_root: Path) -> None:
    pages = [(project_root / page).read_text(encoding="utf-8") for page in ("README.md", "docs/jetson.md")]
    for line in (
        HOUSE,
        re.compile(r"^python3 -m venv --system-[^#\n]*", re.MULTILINE),
        re.compile(r"^pip install --no-index.*", re.MULTILINE),
    ):
        (in_readme,), (in_guide,) = ({found.strip() for found in line.findall(page)} for page in pages)
        assert in_readme == in_guide


def run(command: str, folder: Path, **variables: str) -> str:
    """Runs a line with bash as a reader would; fails with its output where it fails."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", **variables}
    environment.pop("PYTHONPATH", None)
    shell = ["bash", "-euo", "pipefail", "-c", command]
    done = subprocess.run(shell, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def package_index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where pip reaches no package index: a wheelhouse is downloaded once, on a machine with network."""
    probe = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--retries", "0", "--dest"]
    if subprocess.run([*probe, str(tmp_path_factory.mktemp("probe")), "mdurl"], capture_output=True).returncode:
        pytest.skip("pip reaches no package index here")


@pytest.fixture(scope="module")
def wheelhouse(package_index: None, project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make wheelhouse` writes for this machine."""
    folder = tmp_path_factory.mktemp("workstation") / "wheelhouse"
    run(f"make wheelhouse EXTRAS=openvino,tensorrt INTO={folder}", project_root)
    return folder


@pytest.fixture(scope="module")
def device_folder(wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was copied to the device: the wheelhouse, a bundle and a picture."""
    import numpy as np

    from sr_edge.deploy import DeployPlan, deploy_network
    from sr_edge.frames import Picture
    from sr_edge.models import load_model
    from sr_edge.spec import PassChoice, Precision, TileSpec

    folder = tmp_path_factory.mktemp("device")
    shutil.copytree(wheelhouse, folder / "wheelhouse")
    noise = np.random.default_rng(0).integers(0, 256, (40, 52, 3), dtype=np.uint8)
    write_picture(folder / "picture.png", Picture(noise))
    plan = DeployPlan(
        TileSpec(24, 24), ("openvino",), (Precision.FP32,), rounds=1, with_memory=False, passes=PassChoice.STRUCTURE
    )
    deploy_network(load_model("convnet-tiny", 2), folder, folder / "tiny-x2.sredge", plan)
    return folder


@pytest.mark.services
def test_the_offline_walk_works_as_printed(device_folder: Path, project_root: Path) -> None:
    """In a new environment, with an index that cannot be reached."""
    (walk,) = WALK.findall((project_root / "docs" / "install.md").read_text(encoding="utf-8"))
    assert walk.count("\n") == 5
    no_index = {
        "PIP_INDEX_URL": "http://127.0.0.1:9/",
        "PIP_RETRIES": "0",
        "SR_EDGE_CACHE": str(device_folder / "cache"),
    }
    run(walk, device_folder, **no_index)
    assert (device_folder / "picture-x2.png").is_file()
    advice = run("sr/bin/sr-edge doctor --json", device_folder)
    assert f'pip install \\"{wheel_name()}[onnxruntime]\\"' in advice


@pytest.mark.services
def test_the_jetson_is_set_up_as_printed(wheelhouse: Path, project_root: Path, tmp_path: Path) -> None:
    """Up to `doctor`, which says that TensorRT is absent here; the lines after it need a Jetson."""
    (setup,) = SETUP.findall((project_root / "docs" / "jetson.md").read_text(encoding="utf-8"))
    (tmp_path / "wheelhouse").symlink_to(wheelhouse)
    assert "tensorrt" in run(setup, tmp_path, **UNREACHABLE)
    run("sr/bin/python -c 'import sr_edge, cuda.bindings'", tmp_path)


@pytest.mark.services
def test_the_wheelhouse_of_the_jetson_walk_is_complete(package_index: None, project_root: Path, tmp_path: Path) -> None:
    """`make wheelhouse` fails where a wheel is absent; JetPack 6 needs CUDA 12 and wheels for its Python."""
    (command,) = set(HOUSE.findall((project_root / "docs" / "jetson.md").read_text(encoding="utf-8")))
    run(f"{command.strip()} INTO={tmp_path / 'wheelhouse'}", project_root)
    names = sorted(path.name for path in (tmp_path / "wheelhouse").iterdir())
    assert wheel_name() in names
    assert [name for name in names if not re.search(r"-(any|manylinux\w*_aarch64[\w.]*)\.whl$", name)] == []
    assert [name for name in names if name.startswith("cuda_python-12.")] != []
    assert absent_wheels(["sr-edge[tensorrt]"], tmp_path / "wheelhouse", JETPACK_6) == []
    assert sum(path.stat().st_size for path in (tmp_path / "wheelhouse").iterdir()) < 80_000_000
