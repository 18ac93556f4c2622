"""``python -m benchmarks``."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import report
from benchmarks.measure import Options, Question
from tests.benchmarks.works import Fixed


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
