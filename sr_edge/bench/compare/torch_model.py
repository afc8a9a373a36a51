"""Loads and exports a PyTorch network for a comparison; imports torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from sr_edge.bundle.writing import write_weights
from sr_edge.errors import UsageError
from sr_edge.export import export_best_form
from sr_edge.model_sources import NetworkChoice, SourceKind, load_network, source_kind
from sr_edge.models import LoadedModel, model_names
from sr_edge.models.loading.load import bake, innermost, reopen_model
from sr_edge.runtimes import SessionRequest


def load_torch_model(choice: NetworkChoice) -> LoadedModel:
    """Loads the network of a checkpoint, a registered name or package.module:factory.

    Raises:
        UsageError: the target is none of those, weights are given for a checkpoint, or the file is a TorchScript
            program, which the torch runtime cannot build again.
        SrEdgeError: see `load_network`.
    """
    target = choice.model or ""
    kind = source_kind(target)
    if kind is SourceKind.CHECKPOINT and (choice.weights is not None or choice.random_weights):
        raise UsageError(
            f"{target} is a checkpoint and has its own weights",
            found="--random-weights" if choice.weights is None else "--weights",
            remedy="leave out --weights and --random-weights, or give the name of a model",
        )
    if kind is SourceKind.FACTORY:
        return load_network(dataclasses.replace(choice, model=None, arch=target))
    if kind is SourceKind.NAME and target not in model_names():
        raise UsageError(
            f"{target!r} is not a file, a bundle or a registered model",
            found=target,
            wanted=tuple(model_names()),
            remedy="give model.onnx, NAME.sredge, a checkpoint, package.module:factory, "
            f"or one of: {', '.join(model_names())}",
        )
    network = load_network(choice)
    if not network.architecture:
        raise UsageError(
            f"{target} is a TorchScript program, whose network cannot be built again from its weights",
            found=target,
            wanted="a checkpoint, a registered name, or package.module:factory",
            remedy=f"compare its ONNX file instead: sr-edge export {target} -o model.onnx",
        )
    return network


def write_torch_weights(model: LoadedModel, folder: Path) -> Path:
    """Writes the network's weights to a file in `folder`, for the torch runtime."""
    path = folder / "weights.safetensors"
    state = model.state if model.state is not None else innermost(model.module).state_dict()
    write_weights(path, {name: value.cpu().numpy() for name, value in state.items()})
    return path


def export_torch_model(request: SessionRequest, folder: Path) -> Path:
    """Exports the network of a torch runtime's request, at its tile, to a file in `folder`.

    Raises:
        ExportError: the network cannot be exported, or the output of its graph differs.
    """
    card = request.card
    model = reopen_model(request.architecture or card.name, card, request.artifact)
    path = folder / "exported.onnx"
    export_best_form(bake(model, card.baked), request.tile, path)
    return path
