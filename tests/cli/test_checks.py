"""Values that cannot be meant are refused before a command starts, the same way in every command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperArgument, TyperOption

from sr_edge.cli.app import app
from sr_edge.cli.checks import INPUTS, OUTPUTS, checking_values
from tests.command_line import SrEdge

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]

COMPLETE: dict[str, tuple[str, ...]] = {
    "export": ("convnet-tiny", "--scale", "2", "--random-weights", "--output", "OUT/m.onnx"),
    "calibrate": ("BUNDLE", "--images", "PICTURES", "--output", "OUT/m.onnx"),
    "deploy": ("convnet-tiny", "--scale", "2", "--random-weights", "--images", "PICTURES", "--output", "OUT/m.sredge"),
    "compile": ("BUNDLE",),
    "inspect": ("BUNDLE",),
    "selftest": ("BUNDLE",),
    "upscale": ("BUNDLE", "PICTURE", "OUT/a.png"),
    "batch": ("BUNDLE", "PICTURES", "OUT/large"),
    "stream": ("BUNDLE", "test:64x48@30", "null"),
    "preview": ("BUNDLE", "test:64x48@30"),
    "bench": ("BUNDLE",),
    "evaluate": ("BUNDLE", "--hr", "PICTURES"),
    "compare": ("BUNDLE", "BUNDLE"),
    "train": ("convnet-tiny", "--scale", "2", "--data", "PICTURES", "--val", "PICTURES", "--output", "OUT/run"),
    "export-triton": ("BUNDLE", "OUT/repository"),
    "export-trtexec": ("BUNDLE",),
    "gst-install": (),
    "models": (),
    "doctor": (),
}
"""Arguments with which each command would start."""


def parameters(kind: type) -> Iterator[tuple[str, Any]]:
    return ((name, each) for name, command in COMMANDS.items() for each in command.params if isinstance(each, kind))


def flag(parameter: Any) -> str:
    return str(max(parameter.opts, key=len))


WRITING_OPTIONS = [(name, flag(option)) for name, option in parameters(TyperOption) if option.name in OUTPUTS]
WRITING_ARGUMENTS = [
    (name, [each.name for each in COMMANDS[name].params if isinstance(each, TyperArgument)].index(argument.name))
    for name, argument in parameters(TyperArgument)
    if argument.name in OUTPUTS
]


def digest(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_command_is_in_the_table() -> None:
    assert set(COMPLETE) == set(COMMANDS)
    assert {name for name, _ in WRITING_OPTIONS} | {name for name, _ in WRITING_ARGUMENTS} == {
        "export", "calibrate", "deploy", "compile", "upscale", "stream", "bench", "compare", "train",
        "export-triton", "export-trtexec", "gst-install", "preview", "evaluate", "batch",
    }  # fmt: skip


def test_a_path_that_is_neither_read_nor_written_is_a_mistake_of_the_program() -> None:
    def command(elsewhere: Path | None = None) -> None: ...
    def reading(source: Path | None = None) -> None: ...

    checking_values(reading)
    with pytest.raises(TypeError):
        checking_values(command)
    assert not INPUTS & OUTPUTS


@pytest.mark.parametrize(("command", "option"), WRITING_OPTIONS)
@pytest.mark.parametrize("inside", ["manifest.json", "model.onnx", "new/../other.onnx"])
def test_an_option_that_would_write_into_a_bundle_is_refused(
    sr_edge: SrEdge,
    places: Callable[[tuple[str, ...]], list[str]],
    tmp_path: Path,
    command: str,
    option: str,
    inside: str,
) -> None:
    before = digest(tmp_path)
    outcome = sr_edge(command, *places((*COMPLETE[command], option, f"BUNDLE/{inside}")))
    assert outcome.code == 2
    assert f"BUNDLE/{inside}".replace("BUNDLE", str(tmp_path / "copy.sredge")) in outcome.error
    assert digest(tmp_path) == before


@pytest.mark.parametrize(("command", "place"), WRITING_ARGUMENTS)
@pytest.mark.parametrize("given", ["BUNDLE", "BUNDLE/manifest.json", "BUNDLE/golden"])
def test_an_argument_that_would_write_into_a_bundle_is_refused(
    sr_edge: SrEdge,
    places: Callable[[tuple[str, ...]], list[str]],
    tmp_path: Path,
    command: str,
    place: int,
    given: str,
) -> None:
    before = digest(tmp_path)
    words = list(COMPLETE[command])
    words[place] = given
    outcome = sr_edge(command, *places(tuple(words)))
    assert outcome.code == 2
    assert outcome.error
    assert digest(tmp_path) == before


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("upscale", ("BUNDLE", "PICTURES", "PICTURES")),
        ("upscale", ("BUNDLE", "PICTURE", "PICTURE")),
        ("upscale", ("BUNDLE", "PICTURES", "PICTURES/large")),
        (
            "train",
            ("convnet-tiny", "--scale", "2", "--data", "PICTURES", "--val", "PICTURES", "--output", "PICTURES/run"),
        ),
        ("train", ("convnet-tiny", "--scale", "2", "--data", "PICTURES", "--val", "PICTURES", "--output", "BUNDLE")),
        ("stream", ("BUNDLE", "PICTURE", "PICTURE")),
        ("stream", ("BUNDLE", "test:64x48@30", "OUT/a.mp4", "--stats-json", "OUT/a.mp4")),
        ("calibrate", ("BUNDLE", "--images", "PICTURES", "--output", "OUT/m.onnx", "--cache", "OUT/m.onnx")),
        ("compare", ("BUNDLE/model.onnx:onnxruntime", "BUNDLE", "--picture", "BUNDLE/model.onnx")),
        ("export", ("--weights", "PICTURE", "--output", "PICTURE")),
    ],
)
def test_outputs_that_are_inputs_or_one_another_are_refused(
    sr_edge: SrEdge,
    places: Callable[[tuple[str, ...]], list[str]],
    pictures: Path,
    command: str,
    words: tuple[str, ...],
) -> None:
    before = digest(pictures)
    outcome = sr_edge(command, *places(words))
    assert outcome.code == 2
    assert outcome.error
    assert digest(pictures) == before


PATH_OPTIONS = [(name, flag(option)) for name, option in parameters(TyperOption) if option.name in INPUTS | OUTPUTS]


@pytest.mark.parametrize(("command", "option"), PATH_OPTIONS)
def test_an_empty_option_is_not_the_current_folder(
    sr_edge: SrEdge, places: Callable[[tuple[str, ...]], list[str]], command: str, option: str
) -> None:
    words = places(COMPLETE[command])
    outcome = sr_edge(command, *words, option, "")
    assert outcome.code == 2
    assert option in outcome.error


@pytest.mark.parametrize("command", [name for name, words in COMPLETE.items() if words and words[0].isupper()])
def test_an_empty_argument_is_not_the_current_folder(
    sr_edge: SrEdge, places: Callable[[tuple[str, ...]], list[str]], command: str
) -> None:
    words = places(COMPLETE[command])
    for place in [index for index, each in enumerate(COMPLETE[command]) if not each.startswith("-")][:2]:
        if place and COMPLETE[command][place - 1].startswith("-"):
            continue
        outcome = sr_edge(command, *words[:place], "", *words[place + 1 :])
        assert outcome.code == 2, (place, outcome)
        assert "empty" in outcome.error


def test_the_default_of_a_text_may_be_given(
    sr_edge: SrEdge, places: Callable[[tuple[str, ...]], list[str]], tmp_path: Path
) -> None:
    outcome = sr_edge("upscale", *places(COMPLETE["upscale"]), "--frames", "", "--runtime", "onnxruntime")
    assert outcome.code == 0, outcome.stderr
    assert (tmp_path / "out" / "a.png").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("export", "convnet-tiny", "--scale", "2", "--random-weights", "--output", "OUT/a.png"),
        ("export", "convnet-tiny", "--scale", "2", "--random-weights", "--output", "OUT/a"),
        ("calibrate", "BUNDLE", "--images", "PICTURES", "--output", "OUT/a.png"),
        (
            "calibrate",
            "convnet-tiny",
            "--scale",
            "2",
            "--images",
            "PICTURES",
            "--output",
            "OUT/a.onnx",
            "--method",
            "foo",
        ),
        (
            "calibrate",
            "BUNDLE",
            "--images",
            "PICTURES",
            "-o",
            "OUT/a.onnx",
            "--runtime",
            "none",
            "--float-precision",
            "bf16",
        ),
        ("export-trtexec", "BUNDLE", "--output", "OUT/a.png"),
        ("compare", "BUNDLE", "BUNDLE", "--min-psnr", "nan"),
        ("upscale", "BUNDLE", "PICTURE", "OUT/a.png", "--float-precision", "bf16"),
        ("stream", "BUNDLE", "test:64x48@30", "--precision", "fp16", "--float-precision", "fp16"),
        ("preview", "BUNDLE", "test:64x48@30", "--float-precision", "bf16"),
        ("compile", "BUNDLE", "--float-precision", "fp16"),
        ("export-triton", "BUNDLE", "OUT/repository", "--float-precision", "bf16"),
        ("export-trtexec", "BUNDLE", "--float-precision", "bf16"),
        ("deploy", "missing.pth", "--precisions", "fp32", "--method", "foo"),
        ("deploy", "missing.pth", "--precisions", "fp32", "--method", "mse"),
        ("deploy", "missing.pth", "--precisions", "fp32", "--include", "nothing*"),
        ("deploy", "missing.pth", "--precisions", "fp32", "--max-drop-db", "-1"),
        ("deploy", "missing.pth", "--max-drop-db", "nan"),
    ],
)
def test_what_has_no_effect_or_is_invalid_is_refused_before_any_work(
    sr_edge: SrEdge, places: Callable[[tuple[str, ...]], list[str]], tmp_path: Path, words: tuple[str, ...]
) -> None:
    outcome = sr_edge(*places(words))
    assert outcome.code == 2, outcome
    assert outcome.error
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ("export", "convnet-tiny", "--scale", "2", "--output", "OUT/a.txt"),
        ("calibrate", "BUNDLE", "--images", "PICTURES", "--output", "OUT/a.png"),
        ("calibrate", "BUNDLE", "--images", "PICTURES", "--output", "OUT/a.onnx", "--cache", "OUT/a.txt"),
        ("deploy", "convnet-tiny", "--scale", "2", "--output", "OUT/a.txt"),
        ("deploy", "convnet-tiny", "--scale", "2", "--output", "OUT/a.onnx"),
        ("compile", "BUNDLE", "--output", "OUT/a.onnx"),
        ("train", "convnet-tiny", "--scale", "2", "--data", "PICTURES", "--val", "PICTURES", "--output", "OUT/a.pth"),
        ("export-triton", "BUNDLE", "OUT/a.onnx"),
        ("export-trtexec", "BUNDLE", "--output", "OUT/a.txt"),
        ("upscale", "BUNDLE", "PICTURES", "OUT/a.png"),
        ("bench", "BUNDLE", "--csv", "OUT/a.png"),
        ("compare", "BUNDLE", "BUNDLE", "--picture", "OUT/a.txt"),
        ("stream", "BUNDLE", "test:64x48@30", "null", "--stats-json", "OUT/a.mp4"),
        ("stream", "BUNDLE", "test:64x48@30", "OUT/a.json"),
        ("evaluate", "BUNDLE", "--hr", "PICTURES", "--save-config", "OUT/a.png"),
        ("gst-install", "--folder", "OUT/a.zip"),
    ],
    ids=" ".join,
)
def test_an_output_with_the_suffix_of_another_kind_of_file_is_refused_before_any_work(
    sr_edge: SrEdge, places: Callable[[tuple[str, ...]], list[str]], tmp_path: Path, words: tuple[str, ...]
) -> None:
    outcome = sr_edge(*places(words))
    assert outcome.code == 2, outcome
    assert "/a." in outcome.error
    assert list((tmp_path / "out").iterdir()) == []


def test_a_suffix_of_no_kind_of_file_may_be_part_of_the_name_of_a_bundle(
    sr_edge: SrEdge, places: Callable[[tuple[str, ...]], list[str]], tmp_path: Path
) -> None:
    words = ("deploy", "missing.pth", "--images", "PICTURES", "--output", "OUT/net.v2")
    assert "missing.pth" in sr_edge(*places(words)).error


def test_a_bundle_may_be_replaced_and_a_web_application_is_no_bundle(
    sr_edge: SrEdge, places: Callable[[tuple[str, ...]], list[str]], tmp_path: Path
) -> None:
    (tmp_path / "out" / "manifest.json").write_text('{"name": "a web application"}')
    outcome = sr_edge("upscale", *places(COMPLETE["upscale"]), "--runtime", "onnxruntime")
    assert outcome.code == 0, outcome.stderr
