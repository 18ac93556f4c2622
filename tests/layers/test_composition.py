"""join, parallel, merge and repeat: what they make, what they refuse, and that they change nothing else."""

import copy
import pickle
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from torchneupy import layers
from torchneupy.exceptions import LayerConnectionError
from torchneupy.layers import (
    BaseGraph,
    Concatenate,
    Dropout,
    Elementwise,
    Identity,
    Input,
    LayerGraph,
    Linear,
    Relu,
    Softmax,
    Tanh,
    as_layer,
    join,
    merge,
    naming,
    parallel,
    repeat,
)
from torchneupy.layers.draft import Draft

EVERYTHING = {name: getattr(layers, name) for name in layers.__all__} | {"np": np, "nn": nn, "torch": torch}


def evaluate(source, **names):
    return eval(source, EVERYTHING | names)


def named_layers():
    """Layers for expressions: an input, three of equal widths, one that combines, and a second input."""
    return {
        "x": Input(4, name="x"),
        "a": Relu(4, name="a"),
        "b": Relu(4, name="b"),
        "c": Relu(4, name="c"),
        "e": Concatenate(name="e"),
        "y": Input(4, name="y"),
    }


# What networks look like

REPRS = [
    ("LayerGraph()", "[empty graph]"),
    ("join()", "[empty graph]"),
    ("parallel()", "[empty graph]"),
    ("parallel([], ())", "[empty graph]"),
    ("join(join(), parallel())", "[empty graph]"),
    ("Input(10) >> Relu(5)", "(?, 10) -> [... 2 layers ...] -> (?, 5)"),
    ("join(Relu(5))", "<unknown> -> [... 1 layers ...] -> (?, 5)"),
    ("parallel(Relu(5))", "<unknown> -> [... 1 layers ...] -> (?, 5)"),
    ("join() >> Relu(1)", "<unknown> -> [... 1 layers ...] -> (?, 1)"),
    ("Relu(1) >> join()", "<unknown> -> [... 1 layers ...] -> (?, 1)"),
    ("join(Input(3))", "(?, 3) -> [... 1 layers ...] -> (?, 3)"),
    ("Relu() >> Relu()", "<unknown> -> [... 2 layers ...] -> <unknown>"),
    ("Relu(5) >> Relu()", "<unknown> -> [... 2 layers ...] -> (?, 5)"),
    ("Input(10) | Relu(5)", "[(?, 10), <unknown>] -> [... 2 layers ...] -> [(?, 10), (?, 5)]"),
    ("Input(10) >> (Relu(5) | Relu(4))", "(?, 10) -> [... 3 layers ...] -> [(?, 5), (?, 4)]"),
    ("(Input(10) | Input(9)) >> Concatenate()", "[(?, 10), (?, 9)] -> [... 3 layers ...] -> (?, 19)"),
    ("Input(None) >> Relu()", "(?, ?) -> [... 2 layers ...] -> (?, ?)"),
    ("Input(()) >> Relu()", "(?,) -> [... 2 layers ...] -> (?,)"),
    ("Input((None, None, 3)) >> Relu()", "(?, ?, ?, 3) -> [... 2 layers ...] -> (?, ?, ?, 3)"),
    ("Input(None) >> Relu(5)", "(?, ?) -> [... 2 layers ...] -> (?, 5)"),
    ("Concatenate() >> Relu()", "<unknown> -> [... 2 layers ...] -> <unknown>"),
    ("Relu() >> Concatenate()", "<unknown> -> [... 2 layers ...] -> <unknown>"),
    ("(Input(10) | Relu(9)) >> Concatenate()", "[(?, 10), <unknown>] -> [... 3 layers ...] -> (?, 19)"),
    ("(Input(None) | Input(10)) >> Concatenate()", "[(?, ?), (?, 10)] -> [... 3 layers ...] -> (?, ?)"),
    (
        "(Input((4, None)) | Input((4, 3))) >> Concatenate()",
        "[(?, 4, ?), (?, 4, 3)] -> [... 3 layers ...] -> (?, 4, ?)",
    ),
    # Elementwise declares what all its inputs know together, where NeuPy declared the first one's shape.
    ("(Input(10) | Relu()) >> Elementwise()", "[(?, 10), <unknown>] -> [... 3 layers ...] -> (?, 10)"),
    ("(Relu() | Input(10)) >> Elementwise()", "[<unknown>, (?, 10)] -> [... 3 layers ...] -> (?, 10)"),
    ("(Relu() | Relu()) >> Elementwise()", "[<unknown>, <unknown>] -> [... 3 layers ...] -> <unknown>"),
    ("(Input(10) | Input(None)) >> Elementwise()", "[(?, 10), (?, ?)] -> [... 3 layers ...] -> (?, 10)"),
    ("(Input(None) | Input(10)) >> Elementwise()", "[(?, ?), (?, 10)] -> [... 3 layers ...] -> (?, 10)"),
    # An input may stand anywhere if the shapes agree.
    ("Input(10) >> Relu(5) >> Input(5) >> Relu(3)", "(?, 10) -> [... 4 layers ...] -> (?, 3)"),
    ("Input((4, 4, 3)) >> Input((None, 4, 3))", "(?, 4, 4, 3) -> [... 2 layers ...] -> (?, 4, 4, 3)"),
    ("Input((None, 4, 3)) >> Input((4, 4, 3))", "(?, ?, 4, 3) -> [... 2 layers ...] -> (?, 4, 4, 3)"),
    (
        "join(Input(10), Relu(5) >> Dropout(0.5), Relu(5) >> Dropout(0.5), Sigmoid(1))",
        "(?, 10) -> [... 6 layers ...] -> (?, 1)",
    ),
    ("repeat(Relu(10) >> Dropout(0.5) >> Tanh(), n=5)", "<unknown> -> [... 15 layers ...] -> (?, 10)"),
    ("repeat(Input(10), 2)", "(?, 10) -> [... 2 layers ...] -> (?, 10)"),
    ("repeat(Relu(10), True)", "Relu(10, alpha=0, weight=HeNormal(gain=2), bias=Constant(0), name='relu-1')"),
    ("repeat(Relu(10), np.int64(2))", "<unknown> -> [... 2 layers ...] -> (?, 10)"),
    ("repeat(nn.Linear(3, 3), 2)", "<unknown> -> [... 2 layers ...] -> <unknown>"),
    ("Input(3) >> repeat(nn.Linear(3, 3), 2)", "(?, 3) -> [... 3 layers ...] -> (?, 3)"),
]


