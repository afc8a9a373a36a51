"""Loads whatever a user names as a network: a registered name, a checkpoint, a factory, or an ONNX file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from sr_edge.errors import NotDeployable, UsageError
from sr_edge.export.graph.file_network import FileNetwork
from sr_edge.model_sources.kinds import SourceKind, source_kind
from sr_edge.model_sources.network_choice import NetworkChoice
from sr_edge.model_sources.onnx_file import OnnxModel, read_onnx_model
from sr_edge.model_sources.reference_file import ReferenceFile
from sr_edge.models import LoadedModel, load_model
from sr_edge.models.checkpoints import Blend
from sr_edge.models.loading.load import bake
from sr_edge.spec import ModelCard, Precision, TileSpec


def load_network(choice: NetworkChoice, tile: TileSpec | str | None = None) -> LoadedModel:
    """Loads a network with its model card.

    A file is recognised by its content, so that an ONNX file may have the suffix of a checkpoint and the reverse.

    Args:
        choice: what the user named, with its options.
        tile: the tile with which it is to be deployed; None takes the usual one, or another one if it needs that.

    Raises:
        UsageError: the options contradict each other or do not apply to what was named, or a bundle was named.
        SrEdgeError: the errors of `load_model` and `read_onnx_model`.
    """
    tile = None if tile is None else TileSpec.of(tile)
    path = onnx_file_of(choice)
    if path is not None:
        return _from_onnx_file(path, choice, tile)
    _require_network(choice)
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


def read_network_file(path: Path, choice: NetworkChoice, tile: TileSpec | None = None) -> OnnxModel:
    """Reads the ONNX file that was named as the network, with the options that belong to it.

    Raises:
        SrEdgeError: the errors of `read_onnx_model`; or it has another scale than the one that was stated.
    """
    model = read_onnx_model(
        path, input_range=choice.input_range, channel_order=choice.channel_order, scale=choice.scale, tile=tile
    )
    if choice.scale not in (None, model.card.scale):
        raise UsageError(
            f"{path} enlarges images {model.card.scale} times, not {choice.scale} times",
            found=choice.scale,
            wanted=model.card.scale,
            remedy="leave --scale out",
        )
    return model


def _from_onnx_file(path: Path, choice: NetworkChoice, tile: TileSpec | None) -> LoadedModel:
    model = read_network_file(path, choice, tile)
    _require_float(model)
    if tile is not None:
        model.require_tile(tile)
    remarks = tuple(f"{path.name}: {change}" for change in model.changes)
    network = FileNetwork(ReferenceFile(model), model.card.controls).eval()
    return LoadedModel(network, _card(model), remarks=remarks, tile=model.fixed_tile)


def _card(model: OnnxModel) -> ModelCard:
    """The card, which says what was changed in the file; one that sr-edge wrote keeps the card of its network."""
    if model.metadata is not None:
        return model.card
    return dataclasses.replace(model.card, weights_source="; ".join((model.path.name, *model.changes)))


def _require_float(model: OnnxModel) -> None:
    if model.precisions.precision is Precision.INT8:
        raise NotDeployable(
            f"{model.path} is quantized to INT8 already, but a network has to be given in float",
            found=str(Precision.INT8),
            wanted=(str(Precision.FP32), str(Precision.FP16)),
            remedy="give the file that it was made from, or run it as it is with upscale, stream or bench",
        )


def _require_network(choice: NetworkChoice) -> None:
    """Raises UsageError for a bundle, and for a factory or its code where --arch was left out."""
    if choice.model is None:
        return
    kind = source_kind(choice.model)
    if kind is SourceKind.BUNDLE:
        raise UsageError(
            f"{choice.model} is a bundle, which is deployed already",
            found=choice.model,
            wanted="a checkpoint, an ONNX file, or the name of a model",
            remedy="give the network that it was made from, or run the bundle with upscale, stream or bench",
        )
    is_code = Path(choice.model).suffix == ".py"
    if kind is SourceKind.FACTORY or is_code:
        factory = f"{Path(choice.model).stem}:FUNCTION" if is_code else choice.model
        raise UsageError(
            f"{choice.model} is {'Python code' if is_code else 'a factory'}, which is executed only if --arch names it",
            found=choice.model,
            wanted="a checkpoint, an ONNX file, or the name of a model",
            remedy=f"pass --arch {factory}",
        )
