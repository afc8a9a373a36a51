"""The public names of sr_edge.camera: exact, sorted, loaded on first use, and hidden by no module of the same name."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import sr_edge.camera


def test_every_public_name_loads_and_no_other() -> None:
    assert dir(sr_edge.camera) == sorted(sr_edge.camera.__all__)
    for name in sr_edge.camera.__all__:
        assert getattr(sr_edge.camera, name) is not None
    assert not hasattr(sr_edge.camera, "nothing")


def test_no_module_hides_a_public_name() -> None:
    """Importing a module sets an attribute of its package, which a name that loads on first use must survive."""
    modules = {module.name for module in pkgutil.iter_modules(sr_edge.camera.__path__)}
    assert modules & set(sr_edge.camera.__all__) == set()


def test_the_package_alone_loads_no_library() -> None:
    code = "import sys, sr_edge.camera; sys.exit('av' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
