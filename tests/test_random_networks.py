"""Laws that hold for any network: drawn ones are compared with what tests/strategies.py works out in another way."""

import copy
import io
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, assume, find, given, settings
from hypothesis import strategies as st
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler
from torch.func import functional_call
from torch.testing import assert_close

from tests.shaping import smoothed
from tests.strategies import (
    Description,
    Leaf,
    Tree,
    build_tree,
    descriptions,
    in_three,
    inputs_of,
    merged,
    outputs_of,
    rows_without_input,
    sample_sizes,
    seeds,
    shapes_seen,
    share,
    sources_of,
    sweep,
    total,
)
from torchneupy import layers
from torchneupy.core.shape import TensorShape
from torchneupy.exceptions import LayerConnectionError
from torchneupy.layers import (
    BaseLayer,
    DropBlock,
    Elementwise,
    GatedAverage,
    Identity,
    Input,
    LayerGraph,
    Linear,
    PRelu,
    Tanh,
    join,
    parallel,
)
from torchneupy.layers.naming import reset_names
from torchneupy.testing.subject import as_tuple, copied_state


def has_compiler() -> bool:
    """Whether there is a C++ compiler for what inductor writes."""
    try:
        return bool(get_cpp_compiler())
    except (InvalidCxxCompiler, OSError):
        return False


# Drawing a network takes most of the time.
law = share(0.5)


def options_of(layer):
    """A layer's options; initialisers by their reprs, arrays by their values."""
    return {name: value_of(option) for name, option in layer.get_params().items()}


def value_of(option):
    if isinstance(option, (np.ndarray, torch.Tensor)):
        # A variable has torch's default dtype, whatever array it was made from.
        return torch.as_tensor(option).float().tolist()
    return repr(option)


def about_topology(network):
    return {
        "names": network.layer_names_only(),
        "layers": network.layers,
        "keys": [key for key, _ in network.named_children()],
        "forward": list(network.forward_graph.items()),
        "backward": list(network.backward_graph.items()),
        "inputs": network.input_layers,
        "outputs": network.output_layers,
        "sequential": network.is_sequential(),
        "options": [options_of(layer) for layer in network],
        "modes": [module.training for module in network.modules()],
    }


def about_variables(network):
    """Which tensors a network has under which keys, and their values."""
    return [(key, id(tensor), tensor.tolist()) for key, tensor in network.state_dict(keep_vars=True).items()]


def about(network):
    """All that can be asked of a network."""
    shapes = [str(shape) for shape in network.output_shapes_per_layer.values()]
    return {
        **about_topology(network),
        "variables": about_variables(network),
        "shapes": shapes,
        "built": network.is_built,
        "repr": repr(network),
        "reprs": [repr(layer) for layer in network],
    }


# What is drawn


public = {cls.__name__ for cls in vars(layers).values() if isinstance(cls, type) and issubclass(cls, BaseLayer)}


@pytest.mark.parametrize("kind", sorted(public - {"BaseLayer", "ModuleLayer"}))
def test_every_layer_occurs_in_networks(kind):
    find_first(lambda description: any(leaf.kind == kind for leaf in description.leaves.values()))


def is_row(forward):
    return all(len(targets) < 2 and len(sources_of(forward, node)) < 2 for node, targets in forward.items())


def has_residual_block(description):
    forward, leaves = description.forward, description.leaves
    return any(
        {leaves[source].kind for source in sources_of(forward, node)} & {"Identity"}
        for node, leaf in leaves.items()
        if leaf.kind == "Elementwise"
    )


def has_shared_layer(description):
    """Whether a layer stands in two places of the tree."""
    leaves: list[int] = []

    def visit(tree):
        if hasattr(tree, "number"):
            leaves.append(tree.number)
        for part in getattr(tree, "parts", ()):
            visit(part)

    visit(description.tree)
    return len(set(leaves)) < len(leaves)


@pytest.mark.parametrize(
    "is_there",
    [
        pytest.param(lambda d: len(d.begins) == 3, id="three inputs"),
        pytest.param(lambda d: len(outputs_of(d.forward)) == 3, id="three outputs"),
        pytest.param(lambda d: len(d.begins) > 1 and len(outputs_of(d.forward)) > 1, id="several of both"),
        pytest.param(lambda d: max(map(len, d.begins.values())) == 3, id="images"),
        pytest.param(lambda d: len(d.leaves) > 2 and is_row(d.forward), id="a chain"),
        pytest.param(has_residual_block, id="a residual block"),
        pytest.param(has_shared_layer, id="a shared layer"),
        pytest.param(lambda d: sweep(d.forward) != list(d.forward), id="layers that enter out of order"),
    ],
)
def test_every_form_of_network_occurs(is_there):
    find_first(is_there)


