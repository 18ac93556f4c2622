"""Variables of layers: when they are made and of what, and that a composition that fails makes none."""

import copy
import gc
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.nn.utils import parametrize, prune
from torch.testing import assert_close

from torchneupy import init
from torchneupy.core.properties import ParameterProperty
from torchneupy.core.shape import TensorShape
from torchneupy.exceptions import LayerConnectionError, WeightInitializationError
from torchneupy.layers import (
    GRU,
    LSTM,
    BaseLayer,
    BatchNorm,
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
    as_layer,
    join,
    parallel,
)

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def state_of(*layers):
    """What a failed composition must leave as it was, with the values that might be overwritten."""

    def values(tensors):
        return {key: None if value is None else value.tolist() for key, value in tensors.items()}

    return [
        {
            "text": repr(layer),
            "shape": layer.input_shape,
            "built": layer.is_built,
            "variables": list(layer.variables),
            "parameters": values(layer._parameters),
            "buffers": values(layer._buffers),
            "children": list(layer._modules),
            "attributes": sorted(vars(layer)),
        }
        for layer in layers
    ]


class Custom(BaseLayer):
    """A layer whose variables are made by a function that is given to it."""

    def __init__(self, create, name=None):
        self.create = create
        super().__init__(name=name)

    def get_output_shape(self, input_shape):
        return input_shape

    def create_variables(self, input_shape):
        self.create(self, input_shape)

    def output(self, x):
        return x


def shapes_of(layer):
    return [(name, tuple(variable.shape)) for name, variable in layer.variables.items()]


def make_half(layer, shape):
    layer.variable(init.Normal(), "first", shape=(3,))
    layer.second = layer.variable(init.Normal(), "second", shape=shape[1:])


# When


def test_connecting_makes_the_variables():
    relu, softmax = Relu(5), Softmax(2)
    assert not relu.is_built and relu.weight is None and len(relu.variables) == 0
    network = Input(3) >> relu >> softmax
    assert relu.is_built and network.is_built
    assert [tuple(p.shape) for p in network.parameters()] == [(3, 5), (5,), (5, 2), (2,)]
    assert all(isinstance(p, nn.Parameter) and p.requires_grad and p.is_leaf for p in network.parameters())


def test_layers_before_the_input_is_known_wait_for_it():
    body = Relu(5, name="a") >> Relu(4, name="b")
    a, b = body
    # What "b" needs is known, since "a" has a width of its own.
    assert not a.is_built and b.weight.shape == (5, 4) and not body.is_built
    weight = b.weight
    network = Input(3) >> body
    assert a.weight.shape == (3, 5) and b.weight is weight and network.is_built and body.is_built


@pytest.mark.parametrize(
    ("source", "make"),
    [
        (lambda: Input(None), lambda: Relu(5)),
        (lambda: Input(None), PRelu),
        (lambda: Input((None, 3)), lambda: PRelu(alpha_axes=(1, 2))),
        (Identity, lambda: Relu(5)),
        (lambda: Input(None), lambda: Custom(lambda layer, shape: layer.variable(1, "w", shape=shape[1:]))),
        (Identity, lambda: Custom(lambda layer, shape: layer.variable(1, "w", shape=(shape[1],)))),
        # A layer of one's own may stumble over what is unknown in its own way.
        (lambda: Input(None), lambda: Custom(lambda layer, shape: layer.variable(1, "w", shape=(shape[1] * 2,)))),
        (lambda: Input(None), lambda: Custom(lambda layer, shape: torch.zeros(shape[1]))),
        # What was made before it stumbled is not kept.
        (lambda: Input(None), lambda: Custom(make_half)),
    ],
    ids=str,
)
def test_an_unknown_size_means_not_yet(source, make):
    layer = make()
    before = state_of(layer)
    network = join(source(), layer)
    assert not layer.is_built and not network.is_built and len(layer.variables) == 0
    assert list(network.state_dict()) == [] and state_of(layer) == before
    with pytest.raises(WeightInitializationError, match=rf"`{layer.name}`"):
        network.create_variables()


def test_what_is_known_is_enough_where_no_more_is_needed():
    layer = PRelu(alpha_axes=-1)
    network = Input((None, None, 3)) >> layer
    assert network.is_built and layer.alpha.shape == (3,)


def test_a_layer_that_waited_is_built_where_its_shape_is_known():
    layer = Relu(5)
    first = Input(None) >> layer
    second = Input(10) >> layer
    assert layer.weight.shape == (10, 5) and first.is_built and second.is_built
    assert_close(first(torch.ones(1, 10)), second(torch.ones(1, 10)))


def test_nothing_is_made_by_a_call():
    network = Input(None) >> Relu(5, name="waits")
    with pytest.raises(WeightInitializationError, match=r"`waits` has no variables yet.*number of input features"):
        network(torch.ones(2, 3))
    assert not network.is_built


def test_a_layer_without_variables_is_always_built():
    assert Identity().is_built and Dropout(0.1).is_built and Concatenate().is_built
    assert (Identity() >> Relu()).is_built


@pytest.mark.parametrize("make", [Relu, Linear, lambda: Softmax(None)])
def test_an_activation_alone_has_no_variables_to_wait_for(make):
    layer = make()
    assert layer.is_built and len(layer.variables) == 0
    assert_close(layer(torch.ones(1, 1)), torch.ones(1, 1))


