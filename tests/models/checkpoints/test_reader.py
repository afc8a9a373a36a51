"""Every kind of tensor and file is read as torch reads it, or refused in one line."""

from __future__ import annotations

import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sr_edge.errors import WeightsError
from sr_edge.models.checkpoints import SUFFIXES, read_checkpoint, read_weights
from tests.expected_errors import raises


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    base = torch.randn(6, 4)
    return {
        "float": base,
        "transposed": base.t(),
        "part": base[1:3, 2:],
        "parameter": nn.Parameter(torch.randn(3)),
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 3),
        "half": torch.randn(5).half(),
        "bfloat16": torch.randn(5).bfloat16(),
        "double": torch.randn(5).double(),
        "float8": torch.randn(4).to(torch.float8_e4m3fn),
        "uint16": torch.arange(4).to(torch.uint16),
        "integers": torch.arange(7),
        "booleans": torch.tensor([True, False]),
    }


def assert_equal(state: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert state.keys() == wanted.keys()
    for key, value in wanted.items():
        expected = value.float() if value.is_floating_point() else value
        assert state[key].dtype == expected.dtype
        assert state[key].is_contiguous()
        assert torch.equal(state[key], expected), key


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_tensors_are_those_that_were_saved(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "weights.pth"
    torch.save(tensors(), path, _use_new_zipfile_serialization=not legacy)
    checkpoint = read_checkpoint(path)
    assert_equal(checkpoint.sets[0].state, tensors())
    meta_state = checkpoint.sets[0].meta_state
    assert {key: (value.shape, value.dtype) for key, value in meta_state.items()} == {
        key: (value.shape, value.dtype) for key, value in tensors().items()
    }


def test_safetensors_with_metadata(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    contiguous = {key: value.clone().contiguous() for key, value in tensors().items()}
    save_file(contiguous, path, {"modelspec.license": "CC-BY-4.0"})
    checkpoint = read_checkpoint(path)
    assert checkpoint.metadata == {"modelspec.license": "CC-BY-4.0"}
    assert_equal(checkpoint.sets[0].state, contiguous)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors", "weights", "weights.jpg"])
@pytest.mark.parametrize("writer", ["torch", "safetensors"])
def test_the_content_says_what_a_file_is(tmp_path: Path, name: str, writer: str) -> None:
    path = tmp_path / name
    state = {"a.weight": torch.ones(3)}
    torch.save(state, path) if writer == "torch" else save_file(state, path)
    assert_equal(read_checkpoint(path).sets[0].state, state)


def test_an_archive_that_was_packed_again(tmp_path: Path) -> None:
    """Compressed entries are unpacked; torch itself stores them plainly."""
    torch.save({"a.weight": torch.ones(300)}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(tmp_path / "packed.pth", "w") as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name), zipfile.ZIP_DEFLATED)
    assert_equal(read_checkpoint(tmp_path / "packed.pth").sets[0].state, {"a.weight": torch.ones(300)})


def test_the_prefixes_of_trainers_are_left_out_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {"module.features.0.weight": torch.ones(3)}}, path)
    assert_equal(read_weights(path), {"features.0.weight": torch.ones(3)})


class Importable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_whole_module_is_refused_by_its_class(tmp_path: Path, wrapped: bool) -> None:
    path = tmp_path / "whole.pt"
    torch.save({"model": Importable()} if wrapped else Importable(), path)
    with raises(WeightsError, found=f"{__name__}.Importable", wanted="a mapping of tensors"):
        read_checkpoint(path)


UNREADABLE = {
    "empty": b"",
    "text": b"hello, I am a text file\n",
    "web page": b"\n<!DOCTYPE html><html>please log in</html>",
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "ONNX": b"\x08\x08\x12\x07pytorch",
    "other zip": None,
    "plain pickle": pickle.dumps({"a": [1, 2.5, "b"], "c": {3, 4}, "d": frozenset("e")}),
    "number": pickle.dumps(3),
    "header of 2 GB": (1 << 31).to_bytes(8, "little") + b"{}",
    "unfinished pickle": b"\x80\x02}q\x00(",
    "odd pickle": b"\x80\x02}q\x00h\x07.",
    "persistent id": b"\x80\x02X\x01\x00\x00\x00aQ.",
}


@pytest.mark.parametrize("suffix", [".pth", ".ckpt", ".safetensors"])
@pytest.mark.parametrize("kind", UNREADABLE)
def test_other_files_are_refused_in_one_line(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    content = UNREADABLE[kind]
    if content is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("notes.txt", "hello")
    else:
        path.write_bytes(content)
    with raises(WeightsError) as caught:
        read_checkpoint(path)
    assert caught.value.remedy
    assert str(path) in caught.value.problem
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_files_cut_short_or_damaged_never_raise_anything_else(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "weights"
    state = {"a.weight": torch.randn(40, 30), "a.bias": torch.randn(7)}
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    generator = torch.Generator().manual_seed(3)
    for trial in range(120):
        damaged = bytearray(whole)
        if trial % 3 == 0:
            damaged = damaged[: int(torch.randint(len(whole), (1,), generator=generator))]
        else:
            for _ in range(4):
                place = int(torch.randint(min(len(whole), 900), (1,), generator=generator))
                damaged[place] = int(torch.randint(256, (1,), generator=generator))
        path.write_bytes(bytes(damaged))
        try:
            for actual in read_checkpoint(path).sets:
                assert actual.state
        except WeightsError as error:
            assert "\n" not in str(error)


def test_folders_and_absent_files(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.pth"):
        with raises(WeightsError, found=path, wanted=SUFFIXES):
            read_checkpoint(path)


def test_a_file_that_may_not_be_read(tmp_path: Path, bound_by_rights: list[str]) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.ones(3)}, path)
    path.chmod(0)
    command = [*bound_by_rights, sys.executable, "-m", "sr_edge", "export", str(path), "-o", str(tmp_path / "o.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"sr-edge: {path} cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.filterwarnings("ignore:.*quantize.*:UserWarning")
@pytest.mark.parametrize(
    ("kind", "tensor"),
    [
        ("sparse", lambda: torch.eye(4).to_sparse()),
        ("quantized", lambda: torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8)),
        ("meta", lambda: torch.empty(4, 4, device="meta")),
    ],
)
def test_tensors_without_plain_values_are_named(tmp_path: Path, kind: str, tensor: object) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"odd": tensor(), "plain": torch.ones(4)}, path)  # type: ignore[operator]
    actual = read_checkpoint(path).sets[0]
    assert "odd" in actual.meta_state
    with raises(WeightsError, found=("odd", kind)):
        _ = actual.state
