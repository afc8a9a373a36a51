"""Makes any module ready to be traced, copied and run: float32, without gradients, without leftovers of a graph."""

from __future__ import annotations

from torch import Tensor, nn

MAX_NESTING = 4


def prepared(network: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """Puts `network` into eval mode and float32, in place.

    `copy.deepcopy` refuses a module that keeps a tensor with a gradient graph behind it, and `.float()` reaches neither
    tensors in plain attributes nor those in lists; both are repaired here.

    Returns:
        the network, and what was changed that its user should know.
    """
    others = {str(t.dtype).removeprefix("torch.") for t in _tensors(network) if _is_other_float(t)}
    network.eval().requires_grad_(False)
    network.float()
    for module in network.modules():
        for name, value in list(vars(module).items()):
            if name not in ("_parameters", "_buffers", "_modules") and not name.startswith("__"):
                _set_plain(module, name, value)
        for name, buffer in list(module._buffers.items()):
            if buffer is not None and buffer.grad_fn is not None:
                module._buffers[name] = buffer.detach()
    remark = f"the network was in {', '.join(sorted(others))}; it is deployed from float32" if others else ""
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
    """The same value where there is nothing to repair; else a copy of the containers around what was repaired."""
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
