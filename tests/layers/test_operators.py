"""The operators ``>>``, ``|`` and NeuPy's old ``>``, which Python takes apart before it is seen."""

import ast
import gc
import itertools
import operator
import threading
import weakref
from typing import Any

import pytest
import torch
from torch import nn

from torchneupy.exceptions import LayerConnectionError
from torchneupy.layers import Concatenate, Input, LayerGraph, Relu, join, parallel


def four_layers():
    return [Input(4, name="a"), Relu(4, name="b"), Relu(4, name="c"), Relu(4, name="d")]


def chained(*names):
    """What ``layer_names_only`` gives for layers in a row."""
    return [(name, [following]) for name, following in itertools.pairwise(names)] + [(names[-1], [])]


# What an expression means

EXPRESSIONS = [
    ("a >> b", [("a", ["b"]), ("b", [])]),
    ("a | b", [("a", []), ("b", [])]),
    ("a > b", [("a", ["b"]), ("b", [])]),
    ("b < a", [("a", ["b"]), ("b", [])]),
    ("a >> b >> c >> d", chained(*"abcd")),
    ("a | b | c", [("a", []), ("b", []), ("c", [])]),
    ("c | a", [("c", []), ("a", [])]),
    # >> binds tighter than |, and > is looser than both.
    ("a >> b | c", [("a", ["b"]), ("b", []), ("c", [])]),
    ("a >> (b | c)", [("a", ["b", "c"]), ("b", []), ("c", [])]),
    ("a | b >> c", [("a", []), ("b", ["c"]), ("c", [])]),
    ("a > b | c", [("a", ["b", "c"]), ("b", []), ("c", [])]),
    ("a > b >> c", chained(*"abc")),
    ("a >> b > c >> d", chained(*"abcd")),
    # The old notation in a chain, whole or with parentheses.
    ("a > b > c", chained(*"abc")),
    ("a > b > c > d", chained(*"abcd")),
    ("a > (b > c)", chained(*"abc")),
    ("(a > b) > c", chained(*"abc")),
    ("(a > b > c) > d", chained(*"abcd")),
    ("a > b > (c > d)", chained(*"abcd")),
    ("a > (b > c > d)", chained(*"abcd")),
    # What asks for a truth value in between does not matter.
    ("a > (bool(d) and b) > c", chained(*"abc")),
    ("(not a) or (a > b > c)", chained(*"abc")),
    ("a > b > (c if a else d)", chained(*"abc")),
    ("(a > b, b > c)[1]", chained(*"bc")),
    ("[a > b > c, c > d][0]", chained(*"abc")),
    ("[a > b > c, c > d][1]", chained(*"cd")),
    ("(lambda x, y, z: x > y > z)(a, b, c)", chained(*"abc")),
    ("[x > b > c for x in [a]][0]", chained(*"abc")),
]


@pytest.mark.parametrize("source, names", EXPRESSIONS, ids=[source for source, _ in EXPRESSIONS])
def test_expression(source, names):
    network = eval(source, dict(zip("abcd", four_layers(), strict=True)))
    assert type(network) is LayerGraph
    assert network.layer_names_only() == names


def test_operators_in_place_make_new_networks():
    network: Any = Input(10)
    first = network
    network >>= Relu(5)
    second = network
    network |= Input(3)
    assert repr(network) == "[(?, 10), (?, 3)] -> [... 3 layers ...] -> [(?, 5), (?, 3)]"
    assert repr(second) == "(?, 10) -> [... 2 layers ...] -> (?, 5)"
    assert repr(first) == "Input(10, name='input-1')" and type(first) is Input


@pytest.mark.parametrize(
    "function, connect",
    [(operator.rshift, join), (operator.or_, parallel), (operator.irshift, join), (operator.ior, parallel)],
)
@pytest.mark.parametrize("other", [lambda: nn.Linear(4, 4), lambda: Relu(4), lambda: Relu(4) >> Relu(4)])
def test_an_operator_is_its_function_on_either_side(function, connect, other):
    for operands in [(Relu(4), other()), (other(), Relu(4)), (Relu(4) >> Relu(4), other()), (other(), join(Relu(4)))]:
        network, expected = function(*operands), connect(*operands)
        assert network.layer_names_only() == expected.layer_names_only()
        assert network.layers == expected.layers


