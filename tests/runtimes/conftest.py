"""One tiny network as a torch module, as ONNX files (float and quantized) and in numpy, for every runtime."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sr_edge.runtimes import RUNTIMES, Session, SessionRequest, open_request
from sr_edge.spec import ActivationType, Control, FrameFormat, ModelCard, Precision, TileSpec
from tests.runtimes.here import home_device, require_runtime

TILE = TileSpec(16, 24)
SCALE = 2
HIDDEN = 16
CONTROLS = (Control("alpha", 1.0, 0.0, 2.0), Control("beta", 1.0, 0.0, 2.0))
FACTORY_MODULE = "toy_sr_network"
FACTORY_SOURCE = """
from torch import nn

from sr_edge.spec import Control

class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, {hidden}, 3, padding=1, bias=False)
        self.last = nn.Conv2d({hidden}, 12, 3, padding=1, bias=False)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x):
        return self.shuffle(self.last(self.first(x).relu()))

class Controlled(Toy):
    controls = (Control("alpha", 1.0, 0.0, 2.0), Control("beta", 1.0, 0.0, 2.0))

    def forward(self, x, alpha=1.0, beta=1.0):
        return self.shuffle(alpha * self.last(beta * self.first(x).relu()))
"""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ToyWeights:
    """The two convolutions of the toy network, (out, in, 3, 3)."""

    first: Array
    last: Array


class GraphBuilder:
    """Writes the toy network as ONNX; `activation_type` None leaves it float."""

    def __init__(self, weights: ToyWeights, activation_type: ActivationType | None = None) -> None:
        self.weights = weights
        self.activation_type = activation_type
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))  # type: ignore[arg-type]
        return output

    def activation(self, name: str, scale: float) -> str:
        if self.activation_type is None:
            return name
        zero = np.int8(0) if self.activation_type is ActivationType.INT8 else np.uint8(128)
        values = [self.constant(f"{name}.scale", np.float32(scale)), self.constant(f"{name}.zero", zero)]
        self.node("QuantizeLinear", [name, *values], f"{name}.q")
        return self.node("DequantizeLinear", [f"{name}.q", *values], f"{name}.dq")

    def weight(self, name: str, value: Array) -> str:
        if self.activation_type is None:
            return self.constant(name, value)
        scale = (np.abs(value).max((1, 2, 3)) / 127).astype(np.float32)
        stored = np.round(value / scale[:, None, None, None]).astype(np.int8)
        names = [
            self.constant(f"{name}.q", stored),
            self.constant(f"{name}.scale", scale),
            self.constant(f"{name}.zero", np.zeros(len(scale), np.int8)),
        ]
        return self.node("DequantizeLinear", names, name, axis=0)

    def body(self, first_input: str, relu: bool = True) -> str:
        """The network up to its last convolution."""
        pads = [1, 1, 1, 1]
        inputs = [self.activation(first_input, 1 / 127), self.weight("first", self.weights.first)]
        hidden = self.node("Conv", inputs, "hidden", pads=pads)
        if relu:
            hidden = self.node("Relu", [hidden], "relu")
        inputs = [self.activation(hidden, 2 / 127), self.weight("last", self.weights.last)]
        return self.node("Conv", inputs, "features", pads=pads)

    def save(
        self,
        path: Path,
        shape_in: Sequence[int],
        shape_out: Sequence[int],
        element: int = TensorProto.FLOAT,
        controls: Sequence[str] = (),
    ) -> Path:
        inputs = [helper.make_tensor_value_info("input", element, list(shape_in))]
        inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in controls]
        outputs = [helper.make_tensor_value_info("output", element, list(shape_out))]
        graph = helper.make_graph(self.nodes, "toy", inputs, outputs, self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)
        return path


def shapes(tile: TileSpec = TILE) -> tuple[list[int], list[int]]:
    return [1, 3, tile.height, tile.width], [1, 3, SCALE * tile.height, SCALE * tile.width]


def shuffled(graph: GraphBuilder, features: str) -> None:
    graph.node("DepthToSpace", [features], "output", blocksize=2, mode="CRD")


@dataclass(frozen=True)
class Toys:
    """The toy network's files and how to ask for them."""

    folder: Path
    weights: ToyWeights

    def plain(self, activation_type: ActivationType | None = None, tile: TileSpec = TILE) -> Path:
        graph = GraphBuilder(self.weights, activation_type)
        shuffled(graph, graph.body("input"))
        return graph.save(self.folder / f"plain-{activation_type}-{tile}.onnx", *shapes(tile))

    def chained_int8(self) -> Path:
        """Q/DQ also right behind each convolution, without which ONNX Runtime computes quantized files in float."""
        graph = GraphBuilder(self.weights, ActivationType.UINT8)
        shuffled(graph, graph.activation(graph.body("input", relu=False), 4 / 127))
        return graph.save(self.folder / "chained.onnx", *shapes())

    def controlled(self) -> Path:
        graph = GraphBuilder(self.weights)
        graph.node("Conv", ["input", graph.weight("first", self.weights.first)], "hidden", pads=[1, 1, 1, 1])
        graph.node("Relu", ["hidden"], "relu")
        graph.node("Mul", ["relu", "beta"], "scaled")
        graph.node("Conv", ["scaled", graph.weight("last", self.weights.last)], "features", pads=[1, 1, 1, 1])
        shuffled(graph, graph.node("Mul", ["features", "alpha"], "controlled"))
        return graph.save(self.folder / "controlled.onnx", *shapes(), controls=("alpha", "beta"))

    def half(self) -> Path:
        """fp16 convolutions between casts, as the fp16 pass writes them."""
        halves = ToyWeights(self.weights.first.astype(np.float16), self.weights.last.astype(np.float16))
        graph = GraphBuilder(halves)
        graph.node("Cast", ["input"], "half_input", to=TensorProto.FLOAT16)
        features = graph.body("half_input")
        shuffled(graph, graph.node("Cast", [features], "float_features", to=TensorProto.FLOAT))
        return graph.save(self.folder / "half.onnx", *shapes())

    def uint8(self) -> Path:
        """The float network with uint8 NHWC frames in and out."""
        graph = GraphBuilder(self.weights)
        graph.node("Cast", ["input"], "cast", to=TensorProto.FLOAT)
        graph.node("Transpose", ["cast"], "planes", perm=[0, 3, 1, 2])
        white = graph.constant("white", np.float32(255))
        graph.node("Div", ["planes", white], "unit")
        graph.node("DepthToSpace", [graph.body("unit")], "upscaled", blocksize=2, mode="CRD")
        graph.node("Mul", ["upscaled", white], "grey")
        graph.node("Clip", ["grey", graph.constant("zero", np.float32(0)), white], "clipped")
        graph.node("Round", ["clipped"], "rounded")
        graph.node("Transpose", ["rounded"], "frame", perm=[0, 2, 3, 1])
        graph.node("Cast", ["frame"], "output", to=TensorProto.UINT8)
        shape_in, shape_out = [1, TILE.height, TILE.width, 3], [1, SCALE * TILE.height, SCALE * TILE.width, 3]
        return graph.save(self.folder / "uint8.onnx", shape_in, shape_out, TensorProto.UINT8)

    def dynamic(self) -> Path:
        graph = GraphBuilder(self.weights)
        shuffled(graph, graph.body("input"))
        return graph.save(self.folder / "dynamic.onnx", [1, 3, "h", "w"], [1, 3, "h2", "w2"])  # type: ignore[list-item]

    def safetensors(self) -> Path:
        numpy_file = pytest.importorskip("safetensors.numpy")
        path = self.folder / "toy.safetensors"
        numpy_file.save_file({"first.weight": self.weights.first, "last.weight": self.weights.last}, path)
        return path

    def request(
        self,
        artifact: Path,
        precision: Precision = Precision.FP32,
        tile: TileSpec = TILE,
        scale: int = SCALE,
        float_precision: Precision = Precision.FP32,
        io: FrameFormat = FrameFormat.FLOAT_NCHW,
        device: str = "cpu",
        threads: int | None = 1,
        slots: int | None = None,
        allow_other_precision: bool = False,
        architecture: str = "",
        options: dict[str, str] | None = None,
        controls: tuple[Control, ...] = (),
    ) -> SessionRequest:
        parameters = self.weights.first.size + self.weights.last.size
        card = ModelCard("toy", scale, parameters, controls=controls)
        return SessionRequest(
            artifact=artifact,
            card=card,
            tile=tile,
            precision=precision,
            float_precision=float_precision,
            io=io,
            device=device,
            threads=threads,
            slots=slots,
            allow_other_precision=allow_other_precision,
            architecture=architecture,
            options=options,
        )

    def request_for(
        self,
        runtime: str,
        precision: Precision = Precision.FP32,
        network: str = "Toy",
        device: str | None = None,
        slots: int | None = None,
        allow_other_precision: bool = False,
    ) -> SessionRequest:
        """The float network in the form that `runtime` reads, on the device that it always has."""
        if runtime == "torch":
            architecture = f"{FACTORY_MODULE}:{network}"
            artifact, options = self.safetensors(), {"architecture": architecture}
        else:
            artifact = self.plain() if network == "Toy" else self.controlled()
            architecture, options = "", {}
        return self.request(
            artifact,
            precision,
            device=device or home_device(runtime),
            slots=slots,
            allow_other_precision=allow_other_precision,
            architecture=architecture,
            options=options,
            controls=CONTROLS if network == "Controlled" else (),
        )

    def reference(self, batch: Array) -> Array:
        """The float network in plain numpy."""
        hidden = np.maximum(convolved(batch[0], self.weights.first), 0)
        features = convolved(hidden, self.weights.last)
        _, height, width = features.shape
        blocks = features.reshape(3, 2, 2, height, width).transpose(0, 3, 1, 4, 2)
        upscaled: Array = blocks.reshape(1, 3, 2 * height, 2 * width)
        return upscaled