# Of what


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "weight",
    [
        init.HeNormal(),
        0.5,
        np.ones((3, 2)),
        np.ones((3, 2), "float32"),
        np.ones((3, 2), int),
        torch.ones(3, 2).double(),
    ],
    ids=["initializer", "number", "float64", "float32", "int", "tensor"],
)
def test_variables_have_the_default_dtype_at_the_moment_of_connection(dtype, weight):
    layer = Linear(2, weight=weight)
    with default_dtype(dtype):
        join(Input(3), layer)
    assert layer.weight.dtype == layer.bias.dtype == dtype and isinstance(layer.weight, nn.Parameter)


TENSOR = torch.ones(5, 2)


def test_on_the_meta_device_nothing_is_drawn():
    before = torch.get_rng_state()
    with torch.device("meta"):
        network = join(Input(3), Relu(4), PRelu(5, weight=init.Orthogonal()), Linear(2, weight=TENSOR, bias=np.ones(2)))
    assert {p.device.type for p in network.parameters()} == {"meta"}
    assert network.output_shape == (None, 2) and len(list(network.parameters())) == 7
    assert torch.equal(torch.get_rng_state(), before)
    real = network.to_empty(device="cpu")
    other = join(Input(3), Relu(4), PRelu(5), Linear(2))
    real.load_state_dict(other.state_dict())
    x = torch.rand(6, 3)
    assert_close(real(x), other(x), rtol=0, atol=0)


@pytest.mark.cuda
def test_on_cuda_variables_have_the_values_of_the_cpu():
    def build():
        return Input(3) >> Relu(4, weight=init.HeNormal(seed=0)) >> Linear(2, weight=np.ones((4, 2)))

    with torch.device("cuda"):
        there = build()
    assert {p.device.type for p in there.parameters()} == {"cuda"}
    assert_close([p.cpu() for p in there.parameters()], list(build().parameters()), rtol=0, atol=0)


def build_branches():
    return Input(3) >> (Relu(4) | Relu(5) >> Linear(4)) >> Elementwise() >> PRelu(2, alpha=init.Uniform(0, 1))


@pytest.mark.parametrize(
    "build",
    [
        build_branches,
        lambda: join(Input(3), Relu(4), Relu(5), Linear(2)),
        lambda: Input(3) >> (Relu(4) >> Relu(5) >> Linear(2)),
        lambda: join(Input(3), nn.Linear(3, 4), Relu(2)),
    ],
)
def test_manual_seed_reproduces_a_network(build):
    torch.manual_seed(3)
    first = build().state_dict()
    torch.manual_seed(3)
    second = build().state_dict()
    assert_close(dict(second), dict(first), rtol=0, atol=0)
    assert any(not torch.equal(build().state_dict()[key], value) for key, value in first.items())


def test_variables_are_drawn_in_topological_order():
    torch.manual_seed(0)
    expected = [
        init.HeNormal(gain=2).sample((3, 4)),
        init.HeNormal(gain=2).sample((3, 5)),
        init.HeNormal().sample((9, 2)),
    ]
    torch.manual_seed(0)
    network = join(Input(3), Relu(4) | Relu(5), Concatenate(), Linear(2))
    weights = [p for name, p in network.named_parameters() if name.endswith("weight")]
    assert_close(weights, expected, rtol=0, atol=0, check_dtype=True)


def test_connecting_again_draws_nothing():
    network = Input(3) >> Relu(4)
    before = torch.get_rng_state()
    values = copy.deepcopy(network.state_dict())
    join(network, Dropout(0.5))
    join(Input(3), network.layers[1])
    network.end(network.layers[1])
    assert torch.equal(torch.get_rng_state(), before)
    assert_close(dict(network.state_dict()), dict(values), rtol=0, atol=0)


@pytest.mark.parametrize(
    "make", [lambda: np.ones((3, 2), "float32"), lambda: torch.ones(3, 2)], ids=["array", "tensor"]
)
def test_what_is_given_is_copied(make):
    given = make()
    first, second = Linear(2, weight=given), Linear(2, weight=given)
    join(Input(3), first)
    join(Input(3), second)
    given[:] = 7
    with torch.no_grad():
        second.weight.mul_(2)
    assert_close([first.weight, second.weight], [torch.ones(3, 2), torch.full((3, 2), 2.0)], check_dtype=True)


VALUES = np.arange(6.0).reshape(3, 2)


@pytest.mark.parametrize(
    "given",
    [
        np.asfortranarray(VALUES),
        VALUES.copy(),
        np.ascontiguousarray(VALUES[::-1])[::-1],  # a negative stride, which torch does not take
        VALUES.astype(">f4"),  # the byte order of other machines, as files have it
        VALUES.astype(np.longdouble),
        VALUES.astype(np.float16),
        VALUES.view(np.matrix),
    ],
    ids=["columns first", "plain", "reversed", "big-endian", "longdouble", "half", "matrix"],
)
def test_an_array_of_any_layout_can_be_given(given):
    # What is kept is contiguous: FSDP2, for one, takes no other parameters.
    given.setflags(write=False)
    layer = Linear(2, weight=given)
    join(Input(3), layer)
    assert layer.weight.is_contiguous() and layer.weight.dtype == torch.float32
    assert_close(layer.weight.detach(), torch.arange(6.0).reshape(3, 2))


@pytest.mark.parametrize(
    "given",
    [
        torch.arange(6.0).reshape(3, 2).T.contiguous().T,
        torch.arange(12.0).reshape(3, 4)[:, :2] - torch.tensor([[0.0], [2], [4]]),
        torch.arange(6.0).reshape(3, 2).T.to(torch.float64).contiguous().T,
        torch.arange(6.0).repeat_interleave(2)[::2].reshape(3, 2),
    ],
    ids=["transposed", "part", "transposed float64", "strided"],
)
def test_a_tensor_of_any_layout_can_be_given(given):
    layer = Linear(2, weight=given)
    join(Input(3), layer)
    assert layer.weight.is_contiguous() and layer.weight.dtype == torch.float32
    assert_close(layer.weight.detach(), torch.arange(6.0).reshape(3, 2))


