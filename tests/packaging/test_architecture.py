"""docs/architecture.md: its list of imports is current, and every file and folder that it names exists."""

from __future__ import annotations

import re
from graphlib import CycleError

import pytest

from scripts.draw_architecture import PAGE, ROOT, layers_of, levels_of, reduced, with_list
from scripts.house.checkout import Checkout

NAMED = re.compile(r"`((?:sr_edge|tests)/[\w/.]*)`")


def test_the_list_of_imports_is_current() -> None:
    page = PAGE.read_text("utf-8")
    assert page == with_list(page, layers_of(Checkout.read(ROOT))), "run: python scripts/draw_architecture.py"


def test_every_place_that_is_named_exists() -> None:
    places = [place for place in NAMED.findall(PAGE.read_text("utf-8")) if "NAME" not in place]
    assert len(places) > 30
    assert [place for place in places if not (ROOT / place).exists()] == []


def test_levels_and_arrows_of_a_small_graph() -> None:
    graph = {"cli": {"export", "errors"}, "export": {"errors"}, "errors": set[str]()}
    assert levels_of(graph) == {"errors": 0, "export": 1, "cli": 2}
    assert reduced(graph) == {"cli": {"export"}, "export": {"errors"}, "errors": set()}


def test_a_cycle_is_refused_by_name() -> None:
    with pytest.raises(CycleError) as caught:
        levels_of({"a": {"b"}, "b": {"a"}, "c": set()})
    assert caught.value.args[1] == ["a", "b"]


def test_every_name_in_the_glossary_exists() -> None:
    glossary = PAGE.with_name("glossary.md").read_text("utf-8")
    names = set(re.findall(r"`([A-Z]\w+)`", glossary))
    code = "\n".join(file.text for file in Checkout.read(ROOT).sources)
    assert len(names) > 10
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", code)] == []
