"""What the command line takes for a network, and what it says of anything else."""

import sys
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


@pytest.mark.parametrize("name", ["network", "make"])
@pytest.mark.parametrize("relative", [True, False])
def test_a_file_imports_those_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: bool, name: str
) -> None:
    """While it runs, and while its function does; afterwards the path is what it was, whatever the file made of it."""
    sibling, other = f"sibling_{relative}_{name}", f"other_{relative}_{name}"
    (tmp_path / f"{sibling}.py").write_text("from torchneupy.layers import *\nnetwork = Input(3) >> Relu(2)\n")
    (tmp_path / f"{other}.py").write_text("number = 3\n")
    (tmp_path / "model.py").write_text(
        f"import sys\nfrom {sibling} import network\nsys.path.append('elsewhere')\n"
        f"def make():\n    import {other}\n    return network\n"
    )
    monkeypatch.chdir(tmp_path.parent)
    before = sys.path.copy()
    file = Path(tmp_path.name, "model.py") if relative else tmp_path / "model.py"
    assert repr(find_network(f"{file}:{name}")) == "(?, 3) -> [... 2 layers ...] -> (?, 2)"
    assert sys.path == before
    with pytest.raises(TargetError, match="no variable 'nothing'"):
        find_network(f"{file}:nothing")
    assert sys.path == before


def test_a_failing_file_leaves_the_path(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("import no_such_module")
    before = sys.path.copy()
    with pytest.raises(TargetError, match="fails: ModuleNotFoundError"):
        find_network(f"{tmp_path / 'model.py'}:network")
    assert sys.path == before


@pytest.mark.parametrize("source, error", [("1 +", "SyntaxError"), ("raise SystemExit(3)", "SystemExit: 3")])
def test_a_file_that_cannot_be_run(tmp_path: Path, source: str, error: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(source)
    with pytest.raises(TargetError, match=f"broken.py fails: {error}"):
        find_network(f"{path}:network")
