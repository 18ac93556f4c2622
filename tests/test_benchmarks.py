"""The benchmarks measure what they say, rivals do the same work as we, and README.rst shows the recorded run."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import json
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import dense, report
from benchmarks.measure import Absent, Options, Question, Result, ask
from benchmarks.resnet import in_torch
from benchmarks.rivals import apart
from benchmarks.rivals.apart import KERAS, NEUPY, Process, keras_and_neupy, start
from benchmarks.training import step, whole_step
from torchneupy.architectures import resnet50
from torchneupy.layers import BatchNorm, Input, Linear, Relu, join

QUICK = Options(quick=True)


class Fixed:
    """Work that takes the time that it says."""

    def __init__(self, *figures: float) -> None:
        self.figures = figures
        self.calls = 0

    def time(self, repetitions: int) -> float:
        self.calls += 1
        return self.figures[self.calls % len(self.figures)]


# Measuring


def test_ratios_are_taken_within_a_turn():
    """The machine is three times as slow in every other turn; nobody's ratio changes."""
    own, rival = Fixed(10, 30), Fixed(20, 60)
    (result,) = ask(Question("work", own, {"rival": rival}, {"rival": 0.6}), QUICK)
    assert (result.lower, result.median, result.upper) == (0.5, 0.5, 0.5)
    assert result.own in (10, 30) and result.other in (20, 60)
    assert result.is_met and result.goal == 0.6
    assert own.calls == rival.calls


def test_work_is_repeated_until_it_can_be_timed():
    calls = []
    (result,) = ask(Question("work", lambda: calls.append(1), {"sleep": lambda: time.sleep(0.002)}), QUICK)
    assert len(calls) > 1000
    assert result.other > 2000 > result.own


def test_figures_of_another_unit_are_given_by_the_work():
    (result,) = ask(Question("memory", lambda: 30.0, {"rival": lambda: 20.0}, {"rival": 1.0}, unit="MB"), QUICK)
    assert (result.own, result.other, result.median, result.unit) == (30.0, 20.0, 1.5, "MB")
    assert not result.is_met


def test_long_work_gets_few_turns():
    own = Fixed(5e6)
    ask(Question("work", own, {"rival": Fixed(5e6)}), Options())
    assert own.calls <= 12


def test_who_is_absent_is_named():
    (result,) = ask(Question("work", Fixed(1), {"rival": Absent("not installed")}, {"rival": 0.1}), QUICK)
    assert result.absent == "not installed" and result.is_met
    assert "| work | rival | not measured | not installed |" in report.markdown([result])


# What is shown

RESULTS = [
    Result("dense, forward", "nn.Sequential", 52.1, 80.4, "us", 0.64, 0.648, 0.65, 0.65),
    Result("dense, forward", "Keras on torch", absent="not installed"),
    Result("convolutions, forward", "torch.nn, channels_last", 2_345.0, 1_999.0, "us", 1.1, 1.173, 1.2, 1.02),
    Result("loading", "h5py", 120.0, 1500.0, "MB", 0.07, 0.08, 0.09),
]


def test_table_in_markdown():
    assert report.markdown(RESULTS).splitlines()[2:] == [
        "| dense, forward | nn.Sequential | 0.65 | 0.64 to 0.65 | 52.1 us | 80.4 us | 0.65 met |",
        "|  | Keras on torch | not measured | not installed |  |  |  |",
        "| convolutions, forward | torch.nn, channels_last | 1.17 | 1.10 to 1.20 | 2.35 ms | 2.00 ms | 1.02 MISSED |",
        "| loading | h5py | 0.08 | 0.07 to 0.09 | 120 MB | 1.50 GB |  |",
    ]


def test_results_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(report.as_json("a machine", RESULTS), encoding="utf-8")
    assert "NaN" not in path.read_text(encoding="utf-8")
    where, found = report.read(path)
    assert where == "a machine"
    assert report.rest(where, found) == report.rest("a machine", RESULTS)
    assert json.loads(path.read_text(encoding="utf-8"))["results"][0]["median"] == 0.648