@pytest.mark.parametrize("source, text", REPRS, ids=[source for source, _ in REPRS])
def test_repr(source, text):
    assert repr(evaluate(source)) == text


def test_the_repr_of_a_layer_alone_is_not_that_of_a_network():
    relu = Relu(5, name="a")
    assert type(join(relu)) is type(parallel(relu)) is LayerGraph
    assert join(relu)[0] is relu


# Who feeds whom, in which order

NAMES = [
    ("join(a)", [("a", [])]),
    ("join(a, b, c)", [("a", ["b"]), ("b", ["c"]), ("c", [])]),
    ("parallel([a, b], (c, e))", [("a", ["b"]), ("b", []), ("c", ["e"]), ("e", [])]),
    ("parallel([a], b)", [("a", []), ("b", [])]),
    # Every output is connected to every input, where one of the two sides is single.
    ("(a | b) >> e", [("a", ["e"]), ("b", ["e"]), ("e", [])]),
    ("a >> (b | c)", [("a", ["b", "c"]), ("b", []), ("c", [])]),
    ("x >> (a | b) >> e", [("x", ["a", "b"]), ("a", ["e"]), ("b", ["e"]), ("e", [])]),
    # An empty network in a row is skipped; an empty branch vanishes, and a branch given twice counts once.
    ("join(a, parallel(), b)", [("a", ["b"]), ("b", [])]),
    ("join(join(), a, b, join())", [("a", ["b"]), ("b", [])]),
    ("join(a, parallel([], [b]), e)", [("a", ["b"]), ("b", ["e"]), ("e", [])]),
    ("join(x, parallel(b, b), e)", [("x", ["b"]), ("b", ["e"]), ("e", [])]),
    ("(a >> b) | (a >> b)", [("a", ["b"]), ("b", [])]),
    # Layers in several networks are there once.
    ("parallel(a >> b, a >> c)", [("a", ["b", "c"]), ("b", []), ("c", [])]),
    ("merge(a >> b, a >> c)", [("a", ["b", "c"]), ("b", []), ("c", [])]),
    ("merge(a >> b, c, combine=True)", [("a", ["b"]), ("b", ["c"]), ("c", [])]),
    ("merge(a, b)", [("a", []), ("b", [])]),
    ("merge(a >> b, b >> c)", [("a", ["b"]), ("b", ["c"]), ("c", [])]),
    ("(b >> e) | (a >> b) | (x >> a)", [("b", ["e"]), ("e", []), ("a", ["b"]), ("x", ["a"])]),
    ("parallel(x >> a, x >> b >> e, a >> e)", [("x", ["a", "b"]), ("a", ["e"]), ("b", ["e"]), ("e", [])]),
    # A connection is there once, however often it is made.
    ("merge(x >> e, x >> e >> a)", [("x", ["e"]), ("e", ["a"]), ("a", [])]),
    ("((x >> e) | (y >> e)) >> a", [("x", ["e"]), ("e", ["a"]), ("y", ["e"]), ("a", [])]),
    # Only a graph that is made by hand has one twice, and then the layer gets that input twice.
    ("LayerGraph([(x, [e, e]), (e, [])])", [("x", ["e", "e"]), ("e", [])]),
    ("LayerGraph([(x, [e, e]), (e, [])]) >> a", [("x", ["e", "e"]), ("e", ["a"]), ("a", [])]),
    ("LayerGraph([(x, [e, e])]) | (x >> b)", [("x", ["e", "e", "b"]), ("e", []), ("b", [])]),
]