def convolved(planes: Array, weight: Array) -> Array:
    """A 3x3 convolution with zero padding."""
    padded = np.pad(planes, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    result: Array = np.einsum("chwij,ocij->ohw", windows, weight)
    return result


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toys]:
    folder = tmp_path_factory.mktemp("toys")
    (folder / f"{FACTORY_MODULE}.py").write_text(FACTORY_SOURCE.format(hidden=HIDDEN))
    sys.path.insert(0, str(folder))
    generator = np.random.default_rng(7)
    first = generator.normal(0, 0.2, (HIDDEN, 3, 3, 3)).astype(np.float32)
    last = generator.normal(0, 0.1, (12, HIDDEN, 3, 3)).astype(np.float32)
    yield Toys(folder, ToyWeights(first, last))
    sys.path.remove(str(folder))
    sys.modules.pop(FACTORY_MODULE, None)


@pytest.fixture(params=[entry.name for entry in RUNTIMES])
def runtime(request: pytest.FixtureRequest) -> str:
    """Every runtime of the registry in turn; one that does not work here is skipped by name."""
    name = str(request.param)
    require_runtime(name)
    return name


@pytest.fixture(params=["onnxruntime", "openvino"])
def onnx_runtime(request: pytest.FixtureRequest) -> str:
    """The runtimes that read ONNX files."""
    name = str(request.param)
    require_runtime(name)
    return name


@pytest.fixture(scope="session")
def systems(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Gives the bundle of a registered network, each made once (`small_systems`)."""
    from tests.runtimes.small_systems import write_system  # which imports torch

    return functools.cache(lambda name: write_system(name, tmp_path_factory.mktemp(name)))


@pytest.fixture
def session(runtime: str, toys: Toys) -> Iterator[Session]:
    with open_request(runtime, toys.request_for(runtime)) as opened:
        yield opened


@pytest.fixture(scope="session")
def batches() -> list[Array]:
    """Different tiles."""
    generator = np.random.default_rng(11)
    return [generator.random((1, 3, TILE.height, TILE.width), np.float32) for _ in range(7)]