def find_first(condition: Callable[[Description], bool]) -> None:
    """Raises NoSuchExample if the strategy does not draw one, which would leave laws untested."""
    chosen = settings(max_examples=20_000, database=None, phases=[Phase.generate])
    assert find(descriptions(), condition, settings=chosen) is not None


def test_networks_shrink_to_two_layers():
    smallest = find(descriptions(), lambda description: True, settings=settings(database=None))
    assert len(smallest.leaves) == 2 and smallest.batch == 1 and smallest.begins == {0: (1,)}


# Shapes


@st.composite
def with_shapes_seen(draw, batch):
    """A network, and what is known of the shapes of its inputs, the size of the batch perhaps being among it."""
    description = draw(descriptions())
    first = description.batch if batch else None
    known = {
        node: draw(shapes_seen(sizes).map(lambda shape: None if shape is None else (first, *shape)))
        for node, sizes in description.begins.items()
    }
    return description, known


def real_shapes(description):
    """The shapes of the values that really come out of the layers."""
    built = description.build().in_double()
    values = description.compute(built.layers, description.inputs())
    return {node: tuple(value.shape) for node, value in values.items()}


@law
@given(with_shapes_seen(batch=False))
def test_declared_shapes_are_computed_ones_whatever_is_known(drawn):
    description, declared = drawn
    real, expected = real_shapes(description), description.shapes(declared)
    built = description.build(declared)
    found = built.network.output_shapes_per_layer
    for node, layer in built.layers.items():
        assert found[layer] == TensorShape(expected[node])
        assert found[layer].is_compatible_with(real[node])
    shapes = [expected[node] for node in outputs_of(description.forward)]
    assert built.network.output_shape == (shapes[0] if len(shapes) == 1 else shapes)
    assert built.network.input_shapes == [declared[node] for node in description.begins]
    if built.network.is_built:
        outputs = as_tuple(built.in_double().network.eval()(*description.inputs()))
        assert [tuple(output.shape) for output in outputs] == [real[node] for node in outputs_of(description.forward)]


@law
@given(descriptions())
def test_all_but_the_batch_is_declared_where_all_but_the_batch_is_known(description):
    real = real_shapes(description)
    built = description.build()
    assert built.network.is_built
    for node, layer in built.layers.items():
        assert built.network.output_shapes_per_layer[layer] == (None, *real[node][1:])


@law
@given(with_shapes_seen(batch=True), st.data())
def test_shapes_for_other_inputs_are_worked_out_from_what_is_known_of_them(drawn, data):
    description, seen = drawn
    begins = description.begins.items()
    declared = {node: data.draw(shapes_seen(sizes)) for node, sizes in begins}
    declared = {node: None if shape is None else (None, *shape) for node, shape in declared.items()}
    network = description.build(declared).network
    before = about(network)
    expected = description.shapes({node: merged([declared[node], seen[node]]) for node in seen})
    shapes = [expected[node] for node in outputs_of(description.forward)]
    assert network.get_output_shape(*seen.values()) == (shapes[0] if len(shapes) == 1 else shapes)
    assert about(network) == before


# Order


@law
@given(descriptions())
def test_layers_and_their_connections_are_those_of_the_description(description):
    built = description.build()
    network, forward = built.network, description.forward
    assert built.numbers(network.forward_graph) == list(forward)
    for layer, targets in network.forward_graph.items():
        assert built.numbers(targets) == forward[built.numbers([layer])[0]]
    for layer, sources in network.backward_graph.items():
        assert built.numbers(sources) == sources_of(forward, built.numbers([layer])[0])
    assert built.numbers(network.input_layers) == inputs_of(forward)
    assert built.numbers(network.output_layers) == outputs_of(forward)


@law
@given(descriptions())
def test_layers_come_after_what_feeds_them_everywhere(description):
    built = description.build()
    network = built.network
    order = built.numbers(network)
    assert order == sweep(description.forward)
    assert all(order.index(a) < order.index(b) for a, targets in description.forward.items() for b in targets)
    assert network.layers == list(network) == list(network.children()) == list(network.output_shapes_per_layer)
    of_variables = [order.index(number) for number in built.numbers(layer for layer, _ in network.variables)]
    assert of_variables == sorted(of_variables)
    keys = [key for key, _ in network.named_children()]
    of_states = [keys.index(key.split(".")[0]) for key in network.state_dict()]
    assert of_states == sorted(of_states)
    lines = str(network.summary()).splitlines()[2 : 2 + len(network)]
    assert all(line.startswith(layer.name) for line, layer in zip(lines, network, strict=True))


