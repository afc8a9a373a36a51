"""Arguments and options that several commands share, each spelled once."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from sr_edge.address import without_secrets
from sr_edge.errors import UsageError
from sr_edge.spec import FrameFormat, Precision

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout; progress goes to stderr.")]
BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A .sredge folder or its .zip.", show_default=False)]

Model = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL", help="A checkpoint, or a name (`sr-edge models`); may be left out with --weights or --arch."
    ),
]
Scale = Annotated[
    int | None,
    typer.Option(help="Magnification: 1, 2, 3, 4, 8 or 16; detected where a checkpoint is given.", show_default=False),
]
Tile = Annotated[
    str | None,
    typer.Option(
        metavar="HEIGHTxWIDTH|auto",
        help="Input size in low-resolution pixels; auto measures. Left out: 96x96, or larger where needed.",
        show_default=False,
    ),
]
Weights = Annotated[Path | None, typer.Option(help="Checkpoint: .pth, .pt, .ckpt, .safetensors.", show_default=False)]
BlendWith = Annotated[
    list[str],
    typer.Option("--blend", metavar="FILE=SHARE", help="Add a checkpoint, 0.3 of it; repeatable.", show_default=False),
]
RandomWeights = Annotated[bool, typer.Option("--random-weights", help="Seeded random weights, for latency studies.")]
Arch = Annotated[
    str | None,
    typer.Option(metavar="PACKAGE.MODULE:FACTORY", help="Any PyTorch model; runs its code.", show_default=False),
]
InputRange = Annotated[float, typer.Option(help="Input range of a network of your own: 1 for 0-1, 255 for 0-255.")]

Bake = Annotated[
    list[str], typer.Option(metavar="NAME=NUMBER", help="Make a control a constant; repeatable.", show_default=False)
]
Settings = Annotated[
    list[str],
    typer.Option("--set", metavar="NAME=NUMBER", help="A control's value; repeatable.", show_default=False),
]

Images = Annotated[
    Path, typer.Option(metavar="DIR|VIDEO", help="Low-resolution pictures to calibrate with.", show_default=False)
]
Method = Annotated[
    str, typer.Option(help="How clips are found: search tries several; or min-max, percentile, entropy, mse.")
]
MaxDropDb = Annotated[float, typer.Option("--max-drop-db", metavar="DB", help="What INT8 may cost, in decibels.")]
Include = Annotated[
    list[str], typer.Option(metavar="GLOB", help="Layers that become INT8, no others; repeatable.", show_default=False)
]
Exclude = Annotated[
    list[str], typer.Option(metavar="GLOB", help="Layers that stay float; repeatable.", show_default=False)
]

Runtimes = Annotated[str, typer.Option(metavar="all|A,B", help="Runtimes, separated by commas.")]
Precisions = Annotated[str, typer.Option(metavar="all|A,B", help="Precisions, separated by commas.")]
OnePrecision = Annotated[Precision, typer.Option("--precision", help="Of convolutions and matmuls.")]
FloatPrecisionOption = Annotated[Precision, typer.Option(help="Of all else in an INT8 network.")]
Io = Annotated[FrameFormat, typer.Option(help="float: NCHW in [0, 1]; uint8: NHWC.")]
Device = Annotated[str, typer.Option(help="Device, by the runtime's own name.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads; left out, the runtime chooses.", show_default=False)]
Runs = Annotated[int, typer.Option(min=1, help="Timed runs of each variant, taken in turn.")]
MeasureMemory = Annotated[bool, typer.Option("--memory/--no-memory", help="Measure peak memory in fresh processes.")]
Trust = Annotated[
    str,
    typer.Option(
        metavar="PACKAGE.MODULE:FACTORY", help="Let torch run this code of the bundle's maker.", show_default=False
    ),
]

Originals = Annotated[
    Path | None, typer.Option("--hr", metavar="DIR", help="Originals to measure quality on.", show_default=False)
]
Halves = Annotated[
    Path | None,
    typer.Option("--lr", metavar="DIR", help="Their low-resolution halves; made where left out.", show_default=False),
]


ForTargets = Annotated[
    str | None,
    typer.Option(
        "--for",
        metavar="TARGET[,TARGET]",
        help="Runtimes that must take the result: tensorrt-10.3, openvino.",
        show_default=False,
    ),
]


def read_targets(text: str | None) -> tuple[str, ...]:
    """The names of `--for`, each once; raises UnknownNameError where one is no target."""
    if text is None:
        return ()
    from sr_edge.export.checks.targets import require_known_targets

    return require_known_targets(name.strip() for name in text.split(","))


def read_settings(texts: list[str]) -> dict[str, float]:
    """Values by name; raises UsageError where a text is not NAME=NUMBER or a name is given twice."""
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


def require_another_file(out: Path, *sources: Path | None) -> None:
    """Raises UsageError where the result would replace what it is made from."""
    if any(source is not None and source.resolve() == out.resolve() for source in sources):
        raise UsageError(
            f"{out} is both the input and the output", found=out, remedy="give another name for the output with -o"
        )


_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
"""One slash: a path keeps no second one."""


def refusing_addresses(command: Callable[..., None]) -> Callable[..., None]:
    """The command, raising UsageError before it begins where an address stands for a file or folder."""

    @functools.wraps(command)
    def checked(**values: object) -> None:
        for name, value in values.items():
            if isinstance(value, Path) and _ADDRESS.match(str(value)):
                option, command_name = (word.replace("_", "-") for word in (name, command.__name__))
                raise UsageError(
                    f"{option} of `sr-edge {command_name}` is an address, but must be a file or folder",
                    found=without_secrets(str(value)),
                    wanted="a file or folder",
                    remedy="give a path, or use `sr-edge stream`, which takes addresses as source and sink",
                )
        command(**values)

    return checked
