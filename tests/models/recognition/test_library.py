"""spandrel is imported whatever torchvision there is, and nothing stands for torchvision afterwards."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sr_edge.installation import how_to_install

PROJECT_ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file())
INSTALL = how_to_install("spandrel")
NMS = "operator torchvision::nms does not exist"
needs_spandrel = pytest.mark.skipif(
    importlib.util.find_spec("spandrel") is None, reason="spandrel is not installed; scripts/make_venv brings it"
)

# One interpreter for all cases, since importing torch is what takes time. The last case imports spandrel again.
CASES = """
import contextlib, io, json, sys
import torch
from sr_edge.cli.app import app
from sr_edge.cli.failures import run_command
from sr_edge.models.recognition.library import import_library
from sr_edge.models.loading.spandrel_networks import describe_unrecognized, load_family, recognize

broken, working = sys.argv[1:]
shapes = {0: (8, 3, 3, 3), 1: (8,), 2: (8, 8, 3, 3), 3: (8,), 4: (48, 8, 3, 3)}
state = {f"body.{index}.weight": torch.zeros(shape) for index, shape in shapes.items()}
state.update({f"body.{index}.bias": torch.zeros(shape[0]) for index, shape in shapes.items() if len(shape) == 4})

def error_of(action):
    try:
        action()
    except Exception as error:
        return [type(error).__name__, getattr(error, "remedy", str(error))]

def torchvision_modules():
    return [name for name in sys.modules if name.partition(".")[0] == "torchvision"]

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "spandrel":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

answers = {}
blocker = Blocker()
sys.meta_path.insert(0, blocker)
answers["absent"] = {"recognised": recognize(state) is not None, "described": describe_unrecognized(state)}
answers["absent"]["load_family"] = error_of(lambda: load_family("spandrel/Compact", state))
with contextlib.redirect_stdout(io.StringIO()) as table:
    answers["absent"]["code"] = run_command(app, ["models", "--families"])
answers["absent"]["table"] = table.getvalue()
sys.meta_path.remove(blocker)
sys.path.insert(0, broken)

def with_spandrel():
    recognised = recognize(state)
    found = {"architecture": recognised.architecture, "remark": recognised.remark, "left": torchvision_modules()}
    found["later import"] = error_of(lambda: __import__("torchvision"))
    from spandrel.architectures import RestoreFormer
    found["use"] = error_of(lambda: RestoreFormer.tv_normalize(state))
    answers["broken"] = found

    sys.path[0] = working
    for name in [name for name in sys.modules if name.partition(".")[0] in ("spandrel", "torchvision")]:
        del sys.modules[name]
    library = import_library()
    import torchvision.transforms.functional as functional
    from spandrel.architectures import RestoreFormer
    answers["working"] = {"remark": library.remark, "same": RestoreFormer.tv_normalize is functional.normalize}

if recognize(state) is not None:
    with_spandrel()
print(json.dumps(answers))
"""


def write_torchvision(folder: Path, init: str) -> Path:
    package = folder / "torchvision"
    (package / "transforms").mkdir(parents=True)
    (package / "__init__.py").write_text(init)
    (package / "extension.py").write_text("")
    (package / "transforms" / "__init__.py").write_text("")
    functional = "class InterpolationMode: pass\ndef normalize(): pass\ndef rotate(): pass\n"
    (package / "transforms" / "functional.py").write_text(functional)
    return folder


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a fresh interpreter found without spandrel, beside a broken torchvision and beside one that works."""
    init = f"from torchvision import extension\nraise RuntimeError({NMS!r})\n"
    broken = write_torchvision(tmp_path_factory.mktemp("broken"), init)
    working = write_torchvision(tmp_path_factory.mktemp("working"), "")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CASES, broken, working],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
    )
    assert done.returncode == 0, done.stderr
    actual: dict[str, Any] = json.loads(done.stdout)  # one line: the networks' code printed nothing
    return actual


def test_without_spandrel_the_family_and_how_to_install_it_are_told(answers: dict[str, Any]) -> None:
    absent = answers["absent"]
    assert not absent["recognised"]
    assert "Compact" in absent["described"] and INSTALL in absent["described"]
    assert absent["load_family"][0] == "UsageError" and INSTALL in absent["load_family"][1]
    assert absent["code"] == 0 and INSTALL in absent["table"]


@needs_spandrel
def test_a_torchvision_that_cannot_be_imported_is_done_without(answers: dict[str, Any]) -> None:
    assert answers["broken"]["architecture"] == "spandrel/Compact"
    assert NMS in answers["broken"]["remark"]
    assert answers["broken"]["use"][0] == "UsageError"


@needs_spandrel
def test_such_a_torchvision_stays_as_broken_as_it_was(answers: dict[str, Any]) -> None:
    assert answers["broken"]["left"] == []
    assert answers["broken"]["later import"] == ["RuntimeError", NMS]


@needs_spandrel
def test_a_torchvision_that_works_is_the_one_that_spandrel_gets(answers: dict[str, Any]) -> None:
    assert answers["working"] == {"remark": "", "same": True}