def test_a_tensor_that_wants_gradients_is_copied_too():
    given = torch.ones(3, 2, requires_grad=True)
    layer = Linear(2, weight=given)
    network = Input(3) >> layer
    network(torch.ones(1, 3)).sum().backward()
    assert layer.weight.grad is not None and given.grad is None and layer.weight is not given


def test_a_parameter_is_shared():
    shared = nn.Parameter(torch.ones(3, 3))
    network = Input(3) >> Linear(3, weight=shared) >> Linear(3, weight=shared)
    first, second = network.layers[1:]
    assert first.weight is shared and second.weight is shared
    assert len(list(network.parameters())) == 3 and len(network.state_dict()) == 4
    # Each variable once.
    assert [(layer.name, name) for layer, name in network.variables] == [
        ("linear-1", "weight"),
        ("linear-1", "bias"),
        ("linear-2", "bias"),
    ]
    network(torch.ones(1, 3)).sum().backward()
    assert shared.grad is not None


def test_a_parameter_that_does_not_want_gradients_stays_so():
    frozen = nn.Parameter(torch.ones(3, 2), requires_grad=False)
    layer = Linear(2, weight=frozen)
    join(Input(3), layer)
    assert layer.weight is frozen and not layer.weight.requires_grad


def test_given_tensors_are_not_kept_alive():
    given = torch.ones(3, 2)
    layer = Linear(2, weight=given)
    watched = weakref.ref(given)
    join(Input(3), layer)
    del given
    gc.collect()
    assert watched() is None


class Ones(init.Initializer):
    """Takes the shape alone, and gives an array, as rules written for NeuPy may."""

    def sample(self, shape):  # type: ignore[override]  # that is what is tested
        return np.ones(shape)


def test_a_rule_of_ones_own_may_give_an_array():
    layer = Linear(2, weight=Ones())
    network = Input(3) >> layer
    assert layer.weight.dtype == torch.float32
    assert_close(network(torch.ones(1, 3)), torch.full((1, 2), 3.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": np.ones((10, 4))}, r"layer/l/weight.*\(10, 4\).*\(10, 5\)"),
        ({"weight": np.ones((5, 10))}, r"layer/l/weight.*\(5, 10\).*\(10, 5\)"),
        ({"weight": torch.ones(10)}, r"layer/l/weight.*\(10,\).*\(10, 5\)"),
        ({"weight": nn.Parameter(torch.ones(10, 4))}, r"layer/l/weight.*\(10, 4\).*\(10, 5\)"),
        ({"bias": np.ones((5, 1))}, r"layer/l/bias.*\(5, 1\).*\(5,\)"),
        ({"bias": np.ones(())}, r"layer/l/bias.*\(\).*\(5,\)"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)) + str(next(iter(value.values())).shape),
)
@pytest.mark.parametrize("connect", [lambda a, b: a >> b, join, lambda a, b: LayerGraph([(a, [b])])])
def test_a_wrong_shape_is_refused_at_the_connection(options, message, connect):
    layer = Linear(5, **options, name="l")
    before, random = state_of(layer), torch.get_rng_state()
    with pytest.raises(LayerConnectionError, match=message):
        connect(Input(10), layer)
    assert state_of(layer) == before
    assert torch.equal(torch.get_rng_state(), random)
    # It is good where it fits, if it does anywhere.
    assert (Input(10) >> Linear(5, name="l")).is_built


@pytest.mark.parametrize("value", ["text", [[1, 2]], {}, object()], ids=repr)
def test_a_variable_of_ones_own_has_to_be_made_of_something(value):
    layer = Custom(lambda layer, shape: layer.variable(value, "w", shape=(2,)), name="l")
    before = state_of(layer)
    with pytest.raises((TypeError, ValueError)) as caught:
        join(Input(3), layer)
    assert "layer/l/w" in str(caught.value) and state_of(layer) == before


# Failures


def break_at_the_end(layer, shape):
    layer.variable(init.Normal(), "w", shape=(3,))
    layer.note = "half done"
    layer.words.append("b")
    layer.extra = nn.Linear(2, 2)
    layer.register_buffer("more", torch.ones(2))
    raise OSError("disk is full")


class Breaks(Custom):
    def __init__(self, name=None):
        super().__init__(break_at_the_end, name=name)
        self.words = ["a"]


@pytest.mark.parametrize(
    ("connect", "error", "message"),
    [
        (lambda body: join(Input(3), *body, Breaks(name="broken")), OSError, "disk is full"),
        (lambda body: parallel([Input(3), *body], [Input(4), Breaks(name="broken")]), OSError, "disk is full"),
        (
            lambda body: join(Input(3), *body, Linear(2, weight=np.ones((9, 9)), name="l")),
            LayerConnectionError,
            "layer/l/w",
        ),
        (
            lambda body: join(Input(3), *body, Linear(2), Linear(2, bias=np.ones(9), name="l")),
            LayerConnectionError,
            "layer/l/b",
        ),
        (lambda body: join(Input(3), *body, Input(7, name="x")), LayerConnectionError, r"`x`.*\(\?, 5\).*\(\?, 7\)"),
        (lambda body: join(Input((3, 3)), *body), LayerConnectionError, r"2 dimensions.*got 3.*\(\?, 3, 3\)"),
    ],
)
def test_a_composition_that_fails_changes_no_layer_and_draws_nothing(connect, error, message):
    body = [Relu(4), PRelu(5)]
    before, random = state_of(*body), torch.get_rng_state()
    with pytest.raises(error, match=message):
        connect(body)
    assert state_of(*body) == before
    assert not any(layer.is_built for layer in body)
    assert torch.equal(torch.get_rng_state(), random)
    assert join(Input(3), *body).is_built


