"""Options that would have no effect beside the other values of a command are refused before it starts.

`UNUSED` is the table for everything that the values alone show. What depends on the content of a file, such as
`--tile` for a bundle or `--rate` for a video, is refused where that file is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sr_edge.cli.options import FormName, shown_name
from sr_edge.errors import UsageError
from sr_edge.model_sources import SourceKind, source_kind
from sr_edge.printable import scheme_of

Values = Mapping[str, Any]
SEPARATORS = "@:="
"""What separates a file from a precision, a runtime, or a share of the weights."""


@dataclass(frozen=True)
class Unused:
    """A condition under which an option of some commands has no effect.

    Attributes:
        commands: names of the functions of the commands.
        parameter: name of the option's parameter.
        reason: the end of the sentence "--option has no effect ..." for the values of a command; None where the option
            has an effect.
        is_given: whether the value of the option is one that has to have an effect.
    """

    commands: tuple[str, ...]
    parameter: str
    reason: Callable[[Values], str | None]
    is_given: Callable[[Any], bool] = bool


def require_effect(command: Callable[..., None], values: Values) -> None:
    """Raises UsageError for the first option that has no effect beside the other values."""
    for unused in UNUSED:
        if command.__name__ not in unused.commands or not unused.is_given(values[unused.parameter]):
            continue
        reason = unused.reason(values)
        if reason is not None:
            flag = shown_name(command, unused.parameter)
            raise UsageError(
                f"{flag} has no effect {reason}", found=values[unused.parameter], remedy=f"leave {flag} out"
            )


def _without_torch(values: Values) -> str | None:
    chosen = values["runtimes"] if "runtimes" in values else values["runtime"]
    names = [name.strip() for name in str(chosen).split(",")]
    return None if {"torch", "all"} & set(names) else "without the runtime torch"


def _without_torch_side(values: Values) -> str | None:
    sides = values["first"], values["second"]
    return None if any(side.endswith((":torch", "@torch")) for side in sides) else "without the runtime torch"


def _if_complete(values: Values) -> str | None:
    is_complete = all(_is_complete_file(values[side]) for side in ("first", "second"))
    return "on bundles and ONNX files, which contain their weights and scale" if is_complete else None


def _is_complete_file(text: str) -> bool:
    """Whether one side of a comparison is a bundle or an ONNX file, with or without precision and runtime."""
    ends = [index for index, character in enumerate(text) if character in SEPARATORS]
    kinds = {source_kind(text[:end]) for end in (*ends, len(text)) if text[:end] and _exists(Path(text[:end]))}
    return bool(kinds & {SourceKind.BUNDLE, SourceKind.ONNX})


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a text that is too long to be a name
        return False


def _if_layers_are_not_compared(values: Values) -> str | None:
    return None if values["layers"] else "with --no-layers"


def _on_onnx_file(values: Values) -> str | None:
    model = values["model"]
    is_graph = model is not None and source_kind(model) is SourceKind.ONNX
    return f"on {model}, which is a graph already: it is for PyTorch networks, which are traced" if is_graph else None


def _on_bundle(values: Values) -> str | None:
    model = values["model"]
    is_bundle = model is not None and source_kind(model) is SourceKind.BUNDLE
    return f"on {model}, a bundle, whose manifest contains it" if is_bundle else None


def _if_nothing_is_timed(values: Values) -> str | None:
    return "with --runtime none, which times no layers" if values["runtime"] == "none" else None


def _without_originals(values: Values) -> str | None:
    return None if values["hr"] is not None else "without --hr, the originals of these images"


def _if_source_keeps_time(values: Values) -> str | None:
    source = values["source"]
    is_timed = _is_connection(source) or source.startswith("test:")
    return f"on {source.partition(':')[0]} sources, which play in real time by themselves" if is_timed else None


def _if_source_is_at_hand(values: Values) -> str | None:
    return None if _is_connection(values["source"]) else "on a source that is neither a camera nor a network stream"


def _if_nothing_can_be_lost(values: Values) -> str | None:
    if _is_connection(values["source"]) or _is_connection(values["sink"]):
        return None
    return "on a source and a sink without a connection that can be lost"


def _if_source_is_not_repeated(values: Values) -> str | None:
    path = Path(values["source"])
    is_repeated = _exists(path) and (path.is_file() or path.is_dir())
    return None if is_repeated else "on a source that is not a file or folder, which is never played again"


def _is_connection(text: str) -> bool:
    return bool(scheme_of(text)) or text.startswith(("/dev/", "gst:"))


def _if_no_engine_is_built(values: Values) -> str | None:
    return "with --trust-engine, for which no engine is built" if values["trust_engine"] is not None else None


def _without_reuse(values: Values) -> str | None:
    return "with --reuse off, which keeps no tiles" if values["reuse"] == "off" else None


def _without_bound(values: Values) -> str | None:
    is_bound = values["reuse"] not in ("", "off", "exact")
    return None if is_bound else "without --reuse DB: a result of the same samples needs no refresh"


def _is_other_timeout(seconds: float) -> bool:
    return seconds != 10.0


def _is_traced(form: FormName | None) -> bool:
    return form is FormName.TRACED


UNUSED = (
    Unused(("upscale", "bench", "evaluate", "selftest"), "trust", _without_torch),
    Unused(("compare",), "trust", _without_torch_side),
    Unused(("compare",), "weights", _if_complete),
    Unused(("compare",), "random_weights", _if_complete),
    Unused(("compare",), "scale", _if_complete),
    Unused(("compare",), "tolerance", _if_layers_are_not_compared, lambda value: value is not None),
    Unused(("deploy", "export"), "form", _on_onnx_file, _is_traced),
    Unused(("export",), "dynamic", _on_onnx_file),
    Unused(("calibrate",), "scale", _on_bundle),
    Unused(("calibrate",), "input_range", _on_bundle),
    Unused(("calibrate",), "channel_order", _on_bundle, lambda value: value != "rgb"),
    Unused(("calibrate",), "threads", _if_nothing_is_timed),
    Unused(("deploy", "evaluate"), "lr", _without_originals),
    Unused(("stream",), "pace", _if_source_keeps_time),
    Unused(("stream",), "give_up_s", _if_nothing_can_be_lost, lambda value: value is not None),
    Unused(("stream", "preview"), "open_timeout_s", _if_source_is_at_hand, _is_other_timeout),
    Unused(("stream", "preview", "upscale"), "reuse_memory", _without_reuse),
    Unused(("stream", "preview", "upscale"), "reuse_refresh_s", _without_bound, lambda value: value is not None),
    Unused(("preview",), "once", _if_source_is_not_repeated),
    Unused(("compile",), "timing_cache", _if_no_engine_is_built),
)
