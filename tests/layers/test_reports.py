"""What networks say about themselves: the table, and the drawing."""

import builtins
import itertools
import re
import shlex
import sys

import graphviz
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from torchneupy.layers import BaseLayer, Concatenate, Identity, Input, LayerGraph, Relu, Tanh, as_layer, join
from torchneupy.layers.reports import draw, show, summary


@pytest.fixture
def network():
    branches = Relu(2, name="left") | Tanh(3, name="right")
    return Input(10, name="pixels") >> branches >> Concatenate(name="both")


# The table


TABLE = """
Layer   Class        Output shape  Parameters
------  -----------  ------------  ----------
pixels  Input        (?, 10)                0
left    Relu         (?, 2)                22
right   Tanh         (?, 3)                33
both    Concatenate  (?, 5)                 0
------  -----------  ------------  ----------
Total: 55 parameters, 55 of them trained
"""


def test_summary(network):
    assert str(network.summary()) == TABLE.strip()


def test_summary_shows_itself_as_it_is(network):
    assert repr(network.summary()) == str(network.summary()) == str(summary(network))
    assert isinstance(network.summary(), str) and network.summary().startswith("Layer ")


def cells(network):
    """The rows of a table, each as a list of its cells, and the last line."""
    _, _, *lines, _, total = str(network.summary()).splitlines()
    return [re.split(r"  +", line) for line in lines], total


def test_large_numbers_and_shapes():
    network = Input((None, 1000), name="x") >> nn.Linear(1000, 2000)
    assert cells(network) == (
        [["x", "Input", "(?, ?, 1000)", "0"], ["linear-1", "Linear", "(?, ?, 2000)", "2,002,000"]],
        "Total: 2,002,000 parameters, 2,002,000 of them trained",
    )


def test_what_is_not_trained():
    network = Input(3) >> nn.BatchNorm1d(3) >> Relu(2)
    network[2].weight.requires_grad_(False)
    rows, total = cells(network)
    # Weight and bias, mean and variance, and the counter of batches.
    assert rows[1] == ["batch-norm1d-1", "BatchNorm1d", "(?, 3)", "13"]
    assert total == "Total: 21 parameters, 8 of them trained"
    assert network.n_parameters == 21


def test_shared_variables_count_once_in_the_total():
    weight = nn.Parameter(torch.ones(2, 2))
    network = Input(2) >> Relu(2, weight=weight, bias=None) >> Relu(2, weight=weight, bias=None)
    rows, total = cells(network)
    assert [row[-1] for row in rows] == ["0", "4", "4"]
    assert total == "Total: 4 parameters, 4 of them trained"


def test_variables_that_do_not_exist_yet():
    rows, total = cells(Relu(5) >> Relu(3) >> Identity())
    assert [row[-1] for row in rows] == ["?", "18", "0"]
    assert total == "Total: 18 parameters, 18 of them trained; some layers have no variables yet"


def test_unknown_shapes():
    rows, _ = cells(join(Relu(), Concatenate()))
    assert [row[2] for row in rows] == ["<unknown>"] * 2


def test_the_table_of_the_empty_network():
    assert cells(LayerGraph()) == ([], "Total: 0 parameters, 0 of them trained")


class Wraps(BaseLayer):
    def __init__(self, name=None):
        super().__init__(name=name)
        self.module = nn.Linear(2, 2)

    def output(self, x):
        return self.module(x)


def test_the_class_of_a_layer_is_its_own():
    rows, _ = cells(Input(2) >> Wraps() >> nn.Linear(2, 2) >> as_layer(Relu(2) >> Relu(2)))
    assert [row[1] for row in rows] == ["Input", "Wraps", "Linear", "LayerGraph"]
    network = Input(2) >> Relu(3)
    parametrizations.weight_norm(network[1])
    assert [row[1] for row in cells(network)[0]] == ["Input", "Relu"]


def test_the_total_is_the_number_of_parameters(network):
    for made in (network, Input(2) >> nn.Linear(2, 3), Input(2) >> as_layer(Relu(2) >> Relu(2)), LayerGraph()):
        assert cells(made)[1].startswith(f"Total: {made.n_parameters} parameters")