def test_a_layer_that_fails_half_way_is_as_before():
    layer = Breaks(name="broken")
    before = state_of(layer)
    with pytest.raises(OSError, match="disk is full") as caught:
        join(Input(3), layer)
    assert any("`broken`" in note for note in caught.value.__notes__)
    assert state_of(layer) == before
    assert layer.words == ["a"] and not hasattr(layer, "note") and not hasattr(layer, "extra")
    assert list(layer.state_dict()) == []


def test_layers_that_have_variables_keep_them_when_a_composition_fails():
    layer = Relu(4, name="built")
    network = Input(3) >> layer
    before = state_of(layer)
    weight = layer.weight
    with pytest.raises(LayerConnectionError, match="layer/l/weight"):
        network >> Linear(2, weight=np.ones((9, 9)), name="l")
    assert layer.weight is weight
    assert state_of(layer) == before
    assert [child.name for child in network] == ["input-1", "built"]


def test_an_interruption_rolls_back_too():
    def interrupt(layer, shape):
        layer.variable(1, "w", shape=(3,))
        raise KeyboardInterrupt

    first, second = Relu(3), Custom(interrupt)
    before = state_of(first, second)
    with pytest.raises(KeyboardInterrupt):
        join(Input(3), first, second)
    assert state_of(first, second) == before


# A layer in two networks


def test_a_layer_in_two_networks_has_one_set_of_variables():
    relu = Relu(5)
    first, second = Input(10) >> relu, Input(10) >> relu >> Softmax(2)
    assert dict(first.named_parameters())["relu-1.weight"] is dict(second.named_parameters())["relu-1.weight"]
    with torch.no_grad():
        relu.weight.zero_()
    assert_close(first(torch.ones(1, 10)), torch.zeros(1, 5))


@pytest.mark.parametrize(
    "connect",
    [
        lambda relu: Input(9, name="x") >> relu,
        lambda relu: join(Input(9, name="x"), relu),
        lambda relu: LayerGraph([(Input(9, name="x"), [relu])]),
        lambda relu: Input(9) >> Identity(name="x") >> relu >> Softmax(2),
    ],
)
def test_a_layer_is_not_connected_where_its_variables_would_have_another_shape(connect):
    relu = Relu(5, name="shared")
    first = Input(10) >> relu
    before, random = state_of(relu), torch.get_rng_state()
    with pytest.raises(LayerConnectionError, match=r"`x` to layer `shared`.*\(\?, 9\).*\(\?, 10\)"):
        connect(relu)
    assert state_of(relu) == before
    assert torch.equal(torch.get_rng_state(), random) and first(torch.ones(1, 10)).shape == (1, 5)


def test_a_network_that_waits_is_refused_where_a_layer_has_got_another_width_since():
    relu = Relu(5, name="shared")
    waits = Identity() >> relu
    join(Input(10), relu)
    with pytest.raises(LayerConnectionError, match=r"`shared`.*\(\?, 9\).*\(\?, 10\)"):
        Input(9) >> waits
    assert (Input(10) >> waits).is_built


def test_a_nested_network_is_refused_where_its_variables_would_have_another_shape():
    inner = Relu(5, name="shared") >> Relu(3)
    nested = as_layer(inner)
    join(Input(10), nested)
    weight = inner.layers[0].weight
    with pytest.raises(LayerConnectionError, match=r"(?s)`layer-graph-1`.*\(\?, 9\).*\(\?, 10\)"):
        Input(9) >> nested
    assert inner.layers[0].weight is weight and weight.shape == (10, 5)


def make_scale(layer, shape):
    layer.variable(1, "scale", shape=shape[-1:])


def test_a_layer_of_ones_own_is_refused_where_its_variables_would_have_another_shape():
    layer = Custom(make_scale, name="own")
    join(Input(3), layer)
    before, variable = state_of(layer), layer.variables["scale"]
    with pytest.raises(LayerConnectionError, match=r"`own`.*\(\?, 4\).*`scale` has shape \(3,\), and \(4,\)"):
        join(Input(4), layer)
    assert layer.variables["scale"] is variable
    assert state_of(layer) == before


@pytest.mark.parametrize(
    ("make", "first", "second"),
    [
        (PRelu, (4, 4, 3), (7, 5, 3)),
        (PRelu, (4, 3), (3,)),
        (PRelu, (4, 3), (None, 3)),
        (lambda: Custom(make_scale), (4, 4, 3), (9, 3)),
        (Relu, (4, 3), (5,)),
    ],
)
def test_another_spatial_size_is_fine(make, first, second):
    layer = make()
    one = Input(first) >> layer
    variables = dict(layer.variables)
    two = Input(second) >> layer
    assert all(layer.variables[name] is variable for name, variable in variables.items())
    assert (one.output_shape, two.output_shape) == ((None, *first), (None, *second))


def test_variables_are_not_made_again_by_create_variables():
    n_calls = []

    def create(layer, shape):
        n_calls.append(shape)
        layer.scale = layer.variable(init.Normal(), "scale", shape=(3,))

    layer = Custom(create)
    join(Input((4, 3)), layer)
    scale = layer.scale
    join(Input((5, 3)), layer)
    assert layer.scale is scale is layer.variables["scale"] and len(n_calls) == 2
    assert list(layer.state_dict()) == ["scale"]


