"""Arguments of the wrong type are named; enums are also accepted by their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sr_edge.errors import BundleError, FrameError, PrecisionUnavailable, UnknownNameError, UsageError
from sr_edge.frames import require_frame
from sr_edge.model_sources import open_frame_session, open_session
from sr_edge.spec import Precision, member_of
from tests.bundle.bundles import write
from tests.expected_errors import raises


@pytest.mark.parametrize("open_it", [open_session, open_frame_session])
@pytest.mark.parametrize("bundle", [None, 7, b"x"])
def test_what_is_no_bundle_is_named(open_it: Any, bundle: object) -> None:
    with raises(UsageError, found=bundle):
        open_it(bundle, "onnxruntime")


@pytest.mark.parametrize("open_it", [open_session, open_frame_session])
def test_precisions_may_be_given_by_name(open_it: Any, tmp_path: Path) -> None:
    bundle = write(tmp_path / "net.sredge")
    with pytest.raises(PrecisionUnavailable) as caught:
        open_it(bundle, "onnxruntime", "fp16")
    assert "fp16" in str(caught.value.found) and "fp32" in str(caught.value.wanted)
    with raises(UnknownNameError, found="int9", wanted=["fp32", "bf16", "fp16", "int8"]):
        open_it(bundle, "onnxruntime", "int9")
    with raises(BundleError):
        open_it(tmp_path / "absent", "onnxruntime", "int8")


def test_members_are_kept() -> None:
    assert member_of(Precision, Precision.FP16, "precision") is Precision.FP16
    with raises(UnknownNameError, found="None"):
        member_of(Precision, None, "precision")


@pytest.mark.parametrize("frame", ["x", None, [[1, 2, 3]]])
def test_what_is_no_array_is_no_frame(frame: Any) -> None:
    with raises(FrameError, found=type(frame).__name__):
        require_frame(frame)
