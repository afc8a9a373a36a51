"""The MODEL argument of commands that run a model: a bundle, or an ONNX file with the options that belong to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.cli.options import read_float_precision
from sr_edge.cli.terminal import print_line
from sr_edge.errors import UsageError
from sr_edge.spec import Precision, TileSpec

if TYPE_CHECKING:
    from sr_edge.bundle import Bundle
    from sr_edge.model_sources import ChosenEngine, EngineChoice

AUTO = "auto"

RunnableArgument = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="Deployed model (a .sredge folder or its .zip archive), or an ONNX file.",
        show_default=False,
    ),
]
RunRuntimeOption = Annotated[
    str,
    typer.Option(
        "--runtime",
        metavar="auto|NAME",
        help="Runtime to use; auto takes the recommended one, or else the first of tensorrt, tensorrt-rtx, openvino, "
        "onnxruntime and torch that works.",
    ),
]


def _precisions_that_begin(incomplete: str) -> list[str]:
    """What a shell offers for the value of `--precision`."""
    return [name for name in (AUTO, *map(str, Precision)) if name.startswith(incomplete)]


RunPrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="auto|fp32|bf16|fp16|int8",
        autocompletion=_precisions_that_begin,
        help="Precision of convolutions and matrix multiplications; auto takes what `deploy` or `bench` measured to be "
        "the fastest here within the allowed loss, or else fp32 on a CPU and fp16 on a GPU.",
    ),
]
RunFloatPrecisionOption = Annotated[
    Precision | None,
    typer.Option(
        "--float-precision",
        parser=read_float_precision,
        metavar="fp32|bf16|fp16",
        help="Precision of the operators that are not quantized, with --precision int8. Default: fp32.",
        show_default=False,
    ),
]
OnnxTileOption = Annotated[
    str | None,
    typer.Option(
        "--tile",
        metavar="HEIGHTxWIDTH",
        help="Size of the tiles in low-resolution pixels, for an ONNX file that takes any size. Default: 96x96, or "
        "larger if the network requires it.",
        show_default=False,
    ),
]
OnnxInputRangeOption = Annotated[
    str,
    typer.Option(
        "--input-range",
        metavar="auto|1|255",
        help="Largest input value of the network in an ONNX file: 1 for a range of 0-1, 255 for 0-255, auto to find it "
        "out by running the network.",
    ),
]
ChannelOrderOption = Annotated[
    str,
    typer.Option(
        metavar="rgb|bgr", help="Order of the channels of the network in an ONNX file: bgr if blue is the first."
    ),
]


def read_input_range(text: str) -> float | None:
    """Parses the value of `--input-range`: 1, 255, or None for auto; raises UsageError for anything else."""
    ranges = {AUTO: None, "1": 1.0, "255": 255.0}
    if text not in ranges:
        raise UsageError(
            f"--input-range is {text!r}",
            found=text,
            wanted=tuple(ranges),
            remedy=f"choose one of: {', '.join(ranges)}",
        )
    return ranges[text]


InputRangeOption = Annotated[
    float | None,
    typer.Option(
        parser=read_input_range,
        metavar="auto|1|255",
        help="Largest input value of your own network: 1 for a range of 0-1, 255 for 0-255. Default: auto, which finds "
        "it out for an ONNX file by running it, and is 1 for a PyTorch network.",
        show_default=False,
    ),
]
"""For commands whose MODEL may be a PyTorch network as well."""


@contextmanager
def opened_model(
    path: Path, tile: str | None = None, input_range: str = AUTO, channel_order: str = "rgb"
) -> Iterator[Bundle]:
    """Opens a MODEL argument with its options, and prints what was changed in an ONNX file on stderr."""
    from sr_edge.model_sources import open_model

    with open_model(
        path,
        input_range=read_input_range(input_range),
        channel_order=channel_order,
        tile=TileSpec.parse(tile) if tile is not None else None,
    ) as bundle:
        if bundle.remarks:
            print_line(f"{path.name}: {'; '.join(bundle.remarks)}")
        yield bundle


def chosen_engine(bundle: Bundle, choice: EngineChoice) -> ChosenEngine:
    """Completes the choice of an engine, and says on stderr what sr_edge chose and why."""
    from sr_edge.model_sources import choose_engine
    from sr_edge.runtimes.registry import load_runtime

    engine = choose_engine(bundle, choice)
    load_runtime(engine.runtime)  # where it does not work, its error is all there is to say
    if engine.reason:
        print_line(str(engine))
    return engine