# The view


def test_variables_are_in_the_order_of_creation():
    assert shapes_of(join(Input(3), PRelu(2))[1]) == [("weight", (3, 2)), ("bias", (2,)), ("alpha", (2,))]

    def create(layer, shape):
        layer.variable(1, "b", shape=(1,), trainable=False)
        layer.variable(1, "a", shape=(2,))
        layer.variable(1, "c", shape=(3,), trainable=False)

    network = Input(3) >> Custom(create, name="l")
    assert shapes_of(network.layers[1]) == [("b", (1,)), ("a", (2,)), ("c", (3,))]
    assert [(layer.name, name) for layer, name in network.variables] == [("l", "b"), ("l", "a"), ("l", "c")]
    assert network.n_parameters == 6


def test_a_variable_made_twice_replaces_the_first():
    def create(layer, shape):
        layer.variable(1, "my_w", shape=(2,))
        layer.variable(np.ones((2, 2)), "b", shape=(2, 2), trainable=False)
        layer.variable(3, "my_w", shape=(1,))

    layer = Custom(create)
    join(Input(2), layer)
    assert shapes_of(layer) == [("my_w", (1,)), ("b", (2, 2))]
    assert_close(layer.variables["my_w"].detach(), torch.tensor([3.0]))
    assert sorted(layer.state_dict()) == ["b", "my_w"]
    join(Input(2), layer)


def test_variables_are_a_live_view():
    layer = Custom(lambda layer, shape: layer.variable(2, "scale", shape=(3,), trainable=False))
    network = Input(3) >> Linear(3) >> layer
    view = layer.variables
    network.double()
    assert view["scale"] is layer.variables["scale"] is layer._buffers["scale"]
    assert view["scale"].dtype == torch.float64
    linear = network.layers[1]
    weights = linear.variables
    linear.weight = nn.Parameter(torch.zeros(3, 3))
    assert weights["weight"] is linear.weight
    assert network.variables[linear, "weight"] is linear.weight


def test_parameters_that_a_layer_has_besides_come_last():
    def create(layer, shape):
        layer.own = nn.Parameter(torch.ones(2))
        layer.variable(1, "asked", shape=(3,))
        layer.inner = nn.Linear(3, 1, bias=False)

    layer = Custom(create)
    network = Input(3) >> layer
    assert shapes_of(layer) == [("asked", (3,)), ("own", (2,)), ("inner.weight", (1, 3))]
    assert network.n_parameters == 8 == sum(p.numel() for p in network.parameters())


def test_the_view_is_a_mapping_that_cannot_be_assigned_to():
    layer = Linear(2, name="l")
    view = layer.variables
    assert len(view) == 0 and list(view) == []
    join(Input(3), layer)
    assert list(view) == ["weight", "bias"] and "weight" in view and "nope" not in view and view.get("nope") is None
    assert repr(view) == "{'weight': <Variable shape=(3, 2)>, 'bias': <Variable shape=(2,)>}"
    with pytest.raises(KeyError, match="nope"):
        _ = view["nope"]
    with pytest.raises(TypeError, match="does not support item assignment"):
        view["weight"] = nn.Parameter(torch.ones(3, 2))  # type: ignore[index]


# Buffers and attributes


def assign_to_w(trainable):
    def create(layer, shape):
        layer.w = layer.variable(init.Normal(), name="weight", shape=(3,), trainable=trainable)

    return create


@pytest.mark.parametrize("trainable", [True, False])
def test_a_variable_assigned_to_another_attribute_is_registered_once(trainable):
    layer = Custom(assign_to_w(trainable), name="l")
    network = Input(3) >> layer
    registered = dict(network.named_parameters() if trainable else network.named_buffers())
    assert list(network.state_dict()) == list(registered) == ["l.w"]
    assert registered["l.w"] is layer.w is layer.variables["weight"] and list(layer.variables) == ["weight"]
    assert isinstance(layer.w, nn.Parameter) == trainable and layer.w.requires_grad == trainable
    other = Input(3) >> Custom(assign_to_w(trainable), name="l")
    other.load_state_dict(network.state_dict())
    assert torch.equal(other.layers[1].w, layer.w)
    twin = copy.deepcopy(network)
    assert list(twin.state_dict()) == ["l.w"] and twin.layers[1].variables["weight"] is twin.layers[1].w


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("attribute", ["weight", "w", None])
def test_a_variable_moves_with_its_layer_under_any_attribute(attribute, trainable):
    def create(layer, shape):
        variable = layer.variable(init.Normal(), "weight", shape=(3,), trainable=trainable)
        if attribute is not None:
            setattr(layer, attribute, variable)

    layer = Custom(create)
    network = Input(3) >> layer
    network.to(torch.float64)
    assert layer.variables["weight"].dtype == torch.float64
    network.to("meta")
    assert layer.variables["weight"].device.type == "meta"
    network.to_empty(device="cpu")
    assert layer.variables["weight"].device.type == "cpu" and layer.variables["weight"].shape == (3,)
    key = attribute or "weight"
    assert list(layer.state_dict()) == [key] and layer.variables["weight"] is getattr(layer, key)
    assert len(list(network.parameters())) == trainable and len(list(network.buffers())) == (not trainable)


# Registration


@contextmanager
def hooks(register, hook):
    handle = register(hook)
    try:
        yield
    finally:
        handle.remove()


def make_everything():
    """Parameters, a buffer, an option under another attribute, and a plain variable of a custom layer."""
    return join(Input(3, name="x"), Relu(4, name="relu"), BatchNorm(name="norm"), Custom(make_pair, name="pair"))


