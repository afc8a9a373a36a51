"""`raises`: checks the type and fields of an expected error, but not the wording of its message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest

from sr_edge.errors import SrEdgeError

ErrorType = TypeVar("ErrorType", bound=SrEdgeError)


@contextmanager
def raises(kind: type[ErrorType], **fields: object) -> Iterator[pytest.ExceptionInfo[ErrorType]]:
    """Expects exactly an error of type `kind` whose fields (`found`, `wanted`, `remedy`, ...) equal `fields`.

    Whatever its fields, its message has to be one line, since the command line prints it as one.

    Yields:
        The information of `pytest.raises`, to check more of the error after the block.
    """
    with pytest.raises(kind) as caught:
        yield caught
    error = caught.value
    assert type(error) is kind, f"expected {kind.__name__}, got {type(error).__name__}: {error}"
    assert {name: getattr(error, name) for name in fields} == fields, str(error)
    assert "\n" not in str(error)