# Values


@law
@given(descriptions(), seeds)
def test_outputs_are_those_of_the_layers_run_by_hand(description, seed):
    built = description.build().in_double()
    network, inputs = built.network, description.inputs()
    for training in (False, True):
        found = []
        for run in (network.train(training), lambda *x, mode=training: network.output(*x, training=mode)):
            torch.manual_seed(seed)
            found.append(as_tuple(run(*inputs)))
        torch.manual_seed(seed)
        values = description.compute(built.layers, inputs, training)
        expected = tuple(values[node] for node in outputs_of(description.forward))
        assert_close(found[0], expected)
        assert_close(found[1], found[0], rtol=0, atol=0)
        # An explicit flag counts, whatever the mode is.
        network.train(not training)
        torch.manual_seed(seed)
        assert_close(as_tuple(network.output(*inputs, training=training)), found[0], rtol=0, atol=0)


@law
@given(descriptions(), seeds)
def test_inputs_are_left_as_they_are_and_may_be_given_by_layer_or_name(description, seed):
    built = description.build().in_double()
    network, inputs = built.network, description.inputs(seed=seed)
    copies = [value.clone() for value in inputs]
    expected = as_tuple(network.eval()(*inputs))
    by_layer = dict(zip(network.input_layers, inputs, strict=True))
    assert_close(as_tuple(network(dict(reversed(by_layer.items())))), expected, rtol=0, atol=0)
    names = [layer.name for layer in network]
    by_name = {layer if names.count(layer.name) > 1 else layer.name: value for layer, value in by_layer.items()}
    assert_close(as_tuple(network.output(by_name)), expected, rtol=0, atol=0)
    assert_close(inputs, copies, rtol=0, atol=0)


@law
@given(descriptions(), st.integers(1, 5))
def test_samples_are_predicted_one_by_one_as_together(description, batch_size):
    network = description.build().network
    inputs = description.inputs(torch.float32)
    expected = as_tuple(network.eval()(*inputs))
    network.train()
    arrays = [value.numpy() for value in inputs]
    predicted = as_tuple(network.predict(*arrays, batch_size=batch_size, verbose=False))
    assert all(module.training for module in network.modules())
    assert_close([torch.as_tensor(part) for part in predicted], [part.detach() for part in expected])


@law
@given(descriptions(), seeds, st.booleans())
def test_gradients_are_those_of_the_layers_run_by_hand(description, seed, training):
    built = description.build().in_double()
    network, inputs = built.network.train(training), description.inputs()
    leaves = [value.requires_grad_() for value in inputs if value.is_floating_point()]
    variables = [*network.parameters(), *leaves]
    torch.manual_seed(seed)
    total(as_tuple(network(*inputs))).backward()
    found = [variable.grad for variable in variables]
    torch.manual_seed(seed)
    values = description.compute(built.layers, inputs, training)
    expected = torch.autograd.grad(total(values[node] for node in outputs_of(description.forward)), variables)
    assert all(torch.isfinite(gradient).all() for gradient in expected)
    assert_close(found, list(expected), rtol=1e-6, atol=1e-6)


def smooth(tree: Tree) -> Tree:
    """The same with layers that are never random and have derivatives everywhere in place of those that have not."""
    if isinstance(tree, Leaf):
        kind, options = smoothed(tree.kind, tree.options)
        return replace(tree, kind=kind, options=options)
    return replace(tree, parts=tuple(smooth(part) for part in tree.parts))


@share(0.2)
@given(descriptions(depth=1), st.booleans())
def test_gradients_are_finite_differences(description, training):
    description = replace(description, tree=smooth(description.tree))
    built = description.build().in_double()
    network, inputs = built.network.train(training), description.inputs()
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.clamp_(-0.7, 0.7)
        values = description.compute(built.layers, inputs, training)
    # Products of products grow so large that differences of them are mostly rounding.
    assume(all(value.abs().max() < 20 for value in values.values()))
    leaves = [value.requires_grad_() for value in inputs if value.is_floating_point()]
    variables = dict(network.named_parameters())

    def compute(*tensors):
        moving = iter(tensors)
        given_inputs = [next(moving) if value.is_floating_point() else value for value in inputs]
        found = as_tuple(functional_call(network, dict(zip(variables, moving, strict=True)), tuple(given_inputs)))
        return tuple(output for output in found if output.requires_grad)

    moved = (*leaves, *(value.detach().requires_grad_() for value in variables.values()))
    if compute(*moved):
        assert torch.autograd.gradcheck(compute, moved, fast_mode=True)


