"""Turns TensorRT's messages into errors that name the node, the operator, the reason and the remedy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sr_edge.errors import EngineError, RuntimeUnavailable, SrEdgeError
from sr_edge.runtimes.engine.vendor_errors import reason_of

CANCELLED = "BuildCanceled"

_PARSING = re.compile(r'While parsing node number (\d+) \[\w+ -> "(.*?)"')
_NOISE = (
    re.compile(r"\w+ \((?=\[\w+\.cpp)"),
    re.compile(r"\[\w+\.cpp:\d+: \w+\] "),
    re.compile(r"; Error during tactic selection.*", re.DOTALL),
    re.compile(r"\[?checkMacros\.cpp.*?(?=\||$)", re.DOTALL),
    re.compile(r"Invalid Node - \S+\s*"),
    re.compile(r"\S+: Error Code \d+: "),
    re.compile(r"Assertion failed: "),
    re.compile(r"\s*In \S+ at \S+:\d+"),
    re.compile(r"API Usage Error "),
)
_EMPTY_REASONS = {"", "false"}

_NODE_ADVICE = (
    ("Resize", "ntialias", "export the resize without antialiasing"),
    ("QuantizeLinear", "zero point", "quantize symmetrically with zero point 0, as in model.int8.onnx of a bundle"),
    ("DequantizeLinear", "Int32", "keep the bias in float (in ONNX Runtime's quantizer QuantizeBias=False)"),
    ("", "same input types", "put a Cast before one of its inputs, since a strongly typed network needs equal types"),
    ("QLinear|Integer|Dynamic", "", "write INT8 as QuantizeLinear and DequantizeLinear, as `sr-edge calibrate` does"),
    ("", "lugin", "rewrite the layer with standard ONNX operators that TensorRT has"),
    ("", "", "rewrite the layer without this operator, or run the bundle in onnxruntime"),
)
"""(pattern of the operator, pattern of the reason, remedy): the first entry whose two patterns match counts."""

_ABSENT_DRIVER = re.compile(r"driver version is insufficient|no CUDA-capable device|CUDA initialization failure", re.I)
_WANTED_BYTES = re.compile(r"Requested amount of GPU memory \((\d+) bytes\)|allocat\w+ of (\d+) bytes", re.I)
_BUILD_ADVICE = (
    (r"within workspace limit|insufficient workspace", "raise the workspace with --workspace"),
    (r"FP32 GEMM is not supported", "build it in fp16: TensorRT-RTX has no fp32 matrix multiplication for this GPU"),
    (r"libnvinfer_lean", "this installation has no lean runtime; leave out --compatible version"),
    (r"no optimization profile", "give the sizes that the engine must accept with --sizes"),
    (r"FP8", "build it for compute capability 8.9 or newer, which FP8 needs"),
    (r"", "try another precision, or a lower --optimization-level"),
)


@dataclass(frozen=True)
class ParserIssue:
    """An error of the ONNX parser about the node of that index; `operator` is empty if it is about no node."""

    index: int
    node: str
    operator: str
    reason: str


def parser_failure(file: str, library: str, issues: Sequence[ParserIssue]) -> EngineError:
    """The error to raise for a graph that the parser rejects."""
    if not issues or not issues[0].operator:
        return EngineError(
            f"{library} cannot read {file}: it is not an ONNX model or is damaged",
            found=file,
            remedy="export the model again",
        )
    first = issues[0]
    where = f"node {first.node!r} ({first.operator})"
    others = f" ({len(issues) - 1} more nodes are rejected)" if len(issues) > 1 else ""
    return EngineError(
        f"{library} rejects {file}: {where}: {plain_reason(first.reason)}{others}",
        found=(first.node, first.operator),
        remedy=_node_advice(first),
    )


def with_output_name(issue: ParserIssue, errors: Sequence[str]) -> ParserIssue:
    """Names an unnamed node after its first output, which only TensorRT's log contains."""
    if issue.node or issue.index < 0:
        return issue
    outputs = {int(match[1]): match[2] for text in errors if (match := _PARSING.search(text))}
    return replace(issue, node=outputs.get(issue.index, f"number {issue.index}"))


def build_failure(file: str, library: str, errors: Sequence[str], wanted_bytes: int, free_bytes: int) -> SrEdgeError:
    """The error to raise for a network that was parsed and cannot be built.

    Args:
        file: name of the ONNX file.
        library: name and version of the library.
        errors: messages of TensorRT, errors before warnings.
        wanted_bytes: estimated device memory of the build.
        free_bytes: device memory that was free before the build; 0 if unknown.
    """
    message = " ".join(errors)
    if _ABSENT_DRIVER.search(message):
        return RuntimeUnavailable(
            f"{library} finds no NVIDIA GPU with a working driver here",
            wanted="an NVIDIA GPU and its driver",
            remedy="install the driver, or build on the device",
        )
    if "out of memory" in message.lower() or _WANTED_BYTES.search(message):
        return out_of_memory(f"{library} ran out of device memory building {file}", message, wanted_bytes, free_bytes)
    reason = plain_reason(errors[0]) if errors else "it gave no reason"
    advice = next(advice for pattern, advice in _BUILD_ADVICE if re.search(pattern, message))
    return EngineError(f"{library} cannot build {file}: {reason}", found=file, remedy=advice)


def out_of_memory(failed: str, message: str, wanted_bytes: int, free_bytes: int) -> EngineError:
    """The error to raise where device memory ran out.

    Args:
        failed: what failed, the beginning of the message.
        message: TensorRT's message, from which the needed memory is read where it has that.
        wanted_bytes: estimated device memory, used otherwise; the error's `wanted`.
        free_bytes: free device memory, the error's `found`; 0 if unknown.
    """
    requested = _WANTED_BYTES.search(message)
    needed = int(next(group for group in requested.groups() if group)) if requested else wanted_bytes
    free = f", {free_bytes / 2**20:,.0f} MiB were free" if free_bytes else ""
    return EngineError(
        f"{failed}: it needed {needed / 2**20:,.0f} MiB{free}",
        found=free_bytes or None,
        wanted=needed,
        remedy="close other programs, or use a smaller tile or workspace",
    )


def plain_reason(text: str) -> str:
    """The informative part of TensorRT's message, without C++ source lines and error codes."""
    for noise in _NOISE:
        text = noise.sub("", text)
    text = text.strip().strip('"').strip("()").strip()
    quoted = re.search(r'&& "(.*?)"?$', text)
    text = quoted[1] if quoted else text
    reason = reason_of(ValueError(text)).rstrip(".")
    return "TensorRT has no such operator" if text in _EMPTY_REASONS else reason


def _node_advice(issue: ParserIssue) -> str:
    return next(
        advice
        for operator, words, advice in _NODE_ADVICE
        if re.search(operator, issue.operator) and re.search(words, issue.reason)
    )
