"""``python -m benchmarks``."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import report, surroundings
from benchmarks.goals import REASONS
from benchmarks.measure import Absent, Options, Question
from tests.benchmarks.works import Fixed


class File:
    """A file of one question, which we lose."""

    @staticmethod
    def questions(options: Options) -> list[Question]:
        return [Question(f"on {options.device}", Fixed(3), {"rival": Fixed(2)}, {"rival": 1.0})]


class Unusable:
    """A file of a question that cannot be asked."""

    @staticmethod
    def questions(options: Options) -> list[Question]:
        raise ImportError("This needs h5py: pip install torchneupy[storage]\nIt is not there")


class Broken:
    """A file of a question that is at odds with the library."""

    @staticmethod
    def questions(options: Options) -> list[Question]:
        raise ImportError("cannot import name 'Relu' from 'torchneupy.layers'")


@pytest.fixture
def no_rivals_apart(monkeypatch):
    monkeypatch.setattr(surroundings, "start", lambda rival, options: Absent("not asked"))


@pytest.mark.usefixtures("no_rivals_apart")
def test_command(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib, "import_module", lambda name: File)
    path = tmp_path / "results.json"
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(2)
    try:
        assert command.main(["--only", "dense", "--json", str(path)]) == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), state)
    assert "| on cpu | rival | 1.50 | 1.50 to 1.50 | 3.00 us | 2.00 us | 1 MISSED |" in capsys.readouterr().out
    where, [result] = report.read(path)
    assert (result.median, result.file) == (1.5, "dense")
    assert f"torch {torch.__version__}" in where and "1 thread(s)" in where


@pytest.mark.usefixtures("no_rivals_apart")
@pytest.mark.parametrize("arguments", [["--quick"], ["--threads", "2"]])
def test_other_runs_have_no_goals(arguments, capsys, monkeypatch):
    monkeypatch.setattr(importlib, "import_module", lambda name: File)
    assert command.main([*arguments, "--only", "dense"]) == 0
    assert "MISSED" not in capsys.readouterr().out


@pytest.mark.usefixtures("no_rivals_apart")
def test_what_cannot_be_asked_is_named(capsys, monkeypatch):
    monkeypatch.setattr(importlib, "import_module", lambda name: Unusable)
    assert command.main(["--quick", "--only", "loading"]) == 0
    assert "| loading | all | not measured | This needs h5py: pip install" in capsys.readouterr().out


@pytest.mark.usefixtures("no_rivals_apart")
def test_what_is_broken_is_no_rival_that_is_absent(monkeypatch):
    monkeypatch.setattr(importlib, "import_module", lambda name: Broken)
    with pytest.raises(ImportError, match="cannot import name"):
        command.main(["--quick", "--only", "dense"])


@pytest.mark.parametrize("ratio, code", [(0.9, 0), (1.3, 0), (1.4, 1)])
@pytest.mark.usefixtures("no_rivals_apart")
def test_a_reason_excuses_so_much(ratio, code, monkeypatch):
    class Slow:
        @staticmethod
        def questions(options: Options) -> list[Question]:
            return [Question("work", Fixed(10 * ratio), {"rival": Fixed(10)}, {"rival": 1.0})]

    monkeypatch.setattr(importlib, "import_module", lambda name: Slow)
    monkeypatch.setitem(REASONS, ("work", "rival"), "It is hard")
    assert command.main(["--only", "dense"]) == code


@pytest.mark.usefixtures("no_rivals_apart")
def test_results_are_written_after_each_file(tmp_path, monkeypatch):
    def import_module(name: str) -> type:
        if name.endswith("residual"):  # the second
            raise KeyboardInterrupt
        return File

    monkeypatch.setattr(importlib, "import_module", import_module)
    path = tmp_path / "results.json"
    with pytest.raises(KeyboardInterrupt):
        command.main(["--quick", "--json", str(path)])
    assert [result.file for result in report.read(path)[1]] == ["dense"]


def test_show(monkeypatch):
    shown = []
    monkeypatch.setattr(report, "record", lambda *recorded: shown.append(recorded))
    pytest.importorskip("matplotlib", reason="needs the extra benchmarks")
    assert command.main(["--show"]) == 0
    assert shown == [report.read(report.RESULTS)]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--threads", "0"], "threads must be a positive number, got 0"),
        (["--record", "--quick"], "--record wants a whole run"),
        (["--record", "--threads", "2"], "--record wants a whole run"),
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
