"""Arguments and options that several commands share, and the checks of their values."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from sr_edge.errors import UsageError
from sr_edge.nv12.colour import DEFAULT_NV12_COLOUR, Nv12Colour
from sr_edge.printable import without_secrets
from sr_edge.spec import FrameFormat, Precision


class FormName(str, Enum):
    """The values of `--form`, as `sr_edge.export.Form`, which cannot be imported at the start of the command line."""

    STATIC = "static"
    TRACED = "traced"


LOADING_TORCH = "loading PyTorch"
"""The stage of progress while the packages are imported that use PyTorch, which takes seconds."""

LOADING_MEASUREMENTS = "loading the measurements"
"""The same for the packages that measure and compare models."""

JsonOption = Annotated[
    bool,
    typer.Option(
        "--json", help="Print the result, or the error, as one JSON document on stdout; progress goes to stderr."
    ),
]
BundleArgument = Annotated[
    Path,
    typer.Argument(metavar="MODEL", help="Deployed model: a .sredge folder or its .zip archive.", show_default=False),
]

ModelArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="Checkpoint, ONNX file, or name of a model that `sr-edge models` lists. Left out with --arch, which names "
        "a function that builds a network of your own; may be left out with --weights.",
    ),
]
ScaleOption = Annotated[
    int | None,
    typer.Option(
        help="Magnification: 1, 2, 3, 4, 8 or 16. Default: detected in the checkpoint, or by running the network.",
        show_default=False,
    ),
]
TileOption = Annotated[
    str | None,
    typer.Option(
        metavar="HEIGHTxWIDTH|auto",
        help="Input size of the graph in low-resolution pixels; auto selects the fastest size on this machine. "
        "Default: 96x96, or larger if the network requires it.",
        show_default=False,
    ),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(help="Checkpoint to load: .pth, .pt, .ckpt or .safetensors.", show_default=False),
]
BlendOption = Annotated[
    list[str],
    typer.Option(
        "--blend",
        metavar="FILE=SHARE",
        help="Average the weights with another checkpoint, for example other.pth=0.3. Repeatable.",
        show_default=False,
    ),
]
RandomWeightsOption = Annotated[
    bool, typer.Option("--random-weights", help="Use seeded random weights, for latency measurements.")
]
ArchOption = Annotated[
    str | None,
    typer.Option(
        metavar="PACKAGE.MODULE:FACTORY",
        help="Function that builds your own PyTorch model. Its code is executed; the module is searched for in the "
        "working directory first.",
        show_default=False,
    ),
]

BakeOption = Annotated[
    list[str],
    typer.Option(
        metavar="NAME=NUMBER",
        help="Fix the scalar input NAME of the network, for example alpha, at this value, so that it is no longer an "
        "input of the graph. Repeatable.",
        show_default=False,
    ),
]
SettingsOption = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="NAME=NUMBER",
        help="Value for a scalar input of the network, for example alpha=0.5. `sr-edge inspect` lists the inputs of a "
        "bundle. Repeatable.",
        show_default=False,
    ),
]

ImagesOption = Annotated[
    Path,
    typer.Option(
        metavar="DIR|VIDEO",
        help="Folder of low-resolution images, or video, to calibrate with.",
        show_default=False,
    ),
]
MethodOption = Annotated[
    str,
    typer.Option(
        help="Method that determines the activation ranges: min-max, percentile, entropy, mse, or search, which "
        "compares several."
    ),
]
MaxDropDbOption = Annotated[
    float, typer.Option("--max-drop-db", metavar="DB", help="Largest PSNR loss allowed for INT8, in decibels.")
]
IncludeOption = Annotated[
    list[str],
    typer.Option(
        metavar="GLOB",
        help="Quantize only layers whose names match this pattern. Repeatable.",
        show_default=False,
    ),
]
ExcludeOption = Annotated[
    list[str],
    typer.Option(
        metavar="GLOB",
        help="Do not quantize layers whose names match this pattern. Repeatable.",
        show_default=False,
    ),
]

RuntimesOption = Annotated[str, typer.Option(metavar="all|A,B", help="Runtimes to use, separated by commas.")]
PrecisionsOption = Annotated[str, typer.Option(metavar="all|A,B", help="Precisions to use, separated by commas.")]
PrecisionOption = Annotated[
    Precision, typer.Option("--precision", help="Precision of convolutions and matrix multiplications.")
]


def read_float_precision(value: str) -> Precision:
    """Parses the value of `--float-precision`; raises UsageError for int8 and for names of no precision."""
    floats = tuple(precision for precision in Precision if precision is not Precision.INT8)
    if value not in floats:
        raise UsageError(
            f"the operators that are not quantized cannot run in {value}",
            found=value,
            wanted=floats,
            remedy=f"choose one of: {', '.join(floats)}",
        )
    return Precision(value)


FloatPrecisionOption = Annotated[
    Precision,
    typer.Option(
        parser=read_float_precision,
        metavar="fp32|bf16|fp16",
        help="Precision of the operators that are not quantized.",
    ),
]
IoOption = Annotated[
    FrameFormat,
    typer.Option(
        help="Format of the graph's input and output: float is NCHW in the range 0-1, uint8 is NHWC, nv12 is NV12 "
        "input with uint8 NHWC output."
    ),
]
Nv12ColourOption = Annotated[
    Nv12Colour | None,
    typer.Option(
        "--nv12-colour",
        help=f"Matrix and range of NV12 frames. Default: {DEFAULT_NV12_COLOUR}.",
        show_default=False,
    ),
]
AnyIoOption = Annotated[
    FrameFormat | None,
    typer.Option(
        "--io",
        help="Input and output format of the graph; nv12 is NV12 input with uint8 output. Default: float if available, "
        "else uint8.",
        show_default=False,
    ),
]


def chosen_nv12_colour(is_nv12: bool, colour: Nv12Colour | None) -> Nv12Colour | None:
    """The colour of NV12 frames, if there are any; raises UsageError for a colour without them."""
    if colour is not None and not is_nv12:
        raise UsageError(
            "--nv12-colour is the matrix and range of NV12 frames, which were not requested",
            found=str(colour),
            wanted="--io nv12",
            remedy="add --io nv12, or leave --nv12-colour out",
        )
    return (colour or DEFAULT_NV12_COLOUR) if is_nv12 else None


DeviceOption = Annotated[
    str | None,
    typer.Option(
        help="Device to run on, as `sr-edge doctor` names it. Default: cpu, or cuda for TensorRT.", show_default=False
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Number of CPU threads. Default: chosen by the runtime.", show_default=False),
]
AllOption = Annotated[bool, typer.Option("--all", help="Also list each variant that cannot run here, with the reason.")]
RunsOption = Annotated[
    int, typer.Option(min=1, help="Timed runs of each variant. The runs of all variants are interleaved.")
]
MemoryOption = Annotated[
    bool, typer.Option("--memory/--no-memory", help="Measure peak memory, each variant in a new process.")
]
TrustOption = Annotated[
    str,
    typer.Option(
        metavar="PACKAGE.MODULE:FACTORY",
        help="Allow the torch runtime to execute this factory function, which built the network of the bundle. Its "
        "code is executed; the module is searched for in the working directory first.",
        show_default=False,
    ),
]

HrOption = Annotated[
    Path | None,
    typer.Option(
        "--hr", metavar="DIR", help="Folder of high-resolution images to measure the quality on.", show_default=False
    ),
]
LrOption = Annotated[
    Path | None,
    typer.Option(
        "--lr",
        metavar="DIR",
        help="Folder of their low-resolution versions; for a network of scale 1, their degraded versions of the same "
        "size. Default: downscaled by bicubic interpolation.",
        show_default=False,
    ),
]


TargetsOption = Annotated[
    str | None,
    typer.Option(
        "--for",
        metavar="TARGET[,TARGET]",
        help="Runtimes that must be able to run the graph, for example tensorrt-10.3,openvino.",
        show_default=False,
    ),
]


def read_targets(text: str | None) -> tuple[str, ...]:
    """Parses the value of `--for` and removes duplicates; raises UnknownNameError for an unknown target."""
    if text is None:
        return ()
    from sr_edge.export.checks.targets import require_known_targets

    return require_known_targets(name.strip() for name in text.split(","))


def read_settings(texts: list[str]) -> dict[str, float]:
    """Parses NAME=NUMBER arguments; raises UsageError for anything else and for a name that is given twice."""
    values: dict[str, float] = {}
    for text in texts:
        name, _, number = (part.strip() for part in text.partition("="))
        try:
            value = float(number)
        except ValueError:
            raise UsageError(
                f"cannot read {text!r} as a setting",
                found=text,
                wanted="NAME=NUMBER",
                remedy="write NAME=NUMBER, for example alpha=0.5",
            ) from None
        if not name:
            raise UsageError(
                f"the setting {text!r} has no name",
                found=text,
                wanted="NAME=NUMBER",
                remedy="write NAME=NUMBER, for example alpha=0.5",
            )
        if name in values:
            raise UsageError(
                f"{text!r} sets {name} a second time", found=text, wanted="each name once", remedy="give each name once"
            )
        values[name] = value
    return values


_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
"""An address after its conversion to a Path, which reduces two slashes to one."""


def refusing_addresses(command: Callable[..., None]) -> Callable[..., None]:
    """Wraps a command so that a path given as the address of a stream raises UsageError before the command starts.

    Otherwise the address, and a password in it, would be printed as a path, or a folder of that name created.
    """

    @functools.wraps(command)
    def checked(**values: object) -> None:
        for name, value in values.items():
            if isinstance(value, Path) and _ADDRESS.match(str(value)):
                raise UsageError(
                    f"{shown_name(command, name)} of `sr-edge {command.__name__.replace('_', '-')}` is an address, "
                    "but must be a file or folder",
                    found=without_secrets(str(value)),
                    wanted="a file or folder",
                    remedy="give a path, or use `sr-edge stream`, which takes addresses as source and sink",
                )
        command(**values)

    return checked


def shown_name(command: Callable[..., None], parameter: str) -> str:
    """The metavar of an argument or the flag of an option, as `--help` shows it."""
    annotation = get_type_hints(command, include_extras=True).get(parameter)
    declared = getattr(annotation, "__metadata__", (None,))[0]
    if isinstance(declared, ArgumentInfo) and declared.metavar:
        return declared.metavar
    # In an Annotated type, typer stores the first flag of an option as its default.
    flags = (declared.default, *(declared.param_decls or ())) if isinstance(declared, OptionInfo) else ()
    long_flags = [flag for flag in flags if isinstance(flag, str) and flag.startswith("--")]
    return long_flags[0] if long_flags else f"--{parameter.replace('_', '-')}"
