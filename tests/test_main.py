"""The command line: what it prints, and the one line and exit code 2 that wrong arguments get."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import torchneupy
from torchneupy import demo
from torchneupy.__main__ import main


@pytest.fixture
def complaint(capsys, monkeypatch):
    """Give a function that runs a command which is to fail before any training, and returns its one line."""

    def train(*args, **kwargs):
        pytest.fail("the training started in spite of wrong arguments")

    monkeypatch.setattr(demo, "train", train)

    def run(*argv: str) -> str:
        assert main(argv) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.endswith("\n")
        assert err.count("\n") == 1
        return str(err).rstrip("\n")

    return run


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"torchneupy {torchneupy.__version__}\n"


def test_without_a_command_the_help_is_printed(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out.startswith("usage: torchneupy")
    assert "demo" in out
    assert err == ""


def test_help_of_the_demo_tells_its_true_defaults(capsys):
    assert main(["demo", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "(default: cpu)" in text
    assert f"(default: {demo.DEFAULT_EPOCHS})" in text
    assert f"(default: {demo.DEFAULT_SEED})" in text


def test_options_reach_the_library_and_what_is_not_given_does_not(monkeypatch):
    calls = []
    monkeypatch.setattr(demo, "run", lambda **options: calls.append(options))

    assert main(["demo"]) == 0
    assert main(["demo", "--device", "cuda", "--epochs", "0", "--seed", "0", "--save", ""]) == 0
    assert calls == [{}, {"device": "cuda", "epochs": 0, "seed": 0, "save": ""}]


@pytest.mark.parametrize(
    "argv, value",
    [
        (["demo", "--device", "tpu"], "'tpu'"),
        (["demo", "--device", ""], "''"),
        (["demo", "--device", "cpu\ncuda"], r"'cpu\ncuda'"),
        (["demo", "--epochs", "0"], "got 0"),
        (["demo", "--epochs", "-3"], "got -3"),
        (["demo", "--epochs", "many"], "'many'"),
        (["demo", "--epochs", "2.5"], "'2.5'"),
        (["demo", "--epochs", ""], "''"),
        (["demo", "--epochs"], "--epochs"),
        (["demo", "--seed", "-1"], "got -1"),
        (["demo", "--seed", str(2**64)], f"got {2**64}"),
        (["demo", "--seed", "lucky"], "'lucky'"),
        (["demo", "--save", ""], "''"),
        (["demo", "--sav", "file"], "'--sav'"),
        (["demo", "quickly"], "'quickly'"),
        (["demo", "two\nlines"], r"'two\nlines'"),
    ],
)
def test_a_wrong_value_gets_one_line_that_names_it(complaint, argv, value):
    line = complaint(*argv)
    assert line.startswith("torchneupy demo: ")
    assert value in line


def test_wrong_values_without_a_command(complaint):
    assert complaint("--fast").startswith("torchneupy: ")
    assert "'train'" in complaint("train")


def test_no_cuda(complaint, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert complaint("demo", "--device", "cuda").startswith("torchneupy demo: device 'cuda' is not there")


def test_no_scikit_learn(complaint, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert 'pip install "torchneupy[demo]"' in complaint("demo")


def test_save_into_a_missing_folder(complaint, tmp_path):
    line = complaint("demo", "--save", str(tmp_path / "missing" / "model.pt"))
    assert f"there is no folder {str(tmp_path / 'missing')!r}" in line


@pytest.mark.parametrize("end", ["", "/", "/new/"])
def test_save_as_a_folder(complaint, tmp_path, end):
    line = complaint("demo", "--save", f"{tmp_path}{end}")
    assert repr(f"{tmp_path}{end}") in line
    assert "is a folder, not a file" in line


def test_save_below_a_file(complaint, tmp_path):
    (tmp_path / "file").touch()
    path = str(tmp_path / "file" / "model.pt")
    assert repr(path) in complaint("demo", "--save", path)


def test_save_over_a_device(complaint):
    assert "is not an ordinary file" in complaint("demo", "--save", os.devnull)


@pytest.mark.parametrize("name", ["x" * 300, "null\0character"])
def test_save_under_an_impossible_name(complaint, tmp_path, name):
    path = str(tmp_path / name)
    assert repr(path) in complaint("demo", "--save", path)
    assert list(tmp_path.iterdir()) == []


def test_save_into_a_folder_that_may_not_be_written(complaint, tmp_path, monkeypatch):
    def touch(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "touch", touch)  # whoever runs the tests as root may write everywhere
    path = str(tmp_path / "model.pt")
    assert complaint("demo", "--save", path) == f"torchneupy demo: cannot save to {path!r}: Permission denied"


def test_interrupted(capsys, monkeypatch):
    def run():
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run", run)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "torchneupy: interrupted\n"


def test_run_as_a_module():
    """In a process of its own, where names and exit codes are real and nothing is imported yet."""
    command = [sys.executable, "-m", "torchneupy", "demo", "--epochs", "1", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "(?, 64) -> [... 6 layers ...] -> (?, 10)" in done.stdout
    assert "test accuracy: 0." in done.stdout
    assert "epoch 1/1" in done.stderr
    assert "loss=" in done.stderr
    assert "accuracy=" in done.stderr

    done = subprocess.run([*command, "--epochs", "none"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "torchneupy demo: argument --epochs: invalid int value: 'none'\n"


def test_version_and_help_do_without_torch():
    code = "import sys; from torchneupy.__main__ import main; main(['--version']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