@pytest.mark.parametrize("source, names", NAMES, ids=[source for source, _ in NAMES])
def test_layer_names_only(source, names):
    assert evaluate(source, **named_layers()).layer_names_only() == names


ORDERS = [
    ("x >> ((a >> b) | (c >> Tanh(name='d'))) >> e", "xabcde"),
    ("parallel(e, a)", "ea"),
    ("LayerGraph([(e, []), (a, [e]), (x, [a])])", "xae"),
    ("(b >> e) | (a >> b) | (x >> a)", "xabe"),
    ("(x >> a >> b) | (x >> c)", "xabc"),
    ("(c >> Tanh(name='d')) | (x >> a >> b)", "cdxab"),
    ("(c >> e) | (x >> a >> b >> e)", "cxabe"),
]


@pytest.mark.parametrize("source, order", ORDERS, ids=[source for source, _ in ORDERS])
def test_layers_are_in_the_order_of_neupy(source, order):
    network = evaluate(source, **named_layers())
    assert [layer.name for layer in network] == list(order)
    assert list(network.named_children()) == [(layer.name, layer) for layer in network]


SOURCES = [("(b | a) >> e", "ba"), ("(a | b) | ((b | a) >> e)", "ab"), ("parallel(x >> a, x >> b >> e, a >> e)", "ab")]


@pytest.mark.parametrize("source, order", SOURCES, ids=[source for source, _ in SOURCES])
def test_inputs_of_a_layer_come_as_their_sources_entered(source, order):
    made = named_layers() | {"a": Relu(2, name="a"), "b": Relu(3, name="b")}
    network = evaluate(source, **made)
    assert [layer.name for layer in network.backward_graph[made["e"]]] == list(order)


def test_values_follow_the_order_of_the_inputs():
    x, a, b, e = Input(1), Linear(1, weight=1, bias=0), Linear(1, weight=2, bias=0), Concatenate()
    assert (x >> (b | a) >> e)(torch.ones(1, 1)).tolist() == [[2, 1]]
    assert ((a | b) | (x >> (b | a) >> e))(torch.ones(1, 1)).tolist() == [[1, 2]]


def test_a_connection_made_twice_by_hand_brings_the_value_twice():
    x, e = Input(4), Concatenate()
    graph = LayerGraph([(x, [e, e]), (e, [])])
    assert repr(graph) == "(?, 4) -> [... 2 layers ...] -> (?, 8)"
    assert graph(torch.ones(1, 4)).shape == graph.output(torch.ones(1, 4)).shape == (1, 8)
    assert not graph.is_sequential()


# What is refused

