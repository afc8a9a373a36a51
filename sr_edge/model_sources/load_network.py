"""Loads whatever a user names as a network: a registered name, a checkpoint, a factory, or an ONNX file."""

from __future__ import annotations

from pathlib import Path

from sr_edge.errors import NotDeployable, TileError, UsageError
from sr_edge.export.graph.file_network import FileNetwork
from sr_edge.model_sources.kinds import SourceKind, source_kind
from sr_edge.model_sources.network_choice import NetworkChoice
from sr_edge.model_sources.onnx_file import OnnxModel, read_onnx_model
from sr_edge.model_sources.reference_file import ReferenceFile
from sr_edge.models import LoadedModel, load_model
from sr_edge.models.checkpoints import Blend
from sr_edge.models.loading.load import bake
from sr_edge.spec import TileSpec

_QUANTIZED = frozenset(
    {
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "QLinearConv",
        "QLinearMatMul",
        "ConvInteger",
        "MatMulInteger",
    }
)


def load_network(choice: NetworkChoice, tile: TileSpec | None = None) -> LoadedModel:
    """Loads a network with its model card.

    A file is recognised by its content, so that an ONNX file may have the suffix of a checkpoint and the reverse.

    Args:
        choice: what the user named, with its options.
        tile: the tile with which it is to be deployed; None takes the usual one, or another one if it needs that.

    Raises:
        UsageError: the options contradict each other or do not apply to what was named, or a bundle was named.
        SrEdgeError: the errors of `load_model` and `read_onnx_model`.
    """
    path = onnx_file_of(choice)
    if path is not None:
        return _from_onnx_file(path, choice, tile)
    _require_no_bundle(choice)
    if choice.channel_order != "rgb":
        raise UsageError(
            "--channel-order is for ONNX files, but PyTorch networks take RGB",
            found=choice.channel_order,
            wanted="rgb",
            remedy="leave --channel-order out",
        )
    network = load_model(
        choice.model,
        choice.scale,
        choice.weights,
        choice.random_weights,
        choice.arch,
        1.0 if choice.input_range is None else choice.input_range,
        blend=[Blend.parse(text) for text in choice.blend],
        tile=tile,
    )
    return bake(network, choice.bake)


def onnx_file_of(choice: NetworkChoice) -> Path | None:
    """The ONNX file that was named as the network; None for everything else.

    Raises:
        UsageError: options for PyTorch networks were given with it, or it was named as a checkpoint.
    """
    if choice.weights is not None and source_kind(choice.weights) is SourceKind.ONNX:
        raise UsageError(
            f"--weights {choice.weights} is an ONNX file, which is a complete network and no checkpoint",
            found=choice.weights,
            wanted="a checkpoint",
            remedy=f"name it as MODEL: {choice.weights}",
        )
    if choice.model is None or source_kind(choice.model) is not SourceKind.ONNX:
        return None
    require_no_torch_options(choice, "an ONNX file, which has its weights and its graph")
    return Path(choice.model)


def require_no_torch_options(choice: NetworkChoice, kind: str) -> None:
    """Raises UsageError for options that choose a PyTorch network or its weights, which a file of another kind has.

    Args:
        choice: what the user named.
        kind: what it is instead of a PyTorch network, for the message.
    """
    options = choice.torch_options()
    if options:
        raise UsageError(
            f"{', '.join(options)} {'is' if len(options) == 1 else 'are'} for PyTorch networks, but {choice.model} is "
            f"{kind}",
            found=options,
            remedy="leave it out" if len(options) == 1 else "leave these options out",
        )


def _from_onnx_file(path: Path, choice: NetworkChoice, tile: TileSpec | None) -> LoadedModel:
    model = read_onnx_model(
        path, input_range=choice.input_range, channel_order=choice.channel_order, scale=choice.scale
    )
    _require_float(model)
    _require_tile(model, tile)
    remarks = (f"{path.name}: {change}" for change in model.changes)
    return LoadedModel(FileNetwork(ReferenceFile(model)), model.card, remarks=tuple(remarks), tile=model.fixed_tile)


def _require_float(model: OnnxModel) -> None:
    operators = sorted({node.op_type for node in model.original.graph.node} & _QUANTIZED)
    if operators:
        raise NotDeployable(
            f"{model.path} is quantized to INT8 ({', '.join(operators)}), but a network has to be given in float",
            found=tuple(operators),
            wanted="a float graph",
            remedy="give the file that it was made from, or run it as it is with upscale, stream or bench",
        )


def _require_tile(model: OnnxModel, tile: TileSpec | None) -> None:
    if model.fixed_tile is not None and tile not in (None, model.fixed_tile):
        raise TileError(
            f"{model.path} takes tiles of {model.fixed_tile} only, not of {tile}",
            found=tile,
            wanted=model.fixed_tile,
            remedy="leave --tile out, or export the network with dynamic height and width",
        )


def _require_no_bundle(choice: NetworkChoice) -> None:
    if choice.model is not None and source_kind(choice.model) is SourceKind.BUNDLE:
        raise UsageError(
            f"{choice.model} is a bundle, which is deployed already",
            found=choice.model,
            wanted="a checkpoint, an ONNX file, or the name of a model",
            remedy="give the network that it was made from, or run the bundle with upscale, stream or bench",
        )
