"""Prepares any module for tracing, copying and running: float32, without gradients or autograd graphs."""

from __future__ import annotations

from torch import Tensor, nn

MAX_NESTING = 4


def prepare_network(network: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """Puts a network into eval mode and float32, in place.

    `copy.deepcopy` refuses a module that stores a tensor with an autograd graph, and `.float()` converts neither
    tensors in plain attributes nor those in lists; both are handled here.

    Args:
        network: the network; it is changed.

    Returns:
        The network, and remarks for the user on what was changed.
    """
    other_dtypes = {str(t.dtype).removeprefix("torch.") for t in _tensors(network) if _is_other_float(t)}
    network.eval().requires_grad_(False)
    network.float()
    for module in network.modules():
        for name, value in list(vars(module).items()):
            if name not in ("_parameters", "_buffers", "_modules") and not name.startswith("__"):
                _set_plain(module, name, value)
        for name, buffer in list(module._buffers.items()):
            if buffer is not None and buffer.grad_fn is not None:
                module._buffers[name] = buffer.detach()
    remark = (
        f"the network was in {', '.join(sorted(other_dtypes))}; it is deployed from float32" if other_dtypes else ""
    )
    return network, (remark,) if remark else ()


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def _is_other_float(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.dtype.itemsize != 4


def _set_plain(module: nn.Module, name: str, value: object) -> None:
    plain = _plain(value, MAX_NESTING)
    if plain is not value:
        vars(module)[name] = plain


def _plain(value: object, depth: int) -> object:
    """The same value where nothing has to change; otherwise a copy of the containers around the changed tensors."""
    if isinstance(value, nn.Parameter) or depth == 0:
        return value
    if isinstance(value, Tensor):
        tensor = value.detach() if value.grad_fn is not None or value.requires_grad else value
        return tensor.float() if _is_other_float(tensor) else tensor
    if type(value) in (list, tuple):
        elements = [_plain(element, depth - 1) for element in value]  # type: ignore[attr-defined]
        changed = any(new is not old for new, old in zip(elements, value, strict=True))  # type: ignore[call-overload]
        return type(value)(elements) if changed else value  # type: ignore[call-arg]
    if type(value) is dict:
        items = {key: _plain(element, depth - 1) for key, element in value.items()}
        return items if any(items[key] is not value[key] for key in value) else value
    return value