def make_pair(layer, shape):
    layer.w = layer.variable(1, "weight", shape=(4,))
    layer.shift = layer.variable(0, "shift", shape=(4,), trainable=False)
    layer.register_parameter("nothing", None)


def test_hooks_for_registration_see_every_variable_and_every_child():
    seen = []

    def hook(module, name, value):
        seen.append((type(module).__name__, name, value))

    with (
        hooks(register_module_parameter_registration_hook, hook),
        hooks(register_module_buffer_registration_hook, hook),
        hooks(register_module_module_registration_hook, hook),
    ):
        network = make_everything()
    found = {(kind, name, id(value)) for kind, name, value in seen}
    for layer in network:
        assert ("LayerGraph", layer.name, id(layer)) in found
        for name, tensor in (*layer.named_parameters(), *layer.named_buffers()):
            assert (type(layer).__name__, name, id(tensor)) in found
    assert list(network.state_dict()) == list(make_everything().state_dict())


def test_hooks_for_registration_may_put_something_else_there():
    class Marked(nn.Parameter):
        pass

    def hook(module, name, value):
        return Marked(value.detach().double())

    def buffer_hook(module, name, value):
        return value.double()

    made = []

    def create(layer, shape):
        make_pair(layer, shape)
        made.extend([layer.variable(1, "other", shape=(4,)), layer.variable(2, "fixed", shape=(4,), trainable=False)])

    with (
        hooks(register_module_parameter_registration_hook, hook),
        hooks(register_module_buffer_registration_hook, buffer_hook),
    ):
        network = Input(4) >> Linear(4) >> BatchNorm() >> Custom(create, name="pair")
    assert {type(parameter) for parameter in network.parameters()} == {Marked}
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float64}
    layer = network["pair"]
    assert list(layer.state_dict()) == ["w", "other", "shift", "fixed"]
    assert layer.variables["weight"] is layer.w
    assert made == [layer.other, layer.fixed]
    assert network(torch.ones(2, 4, dtype=torch.float64)).dtype == torch.float64


def test_a_hook_may_put_another_module_in_the_place_of_a_layer():
    twin = Linear(4)

    def hook(module, name, child):
        return twin if isinstance(child, Relu) else None

    with hooks(register_module_module_registration_hook, hook):
        network = Input(3) >> twin >> Relu()
    assert network[2] is network[1] is twin


@pytest.mark.parametrize("name", ["register_parameter", "register_buffer", "add_module", "register_module"])
def test_functions_that_stand_in_for_those_that_register_are_called(monkeypatch, name):
    seen, original = [], getattr(nn.Module, name)

    def register(module, key, *args, **kwargs):
        seen.append(key)
        return original(module, key, *args, **kwargs)

    monkeypatch.setattr(nn.Module, name, register)
    make_everything()
    expected = {
        "register_parameter": {"weight", "bias", "gamma", "beta", "w"},
        "register_buffer": {"running_mean", "running_inv_std", "shift"},
    }
    assert set(seen) >= expected.get(name, {"x", "relu", "norm", "pair"})


def test_a_layer_may_register_in_its_own_way():
    class Doubling(Linear):
        def register_parameter(self, name, param):
            super().register_parameter(name, None if param is None else nn.Parameter(param.detach().double()))

    assert {p.dtype for p in (Input(3) >> Doubling(4)).parameters()} == {torch.float64}


def test_a_parameter_given_twice_to_a_layer_stays_under_both_names():
    with hooks(register_module_parameter_registration_hook, lambda module, name, value: None):
        shared = nn.Parameter(torch.ones(4))

        def create(layer, shape):
            layer.variable(shared, "a", shape=(4,))
            layer.variable(shared, "b", shape=(4,))

        layer = Custom(create)
        _ = Input(4) >> layer
    assert list(layer.state_dict()) == ["a", "b"] and layer.a is layer.b is shared


# Drawn anew


def reset(network):
    for module in network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()


def spoil(network):
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.fill_(float("nan"))


def has_state(network, expected):
    assert list(network.state_dict()) == list(expected)
    assert_close(network.state_dict(), expected, rtol=0, atol=0)


class Guarded(BaseLayer):
    """A user's layer that draws by itself too, and asks whether it has been here before."""

    weight = ParameterProperty(default=init.Normal())

    def __init__(self, name=None):
        super().__init__(name=name)
        self.calls = []

    def get_output_shape(self, input_shape):
        return input_shape

    def create_variables(self, input_shape):
        self.calls.append(input_shape)
        if self.weight is None:
            self.w = self.variable(None, "weight", shape=(4,))
            self.noise = self.variable(torch.randn(4), "noise", trainable=False)
            self.variable(np.random.default_rng(0).normal(size=4), "constant")
            self.variable([1, 2, 3, 4], "list", shape=(4,))

    def output(self, x):
        return x * self.w


def build_all():
    return join(
        Input((5, 4)),
        LSTM(4, peepholes=True, learn_init=True, only_return_final=False),
        Guarded(),
        GRU(4, biases=init.Uniform()),
        PRelu(4, weight=init.Orthogonal(), bias=None),
        BatchNorm(running_mean=init.Normal()),
        as_layer(nn.PReLU(4)),
        Softmax(2),
    )


def test_first_values_are_drawn_again_as_they_were_when_the_network_was_built():
    torch.manual_seed(3)
    network = build_all()
    expected = copy.deepcopy(network.state_dict())
    tensors, calls = list(network.state_dict(keep_vars=True).values()), list(network[2].calls)
    spoil(network)
    torch.manual_seed(3)
    reset(network)
    has_state(network, expected)
    kept = network.state_dict(keep_vars=True).values()
    assert all(a is b for a, b in zip(kept, tensors, strict=True)) and network[2].calls == calls
    after = torch.get_rng_state()
    torch.manual_seed(3)
    build_all()
    assert torch.equal(torch.get_rng_state(), after)