def test_a_replaced_layer():
    network = Input(3, name="x") >> Relu(3, name="a") >> Relu(2, name="b")
    network.a = nn.Linear(3, 3, bias=False)
    assert cells(network)[0] == [
        ["x", "Input", "(?, 3)", "0"],
        ["a", "Linear", "(?, 3)", "9"],
        ["b", "Relu", "(?, 2)", "8"],
    ]


def test_one_module_in_two_places():
    network = Input(3, name="x") >> Relu(3, name="a") >> Tanh(3, name="b")
    network.a = network.b = nn.Linear(3, 3)
    assert [row[0] for row in cells(network)[0]] == ["x", "a", "b"]


# The drawing


def picture(network):
    """Nodes by their identifiers, and the edges, read from a drawing's source as Graphviz would read it."""
    nodes, edges = {}, []
    for line in draw(network).source.splitlines()[1:-1]:
        quoted = r'"(?:[^"\\]|\\.)*"|[\w-]+'
        edge = re.fullmatch(rf"\s*({quoted})((?::\w+)*) -> ({quoted})((?::\w+)*)(?: \[label=({quoted})\])?", line)
        node = re.fullmatch(rf"\s*({quoted}) \[label=({quoted})\]", line)
        assert edge or node, line
        if edge:
            source, port, target, other_port, label = (text and text.strip('"') for text in edge.groups())
            assert not port and not other_port, line
            edges.append((source, target, label.strip()))
        elif node:
            nodes[node[1].strip('"')] = node[2].strip('"')
    return nodes, edges


def test_draw(network):
    nodes, edges = picture(network)
    assert list(nodes.values()) == ["pixels", "left", "right", "both", "Output #1"]
    assert [(nodes[source], nodes[target], label) for source, target, label in edges] == [
        ("pixels", "left", "(?, 10)"),
        ("pixels", "right", "(?, 10)"),
        ("left", "both", "(?, 2)"),
        ("right", "both", "(?, 3)"),
        ("both", "Output #1", "(?, 5)"),
    ]


def test_draw_several_outputs_and_equal_names():
    network = Input(3, name="same") >> (Relu(2, name="same") | Relu(4, name="other"))
    nodes, edges = picture(network)
    assert list(nodes.values()).count("same") == 2
    assert [(nodes[source], nodes[target], label) for source, target, label in edges] == [
        ("same", "same", "(?, 3)"),
        ("same", "other", "(?, 3)"),
        ("same", "Output #1", "(?, 2)"),
        ("other", "Output #2", "(?, 4)"),
    ]


def test_draw_shapes_that_are_not_known():
    _, edges = picture(Relu() >> Concatenate())
    assert [label for _, _, label in edges] == ["<unknown>"] * 2
    assert picture(LayerGraph()) == ({}, [])


@pytest.mark.parametrize(
    "name", ["block:conv", "a:b:c", "<b>", "with space", "block.conv", "output", "->", "node", "ä"]
)
def test_draw_any_name(name):
    nodes, edges = picture(Input(2, name="x") >> Relu(2, name=name) >> Relu(2, name="y"))
    assert list(nodes.values()) == ["x", name, "y", "Output #1"]
    assert [(nodes[source], nodes[target]) for source, target, _ in edges] == [
        ("x", name),
        (name, "y"),
        ("y", "Output #1"),
    ]


@pytest.mark.parametrize("name", ["back\\slash", 'quo"te', "\\n"])
def test_draw_escapes_names(name):
    source = draw(Input(2, name=name) >> Relu(2, name="y")).source
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    assert f'[label="{escaped}"]' in source


# Files, made by a stand-in for Graphviz' program


@pytest.fixture
def dot(tmp_path, monkeypatch):
    """A program ``dot`` that notes its arguments, one call a line, and writes its input to its output."""
    folder = tmp_path / "bin"
    folder.mkdir()
    calls = folder / "calls"
    program = folder / "dot"
    program.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, sys\n"
        "arguments = sys.argv[1:]\n"
        f"open({str(calls)!r}, 'a').write(' '.join(arguments) + chr(10))\n"
        "out = arguments.pop(arguments.index('-o') + 1) if '-o' in arguments else None\n"
        "files = [a for a in arguments if not a.startswith('-')]\n"
        "text = pathlib.Path(files[0]).read_bytes() if files else sys.stdin.buffer.read()\n"
        "pathlib.Path(out).write_bytes(text) if out else sys.stdout.buffer.write(text)\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.chdir(tmp_path)
    return calls


