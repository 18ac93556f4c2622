"""What the command line takes for a network, and what it says of anything else."""

from pathlib import Path

import pytest

from torchneupy.targets import ARCHITECTURES, TargetError, find_network

SOURCE = """
from torchneupy.layers import *

network = Input(10) >> Relu(5) >> Sigmoid(1)
layer = Input(3)
number = 5

def make():
    return Input(4) >> Tanh(2)

def fail():
    raise KeyError("why")
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "model.py"
    path.write_text(SOURCE)
    return str(path)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_take_no_memory(name: str) -> None:
    network = find_network(name)
    assert all(parameter.is_meta for parameter in network.parameters())
    assert network.output_shape == (None, 1000)


@pytest.mark.parametrize(
    "name, text",
    [
        ("network", "(?, 10) -> [... 3 layers ...] -> (?, 1)"),
        ("layer", "(?, 3) -> [... 1 layers ...] -> (?, 3)"),
        ("make", "(?, 4) -> [... 2 layers ...] -> (?, 2)"),
    ],
)
def test_variables_of_a_file(file: str, name: str, text: str) -> None:
    assert repr(find_network(f"{file}:{name}")) == text


@pytest.mark.parametrize(
    "name, message",
    [
        ("nothing", "no variable 'nothing'"),
        ("number", "number of .*model.py is no network but 5 of the type int"),
        ("fail", "fails: KeyError: 'why'"),
        ("two words", "FILE.py:NAME.*two words"),
    ],
)
def test_what_is_no_network(file: str, name: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        find_network(f"{file}:{name}")


@pytest.mark.parametrize(
    "target, message",
    [
        ("alexnet", "resnet50, squeezenet, vgg16, vgg19.*'alexnet'"),
        ("", "got ''"),
        ("missing.py:network", "no file 'missing.py'"),
    ],
)
def test_what_names_nothing(target: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        find_network(target)


@pytest.mark.parametrize("source, error", [("1 +", "SyntaxError"), ("raise SystemExit(3)", "SystemExit: 3")])
def test_a_file_that_cannot_be_run(tmp_path: Path, source: str, error: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(source)
    with pytest.raises(TargetError, match=f"broken.py fails: {error}"):
        find_network(f"{path}:network")