def test_a_module_of_torch_may_begin_a_network():
    linear, relu = nn.Linear(3, 2), Relu()
    network = linear >> relu
    assert [getattr(layer, "module", layer) for layer in network] == [linear, relu]
    x = torch.randn(5, 3)
    torch.testing.assert_close(network(x), torch.relu(linear(x)))
    assert len(nn.Flatten() | relu) == 2


@pytest.mark.parametrize("symbol", [">>", "|", ">"])
@pytest.mark.parametrize("other", [5, None, "relu", [Relu(1)], 2.5, object(), Relu])
@pytest.mark.parametrize("make", [lambda: Relu(5, name="a"), lambda: Input(3, name="x") >> Relu(5, name="a")])
def test_what_is_no_module_is_refused(symbol, other, make):
    apply = {">>": operator.rshift, "|": operator.or_, ">": operator.gt}[symbol]
    graph = make()
    before = repr(graph)
    ours, theirs = type(graph).__name__, type(other).__name__
    words = rf"{symbol}" if symbol != "|" else r"\|"
    with pytest.raises(TypeError, match=rf"{words}.*'{ours}' and '{theirs}'"):
        apply(graph, other)
    swapped = r"<|>" if symbol == ">" else words
    with pytest.raises(TypeError, match=rf"({swapped}).*'{theirs}' and '{ours}'"):
        apply(other, graph)
    assert repr(graph) == before
    assert Relu().name == "relu-1"


def test_a_refused_operand_leaves_the_name_as_it_was():
    network = first = Input(3) >> Relu(2)
    with pytest.raises(TypeError, match="'LayerGraph' and 'int'"):
        network >>= 5
    with pytest.raises(TypeError, match="'LayerGraph' and 'int'"):
        network |= 5
    assert network is first


def test_other_comparisons_mean_identity():
    a, b = Relu(3), Relu(3)
    network = a >> b
    assert a != b and network != (a >> b) and [a, network].index(network) == 1
    assert {a: 1, network: 2}[network] == 2
    with pytest.raises(TypeError, match="'>=' not supported between instances of 'Relu' and 'Relu'"):
        operator.ge(a, b)
    with pytest.raises(TypeError, match="'<=' not supported between instances of 'Relu' and 'LayerGraph'"):
        operator.le(a, network)


@pytest.mark.parametrize("graph", [LayerGraph(), join(), Relu(), Input(3) >> Relu(2)])
def test_everything_is_true(graph):
    assert bool(graph) is True and (not graph) is False


# The old notation: one expression is one chain, and two are two


def test_chains_in_functions():
    a, b, c, d = four_layers()

    def inner(x, y, z):
        return x > y > z

    def outer(x, y, z, w):
        return inner(x, y, z) > w

    assert inner(a, b, c).layer_names_only() == chained(*"abc")
    assert outer(a, b, c, d).layer_names_only() == chained(*"abcd")


def test_a_chain_over_several_lines():
    a, b, c, d = four_layers()
    # fmt: off
    network = (
        a
        > b >
        c
        > d
    )
    # fmt: on
    assert network.layer_names_only() == chained(*"abcd")


def test_a_chain_in_code_without_columns():
    # Programs made by other programs, as by templates, have all their code in one place.
    tree = ast.parse("network = a > b > c")
    for node in ast.walk(tree):
        for place in ("lineno", "end_lineno", "col_offset", "end_col_offset"):
            if hasattr(node, place):
                setattr(node, place, 1)
    names = dict(zip("abcd", four_layers(), strict=True))
    exec(compile(tree, "made", "exec"), names)
    network = names["network"]
    assert isinstance(network, LayerGraph) and network.layer_names_only() == chained(*"abc")


def test_a_chain_whose_parts_are_made_by_calls():
    network = Input(4, name="a") > Relu(4, name="b") > join(Relu(4, name="c")) > Relu(4, name="d")
    assert network.layer_names_only() == chained(*"abcd")


def test_a_chain_with_another_chain_made_in_a_call():
    a, b, c, d = four_layers()

    def make():
        return c > d

    network = a > b > make()
    assert network.layer_names_only() == chained(*"abcd")


