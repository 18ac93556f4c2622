"""Rivals in processes of their own do the same work as we."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import dense
from benchmarks.measure import Absent, Options
from benchmarks.rivals import apart, worker
from benchmarks.rivals.apart import KERAS, NEUPY, Process, keras_and_neupy, start
from tests.benchmarks.works import QUICK

FAKE = """
import time
from benchmarks.rivals.worker import Made, serve

def make(kind, task, options, arrays):
    print("what libraries print")
    if kind == "impossible":
        raise RecursionError("too deep")
    if kind == "fatal":
        raise SystemExit("gone")
    if kind == "tired":
        rest = iter([1])
        return Made(lambda: next(rest))
    if kind == "figure":
        return Made(lambda: 7.5)
    if kind == "slow":
        return Made(lambda: time.sleep(0.002))
    return Made(lambda: arrays["x"] * options["factor"], n_parameters=3)

serve(make, {"Fake": "1.2"})
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
    assert process.versions == {"Fake": "1.2"}


def test_time_in_another_process_is_that_of_one_repetition(process):
    work = process.work("slow", "forward", None, None, {})
    assert 2_000 < work.time(10) < 10_000


def test_a_figure_from_another_process(process):
    work = process.work("figure", "peak of a training step", None, None, {})
    assert work() == 7.5


def test_a_rival_that_cannot(process):
    x = torch.ones(3)
    assert process.work("impossible", "forward", x, None, {}) == Absent("RecursionError: too deep")
    assert isinstance(process.work("network", "forward", x, 3, {"factor": 2}), apart.WorkApart)
    assert process.work("fatal", "forward", x, None, {}) == Absent("its process has ended: gone")
    assert isinstance(process.work("network", "forward", x, 3, {"factor": 2}), Absent)


def test_a_rival_that_fails_later(process):
    work = process.work("tired", "forward", None, None, {})
    with pytest.raises(apart.RivalError, match="StopIteration"):
        work.time(1)


@pytest.mark.parametrize(
    "command, message",
    [
        (["/no/python"], "does not start: .*No such file"),
        ([sys.executable, "-c", "raise SystemExit('no NeuPy here')"], "its process has ended: no NeuPy here"),
    ],
)
def test_a_rival_that_does_not_start(command, message):
    with pytest.raises(apart.RivalError, match=message):
        Process(command)