def test_what_is_drawn_again_has_the_types_of_the_variables():
    network = (Input(3) >> Linear(4) >> BatchNorm()).to(torch.float64)
    reset(network)
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float64}
    assert network[1].weight.requires_grad and not network[2].running_mean.requires_grad


def test_what_set_params_has_asked_for_is_drawn():
    network = Input(3) >> Linear(4)
    network[1].set_params(weight=7, bias=init.Constant(8))
    spoil(network)
    reset(network)
    assert_close(network[1].weight.detach(), torch.full((3, 4), 7.0))
    assert_close(network[1].bias.detach(), torch.full((4,), 8.0))


@pytest.mark.parametrize(
    "given", [np.ones(4), torch.ones(4), nn.Parameter(torch.ones(4))], ids=["array", "tensor", "parameter"]
)
def test_what_was_given_cannot_be_drawn(given):
    network = Input(3) >> Linear(4, bias=given, name="fc")
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    with pytest.raises(
        ValueError, match=r"variable `bias` of layer `fc` anew: it was given as <.* shape=\(4,\)>.*Load"
    ):
        reset(network)
    has_state(network, before)
    assert torch.equal(torch.get_rng_state(), state)
    network[1].set_params(bias=1)
    reset(network)


class OfParameter(BaseLayer):
    """Its variable is a Parameter that its constructor makes."""

    weight = ParameterProperty()

    def __init__(self, parameter, name=None):
        super().__init__(name=name)
        self.weight = parameter

    def create_variables(self, input_shape):
        self.variable(None, "weight", shape=(4,))

    def output(self, x):
        return x * self.weight


@pytest.mark.parametrize(
    "layer",
    [
        Custom(lambda layer, shape: layer.variable(nn.Parameter(torch.ones(4)), "weight"), name="l"),
        OfParameter(nn.Parameter(torch.ones(4)), name="l"),
    ],
    ids=["in create_variables", "in the constructor"],
)
def test_a_parameter_of_the_users_cannot_be_drawn(layer):
    _ = Input(4) >> layer
    with pytest.raises(ValueError, match=r"variable `weight` of layer `l` anew: it was given as <Variable shape"):
        layer.reset_parameters()
    assert_close(layer.weight.detach(), torch.ones(4))


def test_a_layer_without_variables_has_nothing_to_draw():
    layers = (Relu(4), Relu(), Dropout(0.5), as_layer(nn.Linear(2, 2)), as_layer(Relu(3) >> Relu(3)))
    state = torch.get_rng_state()
    for layer in layers:
        layer.reset_parameters()
        assert torch.equal(torch.get_rng_state(), state)
    assert not Relu(4).is_built


def test_the_parts_of_a_nested_network_are_drawn_once():
    block = as_layer(Input(3) >> Linear(4))
    torch.manual_seed(3)
    network = Input(3) >> block >> Linear(2)
    torch.manual_seed(3)
    reset(network)
    torch.manual_seed(3)
    twin = Input(3) >> Linear(4) >> Linear(2)
    assert torch.equal(network[2].weight, twin[2].weight) and not hasattr(network, "reset_parameters")


class Twice(nn.Module):
    def forward(self, x):
        return 2 * x

    def right_inverse(self, x):
        return x / 2


@pytest.mark.parametrize("make", [lambda: Linear(4), lambda: Custom(assign_weight)], ids=["library", "custom"])
def test_a_parametrised_variable_gets_what_was_drawn(make):
    torch.manual_seed(3)
    network = Input(4) >> make()
    expected = network[1].weight.detach().clone()
    parametrize.register_parametrization(network[1], "weight", Twice())
    spoil(network)
    torch.manual_seed(3)
    network[1].reset_parameters()
    assert_close(network[1].weight.detach(), expected)
    assert_close(network[1].parametrizations["weight"].original.detach(), expected / 2)


def assign_weight(layer, shape):
    layer.weight = layer.variable(init.Normal(), "weight", shape=(4, 4))


@pytest.mark.parametrize("make", [lambda: Linear(4), lambda: Custom(assign_weight)], ids=["library", "custom"])
def test_a_pruned_variable_gets_what_was_drawn_but_for_the_mask(make):
    torch.manual_seed(3)
    network = Input(4) >> make()
    expected = network[1].weight.detach().clone()
    prune.random_unstructured(network[1], "weight", amount=6)
    mask = network[1].weight_mask.clone()
    with torch.no_grad():
        network[1].weight_orig.fill_(5)
    torch.manual_seed(3)
    network[1].reset_parameters()
    assert_close(network[1].weight.detach(), expected * mask)
    assert_close(network[1].weight_orig.detach(), expected) and torch.equal(network[1].weight_mask, mask)


def test_a_variable_that_was_deleted_is_not_drawn():
    network = Input(3) >> Linear(4)
    del network[1].bias
    network[1].reset_parameters()
    assert list(network[1].state_dict()) == ["weight"]


def test_nothing_is_drawn_for_a_variable_of_another_shape():
    network = Input(3) >> Linear(4)
    network[1].bias = nn.Parameter(torch.ones(2))
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(LayerConnectionError, match="incompatible with expected shape"):
        network[1].reset_parameters()
    has_state(network, before)