# Composing


@st.composite
def rows_in_three(draw):
    """A network, and two places between its parts."""
    description = draw(descriptions())
    size = len(description.tree.parts)
    first = draw(st.integers(0, size))
    return description, first, draw(st.integers(first, size))


def comparable(network):
    """What two networks that were built from the same description have in common."""
    facts = about_topology(network)
    place = {layer: index for index, layer in enumerate(network)}
    for fact in ("forward", "backward"):
        facts[fact] = [(place[layer], [place[other] for other in others]) for layer, others in facts[fact]]
    for fact in ("layers", "inputs", "outputs"):
        facts[fact] = [place[layer] for layer in facts[fact]]
    del facts["options"]
    return facts | {
        "repr": repr(network),
        "reprs": [repr(layer) for layer in network],
        "states": [(key, tuple(tensor.shape)) for key, tensor in network.state_dict().items()],
        "shapes": [str(shape) for shape in network.output_shapes_per_layer.values()],
    }


GROUPINGS = {
    "join(a, b, c)": join,
    "(a >> b) >> c": lambda a, b, c: (a >> b) >> c,
    "a >> (b >> c)": lambda a, b, c: a >> (b >> c),
}


@law
@given(rows_in_three())
def test_new_networks_are_the_same_whatever_is_joined_first(drawn):
    # Of each grouping there are layers of its own, whose variables are made in another order.
    description, first, second = drawn
    built = []
    for grouping in GROUPINGS.values():
        reset_names()
        made: dict[int, Any] = description.first_layers()
        torch.manual_seed(description.seed)
        parts = [build_tree(part, made) for part in in_three(description.tree, first, second)]
        built.append(grouping(*parts))
    whole, inputs = built[0], description.inputs(torch.float32)
    expected = as_tuple(whole.eval()(*inputs))
    for network in built[1:]:
        network.eval()
        assert comparable(network) == comparable(whole)
        network.load_state_dict(whole.state_dict())
        assert_close(as_tuple(network(*inputs)), expected, rtol=0, atol=0)


@st.composite
def closed_and_open(draw, sizes=sample_sizes):
    """A network with one output, and a row to stand behind it that does not know what it will get."""
    description = draw(descriptions(sizes=sizes, several_outputs=False))
    return description, draw(rows_without_input(sizes_behind(description)))


def sizes_behind(description):
    """The sizes of one sample that comes out of a network."""
    shapes = description.shapes({node: (None, *sizes) for node, sizes in description.begins.items()})
    shape = shapes[outputs_of(description.forward)[0]]
    assert shape is not None
    return tuple(size for size in shape[1:] if size is not None)


@law
@given(closed_and_open(), seeds)
def test_composing_changes_no_operand(drawn, seed):
    description, (tail, _) = drawn
    closed = description.build().network
    torch.manual_seed(seed)
    behind = build_tree(tail, {})
    closed.eval()
    before, topology = about(closed), about_topology(behind)
    variables = {id(layer): about_variables(layer) for layer in behind if layer.is_built}
    whole = closed >> behind
    for compose in (
        lambda: join(closed, behind, Identity()),
        lambda: closed | Tanh(3),
        lambda: parallel(closed, whole, closed),
        lambda: whole >> (Identity() | Tanh()) >> Elementwise(),
        lambda: whole.start(*behind.input_layers),
        lambda: whole.end(closed.output_layers[0]),
        lambda: LayerGraph(whole.forward_graph),
    ):
        assert isinstance(compose(), LayerGraph)
        assert about(closed) == before
        assert about_topology(behind) == topology
        assert all(about_variables(layer) == variables.get(id(layer), about_variables(layer)) for layer in behind)
    # Both share their variables with the whole, in which all exist now.
    assert behind.is_built and whole.is_built
    of_whole = {id(variable) for variable in whole.variables.values()}
    parts = [*closed.variables.values(), *behind.variables.values()]
    assert {id(variable) for variable in parts} == of_whole and len(of_whole) == len(whole.variables)


# Composing what does not fit


