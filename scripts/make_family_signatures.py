"""Writes sr_edge/models/recognition/signatures.json: the keys of a state dict of each family that spandrel recognises.

Run it after an update of spandrel. Numbers of blocks are left out (`body.#.weight`), so small networks do; where a
family is saved in several forms, each is one list.
"""

from __future__ import annotations

import json
import re
from importlib import import_module
from typing import Any

from sr_edge.models.recognition.families import FAMILIES
from sr_edge.models.recognition.library import require_library, suppress_output
from sr_edge.models.recognition.signatures import SIGNATURES_FILE, patterns_of

SHUFFLE = {"upscale": 2, "upsampler": "pixelshuffle"}
DIRECT = {"upscale": 2, "upsampler": "pixelshuffledirect"}
NEAREST = {"upscale": 4, "upsampler": "nearest+conv"}
SWIN = {"embed_dim": 12, "depths": [2], "num_heads": [2], "window_size": 8}

Form = tuple[str, dict[str, Any]]

FORMS: dict[str, tuple[Form, ...]] = {
    "ATD": (("ATD", {**SWIN, **SHUFFLE}), ("ATD", {**SWIN, **DIRECT}), ("ATD", {**SWIN, **NEAREST})),
    "CRAFT": (("CRAFT", {"embed_dim": 24, "depths": [2], "num_heads": [2]}),),
    "Compact": (("Compact", {"num_feat": 8, "num_conv": 2}),),
    "DAT": (
        ("DAT", {"embed_dim": 16, "depth": [3], "num_heads": [2], "split_size": [8, 16], **SHUFFLE}),
        ("DAT", {"embed_dim": 16, "depth": [3], "num_heads": [2], "split_size": [8, 16], **DIRECT}),
    ),
    "DCTLSA": (("DCTLSA", {"nf": 25}),),
    "DITN": (("DITN", {"dim": 12}),),
    "DRCT": (("DRCT", {"embed_dim": 24, "depths": [6], "num_heads": [2], "window_size": 8, "gc": 8, **SHUFFLE}),),
    "DRUNet": (("DRUNet", {"in_nc": 4, "out_nc": 3, "nc": [8, 8, 8, 8], "nb": 2}),),
    "DnCNN": (
        ("DnCNN", {"nc": 8, "nb": 5, "act_mode": "R"}),
        ("DnCNN", {"nc": 8, "nb": 5, "act_mode": "BR"}),
    ),
    "ESRGAN": (
        ("ESRGAN", {"num_filters": 8, "num_blocks": 1}),
        ("ESRGAN", {"num_filters": 8, "num_blocks": 1, "plus": True}),
    ),
    "FBCNN": (("FBCNN", {"nc": [8, 8, 8, 512], "nb": 2}),),
    "FDAT": (("FDAT", {"embed_dim": 24, "num_groups": 1, "depth_per_group": 1, "num_heads": 2, "scale": 4}),),
    "FFTformer": (("FFTformer", {"dim": 16, "num_blocks": [1, 1, 1], "num_refinement_blocks": 1}),),
    "GRL": tuple(
        ("GRL", {"embed_dim": 32, "depths": [2], "num_heads_window": [2], "num_heads_stripe": [2], **upsampler})
        for upsampler in (SHUFFLE, DIRECT, NEAREST)
    ),
    "HAT": (("HAT", {**SWIN, "compress_ratio": 3, "squeeze_factor": 4, **SHUFFLE}),),
    "HVICIDNet": (("HVICIDNet", {"channels": [12, 12, 24, 48]}),),
    "IPT": (("IPT", {"patch_size": 24, "n_feats": 8, "num_layers": 1, "scale": [2]}),),
    "KBNet": (
        ("KBNet_s", {"width": 16, "middle_blk_num": 1, "enc_blk_nums": [1], "dec_blk_nums": [1]}),
        ("KBNet_l", {"dim": 24, "num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1}),
    ),
    "MMRealSR": (
        (
            "MMRealSR",
            {
                **{"num_in_ch": 3, "num_out_ch": 3, "scale": 4, "num_feat": 8, "num_block": 1, "num_grow_ch": 4},
                **{"num_feats": [8, 8, 8, 8], "num_blocks": [1, 1, 1, 1]},
            },
        ),
    ),
    "MixDehazeNet": (("MixDehazeNet", {}),),
    "MoESR": (("MoESR", {"dim": 24, "n_blocks": 1, "n_block": 1, "scale": 4}),),
    "MoSR": tuple(
        ("MoSR", {"n_block": 2, "dim": 24, "upscale": 4, "upsampler": upsampler}) for upsampler in ("ps", "dys", "gps")
    ),
    "NAFNet": (("NAFNet", {"width": 8, "middle_blk_num": 1, "enc_blk_nums": [1], "dec_blk_nums": [1]}),),
    "OmniSR": (("OmniSR", {"num_feat": 32, "res_num": 1, "block_num": 1}),),
    "PLKSR": (
        ("PLKSR", {"dim": 32, "n_blocks": 1}),
        ("RealPLKSR", {"dim": 32, "n_blocks": 1, "upscaling_factor": 4}),
        ("RealPLKSR", {"dim": 32, "n_blocks": 1, "upscaling_factor": 4, "dysample": True}),
    ),
    "RCAN": (("RCAN", {"n_resgroups": 1, "n_resblocks": 1, "n_feats": 16, "reduction": 8, "scale": 2}),),
    "RGT": (("RGT", {"embed_dim": 32, "depth": [2, 2], "num_heads": [2, 2], "split_size": [8, 8], "upscale": 2}),),
    "RealCUGAN": (("UpCunet2x", {}), ("UpCunet4x", {})),
    "RetinexFormer": (("RetinexFormer", {"n_feat": 16, "stage": 1}),),
    "SAFMN": (("SAFMN", {"dim": 12, "n_blocks": 1}),),
    "SAFMNBCIE": (("SAFMNBCIE", {"dim": 12, "n_blocks": 1, "num_layers": 1}),),
    "SCUNet": (("SCUNet", {"config": [1] * 7, "dim": 64}),),
    "SPAN": (("SPAN", {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 8}),),
    "SeemoRe": (("SeemoRe", {"num_experts": 2, "num_layers": 1, "embedding_dim": 12, "scale": 2}),),
    "SwiftSRGAN": (("SwiftSRGAN", {"num_channels": 8, "num_blocks": 1}),),
    "Swin2SR": tuple(("Swin2SR", {**SWIN, **upsampler}) for upsampler in (SHUFFLE, DIRECT, NEAREST)),
    "SwinIR": tuple(("SwinIR", {**SWIN, **upsampler}) for upsampler in (SHUFFLE, DIRECT, NEAREST)),
    "Uformer": (
        ("Uformer", {"embed_dim": 16, "depths": [1] * 9, "num_heads": [1, 2, 4, 4, 4, 4, 4, 4, 2]}),
    ),
}  # fmt: skip
"""What is built of each family: the name of a constructor in its package, and small sizes."""

RRDB_KEYS = (
    (r"^model\.#\.(weight|bias)$", r"conv_first.\1"),
    (r"^model\.#\.sub\.#\.RDB(\d)\.conv(\d)\.#\.", r"{trunk}.#.{block}\1.conv\2."),
    (r"^model\.#\.sub\.#\.(weight|bias)$", r"{trunk_conv}.\1"),
)
RENAMED_RRDB = (
    ({"trunk": "body", "block": "rdb", "trunk_conv": "conv_body"}, ("conv_up1", "conv_up2", "conv_hr", "conv_last")),
    (
        {"trunk": "RRDB_trunk", "block": "RDB", "trunk_conv": "trunk_conv"},
        ("upconv1", "upconv2", "HRconv", "conv_last"),
    ),
)
"""Real-ESRGAN's and BSRGAN's names of the parts of RRDBNet, and of its last layers."""


def main() -> None:
    require_library()
    signatures = {family.id: forms_of(family.id) for family in FAMILIES if not family.refused}
    lines = [f"  {json.dumps(family)}: {forms_text(forms)}" for family, forms in signatures.items()]
    SIGNATURES_FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{SIGNATURES_FILE}: {len(signatures)} families")


def forms_text(forms: list[list[str]]) -> str:
    return "[\n" + ",\n".join(f"    {json.dumps(form)}" for form in forms) + "\n  ]"


def forms_of(family: str) -> list[list[str]]:
    """The patterns of each form in which networks of `family` are saved."""
    package = import_module(f"spandrel.architectures.{family}")
    with suppress_output():
        networks = [getattr(package, constructor)(**sizes) for constructor, sizes in FORMS[family]]
    forms = [list(patterns_of(network.state_dict())) for network in networks]
    return [*forms, *(renamed_rrdb(forms[0], *names) for names in RENAMED_RRDB)] if family == "ESRGAN" else forms


def renamed_rrdb(form: list[str], names: dict[str, str], last_layers: tuple[str, ...]) -> list[str]:
    """The same network under the keys of a later release, which spandrel maps to those of the first."""
    renamed = form
    for old, new in RRDB_KEYS:
        renamed = [re.sub(old, new.format(**names), pattern) for pattern in renamed]
    return [*renamed, *(f"{layer}.weight" for layer in last_layers)]


if __name__ == "__main__":
    main()
