"""Networks: looking layers up, taking parts, what is known about a network, and copies."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from torchneupy.core.shape import TensorShape
from torchneupy.exceptions import LayerConnectionError, WeightInitializationError
from torchneupy.layers import (
    Concatenate,
    Dropout,
    Elementwise,
    Identity,
    Input,
    LayerGraph,
    Linear,
    PRelu,
    Relu,
    Softmax,
    Tanh,
    join,
)


@pytest.fixture
def row():
    return join(Input(10, name="x"), Relu(20, name="a"), Relu(30, name="b"), Relu(40, name="c"))


@pytest.fixture
def diamond():
    return Input(10, name="x") >> (Relu(2, name="a") | Relu(3, name="b")) >> Concatenate(name="c") >> Tanh(4, name="d")


def names(network):
    return [layer.name for layer in network]


# Parts: start, end, slices

ROW_PARTS = [
    (lambda n: n.end("b"), "(?, 10) -> [... 3 layers ...] -> (?, 30)"),
    (lambda n: n.end(n[2]), "(?, 10) -> [... 3 layers ...] -> (?, 30)"),
    (lambda n: n.end("x"), "(?, 10) -> [... 1 layers ...] -> (?, 10)"),
    (lambda n: n.end("x", "b"), "(?, 10) -> [... 3 layers ...] -> (?, 30)"),
    (lambda n: n.end("b", n.layer("x")), "(?, 10) -> [... 3 layers ...] -> (?, 30)"),
    (lambda n: n.end("b", "b"), "(?, 10) -> [... 3 layers ...] -> (?, 30)"),
    (lambda n: n.start("x"), "(?, 10) -> [... 4 layers ...] -> (?, 40)"),
    # A layer that has its variables knows what it takes.
    (lambda n: n.start("a"), "(?, 10) -> [... 3 layers ...] -> (?, 40)"),
    (lambda n: n.start("a").end("b"), "(?, 10) -> [... 2 layers ...] -> (?, 30)"),
    (lambda n: n.end("b").start(n["a"]), "(?, 10) -> [... 2 layers ...] -> (?, 30)"),
    (lambda n: n.start("c", "b"), "(?, 20) -> [... 2 layers ...] -> (?, 40)"),
    (lambda n: n[1:3], "(?, 10) -> [... 2 layers ...] -> (?, 30)"),
    (lambda n: n[:], "(?, 10) -> [... 4 layers ...] -> (?, 40)"),
    (lambda n: n[-1:], "(?, 30) -> [... 1 layers ...] -> (?, 40)"),
    (lambda n: n[:-1], "(?, 10) -> [... 3 layers ...] -> (?, 30)"),
    (lambda n: n[1:3:1], "(?, 10) -> [... 2 layers ...] -> (?, 30)"),
    (lambda n: n[2:100], "(?, 20) -> [... 2 layers ...] -> (?, 40)"),
    (lambda n: n[3:1], "[empty graph]"),
    (lambda n: n[4:], "[empty graph]"),
]


@pytest.mark.parametrize("take, text", ROW_PARTS)
def test_part_of_a_row(row, take, text):
    part = take(row)
    assert repr(part) == text
    assert type(part) is LayerGraph
    assert all(layer in row for layer in part)
    assert repr(row) == "(?, 10) -> [... 4 layers ...] -> (?, 40)"


DIAMOND_PARTS = [
    (lambda n: n.start("a", "b"), [("a", ["c"]), ("b", ["c"]), ("c", ["d"]), ("d", [])]),
    # The order is that of the network, not that of the arguments.
    (lambda n: n.start(n["b"], "a"), [("a", ["c"]), ("b", ["c"]), ("c", ["d"]), ("d", [])]),
    (lambda n: n.end("b", "a"), [("x", ["a", "b"]), ("a", []), ("b", [])]),
    (lambda n: n.end("a"), [("x", ["a"]), ("a", [])]),
    (lambda n: n.end("c").start("a"), [("a", ["c"]), ("c", [])]),
    (lambda n: n.start("c"), [("c", ["d"]), ("d", [])]),
    (lambda n: n[1:3], [("a", []), ("b", [])]),
    (lambda n: n[1:4], [("a", ["c"]), ("b", ["c"]), ("c", [])]),
    (lambda n: n[:2], [("x", ["a"]), ("a", [])]),
]


@pytest.mark.parametrize("take, expected", DIAMOND_PARTS)
def test_part_of_branches(diamond, take, expected):
    assert take(diamond).layer_names_only() == expected


def test_part_shares_layers_and_computes_the_same(diamond):
    x = torch.randn(5, 10)
    a, b = diamond.end("a", "b")(x)
    torch.testing.assert_close(a, torch.relu(x @ diamond["a"].weight + diamond["a"].bias))
    torch.testing.assert_close(b, torch.relu(x @ diamond["b"].weight + diamond["b"].bias))
    assert torch.equal(diamond.start("a", "b")(x, x), diamond(x))
    with torch.no_grad():
        diamond["a"].weight.fill_(0)
    assert torch.equal(diamond.end("a")(x), torch.zeros(5, 2))
    assert diamond.end("a")["a"] is diamond["a"]


def test_a_part_can_go_on_otherwise(row):
    other = row.end("b") >> Softmax(2)
    assert repr(other) == "(?, 10) -> [... 4 layers ...] -> (?, 2)"
    assert other.variables[row["a"], "weight"] is row["a"].weight


@pytest.mark.parametrize("method", ["start", "end"])
@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ([], ValueError, r"at least one layer.*\(\?, 10\) -> \[... 4 layers"),
        (["nope"], NameError, r"Cannot find layer with name 'nope'.*4 layers"),
        (["a", "nope"], NameError, r"'nope'"),
        (
            [Relu(3, name="foreign")],
            ValueError,
            r"Layer `foreign` is not used in the graph. Graph: \(\?, 10\)",
        ),
        (["a", Relu(3, name="foreign")], ValueError, r"Layer `foreign` is not used"),
        ([Relu(3, name="a")], ValueError, r"Layer `a` is not used"),
        ([nn.Linear(2, 2)], ValueError, r"Linear\(in_features=2.* is not used"),
        ([5], ValueError, r"Layer `5` is not used"),
        ([None], ValueError, r"Layer `None` is not used"),
        ([["a"]], ValueError, r"Layer `\['a'\]` is not used"),
    ],
)
def test_parts_refused(row, method, arguments, error, words):
    before = row.layer_names_only(), list(row.state_dict())
    with pytest.raises(error, match=words):
        getattr(row, method)(*arguments)
    assert (row.layer_names_only(), list(row.state_dict())) == before


def test_a_part_does_not_know_the_rest(row):
    with pytest.raises(NameError, match="'b'"):
        row.end("a").start("b")
    assert row["b"] not in row.end("a") and len(row.end("a")) == 2


# Looking up


def test_layer_by_name_and_place(row):
    assert row.layer("a") is row["a"] is row[1] is row[-3] is row[np.int64(1)] is row.layers[1]
    assert [row[index] for index in range(-4, 4)] == row.layers * 2


@pytest.mark.parametrize(
    "look, error, words",
    [
        (lambda n: n.layer("nope"), NameError, r"Cannot find layer with name 'nope'.*\(\?, 10\) -> \[... 4 layers"),
        (lambda n: n["nope"], NameError, r"Cannot find layer with name 'nope'"),
        (lambda n: n.layer(0), ValueError, r"expected to be a string, got value 0"),
        (lambda n: n.layer(None), ValueError, r"expected to be a string, got value None"),
        (lambda n: n.layer(n["a"]), ValueError, r"expected to be a string, got value Relu\(20.*name='a'"),
        (lambda n: n[4], IndexError, r"4 layers, got the index 4.*\(\?, 10\)"),
        (lambda n: n[-5], IndexError, r"4 layers, got the index -5"),
        (lambda n: n[::2], ValueError, r"step 2"),
        (lambda n: n[::-1], ValueError, r"step -1"),
        (lambda n: n[1.5], TypeError, r"float"),
        (lambda n: n[None], TypeError, r"NoneType"),
        (lambda n: n[n["a"]], TypeError, r"Relu"),
    ],
)
def test_lookups_refused(row, look, error, words):
    with pytest.raises(error, match=words):
        look(row)


def test_an_ambiguous_name_is_refused_but_no_obstacle():
    network = Input(3) >> Relu(3, name="same") >> Relu(3, name="same")
    for look in (network.layer, network.end, network.start, network.__getitem__):
        with pytest.raises(NameError, match=r"Ambiguous layer name `same`.*2 layers.*Relu\(3.*Relu\(3"):
            look("same")
    assert len(network.end(network[1])) == 2
    network[1].name = "other"
    assert network.layer("other") is network[1] and network.layer("same") is network[2]


def test_contents(row):
    assert len(row) == 4 and len(LayerGraph()) == 0
    assert list(row) == row.layers == [row.layer(name) for name in "xabc"]
    assert row["a"] in row and Relu(20) not in row and "a" not in row and 1 not in row and None not in row
    assert Relu(20, name="a") not in row
    assert list(LayerGraph()) == []


def test_layers_is_a_list_of_its_own(row):
    row.layers.clear()
    row.forward_graph.clear()
    row.backward_graph[row["b"]].clear()
    row.input_layers.clear()
    assert len(row) == 4 and row.forward_graph[row["a"]] == [row["b"]] and row.backward_graph[row["b"]] == [row["a"]]


# The graph


def test_graphs_of_branches(diamond):
    x, a, b, c, d = diamond
    assert diamond.forward_graph == {x: [a, b], a: [c], b: [c], c: [d], d: []}
    assert diamond.backward_graph == {x: [], a: [x], b: [x], c: [a, b], d: [c]}
    assert diamond.input_layers == [x] and diamond.output_layers == [d]
    assert LayerGraph(diamond.forward_graph).layer_names_only() == diamond.layer_names_only()
    assert diamond.get_params() == {"forward_graph": diamond.forward_graph}


def test_inputs_and_outputs_come_in_the_order_in_which_they_entered():
    a, b = Input(4, name="a"), Input(3, name="b")
    network = (b | a) >> Concatenate(name="c") >> (Relu(2, name="d") | Relu(1, name="e"))
    assert names(network.input_layers) == ["b", "a"] and names(network.output_layers) == ["d", "e"]
    assert network.input_shape == network.input_shapes == [(None, 3), (None, 4)]
    assert network.output_shape == [(None, 2), (None, 1)]


def test_a_network_by_hand():
    a, b, c = Input(4, name="a"), Relu(3, name="b"), Linear(2, name="c")
    network = LayerGraph([(a, [b]), (b, [c])])
    assert network.layer_names_only() == [("a", ["b"]), ("b", ["c"]), ("c", [])]
    assert network.is_built and c.weight.shape == (3, 2)
    twice = LayerGraph([(a, [both := Concatenate(name="d"), both]), (both, [])])
    assert twice.layer_names_only() == [("a", ["d", "d"]), ("d", [])] and twice.output_shape == (None, 8)
    assert twice.backward_graph == {a: [], both: [a, a]}
    linear = nn.Linear(4, 2)
    assert LayerGraph({a: [linear]}).output_shape == (None, 2)


@pytest.mark.parametrize(
    "make, sequential",
    [
        (LayerGraph, True),
        (lambda: join(Relu(2)), True),
        (lambda: Input(4) >> Relu(2), True),
        (lambda: Input(4) | Relu(2), False),
        (lambda: Input(4) >> (Relu(2) | Relu(2)), False),
        (lambda: (Input(4) | Input(4)) >> Concatenate(), False),
        (lambda: Input(4) >> (Identity() | Relu(4)) >> Elementwise(), False),
    ],
)
def test_is_sequential(make, sequential):
    assert make().is_sequential() is sequential


# Shapes


def test_shapes_of_each_layer(diamond):
    shapes = {layer.name: str(shape) for layer, shape in diamond.output_shapes_per_layer.items()}
    assert shapes == {"x": "(?, 10)", "a": "(?, 2)", "b": "(?, 3)", "c": "(?, 5)", "d": "(?, 4)"}
    assert list(diamond.output_shapes_per_layer) == list(diamond)
    assert isinstance(diamond.output_shape, TensorShape) and diamond.output_shape == (None, 4)
    assert diamond.input_shape == (None, 10) and diamond.input_shapes == [(None, 10)]


def test_shapes_of_the_empty_network():
    empty = LayerGraph()
    assert empty.input_shapes == empty.input_shape == empty.output_shape == []
    assert empty.output_shapes_per_layer == empty.forward_graph == empty.backward_graph == empty.variables == {}
    assert empty.layers == [] and empty.n_parameters == 0 and empty.is_built and repr(empty) == "[empty graph]"


def test_get_output_shape_for_other_inputs():
    network = Input((None, 3)) >> (Tanh() | Relu()) >> Concatenate(axis=1)
    assert str(network.output_shape) == "(?, ?, 3)"
    assert network.get_output_shape((None, 5, 3)) == (None, 10, 3)
    assert network.get_output_shape(None) == (None, None, 3)
    assert network.get_output_shape(TensorShape((7, 2, None))) == (7, 4, 3)
    assert str(network.output_shape) == "(?, ?, 3)"
    two = Input(4) >> (Relu(2) | Tanh())
    assert two.get_output_shape((9, 4)) == [(9, 2), (9, 4)]


@pytest.mark.parametrize(
    "take, shapes, words",
    [
        (lambda n: n, [(None, 9)], r"`x`.*\(\?, 9\).*\(\?, 10\)"),
        (lambda n: n, [(None, 10, 1)], r"`x`.*\(\?, 10, 1\)"),
        (lambda n: n.start("b"), [(None, 9)], r"`b`.*\(\?, 9\)|\(\?, 9\).*`b`"),
        (lambda n: n.start("b"), [(None, 20, 2)], r"\(\?, 20, 2\).*name='b'"),
    ],
)
def test_get_output_shape_refuses_what_a_layer_cannot_take(row, take, shapes, words):
    before = list(row.state_dict())
    with pytest.raises(LayerConnectionError, match=words):
        take(row).get_output_shape(*shapes)
    assert list(row.state_dict()) == before and row.output_shape == (None, 40)


@pytest.mark.parametrize("shapes", [[], [(None, 10), (None, 10)]])
def test_get_output_shape_wants_one_shape_for_each_input(row, shapes):
    with pytest.raises(ValueError, match=rf"1 input layer\(s\), but {len(shapes)} inputs.*x"):
        row.get_output_shape(*shapes)


# Variables


def test_variables_are_in_the_order_of_layers_and_of_creation():
    network = Input(3) >> Linear(2) >> PRelu(2)
    found = [(layer.name, name, tuple(variable.shape)) for (layer, name), variable in network.variables.items()]
    assert found == [
        ("linear-1", "weight", (3, 2)),
        ("linear-1", "bias", (2,)),
        ("p-relu-1", "weight", (2, 2)),
        ("p-relu-1", "bias", (2,)),
        ("p-relu-1", "alpha", (2,)),
    ]
    assert network.n_parameters == 8 + 8
    assert [id(variable) for variable in network.variables.values()] == [id(p) for p in network.parameters()]


def test_a_shared_variable_is_there_once():
    shared = nn.Parameter(torch.ones(2, 2))
    network = Input(2) >> Relu(2, weight=shared) >> Relu(2, weight=shared)
    assert [(layer.name, name) for layer, name in network.variables] == [
        ("relu-1", "weight"),
        ("relu-1", "bias"),
        ("relu-2", "bias"),
    ]
    assert network.n_parameters == 8


class Averaged(Identity):
    def create_variables(self, input_shape):
        self.mean = self.variable(0, name="mean", shape=input_shape[1:], trainable=False)


def test_variables_that_are_not_trained_count():
    network = Input(3) >> Averaged() >> Dropout(0.1)
    assert network.n_parameters == 3 and list(network.parameters()) == []
    assert next(iter(network.variables.values())) is network[1].mean


def test_variables_are_read_anew_each_time():
    network = Input(3) >> Averaged() >> Linear(2)
    before = network.variables
    network.to(torch.float64)
    assert network.variables[network[1], "mean"].dtype == torch.float64
    assert before[network[1], "mean"].dtype == torch.float32
    network[2].weight = nn.Parameter(torch.zeros(3, 2))
    assert network.variables[network[2], "weight"] is network[2].weight


@pytest.fixture
def unbuilt():
    return Relu(5, name="first") >> Relu(3, name="second") >> Dropout(0.5)


def test_a_network_that_is_not_built(unbuilt):
    assert not unbuilt.is_built and not unbuilt["first"].is_built and unbuilt["second"].is_built
    for ask in (lambda n: n.variables, lambda n: n.n_parameters, lambda n: n.create_variables()):
        with pytest.raises(WeightInitializationError, match=r"`first` has no variables yet"):
            ask(unbuilt)
    whole = Input(4) >> unbuilt
    assert whole.is_built and unbuilt.is_built
    assert unbuilt.n_parameters == 25 + 18
    assert unbuilt.create_variables() is None


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda n: list(n.parameters()), id="parameters"),
        pytest.param(lambda n: list(n.named_parameters()), id="named_parameters"),
        pytest.param(lambda n: torch.optim.SGD(n.parameters(), lr=0.1), id="optimizer"),
    ],
)
def test_parameters_of_a_network_that_is_not_built_warn_where_they_are_asked_for(unbuilt, ask):
    with pytest.warns(UserWarning, match=r"first have no variables yet.*<unknown> -> \[... 3 layers") as caught:
        ask(unbuilt)
    assert [(warning.filename, warning.lineno) for warning in caught] == [(__file__, ask.__code__.co_firstlineno)]


def test_a_network_that_is_built_does_not_warn():
    # Warnings are errors in these tests.
    assert len(list((Input(3) >> Relu(5)).parameters())) == 2
    assert list(LayerGraph().parameters()) == []


def test_looking_at_a_network_with_a_replaced_layer_takes_no_names():
    network = Input(3) >> Linear(3) >> Relu(3)
    setattr(network, "linear-1", nn.Linear(3, 3))
    for look in (repr, len, lambda n: n.input_shape, lambda n: n.summary(), lambda n: n.n_parameters, copy.deepcopy):
        look(network)
    assert Linear().name == "linear-2"


def test_the_variables_of_a_replaced_layer_are_those_of_what_is_there_now():
    network = Input(3) >> Linear(3) >> Relu(3)
    setattr(network, "linear-1", nn.Linear(3, 3))
    assert network.n_parameters == 12 + 12
    assert [id(variable) for variable in network.variables.values()] == [id(p) for p in network.parameters()]


# What only TensorFlow had


@pytest.mark.parametrize(
    "name, instead",
    [
        ("inputs", "network(x)"),
        ("targets", "loss function"),
        ("outputs", "network.output(x)"),
        ("training_outputs", "network.output(x, training=True)"),
    ],
)
def test_what_belonged_to_tensorflow(row, name, instead):
    with pytest.raises(AttributeError, match=f"`{name}`.*{instead.replace('(', '[(]').replace(')', '[)]')}"):
        getattr(row, name)
    assert not hasattr(row, name)
    network = Input(3) >> Relu(2, name=name)
    assert network.layer(name) is network[1] and not hasattr(network, name)


def test_other_attributes_are_missed_in_the_usual_way(row):
    with pytest.raises(AttributeError, match="'LayerGraph' object has no attribute 'nothing'"):
        _ = row.nothing


# Copies


def test_copy_shares_the_layers_and_nothing_else(diamond):
    twin = copy.copy(diamond)
    assert twin is not diamond and twin.layers == diamond.layers
    assert twin.layer_names_only() == diamond.layer_names_only()
    x = torch.randn(2, 10)
    assert torch.equal(twin(x), diamond(x))
    twin.d = nn.Identity()
    twin.register_forward_hook(lambda module, inputs, output: output * 0)
    assert twin(x).shape == (2, 5) and not twin(x).any()
    assert diamond(x).shape == (2, 4) and diamond(x).any()


@pytest.mark.parametrize(
    "make_copy", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))], ids=["deepcopy", "pickle"]
)
def test_deep_copies_share_nothing(diamond, make_copy):
    diamond["a"].eval()
    twin = make_copy(diamond)
    assert not set(twin.layers) & set(diamond.layers)
    assert names(twin) == names(diamond) and twin.layer_names_only() == diamond.layer_names_only()
    assert repr(twin) == repr(diamond) and list(map(repr, twin)) == list(map(repr, diamond))
    assert not twin["a"].training and twin["b"].training
    x = torch.randn(2, 10)
    assert torch.equal(twin(x), diamond(x)) and torch.equal(twin.end("c")(x), diamond.end("c")(x))
    with torch.no_grad():
        twin["a"].weight.zero_()
    assert diamond["a"].weight.any()
    with pytest.raises(ValueError, match="Layer `a` is not used"):
        twin.end(diamond["a"])


def test_a_network_that_is_not_built_can_be_copied(unbuilt):
    for twin in (copy.copy(unbuilt), copy.deepcopy(unbuilt), pickle.loads(pickle.dumps(unbuilt))):
        assert not twin.is_built and repr(twin) == repr(unbuilt)
    twin = copy.deepcopy(unbuilt)
    assert (Input(4) >> twin).is_built
    assert not unbuilt.is_built


def test_an_unknown_name_is_refused_with_the_names_there_are():
    Relu(), Relu()
    network = Input(3, name="x") >> Relu(2) >> Relu(2)
    message = r"'relu-1'; it is the state_dict key of 'relu-3'\. Names: 'x', 'relu-3', 'relu-4'"
    with pytest.raises(NameError, match=message):
        network["relu-1"]


@pytest.mark.parametrize("name", ["inputs", "outputs", "targets", "training_outputs"])
def test_what_only_tensorflow_had_is_refused_of_a_layer_too(name):
    with pytest.raises(AttributeError, match=rf"Relu has no `{name}`.*TensorFlow"):
        getattr(Relu(), name)