@pytest.fixture
def opened(monkeypatch):
    """The files that would be shown on the screen."""
    files: list[str] = []
    monkeypatch.setattr(graphviz, "view", lambda path: files.append(str(path)))
    return files


def formats(calls):
    return [argument[2:] for argument in shlex.split(calls.read_text()) if argument.startswith("-T")]


@pytest.mark.parametrize(
    "given, written, written_format",
    [
        ("network.pdf", "network.pdf", "pdf"),
        ("network.png", "network.png", "png"),
        ("network.svg", "network.svg", "svg"),
        ("network", "network.pdf", "pdf"),
        ("NETWORK.PDF", "NETWORK.PDF", "pdf"),
        ("my network.svg", "my network.svg", "svg"),
        ("v1.2/network", "v1.2/network.pdf", "pdf"),
        ("v1.2/network.png", "v1.2/network.png", "png"),
    ],
)
@pytest.mark.parametrize("as_path", [False, True])
def test_show_writes_one_file(network, dot, opened, tmp_path, given, written, written_format, as_path):
    (tmp_path / "v1.2").mkdir()
    path = tmp_path / given
    before = set(tmp_path.rglob("*"))
    assert network.show(path if as_path else str(path)) == str(tmp_path / written)
    assert set(tmp_path.rglob("*")) - before == {tmp_path / written, dot}
    assert (tmp_path / written).read_text().startswith("digraph") and "pixels" in (tmp_path / written).read_text()
    assert formats(dot) == [written_format]
    assert opened == []


def test_show_tells_why_dot_fails(network, dot, tmp_path, capfd):
    dot.with_name("dot").write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no fonts')\n")
    with pytest.raises(RuntimeError, match=r"`dot` cannot draw the network: no fonts$"):
        network.show(tmp_path / "network.png")
    assert not (tmp_path / "network.png").exists()
    assert capfd.readouterr() == ("", "")


def test_show_in_the_current_folder(network, dot, opened, tmp_path):
    assert network.show("network.svg") == "network.svg"
    assert (tmp_path / "network.svg").exists() and opened == []


def test_show_without_a_path_makes_a_new_file(network, dot, opened):
    first, second = network.show(), show(network)
    assert first != second and first.endswith(".pdf") and second.endswith(".pdf")
    assert formats(dot) == ["pdf", "pdf"] and opened == []


def test_show_opens_the_file_if_asked(network, dot, opened, tmp_path):
    path = str(tmp_path / "network.png")
    assert network.show(path, view=True) == path
    assert opened == [path]


def test_show_overwrites_its_file_and_touches_no_other(network, dot, tmp_path):
    others = [tmp_path / f"network.{ending}" for ending in ("gv", "dot", "txt", "png")]
    for other in others:
        other.write_text("mine")
    (tmp_path / "network.pdf").write_text("old")
    network.show(str(tmp_path / "network.pdf"))
    assert (tmp_path / "network.pdf").read_text().startswith("digraph")
    assert [other.read_text() if other.exists() else None for other in others] == ["mine"] * 4


@pytest.mark.parametrize("name", ["network.jpg", "network.v2", "network.pdf.txt"])
def test_show_refuses_other_endings(network, dot, tmp_path, name):
    before = set(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=rf"pdf, png, svg.*{re.escape(name)}"):
        network.show(str(tmp_path / name))
    assert set(tmp_path.rglob("*")) == before


def test_show_without_the_program(network, dot, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    before = set(tmp_path.rglob("*"))
    with pytest.raises(RuntimeError, match="program `dot` of Graphviz"):
        network.show(str(tmp_path / "network.pdf"))
    assert set(tmp_path.rglob("*")) == before


def test_draw_and_show_without_the_package(network, tmp_path, monkeypatch):
    real = builtins.__import__

    def refuse(name, *arguments, **keywords):
        if name.split(".")[0] == "graphviz":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", refuse)
    for draws in (draw, lambda n: n.show(str(tmp_path / "network.pdf"))):
        with pytest.raises(ImportError, match=re.escape("torchneupy[plots]")):
            draws(network)
    assert list(tmp_path.iterdir()) == []


def test_a_long_network_is_drawn():
    nodes, edges = picture(join(Input(1), *[Relu() for _ in range(200)]))
    assert len(nodes) == 202 and [(a, b) for a, b, _ in edges] == list(itertools.pairwise(nodes))
