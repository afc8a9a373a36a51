"""Errors keep their fields when they are formatted and when they are pickled for another process."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from sr_edge.errors import SrEdgeError, TileError, UnknownNameError
from sr_edge.spec import TileSpec


def test_the_message_is_the_problem_and_the_remedy() -> None:
    assert str(SrEdgeError("the file is empty")) == "the file is empty"
    assert str(SrEdgeError("the file is empty", found=0, remedy="copy it again")) == "the file is empty; copy it again"


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    error = UnknownNameError("runtime", "tensorflow", ["torch", "openvino"])
    assert (error.found, error.wanted) == ("tensorflow", ["torch", "openvino"])
    assert str(error) == "unknown runtime 'tensorflow'; choose one of: torch, openvino"


class OtherArguments(SrEdgeError):
    """An error with other constructor arguments than its base class, and with a field of its own."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"{size_bytes} bytes are too many", found=size_bytes, wanted=1, remedy="use fewer")
        self.size_bytes = size_bytes


@pytest.mark.parametrize(
    "error",
    [
        TileError("the tile is too small", found=TileSpec(8, 8), wanted=96, remedy="pass --tile 96x96"),
        SrEdgeError("there is no file", found=Path("x")),
        UnknownNameError("runtime", "tensorflow", ["torch", "openvino"]),
        OtherArguments(7),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_the_way_to_another_process(error: SrEdgeError) -> None:
    for same in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(same) is type(error)
        assert str(same) == str(error)
        assert vars(same) == vars(error)
