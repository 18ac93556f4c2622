"""What is drawn is valid, keeps to the arguments, and shrinks to the smallest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from torchneupy import layers as library
from torchneupy.core.shape import TensorShape
from torchneupy.layers import (
    LSTM,
    BaseLayer,
    Concatenate,
    Convolution,
    Dropout,
    Elementwise,
    Embedding,
    GatedAverage,
    GlobalPooling,
    Identity,
    Input,
    LayerGraph,
    Linear,
    MaxPooling,
    ModuleLayer,
    Relu,
    Softmax,
    join,
    parallel,
)
from torchneupy.testing import inputs_for, layers, networks, register_layer, shapes, tensors, unregister_layer
from torchneupy.testing.catalogue import CATALOGUE


def find(strategy: st.SearchStrategy[Any], condition: Callable[[Any], Any], **options: Any) -> Any:
    """The smallest example; of several that cannot be made smaller, the same in each run."""
    return hypothesis.find(strategy, condition, random=Random(0), **options)


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def has_the_declared_shapes(network: LayerGraph, inputs: tuple[torch.Tensor, ...]) -> None:
    network.eval()
    computed = [tuple(output.shape) for output in as_list(network(*inputs))]
    declared = as_list(network.get_output_shape(*(tuple(x.shape) for x in inputs)))
    assert [tuple(shape) for shape in declared] == computed
    assert all(
        shape.is_compatible_with(found) for shape, found in zip(as_list(network.output_shape), computed, strict=True)
    )


# Shapes and tensors


@given(shapes(min_dims=1, max_dims=3, min_side=2, max_side=5))
def test_shapes_keep_to_their_bounds(shape):
    assert isinstance(shape, TensorShape)
    if shape.ndims is not None:
        assert 1 <= shape.ndims <= 3
        assert all(size is None or 2 <= size <= 5 for size in shape)


def test_shapes_are_known_partly_or_not_at_all():
    assert find(shapes(), lambda shape: True) == TensorShape(())
    assert find(shapes(), lambda shape: shape.ndims is None) == TensorShape(None)
    assert find(shapes(), lambda shape: shape.ndims == 2 and None in shape[1:]) == TensorShape((1, None))
    assert find(shapes(min_dims=3), lambda shape: True) == TensorShape((1, 1, 1))


@given(shapes(unknown=False))
def test_shapes_can_be_known(shape):
    assert shape.is_fully_defined()


@given(st.data(), st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64]))
def test_tensors_have_the_shape_and_type(data, dtype):
    x = data.draw(tensors((2, 3), dtype, requires_grad=True))
    assert (x.shape, x.dtype, x.requires_grad, x.is_leaf) == ((2, 3), dtype, True, True)
    assert (x.abs() <= 6).all()


@given(st.data(), st.sampled_from([torch.int64, torch.uint8, torch.int8, torch.bool]))
def test_tensors_of_whole_numbers(data, dtype):
    x = data.draw(tensors(shapes(unknown=False, max_dims=2), dtype, largest=3))
    assert x.dtype is dtype and x.long().abs().le(3).all()


def test_tensors_shrink_to_zeros():
    assert find(tensors((2, 2)), lambda x: True).tolist() == [[0, 0], [0, 0]]
    assert find(tensors((2,)), lambda x: bool((x > 1).any())).sum() < 1.5


def test_values_may_come_from_a_strategy():
    assert find(tensors(3, elements=st.just(7.0)), lambda x: True).tolist() == [7, 7, 7]


def test_an_unknown_size_has_no_tensor():
    with pytest.raises(ValueError, match=r"tensors\(\) needs a shape whose sizes are all known, got \(\?, 3\)"):
        tensors((None, 3))


def test_tensors_on_another_device():
    assert find(tensors((2,), device="meta"), lambda x: True).is_meta


# Layers


@pytest.mark.parametrize("cls", list(CATALOGUE), ids=lambda cls: cls.__name__)
def test_each_class_can_be_drawn(cls):
    """And what is drawn fits: it can be connected and computes the shape that it declares."""
    least, most = CATALOGUE[cls].n_inputs
    branches = st.lists(st.just((2, 3)), min_size=least, max_size=min(2, most))
    sizes = {GatedAverage: st.just([(1,), (2, 3)]), Embedding: st.just([(2,)])}.get(cls, branches)
    if cls in OF_IMAGES:
        sizes = st.just([(4, 3, 2)])

    @settings(max_examples=15)
    @given(st.data())
    def draws(data):
        given_sizes = data.draw(sizes)
        if len(given_sizes) == 2 and cls in (library.LSTM, library.GRU):
            given_sizes[1] = ()
        layer = data.draw(layers(given_sizes, allow=[cls]))
        assert type(layer) is cls
        network = join(parallel(*map(Input, given_sizes)), layer)
        has_the_declared_shapes(network, data.draw(inputs_for(network)))

    draws()


OF_IMAGES = {
    Convolution,
    library.Deconvolution,
    MaxPooling,
    library.AveragePooling,
    library.Upscale,
    library.GroupNorm,
    library.LocalResponseNorm,
    library.DropBlock,
    GlobalPooling,
}


def test_the_catalogue_has_every_public_layer():
    exported = [getattr(library, name) for name in library.__all__]
    public = {one for one in exported if isinstance(one, type) and issubclass(one, BaseLayer)} - {BaseLayer}
    assert set(CATALOGUE) == public


@settings(max_examples=25)
@given(layers())
def test_layers_are_not_connected(layer):
    assert isinstance(layer, BaseLayer)
    assert isinstance(layer, (Input, ModuleLayer)) or layer.input_shape.ndims is None


def test_layers_keep_to_allow_and_forbid():
    assert isinstance(find(layers(allow=[Dropout, Embedding], forbid=[Embedding]), lambda layer: True), Dropout)
    assert type(find(layers(), lambda layer: True)) is Identity
    assert repr(find(layers(), lambda layer: type(layer) is Convolution)).startswith("Convolution((1, 1, 1)")


def test_no_layer_fits():
    with pytest.raises(ValueError, match=r"No class of layers .* sizes \[\(3,\)\]"):
        layers(3, allow=[Convolution])
    with pytest.raises(ValueError, match=r"layers\(\) needs a shape whose sizes are all known, got \(\?, 3\)"):
        layers((None, 3))
    with pytest.raises(ValueError, match=r"There is no class of layers left to draw"):
        layers(allow=[Relu], forbid=[Relu])


# Networks


@given(networks(max_layers=10, inputs=(1, 3), outputs=(1, 3)), st.data())
def test_networks_have_the_shapes_that_they_declare(network, data):
    assert network.is_built
    assert len(network) <= 10
    has_the_declared_shapes(network, data.draw(inputs_for(network)))


@pytest.mark.full
@settings(max_examples=1000)
@given(networks(max_layers=10), st.data())
def test_a_thousand_networks(network, data):
    has_the_declared_shapes(network, data.draw(inputs_for(network)))


@pytest.mark.parametrize("n_inputs, n_outputs", [(1, 1), (1, 3), (2, 1), (3, 2), (4, 4)])
@settings(max_examples=20)
@given(data=st.data())
def test_numbers_of_inputs_outputs_and_layers(n_inputs, n_outputs, data):
    network = data.draw(networks(9, 10, inputs=n_inputs, outputs=n_outputs))
    assert len(network.input_layers) == n_inputs
    assert len(network.output_layers) == n_outputs
    assert 9 <= len(network) <= 10


@pytest.mark.parametrize("ndim", [1, 2, 3, 4, 5])
@settings(max_examples=20)
@given(data=st.data())
def test_number_of_dimensions(ndim, data):
    network = data.draw(networks(ndim=ndim, inputs=(1, 2), allow=[Dropout, Elementwise, Concatenate]))
    assert {shape.ndims for shape in network.input_shapes} == {ndim}


@settings(max_examples=30)
@given(networks(5, 9, allow=[Relu, Dropout, Elementwise, Softmax], forbid=[Softmax]))
def test_networks_keep_to_allow_and_forbid(network):
    assert {type(layer) for layer in network} <= {Input, Relu, Dropout, Elementwise}


@settings(max_examples=30)
@given(networks(3, 5, allow=[Convolution, MaxPooling]))
def test_inputs_are_such_that_there_are_layers_for_them(network):
    assert network.input_shape.ndims == 4


def test_networks_shrink():
    assert repr(find(networks(), lambda network: True)) == "(?, 1) -> [... 1 layers ...] -> (?, 1)"
    found = find(networks(), lambda network: len(network) > 2)
    assert [type(layer) for layer in found] == [Input, Identity, Identity]
    found = find(networks(ndim=4), lambda network: any(isinstance(layer, Convolution) for layer in network))
    assert len(found) == 2
    assert found[1].size == (1, 1, 1)
    assert network_is_residual(find(networks(), network_is_residual))


def network_is_residual(network: LayerGraph) -> bool:
    """Whether a layer is merged with one that feeds it."""
    return any(
        source in network.forward_graph and other in network.forward_graph[source]
        for layer, sources in network.backward_graph.items()
        for source in sources
        for other in sources
    )


@pytest.mark.parametrize(
    "kind",
    [
        lambda network: not network.is_sequential(),
        network_is_residual,
        lambda network: any(isinstance(layer, GatedAverage) for layer in network),
        lambda network: any(isinstance(layer, Embedding) for layer in network),
        lambda network: any(isinstance(layer, ModuleLayer) for layer in network),
        lambda network: any(len(sources) > 2 for sources in network.backward_graph.values()),
        lambda network: any(len(targets) > 2 for targets in network.forward_graph.values()),
        lambda network: network.input_shape.ndims == 4,
    ],
    ids=["branches", "residual", "gates", "tables", "modules", "three-merged", "three-fed", "images"],
)
def test_all_kinds_of_networks_occur(kind):
    find(networks(max_layers=10), kind, settings=settings(max_examples=2000, phases=[Phase.generate]))


def test_networks_with_lengths_of_sequences():
    found = find(networks(inputs=2), lambda network: any(isinstance(layer, LSTM) for layer in network))
    two = find(networks(inputs=2), lambda network: [shape.ndims for shape in network.input_shapes] == [3, 1])
    assert len(found) >= 3 and len(two) == 3


@settings(max_examples=25)
@given(st.data())
def test_drawing_touches_no_generator(data):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    data.draw(networks(inputs=(1, 2), outputs=(1, 2)))
    assert torch.equal(torch.get_rng_state(), state)


def test_initial_values_come_from_hypothesis():
    """The same choices give the same values, whatever torch's generator was before."""
    found: list[Any] = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        network = find(networks(), lambda one: any(isinstance(layer, Linear) and layer.variables for layer in one))
        found.append([value.tolist() for value in network.state_dict().values()])
    assert found[0] == found[1] != []


