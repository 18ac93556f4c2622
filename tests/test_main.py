"""The command line: what it prints, and the one line and exit code 2 that wrong arguments get."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

import torchneupy
from tests.storage.recorded import FOLDER
from torchneupy import demo, storage
from torchneupy.__main__ import main
from torchneupy.storage import atomic
from torchneupy.storage.formats import ENDINGS


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


# Networks


MODEL = """
from torchneupy.layers import *

network = Input(10) >> Relu(5, name="hidden") >> Softmax(3, name="\u4e2d")
broken = Input(10, name="two\\nlines") >> Relu(3)
number = 5
"""


@pytest.fixture
def model(tmp_path, monkeypatch):
    """The name of a file with networks, in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(MODEL, encoding="utf-8")
    return "model.py"


@pytest.fixture
def dot(tmp_path, monkeypatch):
    """A program ``dot`` that writes its input to its output."""
    program = tmp_path / "bin" / "dot"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.stdout.buffer.write(sys.stdin.buffer.read())\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))


def test_summary(capsys, model):
    assert main(["summary", f"{model}:network"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].split() == ["Layer", "Class", "Output", "shape", "Parameters"]
    assert out.splitlines()[-1] == "Total: 73 parameters, 73 of them trained"
    assert err == ""
    assert main(["summary", "squeezenet"]) == 0
    assert "Total: 1,248,424 parameters" in capsys.readouterr().out


def test_show(capsys, model, dot):
    for picture in ("picture.svg", "picture"):
        assert main(["show", f"{model}:network", picture]) == 0
    assert capsys.readouterr() == ("picture.svg\npicture.pdf\n", "")
    assert "hidden" in Path("picture.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["summary", "show"])
@pytest.mark.parametrize(
    "network, value",
    [
        ("alexnet", "'alexnet'"),
        ("", "''"),
        ("missing.py:network", "no file 'missing.py'"),
        ("model.py:nothing", "no variable 'nothing'"),
        ("model.py:number", "is no network but 5"),
        ("model.py", "'model.py'"),
        ("lines.py:network", "lines.py fails: ValueError: two lines"),
    ],
)
def test_wrong_networks(complaint, model, dot, command, network, value):
    Path("lines.py").write_text("raise ValueError('two\\nlines')")
    line = complaint(command, network, *["picture.svg"] * (command == "show"))
    assert line.startswith(f"torchneupy {command}: ")
    assert value in line
    assert not Path("picture.svg").exists()


def test_a_program_that_fails(capfd, model, dot):
    (Path("bin") / "dot").write_text("#!/bin/sh\nexit 3\n")
    assert main(["show", f"{model}:network", "picture.svg"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("torchneupy show: Graphviz' program `dot` cannot draw the network: Command ")
    assert not Path("picture.svg").exists()


def test_wrong_pictures(complaint, model, dot, monkeypatch):
    network = f"{model}:network"
    assert "'picture.gif'" in complaint("show", network, "picture.gif")
    assert "'missing/picture.svg'" in complaint("show", network, "missing/picture.svg")
    assert "the following arguments are required: PICTURE" in complaint("show", network)

    monkeypatch.setenv("PATH", "")
    assert "program `dot` of Graphviz" in complaint("show", network, "picture.svg")
    monkeypatch.setitem(sys.modules, "graphviz", None)
    assert 'pip install "torchneupy[plots]"' in complaint("show", network, "picture.svg")
    assert not Path("picture.svg").exists()


# Files of weights


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """The name of a file that NeuPy wrote, in the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(FOLDER / "dense.hdf5", tmp_path)
    return "dense.hdf5"


def test_inspect(capsys, weights):
    assert main(["inspect", weights]) == 0
    out, err = capsys.readouterr()
    assert out == f"{storage.inspect(weights)}\n"
    assert err == ""


def test_inspect_as_json(capsys, weights):
    assert main(["inspect", "--json", weights]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["library"], told["n_parameters"], told["nbytes"]) == ("neupy", 43, 172)
    assert told["layers"][1]["parameters"][1] == {
        "name": "weight", "shape": [4, 5], "dtype": "float32", "nbytes": 80, "trainable": True
    }  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
def test_convert(capsys, weights, ending):
    target = f"dense-2{ending}"
    for _ in range(2):  # the second time there is a file to replace
        assert main(["convert", weights, target]) == 0
        assert capsys.readouterr() == (f"written: {target}, {Path(target).stat().st_size:,} bytes\n", "")
    assert storage.inspect(target).n_parameters == 43
    assert main(["convert", target, target]) == 0


def test_convert_with_names(weights):
    assert main(["convert", "--names", "state_dict", weights, "dense.safetensors"]) == 0
    keys = safetensors.torch.load_file("dense.safetensors").keys()
    assert keys == {"hid.weight", "hid.bias", "out.weight", "out.bias"}
    assert main(["convert", weights, "dense.safetensors"]) == 0
    assert "hid/weight" in safetensors.torch.load_file("dense.safetensors")


@pytest.mark.parametrize(
    "argv, value",
    [
        (["inspect"], "the following arguments are required: FILE"),
        (["inspect", "missing.hdf5"], "'missing.hdf5': No such file or directory"),
        (["inspect", "folder.json"], "'folder.json': Is a directory"),
        (["inspect", "file.txt"], "got 'file.txt'"),
        (["inspect", "nul\0.json"], "null"),
        (["inspect", "damaged.hdf5"], "damaged.hdf5: this is not a readable HDF5 file"),
        (["inspect", "damaged.json"], "damaged.json: this is not a readable JSON file"),
        (["inspect", "damaged.pickle"], "damaged.pickle: this is not a readable pickle file"),
        (["inspect", "damaged.safetensors"], "damaged.safetensors: the header should take"),
        (["inspect", "damaged.pt"], "damaged.pt: this is not a readable torch file: BadZipFile"),
        (["inspect", "--jso", "dense.hdf5"], "'--jso'"),
        (["convert"], "the following arguments are required: IN, OUT"),
        (["convert", "dense.hdf5"], "the following arguments are required: OUT"),
        (["convert", "missing.hdf5", "new.pt"], "'missing.hdf5': No such file or directory"),
        (["convert", "damaged.pt", "new.pt"], "damaged.pt: this is not a readable torch file"),
        (["convert", "dense.hdf5", "new.txt"], "got 'new.txt'"),
        (["convert", "dense.hdf5", "missing/new.pt"], "'missing/new.pt': There is no such folder"),
        (["convert", "dense.hdf5", "folder.json"], "'folder.json' is there already and is not a regular file"),
        (["convert", "dense.hdf5", "new.hdf5", "--names", "state_dict"], "got names='state_dict' for HDF5"),
        (["convert", "dense.hdf5", "new.pt", "--names", "torch"], "invalid choice: 'torch'"),
    ],
)
def test_wrong_files(complaint, weights, argv, value):
    Path("folder.json").mkdir()
    for ending in ("hdf5", "json", "pickle", "safetensors", "pt"):
        Path(f"damaged.{ending}").write_bytes(b"two\nlines")
    before = sorted(Path().iterdir())
    line = complaint(*argv)
    assert line.startswith(f"torchneupy {argv[0]}: ")
    assert value in line
    assert sorted(Path().iterdir()) == before


def test_a_file_that_may_not_be_read(complaint, weights, monkeypatch):
    def refuse(path, *_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr("builtins.open", refuse)  # whoever runs the tests as root may read everything
    assert complaint("inspect", weights) == "torchneupy inspect: 'dense.hdf5': Permission denied"


def test_convert_on_a_full_disk(complaint, weights, monkeypatch):
    def refuse(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic, "open_new", refuse)
    assert "No space left on device" in complaint("convert", weights, "new.pt")
    assert os.listdir() == [weights]


def test_no_extra(complaint, weights, monkeypatch):
    for module in ("h5py", "pyfive"):
        monkeypatch.setitem(sys.modules, module, None)
    assert 'pip install "torchneupy[storage]"' in complaint("inspect", weights)
    assert 'pip install "torchneupy[storage]"' in complaint("convert", weights, "new.pt")


@pytest.mark.parametrize("command", ["summary", "show", "inspect", "convert"])
def test_help_shows_examples(capsys, command):
    assert main([command, "--help"]) == 0
    examples = capsys.readouterr().out.split("examples:\n")[1].splitlines()
    assert len(examples) == 2
    assert all(line.startswith(f"  torchneupy {command} ") for line in examples)


def test_endings_in_the_help(capsys):
    main(["inspect", "--help"])
    assert ", ".join([*ENDINGS][:-1]) + f" or {[*ENDINGS][-1]}" in " ".join(capsys.readouterr().out.split())
    main(["convert", "--help"])
    out = capsys.readouterr().out
    assert all(ending in out for ending in ENDINGS)


def test_names_that_the_terminal_does_not_know(weights):
    """In a process of its own, whose output has another encoding."""
    torch.save({"\u4e2d.weight": torch.ones(2)}, "state.pt")
    command = [sys.executable, "-m", "torchneupy", "inspect", "state.pt"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(torchneupy.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert r"\u4e2d" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("end", ["| true", ">&-"])
def test_nobody_reads(tmp_path, end):
    """What was asked for is done, and nothing is said of the reader that has gone."""
    source = "tests/golden/files/dense.hdf5"
    for command in (f"convert {source} {tmp_path / 'dense.pt'}", f"inspect {source}"):
        shell = f"set -o pipefail; {sys.executable} -m torchneupy {command} {end}"
        done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "dense.pt").exists()


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
