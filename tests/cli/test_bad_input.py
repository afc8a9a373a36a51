"""Invalid input and interruptions: one clear line, the right exit code, and no incomplete files."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sr_edge.cli.options import refusing_addresses
from sr_edge.errors import UsageError
from sr_edge.installation import how_to_install
from tests.command_line import SrEdge, interrupt_at
from tests.expected_errors import raises

TINY = ("convnet-tiny", "--scale", "2", "--random-weights", "--tile", "24", "--runs", "1", "--no-memory")
ON_CPU = ("--runtimes", "onnxruntime", "--precisions", "fp32,int8", "--passes", "structure")


def huge_png() -> bytes:
    """A valid header of 60,000 x 60,000 pixels in 45 bytes."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + struct.pack(">I", 0) + b"IEND\xaeB`\x82"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("absent.png", None, "no file"),
        ("empty.png", b"", "0 bytes"),
        ("text.png", b"hello, I am a text file", "PNG, JPEG, TIFF, WEBP"),
        ("huge.png", huge_png(), "134,217,728"),
        ("cut.png", "half", "truncated"),
    ],
    ids=["absent", "empty", "text", "huge", "cut"],
)
def test_a_picture_that_cannot_be_read(
    sr_edge: SrEdge, bundle: Path, pictures: Path, tmp_path: Path, name: str, content: bytes | str | None, expected: str
) -> None:
    source, out = tmp_path / name, tmp_path / "out.png"
    if content == "half":
        whole = (pictures / "waves0.png").read_bytes()
        source.write_bytes(whole[: len(whole) // 2])
    elif isinstance(content, bytes):
        source.write_bytes(content)
    outcome = sr_edge("upscale", bundle, source, out)
    assert outcome.code == 1
    assert expected in outcome.error
    assert name in outcome.error
    assert not out.exists()


@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_a_target_that_may_not_be_written(
    bundle: Path, pictures: Path, tmp_path: Path, bound_by_rights: list[str], mode: int
) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"kept")
    secret.chmod(mode)
    command = [*bound_by_rights, sys.executable, "-m", "sr_edge", "upscale", str(bundle), str(pictures / "waves0.png")]
    done = subprocess.run([*command, str(secret)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("sr-edge: ")]
    assert f"{secret}" in error and "permissions" in error
    assert "Traceback" not in done.stderr
    secret.chmod(0o600)
    assert secret.read_bytes() == b"kept"


def test_one_bad_picture_of_a_folder_does_not_stop_the_others(
    sr_edge: SrEdge, bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    shutil.copytree(pictures, folder)
    (folder / "waves1.png").write_bytes(b"no picture")
    outcome = sr_edge("upscale", bundle, folder, tmp_path / "out", "--json")
    assert outcome.code == 1
    assert "1 of 3" in outcome.error and "waves1.png" in outcome.error
    assert [file["outcome"] for file in json.loads(outcome.stdout)["files"]] == ["written", "failed", "written"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["waves0.png", "waves2.png"]


class Malicious:
    """Runs code when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.victim,)


@pytest.mark.parametrize("write", [lambda path, value: path.write_bytes(pickle.dumps(value)), None])
def test_a_malicious_checkpoint_does_not_execute(
    sr_edge: SrEdge, tmp_path: Path, write: Callable[[Path, object], object] | None
) -> None:
    checkpoint, victim = tmp_path / "weights.pth", tmp_path / "executed"
    if write is None:
        torch.save({"params": Malicious(victim)}, checkpoint)
    else:
        write(checkpoint, {"params": Malicious(victim)})
    outcome = sr_edge("export", "convnet-tiny", "--scale", "2", "--weights", checkpoint, "-o", tmp_path / "m.onnx")
    assert outcome.code == 1
    assert "weights.pth" in outcome.error
    assert not victim.exists()
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("convnet-tiny", "--scale", "5", "--random-weights"), 2, ("2, 3, 4", "5")),
        (("convnet-tiny", "--scale", "5"), 2, ("2, 3, 4", "5")),
        (("convnet-tiny", "--random-weights"), 2, ("--scale",)),
        (("nonsense", "--scale", "2", "--random-weights"), 2, ("'nonsense'", "convnet-tiny", "swinir-light")),
        (("convnet-light", "--scale", "2", "--weights", "absent.pth"), 1, ("absent.pth",)),
        (("taylor-swinir-tiny", "--scale", "2", "--random-weights", "--tile", "50x96"), 2, ("--tile 48x96 or 96x96",)),
        (("convnet-tiny", "--scale", "2", "--random-weights", "--tile", "wide"), 2, ("'wide'", "HEIGHTxWIDTH")),
        (("convnet-tiny", "--scale", "2", "--random-weights", "--tile", "0x8"), 2, ("0x8",)),
        (("--arch", "nowhere:net", "--scale", "2", "--random-weights"), 2, ("nowhere:net",)),
        (("convnet-tiny", "--scale", "2", "--random-weights", "--input-range", "255"), 2, ("--arch",)),
    ],
)
def test_a_model_that_cannot_be_exported(
    sr_edge: SrEdge, tmp_path: Path, arguments: tuple[str, ...], code: int, expected: tuple[str, ...]
) -> None:
    outcome = sr_edge("export", *arguments, "-o", tmp_path / "model.onnx")
    assert outcome.code == code
    assert [value for value in expected if value not in outcome.error] == [], outcome.error
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_network_are_refused_with_the_first_keys(sr_edge: SrEdge, tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(3, 3, 3, 3)}, tmp_path / "other.pth")
    outcome = sr_edge(
        "export", "convnet-tiny", "--scale", "2", "--weights", tmp_path / "other.pth", "-o", tmp_path / "model.onnx"
    )
    assert outcome.code == 1
    assert "conv.weight" in outcome.error


@pytest.mark.parametrize("command", ["export", "calibrate", "cache", "deploy", "bench", "upscale", "train"])
def test_an_output_that_cannot_be_written_is_noticed_before_the_work(
    sr_edge: SrEdge, tmp_path: Path, pictures: Path, command: str
) -> None:
    """The input is damaged, too, and would cause the error if the work had begun."""
    (tmp_path / "file").write_bytes(b"damaged")
    damaged, out = tmp_path / "file", tmp_path / "file" / "result"
    network = ("convnet-tiny", "--scale", "2", "--weights", damaged)
    arguments = {
        "export": (*network, "-o", out),
        "calibrate": (damaged, "--images", pictures, "-o", out),
        "cache": (damaged, "--images", pictures, "-o", tmp_path / "int8.onnx", "--cache", out),
        "deploy": (*network, *ON_CPU, "--images", pictures, "-o", out),
        "bench": (damaged, "--csv", out),
        "upscale": (damaged, pictures / "waves0.png", out),
        "train": (*network, "--data", pictures, "--val", pictures, "--output", out),
    }[command]
    outcome = sr_edge("calibrate" if command == "cache" else command, *arguments)
    assert outcome.code == 2
    assert str(out) in outcome.error
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_output_that_is_no_bundle_is_left_alone(sr_edge: SrEdge, tmp_path: Path, pictures: Path) -> None:
    notes = tmp_path / "notes.sredge"
    notes.write_text("mine")
    outcome = sr_edge("deploy", *TINY, *ON_CPU, "--images", pictures, "-o", notes)
    assert outcome.code == 1
    assert str(notes) in outcome.error and "not a bundle" in outcome.error
    assert notes.read_text() == "mine"


@pytest.mark.parametrize("folder", ["empty", "absent"])
def test_no_calibration_pictures(sr_edge: SrEdge, tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    outcome = sr_edge("deploy", *TINY, *ON_CPU, "--images", tmp_path / folder, "-o", tmp_path / "tiny.sredge")
    assert outcome.code == 1
    assert folder in outcome.error
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_calibration_folder_with_a_damaged_picture(sr_edge: SrEdge, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    outcome = sr_edge("deploy", *TINY, *ON_CPU, "--images", images, "-o", tmp_path / "tiny.sredge")
    assert outcome.code == 1
    assert "bad.png" in outcome.error
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize(("tile", "value"), [("16", "16x16"), ("90000", "4,194,304")])
def test_a_tile_that_cannot_be_deployed(sr_edge: SrEdge, tmp_path: Path, pictures: Path, tile: str, value: str) -> None:
    network = ("convnet-tiny", "--scale", "2", "--random-weights", "--tile", tile)
    outcome = sr_edge("deploy", *network, "--images", pictures, "-o", tmp_path / "tiny.sredge")
    assert outcome.code == 2
    assert value in outcome.error


def interrupted(*_positional: object, **_named: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "stage",
    ["measuring the effect of tiles", "exporting", "calibrating", "joint checks", "quantizing", "golden frames"],
)
def test_ctrl_c_leaves_nothing(
    sr_edge: SrEdge, tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    interrupt_at(stage, monkeypatch)
    outcome = sr_edge("deploy", *TINY, *ON_CPU, "--images", pictures, "-o", tmp_path / "tiny.zip")
    assert outcome.code == 130
    assert outcome.error == "sr-edge: interrupted"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "writer",
    ["safetensors.numpy.save", "PIL.Image.Image.save", "shutil.copyfileobj"],
    ids=["weights", "golden frames", "archive"],
)
def test_ctrl_c_while_a_file_is_written_leaves_nothing(
    sr_edge: SrEdge, tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    monkeypatch.setattr(writer, interrupted)
    outcome = sr_edge("deploy", *TINY, *ON_CPU, "--images", pictures, "-o", tmp_path / "tiny.zip")
    assert outcome.code == 130
    assert outcome.error == "sr-edge: interrupted"
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_after_the_bundle_was_written_keeps_it_whole(
    sr_edge: SrEdge, tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at("opening sessions", monkeypatch)
    out = tmp_path / "tiny.sredge"
    assert sr_edge("deploy", *TINY, *ON_CPU, "--images", pictures, "-o", out).code == 130
    assert sr_edge("inspect", out).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.sredge"]


@pytest.mark.parametrize("size_kb", [40, 300])
def test_a_full_disk_leaves_nothing(pictures: Path, tmp_path: Path, size_kb: int) -> None:
    """Uses a real file system that is too small, in a separate mount namespace."""
    mount = f"mount -t tmpfs -o size={size_kb}k none {tmp_path}"
    unshare = shutil.which("unshare")
    tried = unshare and subprocess.run([unshare, "-rm", "sh", "-c", mount], capture_output=True, check=False)
    if not tried or tried.returncode:
        pytest.skip("user namespaces with mounts are not allowed here")
    words = [sys.executable, "-m", "sr_edge", "deploy", *TINY, *ON_CPU, "--images", pictures]
    deploy = " ".join(map(str, [*words, "-o", tmp_path / "tiny.sredge"]))
    script = f"{mount} && {{ {deploy}; echo code $?; ls -A {tmp_path}; }}"
    done = subprocess.run([str(unshare), "-rm", "sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "code 1\n", done.stdout
    errors = [line for line in done.stderr.splitlines() if line.startswith("sr-edge: ")]
    assert len(errors) == 1
    assert "o space left on device" in errors[0]
    assert f"cannot write {tmp_path / 'tiny.sredge'}: " in errors[0]
    assert "Traceback" not in done.stderr


@pytest.fixture
def damaged(bundle: Path, tmp_path: Path) -> Path:
    """The bundle with one flipped byte in each of its fp32 graphs."""
    copy = tmp_path / "damaged.sredge"
    shutil.copytree(bundle, copy)
    for graph in (copy / "model.onnx", copy / "model.uint8.onnx"):
        content = bytearray(graph.read_bytes())
        content[len(content) // 2] ^= 0xFF
        graph.write_bytes(bytes(content))
    return copy


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "BUNDLE"),
        ("selftest", "BUNDLE"),
        ("bench", "BUNDLE", "--runtimes", "onnxruntime", "--precisions", "fp32"),
        ("upscale", "BUNDLE", "PICTURE", "OUT"),
    ],
)
def test_a_damaged_bundle_is_never_run(
    sr_edge: SrEdge, damaged: Path, pictures: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    paths = {"BUNDLE": damaged, "PICTURE": pictures / "waves0.png", "OUT": tmp_path / "out.png"}
    outcome = sr_edge(*(paths.get(argument, argument) for argument in arguments))
    assert outcome.code == 1
    assert re.search(r"'model\.(uint8\.)?onnx'", outcome.error)
    assert "SHA-256" in outcome.error
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("command", ["inspect", "selftest", "bench"])
def test_what_is_no_bundle(sr_edge: SrEdge, pictures: Path, tmp_path: Path, command: str) -> None:
    for path in (tmp_path / "absent", pictures, pictures / "waves0.png"):
        outcome = sr_edge(command, path)
        assert outcome.code == 1
        assert f"{path} " in outcome.error or f"{path};" in outcome.error
        assert "sr-edge deploy" in outcome.error or "zip" in outcome.error


def test_a_damaged_calibration_cache(sr_edge: SrEdge, bundle: Path, pictures: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache.json"
    cache.write_text((bundle / "calibration.json").read_text()[:-40])
    arguments = ("--images", pictures, "--cache", cache, "-o", tmp_path / "int8.onnx")
    outcome = sr_edge("calibrate", bundle / "model.onnx", *arguments)
    assert outcome.code == 1
    assert "cache.json" in outcome.error
    assert not (tmp_path / "int8.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("calibrate", "absent.onnx", "--images", "x", "-o", "y.onnx"), "absent.onnx"),
        (("calibrate", "GRAPH", "--images", "PICTURES", "--method", "magic", "-o", "OUT"), "'magic'"),
        (("calibrate", "GRAPH", "--images", "PICTURES", "--exclude", "zzz*", "-o", "OUT"), "'zzz*'"),
    ],
)
def test_a_calibration_that_cannot_start(
    sr_edge: SrEdge, bundle: Path, pictures: Path, tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    paths = {"GRAPH": bundle / "model.onnx", "PICTURES": pictures, "OUT": tmp_path / "out.onnx"}
    outcome = sr_edge(*(paths.get(argument, argument) for argument in arguments))
    assert outcome.code in (1, 2)
    assert expected in outcome.error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["bench", "selftest", "evaluate", "upscale", "deploy"])
def test_an_unknown_runtime(sr_edge: SrEdge, bundle: Path, pictures: Path, tmp_path: Path, command: str) -> None:
    arguments = {
        "bench": ("bench", bundle, "--runtimes", "tensorflow"),
        "selftest": ("selftest", bundle, "--runtimes", "tensorflow"),
        "evaluate": ("evaluate", bundle, "--hr", pictures, "--runtimes", "tensorflow"),
        "upscale": ("upscale", bundle, pictures / "waves0.png", tmp_path / "out.png", "--runtime", "tensorflow"),
        "deploy": ("deploy", *TINY, "--runtimes", "tensorflow", "--images", pictures, "-o", tmp_path / "x.sredge"),
    }[command]
    outcome = sr_edge(*arguments)
    assert outcome.code == 2
    assert "'tensorflow'" in outcome.error and "torch, onnxruntime, openvino" in outcome.error
    assert list(tmp_path.iterdir()) == []


def test_a_runtime_whose_library_is_absent(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    program = "import sys; sys.modules['openvino'] = None\nfrom sr_edge.cli import main; main()"
    paths = [str(path) for path in (bundle, pictures / "waves0.png", tmp_path / "out.png")]
    command = [sys.executable, "-c", program, "upscale", *paths, "--runtime", "openvino"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if not line.startswith("loading ")]  # after seconds of silence
    assert len(said) == 1 and how_to_install("openvino") in said[0], done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["bench", "evaluate"])
def test_a_measurement_in_which_nothing_ran_has_failed(
    sr_edge: SrEdge, bundle: Path, pictures: Path, command: str
) -> None:
    options = ("--hr", pictures) if command == "evaluate" else ("--runs", "1", "--no-memory")
    outcome = sr_edge(command, bundle, *options, "--runtimes", "torch", "--precisions", "int8", "--json")
    assert outcome.code == 1
    assert json.loads(outcome.stdout)["rows"][0]["reason"] in outcome.error


def not_json(constant: str) -> None:
    """Python's json module accepts Infinity and NaN, which JSON does not allow."""
    raise AssertionError(f"{constant} is no JSON")


@pytest.mark.parametrize("command", ["evaluate", "deploy"])
def test_a_test_picture_that_fails_is_counted_and_the_others_are_scored(
    sr_edge: SrEdge, bundle: Path, pictures: Path, tmp_path: Path, command: str
) -> None:
    shutil.copytree(pictures, tmp_path / "hr")
    (tmp_path / "hr" / "waves1.png").write_bytes(b"no picture")
    arguments = {
        "evaluate": (bundle, "--runtimes", "onnxruntime", "--precisions", "fp32"),
        "deploy": (*TINY, *ON_CPU, "--images", pictures, "-o", tmp_path / "tiny.sredge"),
    }[command]
    outcome = sr_edge(command, *arguments, "--hr", tmp_path / "hr", "--json")
    assert outcome.code == 1
    assert "1 of 3" in outcome.error and "waves1.png" in outcome.error
    document = json.loads(outcome.stdout, parse_constant=not_json)
    scores = (document if command == "evaluate" else document["bench"])["rows"][0]["quality"]["hr"]
    assert [picture["name"] for picture in scores["pictures"]] == ["waves0.png", "waves2.png"]
    assert [picture["name"] for picture in scores["failed"]] == ["waves1.png"]


@pytest.mark.parametrize("command", ["export", "calibrate"])
def test_an_output_never_replaces_its_own_source(sr_edge: SrEdge, pictures: Path, tmp_path: Path, command: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"precious")
    arguments = {
        "export": ("--weights", source, "--tile", "24", "-o", tmp_path / "." / "source"),
        "calibrate": (source, "--images", pictures, "-o", source),
    }[command]
    outcome = sr_edge(command, *arguments)
    assert outcome.code == 2
    assert "-o" in outcome.error and "source" in outcome.error
    assert source.read_bytes() == b"precious"


def test_a_precision_that_the_bundle_has_not(sr_edge: SrEdge, bundle: Path, pictures: Path, tmp_path: Path) -> None:
    outcome = sr_edge("upscale", bundle, pictures / "waves0.png", tmp_path / "out.png", "--precision", "fp16")
    assert outcome.code == 1
    assert "fp16" in outcome.error


def test_a_refused_precision_names_what_can_be_typed_and_what_can_be_written(
    sr_edge: SrEdge, bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    arguments = ("--runtime", "onnxruntime", "--precision", "int8")
    outcome = sr_edge("upscale", bundle, pictures / "waves0.png", tmp_path / "out.png", *arguments)
    assert outcome.code == 1
    assert "int8" in outcome.error and "allow_other_precision=True" in outcome.error


def test_precisions_without_fp32_cannot_be_deployed(sr_edge: SrEdge, pictures: Path, tmp_path: Path) -> None:
    outcome = sr_edge("deploy", *TINY, "--precisions", "int8", "--images", pictures, "-o", tmp_path / "x.sredge")
    assert outcome.code == 2
    assert "fp32" in outcome.error


def test_originals_of_the_wrong_size_are_found_before_the_work(sr_edge: SrEdge, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "lr").mkdir()
    halves = ("--hr", pictures, "--lr", tmp_path / "lr")
    outcome = sr_edge("deploy", *TINY, *ON_CPU, "--images", pictures, *halves, "-o", tmp_path / "x.sredge")
    assert outcome.code == 1
    assert str(tmp_path / "lr") in outcome.error and "waves0" in outcome.error
    assert [path.name for path in tmp_path.iterdir()] == ["lr"]


ADDRESS = "rtsp://admin:hunter2@host/x"
TRAIN = ("train", "convnet-tiny", "--scale", "2")


def test_the_refusal_of_an_address_has_no_password_in_its_fields() -> None:
    def inspect(**_paths: object) -> None:
        raise AssertionError("the command began")

    with raises(UsageError, found="rtsp:/***@host/x", wanted="a file or folder"):
        refusing_addresses(inspect)(bundle=Path(ADDRESS))


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "BUNDLE", "--hr", ADDRESS),
        ("evaluate", "BUNDLE", "--hr", "FOLDER", "--lr", ADDRESS),
        ("upscale", "BUNDLE", ADDRESS, "out.png"),
        ("upscale", ADDRESS, "in.png", "out.png"),
        ("export", "convnet-tiny", "--scale", "2", "-o", ADDRESS),
        ("export", "--weights", ADDRESS, "-o", "x.onnx"),
        ("calibrate", ADDRESS, "--images", "FOLDER", "-o", "x.onnx"),
        ("calibrate", "convnet-tiny", "--scale", "2", "--images", ADDRESS, "-o", "x.onnx"),
        ("deploy", "convnet-tiny", "--scale", "2", "--images", ADDRESS),
        ("compare", ADDRESS, "BUNDLE"),
        ("compile", ADDRESS),
        ("bench", ADDRESS),
        ("inspect", ADDRESS),
        ("selftest", ADDRESS),
        ("selftest", "BUNDLE", "--runtimes", ADDRESS),
        ("stream", ADDRESS, "test:64x48@30", "null"),
        ("stream", "BUNDLE", "test:64x48@30", "null", "--stats-json", ADDRESS),
        ("preview", ADDRESS, "test:64x48@30", "--port", "0"),
        (*TRAIN, "--data", ADDRESS, "--val", "FOLDER", "--output", "run"),
        (*TRAIN, "--data", "FOLDER", "--val", ADDRESS, "--output", "run"),
        (*TRAIN, "--data", "FOLDER", "--val", "FOLDER", "--output", "run", "--recipe", ADDRESS),
        (*TRAIN, "--data", "FOLDER", "--val", "FOLDER", "--output", "run", "--weights", ADDRESS),
        ("export-triton", ADDRESS, "repository"),
        ("export-triton", "BUNDLE", ADDRESS),
        ("export-trtexec", ADDRESS),
        ("gst-install", "--folder", ADDRESS),
        (ADDRESS,),
    ],
    ids=lambda words: " ".join(words).replace(ADDRESS, "ADDRESS"),
)
def test_no_command_prints_the_password_of_an_address(
    words: tuple[str, ...],
    bundle: Path,
    pictures: Path,
    sr_edge: SrEdge,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"BUNDLE": str(bundle), "FOLDER": str(pictures)}
    outcome = sr_edge(*(places.get(word, word) for word in words))
    assert outcome.code != 0
    assert outcome.error
    assert "hunter2" not in outcome.stdout + outcome.stderr
