"""Counts what every registered network computes at 96x96, and keeps it for `sr-edge models`: `python FILE`.

Counting takes seconds a network, and the counts are facts of the code, so the list reads them from a file.
"""

from __future__ import annotations

import json

import torch

from sr_edge.models.macs import count_macs
from sr_edge.models.model_list import COUNTED_SIDE_PX, MACS_FILE
from sr_edge.models.registry import SCALES, build_network, count_parameters, model_names


def main() -> None:
    counts = {name: {str(scale): counted(name, scale) for scale in SCALES} for name in model_names()}
    lines = [f"  {json.dumps(name)}: {json.dumps(by_scale)}" for name, by_scale in counts.items()]
    MACS_FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"wrote {MACS_FILE}")


def counted(name: str, scale: int) -> dict[str, int]:
    """`parameters` tells a count that is out of date."""
    with torch.device("meta"):
        network = build_network(name, scale)
    macs = count_macs(network, COUNTED_SIDE_PX, COUNTED_SIDE_PX)
    return {"parameters": count_parameters(network), "macs": macs}


if __name__ == "__main__":
    main()
