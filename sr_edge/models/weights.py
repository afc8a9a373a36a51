"""Checkpoints: read without running code, unwrap, recognise the network, fit or say what does not fit."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sr_edge.errors import UsageError, WeightsError
from sr_edge.models.registry import SCALES, build_network, model_names

State = dict[str, Tensor]

WRAPPERS = ("params_ema", "ema", "params", "state_dict", "model", "model_state_dict", "net", "generator")
PREFIXES = ("module.", "model.", "_orig_mod.")
DERIVED = re.compile(r"\.attn_mask$")  # tables that public SwinIR checkpoints store although sizes determine them
SHOWN = 5


def read_weights(path: Path) -> State:
    """Tensors of a .safetensors, .pth or .pt file, unwrapped from training wrappers, as float32 on the CPU.

    Raises:
        WeightsError: missing, truncated, of another kind, or a pickle that holds more than tensors
            (its code is never run).
    """
    if not path.is_file():
        raise WeightsError(f"no weights at {path}; give the path of a .pth, .pt or .safetensors file")
    state = unwrap(_read_file(path))
    if not state:
        raise WeightsError(f"{path} holds no tensors; give a checkpoint of network weights")
    return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in state.items()}


def _read_file(path: Path) -> object:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on old pickle versions; a refusal says enough
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds more than tensors, or is no checkpoint; loading it could run foreign code, so it was "
            f"refused. Save the state_dict alone: torch.save(model.state_dict(), ...)"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{path} is no readable checkpoint, or is cut short ({_first_line(error)}); copy it again"
        ) from error


def _first_line(error: Exception) -> str:
    # A KeyError is only what the unpickler stumbled over, such as "101".
    text = "" if isinstance(error, KeyError) else str(error).strip()
    return text.partition("\n")[0] or type(error).__name__


def unwrap(found: object) -> State:
    """Tensors by name, out of wrappers such as {"params_ema": …} and prefixes such as "module."."""
    while isinstance(found, Mapping) and not any(isinstance(value, Tensor) for value in found.values()):
        inner = next((found[key] for key in WRAPPERS if key in found), None)
        if inner is None:
            return {}
        found = inner
    if not isinstance(found, Mapping):
        return {}
    state = {str(key): value for key, value in found.items() if isinstance(value, Tensor)}
    for prefix in PREFIXES:
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return {key: value for key, value in state.items() if not DERIVED.search(key)}


def learnt_state(network: nn.Module) -> State:
    """What a file of weights must hold: parameters and learnt buffers, but no tables that follow from the sizes."""
    return {key: value for key, value in network.state_dict().items() if not key.endswith("relative_position_index")}


def differences(state: Mapping[str, Tensor], network: nn.Module) -> tuple[list[str], list[str], list[str]]:
    """Keys that the network misses, does not know, and has in another shape."""
    wanted = network.state_dict()
    missing = [key for key in learnt_state(network) if key not in state]
    unexpected = [key for key in state if key not in wanted]
    misshapen = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    return missing, unexpected, misshapen


def fit_weights(network: nn.Module, state: State, source: str) -> None:
    """Copies `state` into `network`; raises WeightsError that lists the first keys that do not fit."""
    problems = _described_differences(state, network)
    if problems:
        raise WeightsError(f"{source} does not fit the network; {problems}")
    wanted = network.state_dict()
    integer = next((k for k in state if wanted[k].is_floating_point() and not state[k].is_floating_point()), None)
    if integer:
        kind = str(state[integer].dtype).removeprefix("torch.")
        raise WeightsError(f"{source} holds {kind} in {integer}; take the float checkpoint that it was made from")
    bad = next((key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()), None)
    if bad:
        raise WeightsError(f"{source} holds NaN or infinite values in {bad}; take an earlier checkpoint")
    network.load_state_dict(state, strict=False)


def _described_differences(state: Mapping[str, Tensor], network: nn.Module) -> str:
    kinds = zip(("missing", "unexpected", "mis-shaped"), differences(state, network), strict=True)
    return "; ".join(f"{len(keys)} {kind}: {_shorten(keys)}" for kind, keys in kinds if keys)


def _shorten(keys: list[str]) -> str:
    return ", ".join(keys[:SHOWN]) + (", …" if len(keys) > SHOWN else "")


@cache
def _outline(name: str, scale: int) -> nn.Module:
    """The network without memory for its weights: building the large ones takes a second, so once."""
    with torch.device("meta"):
        return build_network(name, scale)


def _misfits(state: State, name: str) -> dict[tuple[str, int], int]:
    """How many keys do not fit, for each scale of one network; where most do not, the first scale stands for all."""
    found: dict[tuple[str, int], int] = {}
    for scale in SCALES:
        found[name, scale] = sum(map(len, differences(state, _outline(name, scale))))
        if found[name, scale] > len(state):
            return {(name, other): found[name, scale] for other in SCALES}
    return found


def detect(state: State, name: str | None, scale: int | None) -> tuple[str, int]:
    """The registered (name, scale) whose keys and shapes are exactly those of `state`.

    A given `name` or `scale` limits the search. Without an exact match, the nearest candidate is returned when
    `name` and `scale` leave no choice (fitting then reports the keys).

    Raises:
        WeightsError: nothing registered fits; the nearest candidate and its differences are named.
        UsageError: the weights are those of another model or scale than asked for.
    """
    misfit = {candidate: count for known in model_names() for candidate, count in _misfits(state, known).items()}
    nearest = min(misfit, key=lambda candidate: misfit[candidate])
    asked = name or nearest[0], scale or nearest[1]
    if misfit.get(asked, 1) == 0:
        return asked
    if misfit[nearest] == 0:
        raise UsageError(
            f"these are weights of {nearest[0]} x{nearest[1]}, not of {asked[0]} x{asked[1]}; "
            f"ask for {nearest[0]} --scale {nearest[1]}, or give other weights"
        )
    if name is None:
        problems = _described_differences(state, _outline(*nearest))
        raise WeightsError(
            f"these weights fit no network here; the nearest is {nearest[0]} x{nearest[1]}; {problems}. "
            f"For a network of your own pass --arch package.module:factory"
        )
    return asked
