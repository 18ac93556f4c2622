"""Orders, sources and parts of graphs, against NeuPy's own way of finding them, which goes round and round."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchneupy.layers.topology import GraphHasCycleError, find_sources, reachable, subgraph, topological_order


def sweep(forward):
    """NeuPy's order as it is described: again and again over all nodes, taking each whose sources are taken.

    None if there is a cycle: then a round takes nothing.
    """
    taken: list[int] = []
    while len(taken) < len(forward):
        before = len(taken)
        for node in forward:
            feeding = [other for other, targets in forward.items() if node in targets]
            if node not in taken and all(other in taken for other in feeding):
                taken.append(node)
        if len(taken) == before:
            return None
    return taken


@st.composite
def graphs(draw, acyclic):
    """A graph whose nodes enter in any order; an edge may be there twice, as in a graph made by hand."""
    size = draw(st.integers(0, 7))
    entered = draw(st.permutations(range(size)))
    pairs = [(a, b) for a in range(size) for b in range(size) if a < b or not acyclic]
    edges = draw(st.lists(st.sampled_from(pairs), max_size=14)) if pairs else []
    return {node: tuple(b for a, b in edges if a == node) for node in entered}


@given(graphs(acyclic=True))
def test_order_is_that_of_the_repeated_sweep(forward):
    order, in_order = topological_order(forward, find_sources(forward))
    assert order == sweep(forward)
    assert in_order == (order == list(forward))


@given(graphs(acyclic=False))
def test_a_cycle_is_found_where_the_sweep_gets_stuck(forward):
    expected = sweep(forward)
    if expected is None:
        with pytest.raises(GraphHasCycleError):
            topological_order(forward, find_sources(forward))
    else:
        assert topological_order(forward, find_sources(forward))[0] == expected


@pytest.mark.parametrize(
    "forward, order",
    [
        ({}, ""),
        ({"b": "", "a": ""}, "ba"),
        # Depth first, or level by level, it would be another order.
        ({"x": "ac", "a": "b", "b": "e", "c": "d", "d": "e", "e": ""}, "xabcde"),
        ({"e": "", "a": "e", "x": "a"}, "xae"),
        ({"b": "e", "e": "", "a": "b", "x": "a"}, "xabe"),
        ({"c": "e", "e": "", "x": "a", "a": "b", "b": "e"}, "cxabe"),
    ],
)
def test_orders_recorded_from_neupy(forward, order):
    assert topological_order(forward, find_sources(forward))[0] == list(order)


@pytest.mark.parametrize("forward", [{"a": "a"}, {"a": "b", "b": "a"}, {"x": "a", "a": "b", "b": "ca", "c": ""}])
def test_cycles(forward):
    with pytest.raises(GraphHasCycleError):
        topological_order(forward, find_sources(forward))


@given(graphs(acyclic=False))
def test_sources_come_in_the_order_in_which_they_entered(forward):
    sources = find_sources(forward)
    assert list(sources) == list(forward)
    for node, found in sources.items():
        assert list(found) == [other for other, targets in forward.items() for target in targets if target == node]


def test_sources_do_not_follow_the_order_of_the_connections():
    assert find_sources({"b": "e", "a": "e", "e": ""})["e"] == ("b", "a")
    assert find_sources({"a": "e", "e": "", "b": "e"})["e"] == ("a", "b")
    assert find_sources({"a": "bb", "b": ""})["b"] == ("a", "a")


@given(graphs(acyclic=False), st.data())
def test_reachable_are_the_starts_and_all_that_those_reached_lead_to(forward, data):
    starts = data.draw(st.lists(st.sampled_from(sorted(forward)))) if forward else []
    expected = set(starts)
    for _ in forward:  # no way is longer than there are nodes
        expected |= {target for node in expected for target in forward[node]}
    assert reachable(forward, starts) == expected


@given(graphs(acyclic=False), st.data())
def test_a_part_keeps_order_and_edges_between_its_nodes(forward, data):
    nodes = {node for node in forward if data.draw(st.booleans())}
    part = subgraph(forward, nodes)
    assert list(part) == [node for node in forward if node in nodes]
    edges = [(a, b) for a, targets in forward.items() for b in targets if a in nodes and b in nodes]
    assert [(a, b) for a, targets in part.items() for b in targets] == edges


@given(graphs(acyclic=True))
def test_nothing_that_is_given_changes(forward):
    before = [(node, tuple(targets)) for node, targets in forward.items()]
    sources = find_sources(forward)
    topological_order(forward, sources)
    reachable(forward, list(forward))
    subgraph(forward, set(forward))
    assert list(forward.items()) == before and sources == find_sources(forward)


def test_a_row_of_many_nodes_needs_no_recursion():
    size = 20_000
    forward = {node: (node + 1,) for node in range(size - 1)} | {size - 1: ()}
    assert topological_order(forward, find_sources(forward)) == (list(range(size)), True)
    assert len(reachable(forward, [0])) == size
