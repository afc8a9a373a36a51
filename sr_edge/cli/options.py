"""Arguments and options that several commands share, each spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout; progress goes to stderr.")]
BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A .sredge folder or its .zip.", show_default=False)]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model's name; `sr-edge models` lists them.")]
Scale = Annotated[int | None, typer.Option(help="Magnification: 2, 3 or 4.", show_default=False)]
Tile = Annotated[str, typer.Option(metavar="HEIGHTxWIDTH", help="Input size in low-resolution pixels, or auto.")]
Weights = Annotated[Path | None, typer.Option(help="Checkpoint: .pth, .pt or .safetensors.", show_default=False)]
RandomWeights = Annotated[bool, typer.Option("--random-weights", help="Seeded random weights, for latency studies.")]
Arch = Annotated[
    str | None, typer.Option(metavar="PACKAGE.MODULE:FACTORY", help="Any PyTorch model.", show_default=False)
]
InputRange = Annotated[float, typer.Option(help="What the model calls white: 1 or 255.")]
Runtimes = Annotated[str, typer.Option(metavar="all|A,B", help="Runtimes, comma separated.")]
Precisions = Annotated[str, typer.Option(metavar="all|A,B", help="Precisions, comma separated.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads; the runtime chooses without.", show_default=False)]
Device = Annotated[str, typer.Option(help="Device, by the runtime's own name.")]