def test_a_reversed_chain():
    a, b, c, _ = four_layers()
    network = c < b < a
    assert sorted(network.layer_names_only()) == chained(*"abc")
    assert [layer.name for layer in network] == ["a", "b", "c"]


def test_statements_are_not_one_chain():
    a, b, c, d = four_layers()
    first = a > b
    second = b > c
    assert first.layer_names_only() == chained(*"ab")
    assert second.layer_names_only() == chained(*"bc")
    _ = c > d
    third = c > d
    assert third.layer_names_only() == chained(*"cd")


def test_a_condition_is_no_part_of_a_chain():
    a, b, c, _ = four_layers()
    network = None
    if a > b:
        network = b > c
    assert network is not None and network.layer_names_only() == chained(*"bc")
    while a > b:
        network = b > c
        break
    assert network.layer_names_only() == chained(*"bc")
    truth = bool(a > b)
    network = b > c
    assert truth and network.layer_names_only() == chained(*"bc")


@pytest.mark.parametrize("ask", [False, True])
def test_a_comparison_repeated_in_a_loop_is_no_chain(ask):
    current, *others = four_layers()
    made = []
    for following in others:
        network = current > following
        if not ask or network:
            made.append(network.layer_names_only())
        current = following
    assert made == [chained(*"ab"), chained(*"bc"), chained(*"cd")]


def test_a_condition_repeated_in_a_loop_is_no_chain():
    current, *others = four_layers()
    made = []
    for following in others:
        if (network := current > following) and current > following:
            made.append(network.layer_names_only())
            current = following
    assert made == [chained(*"ab"), chained(*"bc"), chained(*"cd")]


def test_a_chain_repeated_in_a_loop_is_the_same_each_time():
    a, b, c, _ = four_layers()
    for _ in range(3):
        network = a > b > c
        assert network.layer_names_only() == chained(*"abc")


def test_a_chain_after_one_that_was_broken_off():
    a, b, c, d = four_layers()
    with pytest.raises(TypeError, match="'Relu' and 'int'"):
        _ = a > b > 5
    network = b > c > d
    assert network.layer_names_only() == chained(*"bcd")
    with pytest.raises(LayerConnectionError, match=r"cycle.*2 layers"):
        _ = a > b > a
    network = b > c
    assert network.layer_names_only() == chained(*"bc")


def test_another_thread_in_the_middle_of_a_chain():
    a, b, c, d = four_layers()
    others = []

    def compare_elsewhere(layer):
        def compare():
            x, y, z = Input(3, name="x"), Relu(3, name="y"), Relu(3, name="z")
            network = x > y > z
            others.append(network.layer_names_only())
            others.append((b > d).layer_names_only())

        thread = threading.Thread(target=compare)
        thread.start()
        thread.join()
        return layer

    network = a > b > compare_elsewhere(c) > compare_elsewhere(d)
    assert network.layer_names_only() == chained(*"abcd")
    assert others == [chained(*"xyz"), chained(*"bd")] * 2


def test_a_chain_keeps_nothing_alive():
    made = [*four_layers()]
    a, b, c, d = made
    network = a > b > c > d
    watched = [weakref.ref(thing) for thing in (*made, network)]
    del a, b, c, d, made, network
    gc.collect()
    assert [watch() for watch in watched] == [None] * 5


def test_a_condition_keeps_its_network_until_the_next_comparison_at_most():
    a, b, c, d = four_layers()
    if a > b:
        pass
    watched = [weakref.ref(a), weakref.ref(b)]
    del a, b
    network = c > d
    gc.collect()
    assert [watch() for watch in watched] == [None] * 2
    assert network.layer_names_only() == chained(*"cd")


def test_a_condition_keeps_its_network_no_longer_if_the_next_comparison_is_in_a_function():
    a, b, c, d = four_layers()

    def compare():
        return c > d

    if a > b:
        pass
    watched = [weakref.ref(a), weakref.ref(b)]
    del a, b
    compare()
    gc.collect()
    assert [watch() for watch in watched] == [None] * 2


def test_many_comparisons_leave_nothing_behind():
    watched = []
    for _ in range(50):
        x, y, z = Input(2), Relu(2), Concatenate()
        network = x > y > z
        watched += [weakref.ref(thing) for thing in (x, y, z, network)]
    del x, y, z, network
    gc.collect()
    assert all(watch() is None for watch in watched)
