"""Hypothesis knows the classes without being told, and programs that use hypothesis alone do not pay for it."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def installed(tmp_path):
    """A folder in which Python finds torchneupy's entry points, as it does where torchneupy is installed."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    folder = tmp_path / "torchneupy-0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: torchneupy\nVersion: 0\n")
    (folder / "entry_points.txt").write_text(f"[hypothesis]\n{config['options.entry_points']['hypothesis']}\n")
    return tmp_path


def run(program: str, *folders: Path) -> None:
    # -P: without the folder of the project's own metadata, which may be older.
    path = os.pathsep.join(map(str, (*folders, ROOT)))
    environment = {name: value for name, value in os.environ.items() if name != "HYPOTHESIS_NO_PLUGINS"}
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", program],
        env={**environment, "PYTHONPATH": path},
        cwd=folders[0],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_hypothesis_alone_does_not_import_torch(installed):
    run(
        """
import sys
from hypothesis import find, strategies as st
class Other: pass
find(st.integers(), lambda number: number > 3)
find(st.from_type(Other), lambda other: True)
assert "torchneupy.hypothesis_plugin" in sys.modules
assert not {"torch", "numpy", "torchneupy.layers"} & set(sys.modules)
""",
        installed,
    )


@pytest.mark.parametrize("first", ["hypothesis", "torchneupy.layers"])
def test_types_are_known_whatever_is_imported_first(installed, first):
    run(
        f"""
import {first}
import sys
from hypothesis import find, strategies as st
from torchneupy.core.shape import TensorShape
from torchneupy.layers import BaseLayer, LayerGraph, LSTM, Relu
assert "torchneupy.testing" not in sys.modules
for cls in (BaseLayer, LayerGraph, TensorShape, LSTM, Relu):
    assert isinstance(find(st.from_type(cls), lambda found: True), cls)
""",
        installed,
    )


def test_without_hypothesis(tmp_path):
    run(
        """
import sys
sys.modules["hypothesis"] = None
try:
    import torchneupy.testing
except ImportError as error:
    assert 'pip install "torchneupy[testing]"' in str(error), error
else:
    raise AssertionError("it was imported")
""",
        tmp_path,
    )
