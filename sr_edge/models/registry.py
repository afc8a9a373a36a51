"""The registered networks: one entry for each architecture; a network is named `architecture-size`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from sr_edge.errors import UnknownNameError, UsageError
from sr_edge.models.architectures.convnet import CONVNET_SIZES, ConvNet
from sr_edge.models.architectures.labnet import LABNET_SIZES, LabNet, initialize_labnet
from sr_edge.models.architectures.lcoan import LCOAN_SIZES, LCoAN, initialize_lcoan
from sr_edge.models.architectures.realnet import REALNET_SIZES, PairedInput, RealNet, initialize_realnet
from sr_edge.models.architectures.swinir import SWINIR_SIZES, SwinIR
from sr_edge.models.architectures.taylor_swinir import TAYLOR_SWINIR_SIZES, TaylorSwinIR
from sr_edge.models.architectures.ups import UPS, UPS_SIZES
from sr_edge.models.layers.swin import initialize_swin

SCALES = (2, 3, 4)
WEIGHTS_FOLDER = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Architecture:
    """One family of networks: all that loading, training and export need to know about it.

    Args:
        name: the family's name; a network is called `name-size`.
        sizes: the names of its sizes.
        build: `build(size, scale)` returns a network with random weights.
        multiple_px: the height and width of its tiles are multiples of this.
        overlap_px: overlap of neighbouring tiles, in low-resolution pixels, for which the seams were measured.
        global_statistics: whether an output pixel depends on the whole image.
        initialize: sets weights in place with which the network upscales before the first training step; None keeps
            the random ones.
        published_degradation: name of the degradation with which the paper trains (`sr_edge.training.degradations`).
        paired_input: wraps the network so that each of its branches can be trained on an image of its own; None for a
            network that is trained on one image.
        static_twins: names of the modules in `sr_edge.export.twins` that define the static twins of its layers; empty
            for a network that exports well as it is.
    """

    name: str
    sizes: tuple[str, ...]
    build: Callable[[str, int], nn.Module]
    multiple_px: int
    overlap_px: int
    global_statistics: bool = False
    initialize: Callable[[nn.Module], None] | None = None
    published_degradation: str = "bicubic"
    paired_input: Callable[[nn.Module], nn.Module] | None = None
    static_twins: tuple[str, ...] = ()


ARCHITECTURES = (
    Architecture(
        "taylor-swinir",
        tuple(TAYLOR_SWINIR_SIZES),
        lambda size, scale: TaylorSwinIR(TAYLOR_SWINIR_SIZES[size].at_scale(scale)),
        multiple_px=48,
        overlap_px=16,
        initialize=initialize_swin,
        static_twins=("swin", "taylor"),
    ),
    Architecture(
        "swinir",
        tuple(SWINIR_SIZES),
        lambda size, scale: SwinIR(SWINIR_SIZES[size].at_scale(scale)),
        multiple_px=8,
        overlap_px=16,
        initialize=initialize_swin,
        static_twins=("swinir",),
    ),
    Architecture(
        "ups",
        tuple(UPS_SIZES),
        lambda size, scale: UPS(UPS_SIZES[size].at_scale(scale)),
        multiple_px=8,
        overlap_px=16,
        initialize=initialize_swin,
        static_twins=("ups",),
    ),
    Architecture(
        "lcoan",
        tuple(LCOAN_SIZES),
        lambda size, scale: LCoAN(LCOAN_SIZES[size].at_scale(scale)),
        multiple_px=1,
        overlap_px=16,
        global_statistics=True,
        initialize=initialize_lcoan,
        static_twins=("lcoan",),
    ),
    Architecture(
        "labnet",
        tuple(LABNET_SIZES),
        lambda size, scale: LabNet(LABNET_SIZES[size].at_scale(scale)),
        multiple_px=4,
        overlap_px=18,
        global_statistics=True,
        initialize=initialize_labnet,
        published_degradation="blind-gaussian",
        static_twins=("lstea", "stea", "mlfr"),
    ),
    Architecture(
        "realnet",
        tuple(REALNET_SIZES),
        lambda size, scale: RealNet(REALNET_SIZES[size].at_scale(scale)),
        multiple_px=1,
        overlap_px=16,
        global_statistics=True,
        initialize=initialize_realnet,
        published_degradation="realnet",
        paired_input=PairedInput,
        static_twins=("lstea", "stea", "mlfr"),
    ),
    Architecture(
        "convnet",
        tuple(CONVNET_SIZES),
        lambda size, scale: ConvNet(CONVNET_SIZES[size].at_scale(scale)),
        multiple_px=1,
        overlap_px=16,
    ),
)


def model_names() -> list[str]:
    """The names of all registered networks, in the order of `ARCHITECTURES`."""
    return [f"{architecture.name}-{size}" for architecture in ARCHITECTURES for size in architecture.sizes]


def find_architecture(name: str) -> tuple[Architecture, str]:
    """The registry entry and the size of the network called `name`; raises UnknownNameError."""
    for architecture in ARCHITECTURES:
        for size in architecture.sizes:
            if name == f"{architecture.name}-{size}":
                return architecture, size
    raise UnknownNameError("model", name, model_names())


def build_network(name: str, scale: int) -> nn.Module:
    """Builds a network with random weights, in eval mode.

    Args:
        name: name of a registered network, such as "convnet-tiny".
        scale: magnification.

    Raises:
        UnknownNameError: there is no registered network of that name.
        UsageError: the scale is not one of `SCALES`.
    """
    architecture, size = find_architecture(name)
    require_scale(name, scale)
    return architecture.build(size, scale).eval()


def require_scale(name: str, scale: int) -> None:
    """Raises UsageError unless registered networks are available for `scale`."""
    if scale not in SCALES:
        raise UsageError(
            f"{name} is available for the scales {', '.join(map(str, SCALES))}, not {scale}",
            found=scale,
            wanted=SCALES,
            remedy="choose one of these scales",
        )


def count_parameters(module: nn.Module) -> int:
    """The number of elements of all parameters, trainable or not."""
    return sum(parameter.numel() for parameter in module.parameters())


def bundled_weights(name: str, scale: int) -> Path | None:
    """Path of the trained weights that ship with the package; None if there are none.

    Args:
        name: name of a registered network, such as "convnet-tiny".
        scale: magnification.
    """
    path = WEIGHTS_FOLDER / f"{name}-x{scale}.safetensors"
    return path if path.is_file() else None