REFUSED = [
    ("join", "a, a", LayerConnectionError, r"cycle.*Left graph: <unknown>.*1 layers.*Right graph: Relu\(4.*name='a'"),
    ("join", "a >> b, a", LayerConnectionError, r"cycle.*Left graph: .* -> \[... 2 layers.*name='a'"),
    ("join", "x, a, b, a", LayerConnectionError, r"cycle.*Left graph: \(\?, 4\) -> \[... 3 layers.*name='a'"),
    ("parallel", "a >> b, b >> a", LayerConnectionError, r"cycle.*Left graph: .*2 layers.*Right graph: .*2 layers"),
    ("merge", "a >> b, b >> c >> a", LayerConnectionError, r"cycle.*Left graph: .*2 layers.*Right graph: .*3 layers"),
    ("parallel", "b, [a, b, a]", LayerConnectionError, "cycle.*name='a'"),
    ("LayerGraph", "[(a, [b]), (b, [a])],", LayerConnectionError, r"cycle.*\['a', 'b'\]"),
    ("LayerGraph", "[(a, [a])],", LayerConnectionError, r"cycle.*\['a'\]"),
    (
        "join",
        "a | b, c | e",
        LayerConnectionError,
        r"many to many.*2 outputs.*\['a', 'b'\].*2 inputs.*\['c', 'e'\].*: \[<unknown>, <unknown>\] -> \[... 2 layers",
    ),
    ("join", "a | b, join(), c | e", LayerConnectionError, r"many to many.*\['a', 'b'\].*\['c', 'e'\]"),
    ("join", "x | y, a", LayerConnectionError, r"Layer `a` takes 1 input\(s\), got 2 with shapes \(\?, 4\), \(\?, 4\)"),
    ("join", "a | b, c", LayerConnectionError, r"Layer `c` takes 1 input\(s\), got 2"),
    ("join", "x | y, Input(4, name='z')", LayerConnectionError, r"Layer `z` takes 1 input\(s\), got 2"),
    ("join", "x | y, Dropout(0.1, name='z')", LayerConnectionError, r"Layer `z` takes 1 input\(s\), got 2"),
    ("join", "x, Input(5, name='z')", LayerConnectionError, r"`x` to layer `z`.*\(\(\?, 4\)\).*\(\(\?, 5\)\)"),
    ("join", "x, Elementwise(name='z')", LayerConnectionError, r"Layer `z` expected multiple inputs.*\(\?, 4\)"),
    ("join", "Elementwise(name='z'), a", LayerConnectionError, r"Layer `z` expected multiple inputs.*<unknown>"),
    ("join", "x | Input(5), Elementwise(name='z')", LayerConnectionError, r"`z`.*\(\?, 4\), \(\?, 5\)"),
    ("join", "x | Relu(9), Elementwise(name='z')", LayerConnectionError, r"`z`.*\(\?, 4\), \(\?, 9\)"),
    # Axes that are not there, whichever end they are counted from.
    ("join", "x | y, Concatenate(axis=2, name='z')", LayerConnectionError, r"axis 2,.* 2 dimensions.*name='z'"),
    ("join", "x | y, Concatenate(axis=-3, name='z')", LayerConnectionError, r"axis -3,.* 2 dimensions.*name='z'"),
    ("join", "x, PRelu(alpha_axes=-2, name='z')", LayerConnectionError, r"-2.*name='z'"),
    # Not one good layer may change because of a bad one among what is given.
    ("join", "x, Relu(2, weight=np.ones((3, 2)), name='z')", LayerConnectionError, r"z/weight.*\(3, 2\).*\(4, 2\)"),
    ("join", "x, a, b, Relu(2, weight=np.ones((3, 2)), name='z')", LayerConnectionError, r"z/weight.*\(3, 2\)"),
    ("join", "x, a, Relu(2, bias=np.ones(3), name='z'), b", LayerConnectionError, r"z/bias.*\(3,\).*\(2,\)"),
    ("join", "x, a, b, Input(5, name='z')", LayerConnectionError, r"`b` to layer `z`"),
    ("join", "x, a, 5", TypeError, "got 5 of the type int"),
    ("join", "x, [a, b]", TypeError, r"got \[.*name='a'.* of the type list"),
    ("join", "x, (a, b)", TypeError, r"got \(.*name='a'.* of the type tuple"),
    ("join", "[a, b],", TypeError, "of the type list"),
    ("join", "x, None", TypeError, "got None of the type NoneType"),
    ("join", "x, 'relu'", TypeError, "got 'relu' of the type str"),
    ("join", "x, Relu", TypeError, r"did you mean Relu\(\.\.\.\)\?"),
    ("parallel", "x, [a, [b]]", TypeError, "of the type list"),
    ("parallel", "x, 5", TypeError, "got 5 of the type int"),
    ("merge", "x, 5", TypeError, "got 5 of the type int"),
    ("merge", "x, 5, True", TypeError, "got 5 of the type int"),
    ("LayerGraph", "[(x, [5])],", TypeError, "got 5 of the type int"),
    ("repeat", "a | b, 2", LayerConnectionError, r"several inputs or outputs.*\[<unknown>, <unknown>\]"),
    ("repeat", "x >> (a | b), 2", LayerConnectionError, r"several inputs or outputs.*\[\(\?, 4\), \(\?, 4\)\]"),
    ("repeat", "(x | y) >> e, 2", LayerConnectionError, r"several inputs or outputs.*-> \(\?, 8\)"),
    ("repeat", "x >> Relu(5), 2", LayerConnectionError, r"Input shape: \(\?, 4\), Output shape: \(\?, 5\)"),
    ("repeat", "Elementwise(name='z'), 2", LayerConnectionError, "Layer `z` expected multiple inputs"),
    ("repeat", "a, 0", ValueError, "`n` parameter should be a positive integer, got 0"),
    ("repeat", "a, -1", ValueError, "`n` parameter should be a positive integer, got -1"),
    ("repeat", "a, False", ValueError, "`n` parameter should be a positive integer, got False"),
    ("repeat", "a, 2.0", ValueError, "`n` parameter should be a positive integer, got 2.0"),
    ("repeat", "a, '2'", TypeError, "`n` parameter should be a positive integer, got '2' of the type str"),
    ("repeat", "a, None", TypeError, "`n` parameter should be a positive integer, got None"),
    ("repeat", "5, 2", TypeError, "got 5 of the type int"),
]