def test_a_failure_lists_the_layers():
    @settings(database=None, derandomize=True)
    @given(networks())
    def fails(network):
        assert not any(isinstance(layer, Linear) for layer in network)

    with pytest.raises(AssertionError) as caught:
        fails()
    notes = "\n".join(caught.value.__notes__)
    assert "Input(1" in notes or "Input((1, 1)" in notes
    assert "feeds ['linear-" in notes


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"inputs": 0}, "`inputs` should be a number from 1 on"),
        ({"outputs": (3, 2)}, r"`outputs` should be .*got \(3, 2\)"),
        ({"min_layers": 5, "max_layers": 4}, r"`min_layers and max_layers` should be .*got \(5, 4\)"),
        ({"max_layers": 3, "inputs": 2, "outputs": 2}, "at least 4 layers, but max_layers is 3"),
        ({"ndim": 0}, "from 1 on, got 0"),
        ({"allow": [int]}, r"Nobody said how to draw int: call register_layer\(int, strategy_function\)"),
        ({"forbid": ["Relu"]}, r"Nobody said how to draw 'Relu'"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        networks(**arguments)


# Inputs


@settings(max_examples=25)
@given(st.data())
def test_inputs_have_the_batch_and_the_type(data):
    network = (Input((None, 3)) | Input(())) >> LSTM(4)
    first, lengths = data.draw(inputs_for(network, batch=5, dtype=torch.float64))
    assert (first.shape[0], first.shape[2], first.dtype) == (5, 3, torch.float64)
    assert (lengths.shape, lengths.dtype) == ((5,), torch.int64)
    assert (lengths <= first.shape[1]).all()


@settings(max_examples=25)
@given(st.data())
def test_inputs_are_like_the_network(data):
    network = (Input(3) >> Relu(2)).to(torch.float64)
    (x,) = data.draw(inputs_for(network, batch=st.integers(2, 3), elements=st.just(0.5)))
    assert x.dtype is torch.float64
    assert x.tolist() in ([[0.5] * 3] * 2, [[0.5] * 3] * 3)


@settings(max_examples=25)
@given(st.data())
def test_sizes_left_open_suit_the_network(data):
    network = (Input((None, None, 2)) | Input((None, None, 2))) >> Elementwise() >> Convolution((3, 3, 1))
    has_the_declared_shapes(network, data.draw(inputs_for(network)))


def test_indices_are_in_the_table():
    for network in (Input(3) >> Embedding(4, 2), Input(3) >> torch.nn.Embedding(4, 2)):
        assert find(inputs_for(network), lambda xs: int(xs[0].max()) == 3)[0].max() == 3
        with pytest.raises(NoSuchExample):
            find(inputs_for(network), lambda xs: int(xs[0].max()) > 3, settings=settings(max_examples=50))


def test_inputs_of_unknown_rank():
    with pytest.raises(ValueError, match=r"nothing is known of the shape for `dropout-1`: put an Input before it"):
        inputs_for(Dropout(0.5) >> Relu())


# A user's own layers


class Scale(BaseLayer):
    def __init__(self, factor: float, name: str | None = None) -> None:
        self.factor = factor
        super().__init__(name=name)

    def get_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def output(self, x: Any) -> Any:
        return self.factor * x


class Shapeless(Identity):
    def get_output_shape(self, input_shape: Any) -> Any:
        return None


class Difference(BaseLayer):
    def get_output_shape(self, *input_shapes: Any) -> Any:
        return input_shapes[0]

    def output(self, *inputs: Any) -> Any:
        return inputs[0] - inputs[1]


@pytest.fixture
def registered() -> Iterator[None]:
    register_layer(Scale, lambda sizes: st.builds(Scale, st.integers(1, 3)) if len(sizes) < 3 else st.nothing())
    register_layer(Difference, lambda one, other: st.builds(Difference) if one == other else st.nothing(), n_inputs=2)
    yield
    for cls in (Scale, Difference):
        unregister_layer(cls)


@pytest.fixture
def registered_in_vain() -> Iterator[None]:
    register_layer(Shapeless, lambda sizes: st.builds(Shapeless))
    yield
    unregister_layer(Shapeless)


@pytest.mark.usefixtures("registered")
def test_registered_layers_are_drawn():
    found = find(networks(), lambda network: any(isinstance(layer, Scale) for layer in network))
    assert [type(layer) for layer in found] == [Input, Scale]
    assert found[1].factor == 1
    assert type(find(layers(3, allow=[Scale]), lambda layer: True)) is Scale
    with pytest.raises(ValueError, match="No class of layers"):
        layers((2, 2, 2), allow=[Scale])
    found = find(networks(inputs=2, allow=[Difference]), lambda network: True)
    assert [type(layer) for layer in found] == [Input, Input, Difference]


@pytest.mark.usefixtures("registered_in_vain")
def test_a_layer_behind_which_nothing_is_known():
    with pytest.raises(ValueError, match=r"Cannot draw networks with Shapeless: .*\(\?, 1\).* gives <unknown>"):
        find(networks(allow=[Shapeless]), lambda network: len(network) > 1)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((int, st.builds), TypeError, "Expected a subclass of BaseLayer, got <class 'int'>"),
        ((Scale, st.nothing()), TypeError, "Expected a function that takes the sizes of the inputs of Scale"),
        ((Scale, st.nothing, 0), ValueError, "`n_inputs of Scale` should be a number from 1 on.*got 0"),
        ((Scale, st.nothing, (3, 2)), ValueError, r"got \(3, 2\)"),
        ((Scale, st.nothing, "a"), TypeError, "should be a whole number, or a tuple of the least and the largest"),
        ((Scale, st.nothing, (1, 2, 3)), TypeError, r"got \(1, 2, 3\)"),
    ],
)
def test_registering_checks_its_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        register_layer(*arguments)
    assert Scale not in CATALOGUE
    with pytest.raises(ValueError, match="Scale'> is not registered"):
        unregister_layer(Scale)


