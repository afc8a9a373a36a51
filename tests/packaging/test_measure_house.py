"""The measurements of readability count exactly what a small made-up package has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.house.__main__ import main
from scripts.house.checkout import Checkout, Measure
from scripts.house.coupling import measure_coupling
from scripts.house.duplicates import measure_duplicates
from scripts.house.imports import measure_imports
from scripts.house.layout import measure_layout
from scripts.house.vocabulary import measure_vocabulary

EQUAL_LINES = [f"    total += weight_{index} * total" for index in range(8)]
FILES = {
    "made_up/__init__.py": "",
    "made_up/errors.py": "class MadeUpError(Exception):\n    def __init__(self, problem, found=None): ...\n",
    "made_up/upper/__init__.py": "",
    "made_up/upper/first.py": '''"""Of the facts."""

from made_up.lower.second import load


def read(path, rest):
    # Why this is tried first.
    before, _, rest = path.partition(":")
    raise MadeUpError("the file holds nothing", found=path)
''',
    "made_up/lower/__init__.py": "",
    "made_up/lower/second.py": """__all__ = ["VideoFacts"]


def load(name):
    from importlib import import_module

    return import_module("made_up.upper.first")


def add(total):
"""
    + "\n".join(EQUAL_LINES)
    + "\n    return total\n",
    "made_up/lower/third.py": "def add_again(total):\n    print(total)\n\n"
    + "\n\n".join(EQUAL_LINES)
    + "\n    return total\n\n\ndef last(a, b, c, d, e, f, g, h, i, j, k, l, *, m):\n"
    + "".join(f"    a += {number}\n" for number in range(60)),
    "tests/test_first.py": """import subprocess

from made_up.upper import first
from made_up.lower.second import _private


def test_it(monkeypatch):
    monkeypatch.setattr("made_up.lower.second.load", None)
    monkeypatch.setattr(first, "_limit", 3)
    subprocess.run(["true"])
    with pytest.raises(ValueError, match="no such") as caught:
        first.read("", "")
    assert "such" in str(caught.value)
""",
    "README.md": "# Made up\n\nPass `--rest fp16`, and the `facts` are shown.\n",
    "docs/page.md": "A folder that holds files.\n\n```python\nfacts = read()\n```\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def checkout(root: Path) -> Checkout:
    return Checkout.read(root, "made_up")


def values(measures: list[Measure]) -> dict[str, float]:
    return {measure.name: measure.value for measure in measures}


def places(measures: list[Measure], name: str) -> list[str]:
    return [place for measure in measures if measure.name == name for place in measure.places]


def test_sizes(checkout: Checkout) -> None:
    measures = measure_layout(checkout)
    assert values(measures) == {
        "modules": 4,
        "modules in the largest folder": 2,
        "folders with more than 14 modules": 0,
        "modules in made_up": 1,
        "modules in made_up/lower": 2,
        "modules in made_up/upper": 1,
        "modules under 40 lines (%)": 75,
        "functions with more than 12 parameters (not commands)": 1,
        "functions over 60 lines": 1,
        "comment lines per 100 lines of code": round(100 / 92, 2),
    }
    assert places(measures, "functions over 60 lines") == ["made_up/lower/third.py:22: last has 61 lines"]


def test_a_late_import_closes_a_cycle(checkout: Checkout) -> None:
    measures = measure_imports(checkout)
    assert set(values(measures).values()) == {1}
    assert places(measures, "import cycles among modules") == ["2: made_up.lower.second made_up.upper.first"]
    assert places(measures, "import cycles among sibling packages") == ["2: made_up.lower made_up.upper"]


def test_an_import_for_type_checking_counts_separately(root: Path) -> None:
    late = 'def load(name):\n    from importlib import import_module\n\n    return import_module("made_up.upper.first")'
    typed = "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from made_up.upper import first"
    file = root / "made_up/lower/second.py"
    file.write_text(file.read_text(encoding="utf-8").replace(late, typed), encoding="utf-8")
    assert list(values(measure_imports(Checkout.read(root, "made_up"))).values()) == [0, 0, 1, 1]


def test_a_duplicated_block_counts_once_whatever_its_spacing(checkout: Checkout) -> None:
    (measure,) = measure_duplicates(checkout)
    assert measure.places == ("made_up/lower/second.py:11 and made_up/lower/third.py:4: 9 lines",)


def test_what_the_tests_rely_on(checkout: Checkout) -> None:
    assert values(measure_coupling(checkout)) == {
        "match= patterns in tests": 1,
        "'in str(...)' in tests": 1,
        "tests' patches of dotted names of the package": 1,
        "tests' patches of private names": 1,
        "tests' imports and uses of private names": 1,
        "child processes in tests": 1,
    }


def test_private_words(checkout: Checkout) -> None:
    """`found` of errors and `rest` of a partitioned string are right; a parameter `rest` of that function is not."""
    measures = measure_vocabulary(checkout)
    assert {name: value for name, value in values(measures).items() if value} == {
        "private words in public places": 6,
        "private words in identifiers": 1,
        "private words in strings": 2,
        "private words in docstrings and comments": 1,
        "private words in README and docs": 4,
        "private word 'rest'": 2,
        "private word 'facts'": 4,
        "private word 'holds'": 2,
    }
    assert places(measures, "private words in identifiers") == [
        "made_up/upper/first.py:6: rest (identifiers) -> float_precision"
    ]
    assert "README.md:3: facts (README and docs) -> properties, probe, metadata" in places(
        measures, "private words in README and docs"
    )


def test_figures_of_an_earlier_run_stand_beside_those_of_now(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = tmp_path / "earlier.json"
    earlier.write_text(json.dumps([{"name": "modules", "value": 9}, {"name": "gone", "value": 2}]), encoding="utf-8")
    main(["--root", str(root), "--package", "made_up", "--before", str(earlier), "--json", str(tmp_path / "now.json")])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == [["before", "now", "target"], ["modules", "9", "4"]]
    assert lines[-1] == ["gone", "2", "-"]
    assert json.loads((tmp_path / "now.json").read_text(encoding="utf-8"))[0]["value"] == 4
