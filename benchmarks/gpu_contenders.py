"""Who competes in gpu.py: one network in TensorRT, ONNX Runtime and PyTorch, static and traced, on one device.

Nothing here needs torch, so that a device without it measures what it has: graphs are read from files (gpu_graphs.py
writes them), PyTorch's contenders are opened by gpu_torch.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from sr_edge.errors import RuntimeUnavailable
from sr_edge.export.graph.metadata import Form, read_metadata
from sr_edge.runtimes import Session, SessionRequest, availability, open_request
from sr_edge.spec import ActivationType, FrameFormat, Precision, TileSpec

if TYPE_CHECKING:
    from sr_edge.models import LoadedModel

SCALE = 2
EAGER, COMPILED = "torch", "torch.compile"
TENSORRTS = ("tensorrt", "tensorrt-rtx")
_FLOATS = ((Precision.FP16, Form.STATIC), (Precision.FP16, Form.TRACED))
_INT8 = (Precision.INT8, Form.STATIC)


@dataclass(frozen=True)
class Contender:
    """A runtime, or torch eager or compiled, at one precision with one form of the network."""

    runtime: str
    precision: Precision
    form: Form


def working_tensorrts() -> tuple[str, ...]:
    """The TensorRTs that work here; both where none does, for their reasons to be told."""
    working = tuple(name for name in TENSORRTS if availability(name).works)
    return working or TENSORRTS


def contenders() -> tuple[Contender, ...]:
    """All but torch.compile, which takes its time to compile and so is measured apart."""
    entries = []
    for name in working_tensorrts():
        entries += [Contender(name, *kind) for kind in (*_FLOATS, _INT8)]
    for name in ("onnxruntime", EAGER):
        entries += [Contender(name, *kind) for kind in _FLOATS]
    return tuple(entries)


def compiled_pairs() -> tuple[Sequence[Contender], ...]:
    """torch.compile beside eager, one form after the other: the form that users have comes first."""
    return tuple(
        [Contender(EAGER, Precision.FP16, form), Contender(COMPILED, Precision.FP16, form)]
        for form in (Form.TRACED, Form.STATIC)
    )


@dataclass(frozen=True)
class Network:
    """A registered network, its tile, and the folder with its graphs (`gpu_graphs.write_graphs`)."""

    name: str
    tile: TileSpec
    folder: Path

    def load(self) -> LoadedModel:
        """A copy of its own for each who asks: the same weights, seeded random ones. Needs torch."""
        from sr_edge.models import load_model

        return load_model(self.name, SCALE, random_weights=True)

    def graph(self, precision: Precision, form: Form) -> Path:
        return self.folder / f"{self.name}.{form}.{precision}.onnx"

    @property
    def macs_file(self) -> Path:
        """Holds the multiply-accumulates of the training form on a tile."""
        return self.folder / f"{self.name}.macs"

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything that `write_graphs` writes."""
        return (*(self.graph(*kind) for kind in (*_FLOATS, _INT8)), self.macs_file)

    def count_macs(self) -> int:
        """Multiply-accumulates of the training form on a tile; raises ImportError where neither file nor torch is."""
        if self.macs_file.is_file():
            return int(self.macs_file.read_text(encoding="utf-8"))
        from sr_edge.models.macs import count_macs

        return count_macs(self.load().module, self.tile.height, self.tile.width)


def open_contender(contender: Contender, network: Network, device: str) -> Session:
    """The contender's session; raises SrEdgeError with the reason why it cannot take part here."""
    if contender.runtime in (EAGER, COMPILED):
        try:
            from gpu_torch import open_torch
        except ImportError as error:
            raise RuntimeUnavailable(
                f"torch cannot be imported ({error})", wanted="torch", remedy="install a build of it for CUDA"
            ) from error
        return open_torch(contender, network, device)
    is_int8 = contender.precision is Precision.INT8
    graph = network.graph(contender.precision, contender.form)
    if not graph.is_file():
        raise RuntimeUnavailable(
            f"{network.folder} contains no graphs of {network.name}",
            found=network.folder,
            wanted=graph.name,
            remedy="prepare them with `make bench-gpu-prepare`",
        )
    request = SessionRequest(
        artifact=graph,
        card=read_metadata(onnx.load(graph)).card,
        tile=network.tile,
        precision=contender.precision,
        float_precision=Precision.FP16 if is_int8 else Precision.FP32,
        activation_type=ActivationType.INT8 if is_int8 else None,
        io=FrameFormat.UINT8_NHWC,
        device=device,
    )
    return open_request(contender.runtime, request)