def test_picture(tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra benchmarks")
    path = tmp_path / "ratios.png"
    report.draw(RESULTS, path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_picture_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="torchneupy\\[benchmarks\\]"):
        report.draw(RESULTS, tmp_path / "ratios.png")


def test_readme_needs_a_place_for_the_table():
    with pytest.raises(ValueError, match="no place"):
        report.with_table("text", "table")


def test_readme_shows_the_recorded_run():
    text = report.README.read_text(encoding="utf-8")
    assert report.with_table(text, report.rest(*report.read(report.RESULTS))) == text
    assert report.PICTURE.is_file()


def test_recorded_run_is_whole():
    """Each file of questions is in it, and no rival was absent that could have been there."""
    where, results = report.read(report.RESULTS)
    assert "torch 2.13.0" in where
    for name in ("dense", "ResNet-50", "LSTM", "GRU", "Embedding", "BatchNorm", "predict", "building", "import"):
        assert any(result.question.startswith(name) for result in results), name
    assert {result.absent.partition(":")[0] for result in results if result.absent} <= {"RecursionError"}


# The command


def test_command(capsys, tmp_path, monkeypatch):
    class File:
        @staticmethod
        def questions(options: Options) -> list[Question]:
            return [Question(f"on {options.device}", Fixed(3), {"rival": Fixed(2)}, {"rival": 1.0})]

    monkeypatch.setattr(importlib, "import_module", lambda name: File)
    path = tmp_path / "results.json"
    assert command.main(["--quick", "--only", "dense", "--json", str(path)]) == 1
    assert "| on cpu | rival | 1.50 | 1.50 to 1.50 | 3.00 us | 2.00 us | 1 MISSED |" in capsys.readouterr().out
    assert report.read(path)[1][0].median == 1.5


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--threads", "0"], "threads must be a positive number, got 0"),
        (["--record", "--quick"], "--record wants a whole run"),
        (["--device", "cuda"], "finds no CUDA GPU"),
    ],
)
def test_arguments_are_checked(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert message in capsys.readouterr().err


def test_every_file_is_asked():
    folder = Path(command.__file__).parent
    asked = {path.stem for path in folder.glob("*.py") if "def questions(" in path.read_text(encoding="utf-8")}
    assert set(command.FILES) == asked


# Rivals do the same work


def test_resnet_in_torch_is_ours():
    torch.manual_seed(0)
    own, rival = resnet50((64, 64, 3)), in_torch()
    names = ["conv1"]
    for number, letters in ((2, "abc"), (3, "abcd"), (4, "abcdef"), (5, "abc")):
        for letter in letters:
            branches = ("branch2a", "branch2b", "branch2c") + (("branch1",) if letter == "a" else ())
            names += [f"res{number}{letter}_{branch}" for branch in branches]
    kernels = [module.weight for module in rival.modules() if isinstance(module, torch.nn.Conv2d)]
    (last,) = (module for module in rival.modules() if isinstance(module, torch.nn.Linear))
    with torch.no_grad():
        for name, kernel in zip(names, kernels, strict=True):
            own[name].weight.copy_(kernel.permute(2, 3, 1, 0))
        own["fc1000"].weight.copy_(last.weight.T)
        own["fc1000"].bias.copy_(last.bias)
    assert sum(p.numel() for p in own.parameters()) == sum(p.numel() for p in rival.parameters())
    images = torch.randn(2, 64, 64, 3)
    own.double(), rival.double()
    for training in (False, True):
        output, wanted = (
            own.train(training)(images.double()),
            rival.train(training)(images.permute(0, 3, 1, 2).double()),
        )
        # Running deviations begin with 1 here, variances there, to which torch adds its epsilon.
        torch.testing.assert_close(output, wanted, rtol=1e-6 if training else 1e-3, atol=1e-9)


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
def test_whole_step_is_a_step():
    network = join(Input(4), Relu(5), BatchNorm(), Linear(2))
    twin = copy.deepcopy(network)
    x = torch.randn(6, network.input_shape[1])
    whole, apart = whole_step(network, x), step(twin, twin.parameters(), x)
    for _ in range(3):
        torch.testing.assert_close(whole(), apart())
    torch.testing.assert_close(network.state_dict(), twin.state_dict())


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