def test_a_rival_that_ends_before_it_is_asked(monkeypatch):
    class Ended(subprocess.Popen[str]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.wait()

    monkeypatch.setattr(subprocess, "Popen", Ended)
    with pytest.raises(apart.RivalError, match="its process has ended"):
        Process([sys.executable, "-c", ""])


def test_the_end_of_a_rival_is_no_trouble_at_ours(tmp_path):
    """What could not be written to its process is not written at exit either."""
    path = tmp_path / "fake.py"
    path.write_text(FAKE, encoding="utf-8")
    code = f"""
import sys
from benchmarks.rivals.apart import Process

process = Process([sys.executable, {str(path)!r}])
process.process.kill()
process.process.wait()
for _ in range(2):
    print(process.work("network", "forward", None, None, {{}}))
"""
    root = Path(apart.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.count("its process has ended") == 2 and not done.stderr


def test_a_rival_that_does_other_work(process):
    with pytest.raises(ValueError, match="expected 4 parameters, got 3"):
        process.work("network", "forward", torch.ones(3), 4, {"factor": 2})


def test_who_has_other_parameters_may_be_named(monkeypatch, process):
    monkeypatch.setattr(apart, "start", lambda rival, options: process)
    own, x = torch.nn.Linear(2, 1, bias=False), torch.ones(3)
    with pytest.raises(ValueError, match="expected 2 parameters, got 3"):
        keras_and_neupy("network", "forward", QUICK, x, own, (KERAS,), factor=2)
    found = keras_and_neupy("network", "forward", QUICK, x, own, (KERAS, NEUPY), factor=2)
    assert all(isinstance(work, apart.WorkApart) for work in found.values())


@pytest.fixture
def fresh():
    """No processes from before, and none that others meet."""
    start.cache_clear()
    yield
    start.cache_clear()


@pytest.mark.usefixtures("fresh")
def test_rivals_that_are_not_there(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv("NEUPY_PYTHON", raising=False)
    found = keras_and_neupy("dense", "forward", QUICK, torch.ones(2, 4))
    assert found == {
        KERAS: Absent("not installed: python -m pip install torchneupy[benchmarks]"),
        NEUPY: Absent("NEUPY_PYTHON names no Python with the real NeuPy"),
    }


@pytest.mark.usefixtures("fresh")
def test_a_neupy_that_does_not_start(monkeypatch):
    monkeypatch.setenv("NEUPY_PYTHON", "/no/python")
    found = start(NEUPY, QUICK)
    assert isinstance(found, Absent) and "/no/python" in found.reason


@pytest.mark.usefixtures("fresh")
def test_rivals_are_told_of_device_and_threads(monkeypatch):
    commands: list[list[str]] = []
    monkeypatch.setattr(apart, "Process", commands.append)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setenv("NEUPY_PYTHON", "python3.7")
    start(KERAS, Options("cuda", threads=2))
    start(NEUPY, Options("cpu", threads=3))
    assert [command[2:] for command in commands] == [
        ["benchmarks.rivals.keras_worker", "cuda", "2"],
        ["benchmarks.rivals.neupy_worker", "3"],
    ]


@pytest.mark.parametrize("name", ["worker", "neupy_worker", "allocation"])
def test_the_pythons_of_neupys_time_read_it(name):
    """Its syntax is that of 3.6, and what 3.6 cannot evaluate of its hints stands in quotes."""
    tree = ast.parse((Path(worker.__file__).parent / f"{name}.py").read_text(encoding="utf-8"), feature_version=(3, 6))
    hints: list[ast.expr | None] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            hints += [
                node.returns,
                *(argument.annotation for argument in ast.walk(node.args) if isinstance(argument, ast.arg)),
            ]
        elif isinstance(node, ast.ClassDef | ast.Module):
            hints += [line.annotation for line in node.body if isinstance(line, ast.AnnAssign)]
    assert all(isinstance(hint, ast.Constant | ast.Name | None) for hint in hints)
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert "__future__" not in imported


# Not importorskip: imported without its environment variable, Keras asks for TensorFlow.
@pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="needs the extra benchmarks")
@pytest.mark.usefixtures("fresh")
def test_keras():
    own = dense.ours()
    x = torch.randn(2, dense.WIDTH)
    for task, more in (("forward", {}), ("training step", {}), ("predict", {"batch_size": 2})):
        sizes = {"n_layers": dense.N_LAYERS, "width": dense.WIDTH, **more}
        work = keras_and_neupy("dense", task, QUICK, x, own, **sizes)[KERAS]
        assert isinstance(work, apart.WorkApart), work
        assert work.time(2) > 0
    x = torch.randn(512, dense.WIDTH)
    activations = dense.N_LAYERS * x.numel() * 4 / 1024
    for task in ("peak of a forward pass", "peak of a training step"):
        sizes = {"n_layers": dense.N_LAYERS, "width": dense.WIDTH}
        work = keras_and_neupy("dense", task, QUICK, x, own, (), (KERAS,), **sizes)[KERAS]
        assert isinstance(work, apart.WorkApart), work
        assert activations <= work() < 2 * activations


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks glibc")
def test_freed_memory_stays():
    """What is allocated again takes no new pages from the system."""
    script = """
import resource
from benchmarks.rivals.allocation import keep_what_is_freed

assert keep_what_is_freed()
faults = []
for _ in range(5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [b"x" * 8_000_000 for _ in range(3)]
    blocks.clear()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
assert faults[-1] < 10 < 1000 < faults[0], faults
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=apart.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
