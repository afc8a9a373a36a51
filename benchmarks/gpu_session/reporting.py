"""What a session and its steps tell each other: what a step is given, and the figures that it hands over."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gpu_session.process import FIGURES_VARIABLE
from sr_edge.bundle.plain import json_text
from sr_edge.errors import RuntimeUnavailable

CONTEXT_VARIABLE = "SR_EDGE_GPU_SESSION_CONTEXT"


@dataclass(frozen=True)
class Context:
    """What the session tells a step.

    Attributes:
        material: the folder with prepared bundles and graphs.
        rehearsal: whether a stand-in takes the device's place; sizes are small then.
        figures: the figures of earlier steps that later ones need, by step.
    """

    material: str = "gpu-material"
    rehearsal: bool = False
    figures: Mapping[str, Any] = field(default_factory=dict)

    def require_gpu(self) -> None:
        """Raises RuntimeUnavailable where the doctor came to its end and found no GPU; else it may be tried."""
        doctor = self.figures.get("doctor")
        if doctor and doctor["complete"] and not doctor["device"]:
            raise RuntimeUnavailable("the step `doctor` found no NVIDIA GPU", wanted="an NVIDIA GPU")

    def as_environment(self) -> dict[str, str]:
        """The variable in which a step's process finds this."""
        return {CONTEXT_VARIABLE: json.dumps({**vars(self), "figures": dict(self.figures)})}


def context() -> Context:
    """What this step was given; a step that is run by hand gets the defaults."""
    text = os.environ.get(CONTEXT_VARIABLE)
    return Context(**json.loads(text)) if text else Context()


def publish(figures: object) -> None:
    """Hands figures to the session, in place of those handed over before; by hand, they are printed."""
    text = json_text(figures)
    descriptor = os.environ.get(FIGURES_VARIABLE)
    if descriptor is None:
        print(text, end="", flush=True)
        return
    line = json.dumps(json.loads(text)).encode() + b"\n"
    while line:
        line = line[os.write(int(descriptor), line) :]
