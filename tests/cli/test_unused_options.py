"""An option that has no effect beside the others is refused before any work; one that has an effect is not."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sr_edge.cli.app import COMMANDS
from sr_edge.cli.options import FormName
from sr_edge.cli.unused_options import UNUSED, require_effect
from sr_edge.errors import UsageError
from tests.command_line import SrEdge

FUNCTIONS: dict[str, Callable[..., None]] = {command.__name__: command for command in COMMANDS}

UNUSED_WORDS: list[tuple[str, ...]] = [
    ("upscale", "BUNDLE", "in.png", "out.png", "--runtime", "openvino", "--trust", "a.b:c"),
    ("upscale", "BUNDLE", "PICTURES/waves0.png", "out.png", "--no-resume"),
    ("bench", "BUNDLE", "--runtimes", "openvino,onnxruntime", "--trust", "a.b:c"),
    ("evaluate", "BUNDLE", "--hr", "PICTURES", "--runtimes", "openvino", "--trust", "a.b:c"),
    ("selftest", "BUNDLE", "--runtimes", "openvino", "--trust", "a.b:c"),
    ("compare", "BUNDLE", "BUNDLE@int8", "--trust", "a.b:c"),
    ("compare", "BUNDLE", "BUNDLE/model.onnx:openvino", "--weights", "w.pth"),
    ("compare", "BUNDLE", "BUNDLE@int8", "--random-weights"),
    ("compare", "BUNDLE", "BUNDLE@int8", "--scale", "2"),
    ("compare", "BUNDLE", "BUNDLE@int8", "--no-layers", "--tolerance", "0"),
    ("deploy", "BUNDLE/model.onnx", "--form", "traced"),
    ("export", "BUNDLE/model.onnx", "-o", "out.onnx", "--form", "traced"),
    ("export", "BUNDLE/model.onnx", "-o", "out.onnx", "--dynamic"),
    ("deploy", "convnet-tiny", "--scale", "2", "--lr", "PICTURES"),
    ("calibrate", "BUNDLE", "--images", "PICTURES", "-o", "out.onnx", "--scale", "2"),
    ("calibrate", "BUNDLE", "--images", "PICTURES", "-o", "out.onnx", "--input-range", "1"),
    ("calibrate", "BUNDLE", "--images", "PICTURES", "-o", "out.onnx", "--channel-order", "bgr"),
    ("calibrate", "x.onnx", "--images", "PICTURES", "-o", "out.onnx", "--runtime", "none", "--threads", "1"),
    ("stream", "BUNDLE", "test:64x48@30", "null", "--pace"),
    ("stream", "BUNDLE", "rtsp://camera/x", "null", "--pace"),
    ("stream", "BUNDLE", "PICTURES", "null", "--give-up-s", "0"),
    ("stream", "BUNDLE", "PICTURES", "null", "--open-timeout", "3"),
    ("preview", "BUNDLE", "PICTURES", "--open-timeout", "3"),
    ("preview", "BUNDLE", "test:64x48@30", "--once"),
    ("stream", "BUNDLE", "PICTURES", "null", "--reuse", "off", "--reuse-memory", "1G"),
    ("preview", "BUNDLE", "PICTURES", "--reuse", "off", "--reuse-memory", "1G"),
    ("upscale", "BUNDLE", "in.mp4", "out.mp4", "--reuse", "off", "--reuse-memory", "1G"),
    ("stream", "BUNDLE", "PICTURES", "null", "--reuse-refresh", "3"),
    ("preview", "BUNDLE", "PICTURES", "--reuse", "off", "--reuse-refresh", "3"),
    ("upscale", "BUNDLE", "in.mp4", "out.mp4", "--reuse-refresh", "3"),
    ("compile", "BUNDLE", "--trust-engine", "x.engine", "--timing-cache", "x.cache"),
]


@pytest.mark.parametrize("words", UNUSED_WORDS, ids=" ".join)
def test_an_option_without_effect_is_refused_before_any_work(
    sr_edge: SrEdge,
    bundle: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [word.replace("BUNDLE", str(bundle)).replace("PICTURES", str(pictures)) for word in words]
    outcome = sr_edge(*given)
    assert outcome.code == 2
    flags = [word for word in words if word.startswith("--")]
    assert any(f"{flag} has no effect" in outcome.error for flag in flags)
    assert list(tmp_path.iterdir()) == []


def values_of(command: str, **given: Any) -> dict[str, Any]:
    parameters = inspect.signature(FUNCTIONS[command]).parameters.values()
    return {**{each.name: each.default for each in parameters}, **given}


@pytest.mark.parametrize(
    ("command", "given"),
    [
        ("upscale", {"runtime": "torch", "trust": "a.b:c"}),
        ("bench", {"runtimes": "all", "trust": "a.b:c"}),
        ("bench", {"runtimes": "openvino, torch", "trust": "a.b:c"}),
        ("compare", {"first": "x.sredge", "second": "x.sredge:torch", "trust": "a.b:c"}),
        ("compare", {"first": "x.onnx", "second": "convnet-tiny", "scale": 2, "random_weights": True}),
        ("compare", {"first": "x.onnx", "second": "y.onnx", "tolerance": 0.0}),
        ("deploy", {"model": "x.pth", "form": FormName.TRACED}),
        ("deploy", {"model": "convnet-tiny", "hr": Path("hr"), "lr": Path("lr")}),
        ("export", {"model": "x.pth", "form": FormName.STATIC, "dynamic": True}),
        ("calibrate", {"model": "x.onnx", "channel_order": "bgr", "scale": 2, "threads": 1}),
        ("stream", {"source": "clip.mp4", "sink": "null", "pace": True}),
        ("stream", {"source": "clip.mp4", "sink": "rtsp://server/x", "give_up_s": 0.0}),
        ("stream", {"source": "/dev/video0", "sink": "null", "give_up_s": 3.0, "open_timeout_s": 3.0}),
        ("stream", {"source": "clip.mp4", "sink": "null", "open_timeout_s": 10.0}),
        ("preview", {"source": "/tmp", "once": True}),
    ],
)
def test_an_option_with_an_effect_is_accepted(command: str, given: dict[str, Any]) -> None:
    require_effect(FUNCTIONS[command], values_of(command, **given))


@pytest.mark.parametrize("unused", UNUSED, ids=lambda each: f"{'-'.join(each.commands)}-{each.parameter}")
def test_the_table_names_commands_and_options_that_exist_and_their_defaults_are_accepted(unused: Any) -> None:
    for command in unused.commands:
        assert not unused.is_given(values_of(command)[unused.parameter])


def test_the_value_is_a_field_of_the_error() -> None:
    with pytest.raises(UsageError) as refused:
        require_effect(FUNCTIONS["preview"], values_of("preview", source="test:64x48@30", once=True))
    assert (refused.value.found, refused.value.remedy) == (True, "leave --once out")
