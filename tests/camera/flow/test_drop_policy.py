"""Drop policies: how they are written, and which one a source gets by default."""

from __future__ import annotations

import pytest

from sr_edge.camera.flow.drop_policy import Dropping, Policy, policy_for
from sr_edge.errors import UsageError
from tests.expected_errors import raises


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("latest", Policy(Dropping.LATEST)),
        ("block", Policy(Dropping.BLOCK)),
        ("drop-late 100", Policy(Dropping.DROP_LATE, 100)),
        ("drop-late=33.5", Policy(Dropping.DROP_LATE, 33.5)),
    ],
)
def test_policies_are_read(text: str, policy: Policy) -> None:
    assert Policy.parse(text) == policy
    assert Policy.parse(str(policy)) == policy


@pytest.mark.parametrize("text", ["", "newest", "drop-late", "drop-late x", "latest 5"])
def test_what_is_no_policy_is_refused(text: str) -> None:
    with raises(UsageError, found=text, wanted=["latest", "block", "drop-late MS"]):
        Policy.parse(text)


def test_a_deadline_that_is_over_at_once_is_refused() -> None:
    with raises(UsageError, found=0.0, wanted="more than 0 ms"):
        Policy.parse("drop-late 0")


def test_live_sources_drop_others_wait() -> None:
    assert policy_for(is_live=True).dropping is Dropping.LATEST
    assert policy_for(is_live=False).dropping is Dropping.BLOCK