def trace(graphs):
    """All that a failed composition could have changed in its operands, or anywhere else."""
    random = torch.get_rng_state().tolist()
    return (
        random,
        dict(naming._next_number),
        [
            (
                repr(graph),
                [(key, id(value), value.tolist()) for key, value in graph.state_dict(keep_vars=True).items()],
                {name: id(value) for name, value in vars(graph).items()},
                str(graph.input_shape),
                None if isinstance(graph, Elementwise) else str(graph.output_shape),
                graph.is_built,
            )
            for graph in graphs
        ],
    )


@pytest.mark.parametrize(
    "function, operands, error, words", REFUSED, ids=[f"{function}({operands})" for function, operands, *_ in REFUSED]
)
def test_a_refused_composition_leaves_no_trace(function, operands, error, words):
    made = named_layers()
    given = evaluate(f"({operands})", **made)
    watched = [*made.values(), *(operand for operand in given if isinstance(operand, BaseGraph))]
    before = trace(watched)
    with pytest.raises(error, match=words):
        EVERYTHING[function](*given)
    assert trace(watched) == before


def test_after_a_failure_the_same_layers_can_be_joined_as_if_it_had_not_been():
    def layers_and_bad_one():
        return Input(4), Relu(3), Tanh(2), Relu(2, weight=np.ones((3, 2)))

    torch.manual_seed(7)
    x, a, b, bad = layers_and_bad_one()
    with pytest.raises(LayerConnectionError, match=r"relu-2/weight"):
        join(x, a, b, bad)
    assert a.weight is None and b.weight is None and not a.is_built
    network = join(x, a, b)
    torch.manual_seed(7)
    expected = join(*layers_and_bad_one()[:3])
    torch.testing.assert_close(dict(network.state_dict()), dict(expected.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize(
    "wide", [lambda: Input(9), lambda: Input(3) >> Relu(9), lambda: (Input(4) | Input(5)) >> Concatenate()]
)
def test_a_layer_in_two_networks_has_one_width(wide):
    relu = Relu(5, name="shared")
    first = Input(10) >> relu
    weight = relu.weight
    assert weight is not None
    with pytest.raises(LayerConnectionError, match=r"\(\?, 9\).*`?shared|shared.*\(\?, 9\)"):
        wide() >> relu
    assert relu.weight is weight and repr(first) == "(?, 10) -> [... 2 layers ...] -> (?, 5)"
    second = Input(10) >> Dropout(0.1) >> relu
    assert second.variables[relu, "weight"] is weight


def test_a_layer_whose_input_becomes_known_later_gets_its_variables_then():
    relu = Relu(5)
    loose = Input(None) >> relu
    assert not loose.is_built and relu.weight is None
    fixed = Input(10) >> relu
    assert fixed.is_built and relu.variables["weight"].shape == (10, 5)
    assert loose.is_built and loose.variables[relu, "weight"] is relu.weight


def test_operands_stay_as_they_are():
    x, a, b, e = Input(4), Relu(4), Tanh(), Concatenate()
    left, right = x >> a, b | e
    texts = [repr(left), repr(right), left.layer_names_only(), right.layer_names_only(), list(left.state_dict())]
    for network in (left >> right, left | right, merge(left, right), parallel([left, b], e), repeat(left, 2)):
        assert len(network) > 2
    assert texts == [
        repr(left),
        repr(right),
        left.layer_names_only(),
        right.layer_names_only(),
        list(left.state_dict()),
    ]
    assert left(torch.ones(2, 4)).shape == (2, 4)


def test_a_network_whose_hooks_would_not_run_says_so_when_it_is_flattened():
    hooked = Relu(4) >> Relu(4)
    hooked.register_forward_hook(lambda module, inputs, output: None)
    for combine in (lambda: Input(4) >> hooked, lambda: hooked | Relu(4), lambda: join(Input(4), hooked)):
        with pytest.warns(UserWarning, match=r"-> \[... 2 layers ...\] -> \(\?, 4\).*hooks.*as_layer"):
            combine()
    assert (Input(4) >> as_layer(hooked)).output_shape == (None, 4)


@pytest.mark.parametrize(
    "combine",
    [
        pytest.param(lambda hooked: hooked >> Relu(4), id=">>"),
        pytest.param(lambda hooked: Relu(4) | hooked, id="|"),
        pytest.param(lambda hooked: join(Input(4), hooked), id="join"),
        pytest.param(lambda hooked: parallel(hooked, Relu(4)), id="parallel"),
        pytest.param(lambda hooked: merge(hooked, Relu(4)), id="merge"),
    ],
)
def test_that_warning_points_to_the_line_that_flattens(combine):
    hooked = Relu(4) >> Relu(4)
    hooked.register_forward_hook(lambda module, inputs, output: None)
    with pytest.warns(UserWarning, match="as_layer") as caught:
        combine(hooked)
    assert [warning.filename for warning in caught] == [__file__]


# repeat


@pytest.mark.parametrize(
    "make, names",
    [
        (lambda: Relu(10), ["relu-1", "relu-2", "relu-3"]),
        (lambda: Relu(10, name="a"), ["a", "a", "a"]),
        (lambda: Relu(10, name="rl{}"), ["rl1", "rl2", "rl3"]),
        (lambda: Relu(10) >> Tanh(10, name="t"), ["relu-1", "t", "relu-2", "t", "relu-3", "t"]),
        (lambda: nn.Linear(3, 3), ["linear-1", "linear-2", "linear-3"]),
    ],
)
def test_repeat_names_copies_as_they_were_named(make, names):
    thing = make()
    network = repeat(thing, 3)
    assert [layer.name for layer in network] == names
    assert network.is_sequential()
    first = list(thing) if isinstance(thing, LayerGraph) else [thing]
    assert [getattr(layer, "module", layer) for layer in network][: len(first)] == first


@pytest.mark.parametrize("make", [lambda: Relu(10), lambda: Relu(3) >> Relu(3), lambda: nn.Linear(2, 2)])
@pytest.mark.parametrize("n", [1, True, np.int64(1)])
def test_repeat_once_gives_the_very_object(make, n):
    thing = make()
    assert repeat(thing, n) is thing


@pytest.mark.parametrize(
    "make", [lambda: Relu(4), lambda: Relu(4) >> Tanh(4), lambda: (Identity() | Relu(4)) >> Elementwise()]
)
def test_repeat_copies_values_that_exist_into_variables_of_their_own(make):
    block = Identity() >> make()
    first = Input(4) >> block
    network = Input(4) >> repeat(block, 3)
    x = torch.randn(5, 4)
    torch.testing.assert_close(network(x), first(first(first(x))))
    expected = 3 * first.n_parameters
    assert network.n_parameters == expected
    assert len({parameter.data_ptr() for parameter in network.parameters()}) == len(list(network.parameters()))


def test_repeat_draws_values_anew_where_there_are_none_yet():
    network = Input(4) >> repeat(Relu(4), 2)
    assert not torch.equal(network[1].weight, network[2].weight)


def test_repeat_keeps_connections_inside():
    network = repeat((Identity(name="i") | Relu(4, name="a")) >> Elementwise(name="e"), 1)
    assert network.layer_names_only() == [("i", ["e"]), ("a", ["e"]), ("e", [])]
    block = Input(4, name="x") >> (Identity(name="i") | Relu(4, name="a")) >> Elementwise(name="e")
    once = [("x", ["i", "a"]), ("i", ["e"]), ("a", ["e"]), ("e", [])]
    assert repeat(block, 2).layer_names_only() == [*once[:3], ("e", ["x"]), *once]


# However the parts are put together, it is the same network

names = st.sampled_from([None, "a", "a", "a-{}", "a-{}", "a-2", "relu-1", "block.a", "output"])


@st.composite
def rows(draw):
    made = [Relu(4, name=draw(names)) for _ in range(draw(st.integers(1, 2)))]
    return join(*made) if draw(st.booleans()) else made[0] if len(made) == 1 else join(*made)


@st.composite
def parts(draw):
    """What can stand in a row: from an input on, rows of layers, and forks that come together again, or only later."""
    made = [join(Input(4, name=draw(names)), Relu(4))]
    forked = False
    for _ in range(3):
        part = draw(rows())
        if draw(st.booleans()):
            part = parallel(part, draw(rows()))
            if forked:
                part = join(Concatenate(name=draw(names)), Relu(4), part)
            forked = draw(st.booleans())
            if not forked:
                part = join(part, Concatenate(), Relu(4, name=draw(names)))
        elif forked:
            part = join(Concatenate(name=draw(names)), Relu(4), part)
            forked = False
        made.append(part)
    return made


def facts(network):
    """All that is known of a network's structure."""
    return {
        "names": network.layer_names_only(),
        "keys": list(dict(network.named_children())),
        "layers": network.layers,
        "states": list(network.state_dict()),
        "sources": network.backward_graph,
        "inputs": network.input_layers,
        "outputs": network.output_layers,
        "shapes": [(layer.name, str(shape)) for layer, shape in network.output_shapes_per_layer.items()],
        "repr": repr(network),
        "sequential": network.is_sequential(),
    }


@settings(deadline=None)
@given(parts())
def test_parts_in_a_row_can_be_grouped_in_any_way(made):
    a, b, c, d = made
    whole = join(a, b, c, d)
    groupings = [
        ((a >> b) >> c) >> d,
        (a >> b) >> (c >> d),
        a >> (b >> (c >> d)),
        a >> ((b >> c) >> d),
        join(a >> b, c, d),
    ]
    x = torch.randn(3, 4)
    outputs = whole(x) if isinstance(whole(x), tuple) else (whole(x),)
    for network in [*groupings, join(a >> b, c, d)]:
        assert facts(network) == facts(whole)
        found = network(x) if isinstance(network(x), tuple) else (network(x),)
        assert all(torch.equal(*pair) for pair in zip(found, outputs, strict=True))


def test_keys_do_not_depend_on_the_grouping():
    # Two literal names ask for "relu" and "relu-2", and only then the automatic ones are numbered.
    a, b, c = Relu(3) >> Relu(3), Relu(3, name="relu"), Relu(3, name="relu")
    expected = ["relu-1", "relu-3", "relu", "relu-2"]
    assert list(dict(join(a, b, c).named_children())) == expected
    assert list(dict((a >> b >> c).named_children())) == expected
    assert list(dict((a >> (b >> c)).named_children())) == expected


# Random programs of join and parallel, against NeuPy's way of uniting graphs written on plain lists


@st.composite
def programs(draw):
    """Steps (function, left, right), each about what is there so far: first the layers, then the steps' results."""
    count = draw(st.integers(2, 6))
    steps = []
    for index in range(draw(st.integers(1, 6))):
        known = st.integers(0, count + index - 1)
        steps.append((draw(st.sampled_from(["join", "parallel"])), draw(known), draw(known)))
    return [draw(names) for _ in range(count)], steps


def run_program(layer_names, steps):
    """The layers, the network of each step, the empty one where it was refused, and what was raised then."""
    made = [Concatenate(name=name) for name in layer_names]
    results, errors = [join(layer) for layer in made], []
    for function, left, right in steps:
        operands = [results[left], results[right]]
        try:
            results.append((join if function == "join" else parallel)(*operands))
        except LayerConnectionError as error:
            results.append(join())  # so that later steps have something
            errors.append(str(error).split(".", maxsplit=1)[0])
    return made, results, errors


def model(count, steps):
    """The same with dictionaries of numbers: node to the nodes that it feeds. Empty where the step is refused."""
    results: list[dict[int, list[int]]] = [{node: []} for node in range(count)]
    for function, left, right in steps:
        first, second = results[left], results[right]
        united = {node: list(targets) for node, targets in first.items()}
        for node, targets in second.items():
            united.setdefault(node, [])
            united[node] += [target for target in targets if target not in united[node]]
        refused = False
        if function == "join":
            outputs = [node for node, targets in first.items() if not targets]
            inputs = [node for node in second if not any(node in targets for targets in second.values())]
            refused = len(outputs) > 1 and len(inputs) > 1
            for node in outputs:
                united[node] += inputs
        order: list[int] = []
        while len(order) < len(united) and not refused:
            before = len(order)
            for node in united:
                if node not in order and all(o in order for o, targets in united.items() if node in targets):
                    order.append(node)
            refused = len(order) == before
        results.append({} if refused else united)
    return results


@settings(deadline=None, max_examples=200)
@given(programs())
def test_random_networks_are_those_of_neupy(program):
    layer_names, steps = program
    made, results, _ = run_program(layer_names, steps)
    for network, expected in zip(results, model(len(made), steps), strict=True):
        forward = {made[node]: [made[target] for target in targets] for node, targets in expected.items()}
        assert network.forward_graph == forward and list(network.forward_graph) == list(forward)


@settings(deadline=None, max_examples=200)
@given(programs())
def test_adding_behind_and_working_out_anew_give_the_same_network(program):
    naming.reset_names()
    _, quick, errors = run_program(*program)
    naming.reset_names()
    with mock.patch.object(Draft, "append", return_value=False):
        _, slow, same_errors = run_program(*program)
    assert errors == same_errors
    for one, another in zip(quick, slow, strict=True):
        about = [facts(network) for network in (one, another)]
        for fact in about:
            fact["sources"] = [[layer.name for layer in found] for found in fact["sources"].values()]
            for name in ("layers", "inputs", "outputs"):
                fact[name] = [layer.name for layer in fact[name]]
        assert about[0] == about[1]


@settings(deadline=None, max_examples=200)
@given(programs())
def test_a_network_made_by_hand_of_the_same_connections_is_the_same(program):
    _, results, _ = run_program(*program)
    for network in results:
        assert facts(LayerGraph(network.forward_graph)) == facts(network)
        assert facts(LayerGraph(list(network.forward_graph.items()))) == facts(network)


# Long rows


class Counted(Identity):
    """Counts how often its shape is asked for."""

    asked = 0

    def get_output_shape(self, input_shape):
        Counted.asked += 1
        return super().get_output_shape(input_shape)


@pytest.mark.parametrize("size", [10, 300])
def test_shapes_are_worked_out_once(size):
    Counted.asked = 0
    join(Input(3), *[Counted() for _ in range(size)])
    assert Counted.asked == size
    Counted.asked = 0
    network = join(Input(3))
    for _ in range(size):
        network >>= Counted()
    assert Counted.asked == size and len(network) == size + 1


def test_a_thousand_layers():
    network = join(Input(4), *[Linear(4, weight=np.eye(4), bias=0) for _ in range(998)], Softmax(3))
    assert repr(network) == "(?, 4) -> [... 1000 layers ...] -> (?, 3)"
    assert network.is_sequential() and network.n_parameters == 998 * 20 + 15
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4)
    x = torch.randn(2, 4)
    network(x)[:, 0].log().sum().backward()
    before = network[1].weight.detach().clone()
    optimizer.step()
    assert not torch.equal(before, network[1].weight)
    shallow, deep, loaded = copy.copy(network), copy.deepcopy(network), pickle.loads(pickle.dumps(network))
    for twin in (shallow, deep, loaded):
        assert repr(twin) == repr(network) and len(twin) == 1000
        assert torch.equal(twin(x), network(x)) and torch.equal(twin.output(x), network(x))
    assert deep[500] is not network[500] and shallow[500] is network[500]
    assert len(str(network.summary()).splitlines()) == 1004
    assert len(network.end(network[499])) == len(network[500:]) == 500
    assert network.predict(np.ones((2, 4)), verbose=False).shape == (2, 3)


def test_a_thousand_layers_one_after_the_other():
    network = join(Input(3))
    for _ in range(999):
        network >>= Relu()
    assert repr(network) == "(?, 3) -> [... 1000 layers ...] -> (?, 3)"
    assert network(torch.ones(1, 3)).shape == (1, 3)


def test_a_thousand_branches():
    network = Input(2) >> parallel(*[Relu(1) for _ in range(1000)]) >> Concatenate()
    assert network.output_shape == (None, 1000) and len(network.layers) == 1002
    assert network(torch.ones(3, 2)).shape == (3, 1000)


def test_a_layer_that_was_never_initialised_is_refused():
    class Forgets(Identity):
        def __init__(self):
            object.__setattr__(self, "scale", 2)

    with pytest.raises(TypeError, match=r"Forgets.__init__ does not call super\(\).__init__\(\)"):
        Input(3) >> Forgets()


def test_repeating_once_checks_what_is_repeated():
    with pytest.raises(TypeError, match="5"):
        repeat(5, 1)
