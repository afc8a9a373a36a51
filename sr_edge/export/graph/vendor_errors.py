"""Reduces the exceptions of other libraries to one line.

The messages of torch's exporter contain the whole graph, which is 40,000 to 213,000 characters long.
"""

from __future__ import annotations

import re

MAX_REASON_LENGTH = 300
"""Characters of a reason, including the module where it occurred."""

_OPERATOR = re.compile(r"operator '?((?:\w+::)?\w+)")
_SCOPE = re.compile(r"scope: (\S+)")
_END = re.compile(r"\s*(?:\[Caused by|\(node defined in|Please feel free to|Defined at:|\n|graph\()")


def exporter_reason(error: Exception, printed: str) -> str:
    """The reason why an export failed, with the module of the network where that is known.

    Args:
        error: the exception of the exporter, or of the network while it was traced.
        printed: what the exporter printed: the graph, each line with the module that it comes from.
    """
    text = str(error).strip()
    reason = " ".join(_END.split(text, maxsplit=1)[0].split()).rstrip(" .:") or type(error).__name__
    if not type(error).__module__.startswith("torch.onnx") and type(error) is not RuntimeError:
        reason = f"{type(error).__name__}: {reason}"
    place = _place(_line_of_operator(text, printed)) or _place(text.partition("[Caused by")[2])
    return _shortened(reason, MAX_REASON_LENGTH - len(place)) + place


def _line_of_operator(text: str, printed: str) -> str:
    operator = _OPERATOR.search(text)
    name = operator[1].split("::")[-1] if operator else ""
    return next((line for line in printed.splitlines() if name and f"::{name}(" in line), "")


def _place(text: str) -> str:
    """The module of the first scope in `text`: ", in body.0 (Block)" for "__main__.Net::/__main__.Block::body.0"."""
    scope = _SCOPE.search(text)
    if scope is None:
        return ""
    types, names = zip(*(part.rpartition("::")[::2] for part in scope[1].split("/")), strict=True)
    path, kind = ".".join(filter(None, names)), types[-1].rpartition(".")[2]
    return f", in {path} ({kind})" if path else f", in {kind}"


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 4].rstrip() + " ..."
