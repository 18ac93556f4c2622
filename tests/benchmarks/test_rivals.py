"""Rivals in processes of their own do the same work as we."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch

from benchmarks import dense
from benchmarks.measure import Absent
from benchmarks.rivals import apart
from benchmarks.rivals.apart import KERAS, NEUPY, Process, keras_and_neupy, start
from tests.benchmarks.works import QUICK

FAKE = """
from benchmarks.rivals.worker import Made, serve

def make(kind, task, options, arrays):
    print("what libraries print")
    if kind == "impossible":
        raise RecursionError("too deep")
    if kind == "fatal":
        raise SystemExit("gone")
    return Made(lambda: arrays["x"] * options["factor"], n_parameters=3)

serve(make)
"""


@pytest.fixture
def process(tmp_path):
    path = tmp_path / "fake.py"
    path.write_text(FAKE, encoding="utf-8")
    process = Process([sys.executable, str(path)])
    yield process
    process.close()


def test_work_in_another_process(process):
    work = process.work("network", "forward", torch.ones(3), 3, {"factor": 2})
    assert not isinstance(work, Absent)
    assert 0 < work.time(10) < 1e6


def test_a_rival_that_cannot(process):
    x = torch.ones(3)
    assert process.work("impossible", "forward", x, None, {}) == Absent("RecursionError: too deep")
    assert isinstance(process.work("network", "forward", x, 3, {"factor": 2}), apart.WorkApart)
    assert process.work("fatal", "forward", x, None, {}) == Absent("its process has ended: gone")
    assert isinstance(process.work("network", "forward", x, 3, {"factor": 2}), Absent)


def test_a_rival_that_does_other_work(process):
    with pytest.raises(ValueError, match="expected 4 parameters, got 3"):
        process.work("network", "forward", torch.ones(3), 4, {"factor": 2})


def test_rivals_that_are_not_there(monkeypatch):
    start.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv("NEUPY_PYTHON", raising=False)
    found = keras_and_neupy("dense", "forward", QUICK, torch.ones(2, 4))
    start.cache_clear()
    assert found == {
        KERAS: Absent("not installed: python -m pip install torchneupy[benchmarks]"),
        NEUPY: Absent("NEUPY_PYTHON names no Python with the real NeuPy"),
    }


# Not importorskip: imported without its environment variable, Keras asks for TensorFlow.
@pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="needs the extra benchmarks")
def test_keras():
    own = dense.ours()
    x = torch.randn(2, dense.WIDTH)
    start.cache_clear()
    for task, more in (("forward", {}), ("training step", {}), ("predict", {"batch_size": 2})):
        sizes = {"n_layers": dense.N_LAYERS, "width": dense.WIDTH, **more}
        work = keras_and_neupy("dense", task, QUICK, x, own, **sizes)[KERAS]
        assert isinstance(work, apart.WorkApart), work
        assert work.time(2) > 0
    start.cache_clear()
