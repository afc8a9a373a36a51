"""Counts the multiply-accumulates of every registered network at 96x96 for `sr-edge models`. Usage: `python FILE`.

Counting takes seconds for each network and depends on the code alone, so `sr-edge models` reads the counts from a
file.
"""

from __future__ import annotations

import json

import torch

from sr_edge.models.macs import count_macs
from sr_edge.models.model_list import MACS_FILE, MACS_INPUT_PX
from sr_edge.models.registry import SCALES, build_network, count_parameters, model_names


def main() -> None:
    counts = {name: {str(scale): count_network(name, scale) for scale in SCALES} for name in model_names()}
    lines = [f"  {json.dumps(name)}: {json.dumps(by_scale)}" for name, by_scale in counts.items()]
    MACS_FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"wrote {MACS_FILE}")


def count_network(name: str, scale: int) -> dict[str, int]:
    """Parameters and multiply-accumulates of one network; an outdated count is recognised by `parameters`."""
    with torch.device("meta"):
        network = build_network(name, scale)
    macs = count_macs(network, MACS_INPUT_PX, MACS_INPUT_PX)
    return {"parameters": count_parameters(network), "macs": macs}


if __name__ == "__main__":
    main()