# Random numbers


def test_hypothesis_seeds_torch():
    seen = set()

    @settings(max_examples=5, database=None)
    @given(st.integers())
    def draws(number):
        seen.add(float(torch.rand(1)))

    torch.manual_seed(7)
    before = torch.get_rng_state()
    draws()
    assert len(seen) == 1
    assert torch.equal(torch.get_rng_state(), before)


# By type


@settings(max_examples=20)
@given(st.from_type(BaseLayer), st.from_type(LayerGraph), st.from_type(TensorShape))
def test_from_type(layer, network, shape):
    assert isinstance(layer, BaseLayer)
    assert isinstance(network, LayerGraph)
    assert isinstance(shape, TensorShape)


@pytest.mark.parametrize(
    "strategy", [st.from_type(BaseLayer), layers(), networks()], ids=["type", "layers", "networks"]
)
def test_strategies_that_were_made_before_draw_what_is_registered_later(request, strategy):
    def has_scale(found: Any) -> bool:
        return any(isinstance(layer, Scale) for layer in ([found] if isinstance(found, BaseLayer) else found))

    with pytest.raises(NoSuchExample):
        find(strategy, has_scale, settings=settings(max_examples=50, database=None))
    request.getfixturevalue("registered")
    assert find(strategy, has_scale) is not None