def wrong_width(sizes):
    return Input((*sizes[:-1], sizes[-1] + 1), name="bad")


def built_for_another_width(sizes):
    layer = Tanh(2, name="bad")
    join(Input(sizes[-1] + 1), layer)
    return layer


def wrong_array(sizes):
    return Linear(2, weight=np.ones((sizes[-1] + 1, 2)), name="bad")


def wrong_slopes(sizes):
    return PRelu(alpha=np.ones(sizes[-1] + 1), name="bad")


def wrong_rank(sizes):
    return DropBlock(0.5, 2, name="bad") if len(sizes) < 3 else Linear(2, name="bad")


def wrong_sum(sizes):
    return parallel(Identity(), Linear(sizes[-1] + 1)) >> Elementwise(name="bad")


def pattern(misfit, sizes):
    """What has to be in the message about a misfit that stands behind an output of these sizes."""
    width = sizes[-1]
    shape = rf"\(\?, {', '.join(map(str, sizes))}\)"
    wider = rf"\(\?, {', '.join(map(str, (*sizes[:-1], width + 1)))}\)"
    return {
        wrong_width: rf"to layer `bad`.*output shape \({shape}\).*input shape \({wider}\)",
        built_for_another_width: rf"to layer `bad`.*output shape \({shape}\).*input shape \({wider}\)",
        wrong_array: rf"`layer/bad/weight`.*\({width + 1}, 2\).*\({width}, 2\)",
        wrong_slopes: rf"`layer/bad/alpha`.*\({width + 1},\).*\({width},\)",
        wrong_rank: rf"{2 if len(sizes) == 3 else 4} dimensions.*got {len(sizes) + 1}.*{shape}.*name='bad'",
        wrong_sum: rf"`bad` layer.*{shape}, {wider}",
    }[misfit]


FOR_FEATURES = [wrong_width, built_for_another_width, wrong_array, wrong_slopes, wrong_rank, wrong_sum]
FOR_OTHERS = [wrong_width, wrong_slopes, wrong_rank]


def everything(networks):
    """All that a failed composition could change: the networks, their layers' attributes, the random state."""
    attributes = [
        {name: id(value) for name, value in vars(module).items()}
        for network in networks
        for module in network.modules()
    ]
    containers = [
        [list(vars(module)[name]) for name in ("_parameters", "_buffers", "_modules", "_variable_keys")]
        for network in networks
        for module in network
    ]
    return [about(network) for network in networks], attributes, containers, torch.get_rng_state().tolist()


@law
@given(closed_and_open(), st.data())
def test_a_misfit_behind_good_layers_leaves_no_trace(drawn, data):
    description, (tail, sizes) = drawn
    misfit = data.draw(st.sampled_from(FOR_FEATURES if len(sizes) == 1 else FOR_OTHERS))
    states = []
    for spoilt in (True, False):
        reset_names()
        closed = description.build().network
        behind, last = build_tree(tail, {}), Identity()
        bad = join(misfit(sizes))
        watched = [closed, behind, join(last), bad]
        if spoilt:
            before = everything(watched)
            with pytest.raises(LayerConnectionError, match=f"(?s){pattern(misfit, sizes)}"):
                join(closed, behind, bad, last)
            assert everything(watched) == before
        whole = closed >> behind >> last
        states.append((comparable(whole), copied_state(whole), Identity().name))
    (facts, state, name), (expected_facts, expected_state, expected_name) = states
    assert facts == expected_facts and name == expected_name
    assert_close(state, expected_state, rtol=0, atol=0)


@law
@given(closed_and_open(), st.data())
def test_a_cycle_leaves_no_trace(drawn, data):
    description, (tail, _) = drawn
    closed, behind = description.build().network, build_tree(tail, {})
    # These are refused for another reason: alone they have no inputs, or too few.
    again = data.draw(st.sampled_from([one for one in closed if not isinstance(one, (Elementwise, GatedAverage))]))
    beside = behind | again
    before = everything([closed, behind, beside])
    for right, text in ((again, rf"name='{again.name}'\)"), (beside, rf" -> \[... {len(beside)} layers ...\] -> ")):
        with pytest.raises(LayerConnectionError, match=f"(?s)cycle.*Left graph: .*Right graph: .*{text}"):
            join(closed, behind, right)
        assert everything([closed, behind, beside]) == before