class Declared(BaseLayer):
    """Its variables are options; one of them is assigned to another attribute too."""

    weight = ParameterProperty()
    mean = ParameterProperty()

    def __init__(self, weight=2, mean=3, name=None):
        self.specify(weight=weight, mean=mean)
        super().__init__(name=name)

    def get_output_shape(self, input_shape):
        return input_shape

    def create_variables(self, input_shape):
        self.w = self.variable(None, name="weight", shape=(3,))
        self.variable(None, name="mean", shape=(3,), trainable=False)

    def output(self, x):
        return x * self.w + self.mean


def test_an_option_that_is_not_trained_is_a_buffer():
    layer = Declared(name="l")
    network = Input(3) >> layer
    assert layer.mean is dict(network.named_buffers())["l.mean"] and not layer.mean.requires_grad
    assert repr(layer) == "Declared(weight=Constant(2), mean=Constant(3), name='l')"
    assert_close(network(torch.ones(1, 3)), torch.full((1, 3), 5.0))
    layer.set_params(mean=4)
    assert_close(network(torch.ones(1, 3)), torch.full((1, 3), 6.0))


def test_a_parameter_given_for_what_is_not_trained_becomes_a_buffer():
    given = nn.Parameter(torch.ones(3))
    layer = Declared(mean=given, name="l")
    network = Input(3) >> layer
    assert list(dict(network.named_buffers())) == ["l.mean"] and not layer.mean.requires_grad
    assert_close(layer.mean, torch.ones(3))
    assert all(parameter is not given for parameter in network.parameters())


def test_an_option_assigned_to_another_attribute_is_registered_once():
    layer = Declared(name="l")
    network = Input(3) >> layer
    assert layer.w is layer.variables["weight"] and layer.weight is layer.w
    assert len(network.state_dict()) == 2 and len(list(network.parameters())) == 1


@pytest.mark.parametrize("name", ["output", "training", "variables", "name", "a.b", "", "forward", "input_shape"])
def test_a_variable_cannot_take_the_place_of_an_attribute(name):
    layer = Custom(lambda layer, shape: layer.variable(1, name, shape=(2,)), name="l")
    before = state_of(layer)
    with pytest.raises(KeyError, match=rf"layer `l`.*{name!r}"):
        join(Input(3), layer)
    assert state_of(layer) == before


def test_the_shape_may_be_left_out_where_the_value_has_one():
    def create(layer, shape):
        layer.variable(np.ones((2, 3)), "array")
        layer.variable(torch.ones(4), "tensor")

    layer = Custom(create)
    join(Input(3), layer)
    assert shapes_of(layer) == [("array", (2, 3)), ("tensor", (4,))]


@pytest.mark.parametrize("shape", [(2, 3), [2, 3], TensorShape([2, 3]), torch.Size([2, 3]), (np.int64(2), 3)])
def test_a_shape_may_be_given_in_any_form(shape):
    layer = Custom(lambda layer, _: layer.variable(1, "w", shape=shape))
    join(Input(3), layer)
    assert shapes_of(layer) == [("w", (2, 3))]


def test_variable_gives_back_what_it_has_made():
    made = {}

    def create(layer, shape):
        made["a"] = layer.variable(1, "a", shape=(2,))
        made["b"] = layer.variable(init.Uniform(), "b", shape=(2,), trainable=False)

    layer = Custom(create)
    join(Input(3), layer)
    assert dict(layer.variables) == made
    assert isinstance(made["a"], nn.Parameter) and not isinstance(made["b"], nn.Parameter)


def test_a_layer_that_has_to_wait_leaves_the_random_state():
    def create(layer, shape):
        layer.variable(init.Normal(), "drawn", shape=(2,))
        layer.variable(init.Normal(), "waiting", shape=(shape[1],))

    random = torch.get_rng_state()
    layer = Custom(create)
    assert not (Input(None) >> layer).is_built
    assert torch.equal(torch.get_rng_state(), random)


def test_a_deleted_variable_is_not_listed():
    network = Input(3) >> Linear(2, name="l")
    del network["l"].weight
    assert [name for _, name in network.variables] == ["bias"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.ones(3, 2).to_sparse(), "`weight` should be dense.*sparse_coo.*Linear"),
        (torch.ones(3, 2, device="meta"), r"layer/l/weight.*meta device"),
    ],
)
def test_a_tensor_without_plain_values_is_refused(value, message):
    with pytest.raises(TypeError, match=message):
        join(Input(3), Linear(2, weight=value, name="l"))


def test_get_params_of_an_array_on_meta():
    with torch.device("meta"):
        network = Input(3) >> Linear(2, weight=np.ones((3, 2)), name="l")
    assert network["l"].get_params()["weight"].is_meta


@pytest.mark.parametrize("n_units", [None, 3])
def test_units_are_fixed_once_a_layer_is_connected(n_units):
    layer = Linear(n_units, name="l")
    network = Input(4) >> layer
    with pytest.raises(ValueError, match=rf"`n_units` from {n_units} to 5.*'l'"):
        layer.n_units = 5
    assert layer.n_units == n_units and network.output_shape == (None, n_units or 4)


def test_connecting_a_shared_layer_does_not_disturb_a_thread_that_runs_it():
    class Batch(Identity):
        def get_output_shape(self, shape):
            return (7, 10)

    shared, x, errors, stop = Relu(5), torch.ones(2, 10), [], threading.Event()
    network = Input(10) >> shared

    def run():
        while not stop.is_set():
            try:
                network(x)
            except AttributeError as error:
                errors.append(error)
                return

    thread = threading.Thread(target=run)
    thread.start()
    for _ in range(300):
        Input(10) >> Batch() >> shared
    stop.set()
    thread.join()
    assert errors == []