@law
@given(descriptions(several_inputs=False), st.integers(2, 3))
def test_many_to_many_leaves_no_trace(description, n_inputs):
    built = description.build()
    count = len(outputs_of(description.forward))
    many = built.network if count > 1 else built.network >> (Identity(name="left") | Identity(name="right"))
    bad = parallel(*[Tanh(2, name=f"bad-{number}") for number in range(n_inputs)])
    before = everything([many, bad])
    outputs, inputs = [layer.name for layer in many.output_layers], [layer.name for layer in bad.input_layers]
    words = rf"many to many.*{len(outputs)} outputs.*{outputs[-1]}'\].*{n_inputs} inputs.*'{inputs[-1]}'\]"
    with pytest.raises(LayerConnectionError, match=words):
        many >> bad
    assert everything([many, bad]) == before


# Saving and copying


@law
@given(descriptions(), st.lists(descriptions(depth=0), max_size=2), seeds)
def test_a_state_goes_into_another_network_of_the_same_description(description, earlier, seed):
    network = description.build().network.eval()
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    for other in earlier:
        other.build()
    torch.manual_seed(seed)
    first = description.first_layers()
    twin = join(build_tree(description.tree, first)).eval()
    assert list(twin.state_dict()) == list(network.state_dict())
    file.seek(0)
    twin.load_state_dict(torch.load(file, weights_only=True))
    assert_close(copied_state(twin), copied_state(network), rtol=0, atol=0)
    inputs = description.inputs(torch.float32)
    assert_close(as_tuple(twin(*inputs)), as_tuple(network(*inputs)), rtol=0, atol=0)
    assert not {id(tensor) for tensor in twin.variables.values()} & {id(t) for t in network.variables.values()}


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda network: pickle.loads(pickle.dumps(network))}


@pytest.mark.parametrize("make_copy", COPIES.values(), ids=COPIES)
@law
@given(closed_and_open(), st.data())
def test_copies_are_equal_and_independent(make_copy, drawn, data):
    description, (tail, _) = drawn
    network = description.build().network
    behind = build_tree(tail, {})  # may have no variables yet
    for layer in network:
        layer.train(data.draw(st.booleans()))
    inputs = description.inputs(torch.float32)
    for original in (network, behind):
        before = about(original)
        twin = make_copy(original)
        assert comparable(twin) == comparable(original)
        assert [options_of(layer) for layer in twin] == before["options"]
        assert_close(copied_state(twin), copied_state(original), rtol=0, atol=0)
        assert about(original) == before
        if twin.is_built and original is network:
            torch.manual_seed(description.seed)
            outputs = as_tuple(twin(*inputs))
            torch.manual_seed(description.seed)
            assert_close(outputs, as_tuple(original(*inputs)), rtol=0, atol=0)
            before = about(original)  # a layer in training mode may have changed its buffers
        for tensor in twin.state_dict().values():
            tensor.add_(1)
        twin.eval()
        assert about(original) == before
    # Both can be connected as the original can.
    assert comparable(make_copy(network) >> make_copy(behind)) == comparable(network >> behind)


# Compiled


def is_as_compiled(description, seed, training, backend):
    """One graph, with the same outputs, gradients and buffers."""
    # Where everything is dropped, torch draws random numbers when it is compiled, and none otherwise: from there on
    # the two have other ones.
    assume(not training or all(leaf.options.get("proba") != 1 for leaf in description.leaves.values()))
    inputs = description.inputs()
    found = []
    torch.compiler.reset()
    try:
        for convert in (lambda network: network, lambda n: torch.compile(n, backend=backend, fullgraph=True)):
            network = description.build().in_double().network.train(training)
            run: Any = convert(network)
            torch.manual_seed(seed)
            outputs = as_tuple(run(*inputs))
            if network.n_parameters:
                total(outputs).backward()
            gradients = [parameter.grad for parameter in network.parameters()]
            found.append((outputs, gradients, list(network.buffers())))
    finally:
        torch.compiler.reset()
    assert_close(found[1], found[0])


# What torch says of how it compiles functions with gradients of their own, as for gradients that are clipped.
of_functions = pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning")


@of_functions
@share(0.05)
@given(descriptions(depth=1), seeds, st.booleans())
def test_a_compiled_network_is_one_graph_with_the_same_outputs_and_gradients(description, seed, training):
    is_as_compiled(description, seed, training, "aot_eager")


@of_functions
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")  # torch's own way to inductor
@pytest.mark.skipif(not has_compiler(), reason="inductor needs a C++ compiler")
@share(0.02)
@given(descriptions(depth=0))
def test_inductor_compiles_networks(description):
    is_as_compiled(description, 0, False, "inductor")
