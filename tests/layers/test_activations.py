"""Expected values are computed by numpy in float64 from the definitions, or by torch.nn.functional."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn
from torch.nn import functional

from torchneupy import init
from torchneupy.core.shape import TensorShape
from torchneupy.exceptions import LayerConnectionError, WeightInitializationError
from torchneupy.layers import (
    Elu,
    HardSigmoid,
    Identity,
    Input,
    LeakyRelu,
    Linear,
    PRelu,
    Relu,
    Sigmoid,
    Softmax,
    Softplus,
    Tanh,
    join,
)

# The first use of something in torch may take long.
UNTIMED = settings(deadline=None)


class Activation(NamedTuple):
    """A way to make a layer, and its function in numpy."""

    make: Callable[..., Linear]
    function: Callable[[np.ndarray], np.ndarray]


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


ACTIVATIONS = {
    "Linear": Activation(Linear, lambda x: x),
    "Sigmoid": Activation(Sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "HardSigmoid": Activation(HardSigmoid, lambda x: np.minimum(1, np.maximum(0, 0.2 * x + 0.5))),
    "Tanh": Activation(Tanh, np.tanh),
    "Softmax": Activation(Softmax, softmax),
    # Beyond 20 torch takes the function for the straight line that it nears, which is 2e-9 away.
    "Softplus": Activation(Softplus, lambda x: np.where(x > 20, x, np.logaddexp(0, x))),
    "Elu": Activation(Elu, lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))),
    "Relu": Activation(Relu, lambda x: np.maximum(0, x)),
    "Relu(alpha=0.1)": Activation(Relu.define(alpha=0.1), lambda x: np.where(x > 0, x, 0.1 * x)),
    "Relu(alpha=2)": Activation(Relu.define(alpha=2), lambda x: np.where(x > 0, x, 2 * x)),
    "LeakyRelu": Activation(LeakyRelu, lambda x: np.where(x > 0, x, 0.01 * x)),
    "PRelu": Activation(PRelu, lambda x: np.where(x > 0, x, 0.25 * x)),
}
CLASSES = [Linear, Sigmoid, HardSigmoid, Tanh, Softmax, Softplus, Elu, Relu, LeakyRelu, PRelu]

every_activation = pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
every_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
with_and_without_units = pytest.mark.parametrize("n_units", [None, 4])

numbers = st.floats(-30, 30)
arrays = hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=4, max_side=4), elements=numbers)


def make_network(layer: Linear) -> Any:
    """The layer behind an input, in float64, with weights (and biases) that differ from each other."""
    network = join(Input(4), layer).to(torch.float64)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, variable in layer.variables.items():
            if name != "alpha":
                variable.copy_(torch.randn(variable.shape, generator=generator, dtype=torch.float64))
    return network


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# Values


@every_activation
@UNTIMED
@given(array=arrays)
def test_values_without_units(activation: Activation, array: np.ndarray) -> None:
    layer = activation.make()
    join(Input(array.shape[1:]), layer)
    layer.to(torch.float64)
    x = torch.tensor(array)
    for found in (layer.output(x), layer.output(x, training=True), layer(x)):
        np.testing.assert_allclose(found.detach().numpy(), activation.function(array), rtol=1e-12, atol=1e-12)


@every_activation
@UNTIMED
@given(
    data=st.data(),
    sizes=st.tuples(st.integers(0, 4), st.integers(1, 4), st.integers(1, 4)),
    with_bias=st.booleans(),
)
def test_values_with_units(
    activation: Activation, data: st.DataObject, sizes: tuple[int, int, int], with_bias: bool
) -> None:
    batch, n_features, n_units = sizes

    def draw(*shape: int) -> np.ndarray:
        array: np.ndarray = data.draw(hnp.arrays(np.float64, shape, elements=st.floats(-3, 3, width=32)))
        return array

    weight, bias, array = draw(n_features, n_units), draw(n_units), draw(batch, n_features)
    layer = activation.make(n_units, weight=weight, bias=bias if with_bias else None)
    network = join(Input(n_features), layer).to(torch.float64)
    expected = activation.function(array @ weight + bias * with_bias) if batch else np.empty((0, n_units))
    x = torch.tensor(array)
    for found in (layer.output(x), network.output(x, training=True), network(x)):
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "layer, values",
    [
        (HardSigmoid(), [0, 0.3, 0.4, 0.5, 0.6, 0.7, 1]),
        (LeakyRelu(), [-0.03, -0.01, -0.005, 0, 0.5, 1, 3]),
        (Elu(), [-0.9502, -0.6321, -0.3935, 0, 0.5, 1, 3]),
        (Softplus(), [0.0486, 0.3133, 0.4741, 0.6931, 0.9741, 1.3133, 3.0486]),
        (Softmax(), [0.0019, 0.0139, 0.0229, 0.0378, 0.0623, 0.1027, 0.7586]),
        (PRelu(), [-0.75, -0.25, -0.125, 0, 0.5, 1, 3]),
        (Relu(alpha=2), [-6, -2, -1, 0, 0.5, 1, 3]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_recorded_from_neupy(layer: Linear, values: list[float]) -> None:
    network = Input(7) >> layer
    outputs = network.output(torch.tensor([[-3, -1, -0.5, 0, 0.5, 1, 3]]))
    np.testing.assert_allclose(outputs.detach().numpy(), [values], atol=5e-5)


@every_activation
@pytest.mark.parametrize("size", [1e4, 1e30, math.inf])
def test_large_values_overflow_nowhere(activation: Activation, size: float) -> None:
    network = join(Input(2), activation.make())
    low, high = network.output(torch.tensor([[-size, 0.0], [size, 0.0]]))[:, 0].tolist()
    limits = {"Sigmoid": (0, 1), "HardSigmoid": (0, 1), "Tanh": (-1, 1), "Softmax": (0, math.nan if size > 1e30 else 1)}
    expected_low, expected_high = limits.get(type(network.layers[1]).__name__, (None, size))
    assert high == pytest.approx(expected_high, nan_ok=True)
    if expected_low is not None:
        assert low == expected_low
    elif not math.isinf(size):
        assert math.isfinite(low)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(
    "make, function",
    [
        (Linear, lambda x: x),
        (Sigmoid, torch.sigmoid),
        (HardSigmoid, lambda x: torch.clamp(0.2 * x + 0.5, 0, 1)),
        (Tanh, torch.tanh),
        (Softmax, lambda x: functional.softmax(x, dim=-1)),
        (Softplus, functional.softplus),
        (Elu, functional.elu),
        (Relu, functional.relu),
        (Relu.define(alpha=0.3), lambda x: functional.leaky_relu(x, 0.3)),
        (LeakyRelu, functional.leaky_relu),
    ],
)
def test_gradients_are_torchs(
    make: Callable[..., Linear], function: Callable[..., torch.Tensor], with_bias: bool
) -> None:
    layer = make(3, bias=0.5 if with_bias else None)
    network = make_network(layer)
    x, coefficients = normal(5, 4).requires_grad_(), normal(5, 3, seed=2)
    (network.output(x, training=True) * coefficients).sum().backward()
    found = [x.grad, *(variable.grad for variable in layer.variables.values())]
    copies = [tensor.detach().clone().requires_grad_() for tensor in (x, *layer.variables.values())]
    (function(functional.linear(copies[0], copies[1].T, *copies[2:])) * coefficients).sum().backward()
    assert len(found) == len(copies) == 3 - (not with_bias)
    for gradient, tensor in zip(found, copies, strict=True):
        torch.testing.assert_close(gradient, tensor.grad, rtol=1e-12, atol=1e-14)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch says it of its own forward mode
@every_activation
@with_and_without_units
def test_gradcheck(activation: Activation, n_units: int | None) -> None:
    network = make_network(activation.make(n_units))
    parameters = dict(network.named_parameters())
    names, values = list(parameters), [value.detach().clone().requires_grad_() for value in parameters.values()]

    def run(x: torch.Tensor, *tensors: torch.Tensor) -> Any:
        return torch.func.functional_call(network, dict(zip(names, tensors, strict=True)), (x,))

    x = normal(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(run, (x, *values), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(run, (x, *values))


@pytest.mark.parametrize("layer, slope", [(Relu(), 0), (Relu(alpha=0.3), 0.3), (LeakyRelu(), 0.01)])
def test_derivative_at_zero_is_the_lower_one(layer: Linear, slope: float) -> None:
    x = torch.zeros(3, requires_grad=True)
    layer.output(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([slope] * 3)


# Default initialisers


@pytest.mark.parametrize(
    "cls, gain",
    [
        (Linear, 1.0),
        (Sigmoid, 1.0),
        (Tanh, 1.0),
        (Softmax, 1.0),
        (Softplus, 1.0),
        (Elu, 1.0),
        (HardSigmoid, 1.0),
        (LeakyRelu, 1.0),
        (Relu, 2),
        (PRelu, 2),
    ],
)
def test_default_variables(cls: type[Linear], gain: float) -> None:
    layer = cls(400)
    params = layer.get_params()
    assert (repr(params["weight"]), repr(params["bias"])) == (f"HeNormal(gain={gain})", "Constant(0)")
    torch.manual_seed(0)
    join(Input(500), layer)
    assert {name: tuple(v.shape) for name, v in layer.variables.items()} == {
        "weight": (500, 400),
        "bias": (400,),
        **({"alpha": (400,)} if cls is PRelu else {}),
    }
    assert all(isinstance(variable, nn.Parameter) and variable.requires_grad for variable in layer.variables.values())
    # Five standard errors of the variance of 200,000 normal numbers.
    assert layer.weight.var().item() * 500 / gain == pytest.approx(1, abs=5 * math.sqrt(2 / 200_000))
    assert not layer.bias.any()
    assert cls is not PRelu or (layer.variables["alpha"] == 0.25).all()


@every_class
def test_without_units_there_are_no_weights(cls: type[Linear]) -> None:
    layer = cls(weight=np.ones((7, 7)), bias=3)
    network = Input(4) >> layer
    assert set(layer.variables) == ({"alpha"} if cls is PRelu else set())
    assert network.output_shape == (None, 4)
    assert layer.weight is layer.bias is None


@every_class
def test_variables_given(cls: type[Linear]) -> None:
    weight, bias = np.arange(6.0).reshape(2, 3), nn.Parameter(torch.ones(3))
    layer = cls(3, weight=weight, bias=bias)
    join(Input(2), layer)
    assert layer.bias is bias
    assert layer.weight.tolist() == weight.tolist()
    weight[:] = 0
    assert layer.weight.tolist() != weight.tolist()
    assert "bias" not in join(Input(2), cls(3, bias=None)).layers[1].variables


# The caller's tensors


@every_activation
@with_and_without_units
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_no_tensor_of_the_caller_changes(
    activation: Activation, n_units: int | None, grad: bool, training: bool
) -> None:
    layer = activation.make(n_units)
    network = make_network(layer).train(training)
    x = normal(3, 4)
    held = [x, *layer.variables.values()]
    before = [tensor.detach().clone() for tensor in held]
    with torch.set_grad_enabled(grad):
        for run in (network, layer, layer.output, network.output):
            outputs = run(x)
            assert all(map(torch.equal, held, before))
            assert not outputs.requires_grad or outputs.grad_fn is not None
            # Nor does what was given back belong to something that will be used again.
            if not (n_units is None and type(layer) is Linear):
                assert outputs.data_ptr() not in [tensor.data_ptr() for tensor in held]
            assert torch.equal(outputs, run(x))


@every_activation
def test_other_branches_keep_their_values(activation: Activation) -> None:
    """Without units an activation gets a tensor that another layer may use too."""
    network = Input(4) >> Linear(4, weight=np.eye(4)) >> (Identity() | activation.make())
    x = normal(3, 4, dtype=torch.float32)
    assert torch.equal(network.output(x)[0], x)
    assert torch.equal(network(x)[0], x)


@every_class
def test_a_hook_may_keep_what_it_sees(cls: type[Linear]) -> None:
    kept = []
    layer = cls(3)
    network = Input(4) >> layer >> Relu()
    layer.register_forward_hook(lambda module, inputs, output: kept.append((output, output.clone())))
    network(normal(3, 4, dtype=torch.float32))
    assert len(kept) == 1 and torch.equal(*kept[0])


# Activation functions of subclasses


def cube(self: Any, input: torch.Tensor) -> torch.Tensor:
    return input**3


@every_class
@with_and_without_units
def test_activation_function_of_a_subclass(cls: type[Linear], n_units: int | None) -> None:
    layer = type("Cube", (cls,), {"activation_function": cube})(n_units)
    network = make_network(layer)
    x = normal(3, 4)
    expected = (x @ layer.weight + layer.bias if n_units else x) ** 3
    for found in (layer.output(x), layer(x), network(x), network.output(x, training=True)):
        torch.testing.assert_close(found, expected)
    grandchild = type("Grandchild", (type(layer),), {})(n_units)
    torch.testing.assert_close(make_network(grandchild)(x), expected)


@every_class
@with_and_without_units
@pytest.mark.parametrize("of_subclass", [True, False])
def test_activation_function_set_on_the_class_later(
    cls: type[Linear], n_units: int | None, of_subclass: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = type("Child", (cls,), {}) if of_subclass else cls
    layer = used(n_units)
    network, x = make_network(layer), normal(3, 4)
    before = network(x)
    monkeypatch.setattr(used, "activation_function", cube)
    expected = (x @ layer.weight + layer.bias if n_units else x) ** 3
    torch.testing.assert_close(network(x), expected)
    torch.testing.assert_close(layer.output(x), expected)
    monkeypatch.undo()
    assert torch.equal(network(x), before)


@every_class
@with_and_without_units
def test_activation_function_of_one_object(cls: type[Linear], n_units: int | None) -> None:
    layer, other = cls(n_units), cls(n_units)
    network, x = make_network(layer), normal(3, 4)
    vars(layer)["activation_function"] = torch.cos
    torch.testing.assert_close(network(x), torch.cos(x @ layer.weight + layer.bias if n_units else x))
    untouched = make_network(other)
    assert not torch.equal(untouched(x), network(x))


@every_activation
@with_and_without_units
def test_activation_function_may_call_its_parents(activation: Activation, n_units: int | None) -> None:
    seen = []
    parent: Any = type(activation.make())

    class Sum(parent):  # type: ignore[misc]  # which class it is differs
        def activation_function(self, input: torch.Tensor) -> torch.Tensor:
            before = input.clone()
            result = super().activation_function(input)
            seen.append(torch.equal(input, before))
            return torch.as_tensor(result + input)

    layer = Sum(n_units, **({"alpha": activation.make().get_params()["alpha"]} if issubclass(parent, Relu) else {}))
    network, x = make_network(layer), normal(3, 4)
    z = (x @ layer.weight + layer.bias if n_units else x).detach().numpy()
    np.testing.assert_allclose(network(x).detach().numpy(), activation.function(z) + z)
    assert seen == [True]


def test_activation_function_taken_from_another_class() -> None:
    class Squashed(Relu):
        activation_function = Tanh.activation_function

    layer = Squashed(3, alpha=0.5)
    network, x = make_network(layer), normal(2, 4)
    torch.testing.assert_close(network(x), torch.tanh(x @ layer.weight + layer.bias))


@with_and_without_units
def test_slope_changed_later(n_units: int | None) -> None:
    layer = Relu(n_units)
    network, x = make_network(layer), normal(3, 4)
    z = x @ layer.weight + layer.bias if n_units else x
    for alpha in (0.3, 0, 1.5):
        layer.alpha = alpha
        torch.testing.assert_close(network(x), torch.where(z > 0, z, alpha * z))
    with pytest.raises(ValueError, match=r"`alpha` should be between 0 and inf, got -1 .*'relu-1'"):
        layer.alpha = -1
    assert layer.alpha == 1.5


# PRelu's axes


@st.composite
def images_and_axes(draw: Any) -> tuple[np.ndarray, tuple[int, ...], tuple[int, ...]]:
    """An input, axes as they are given, and the same counted from the first."""
    array = draw(hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=5, max_side=3), elements=numbers))
    ordered = draw(st.permutations(range(1, array.ndim)))[: draw(st.integers(1, array.ndim - 1))]
    negative = draw(st.lists(st.booleans(), min_size=len(ordered), max_size=len(ordered)))
    shown = (axis - array.ndim if minus else axis for axis, minus in zip(ordered, negative, strict=True))
    return array, tuple(shown), tuple(ordered)


@UNTIMED
@given(images_and_axes(), st.data())
def test_prelu_axes(case: tuple[np.ndarray, tuple[int, ...], tuple[int, ...]], data: st.DataObject) -> None:
    array, given_axes, axes = case
    shape = tuple(array.shape[axis] for axis in axes)
    alpha = data.draw(hnp.arrays(np.float64, shape, elements=st.floats(-2, 2, width=32)))
    layer = PRelu(alpha_axes=given_axes, alpha=alpha)
    network = join(Input(array.shape[1:]), layer).to(torch.float64)
    assert layer.variables["alpha"].tolist() == alpha.tolist()
    # The slope of each value, found by its position.
    positions = np.indices(array.shape)
    slopes = alpha[tuple(positions[axis] for axis in axes)]
    x = torch.tensor(array, requires_grad=True)
    found = network.output(x)
    np.testing.assert_allclose(found.detach().numpy(), np.where(array > 0, array, slopes * array), rtol=1e-12)
    assert network.output_shape == (None, *array.shape[1:])
    # The derivative by a slope is the sum of the negative values that it is for.
    found.sum().backward()
    expected = np.zeros_like(alpha)
    np.add.at(expected, tuple(positions[axis] for axis in axes), np.minimum(array, 0))
    gradient = layer.variables["alpha"].grad
    assert gradient is not None
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "axes, shape",
    [(-1, (3,)), ((1,), (4,)), ((1, 3), (4, 3)), ((1, 2, 3), (4, 5, 3)), ((3, 1), (3, 4)), ([-1, -3], (3, 4))],
)
def test_prelu_slopes_come_in_the_order_of_the_axes(axes: Any, shape: tuple[int, ...]) -> None:
    network = Input((4, 5, 3)) >> PRelu(alpha_axes=axes)
    assert [tuple(variable.shape) for variable in network.variables.values()] == [shape]
    assert next(iter(network.variables.values())).isclose(torch.tensor(0.25)).all()


@pytest.mark.parametrize("axes", [-1, 1, (1,), (-1,)])
def test_prelu_with_units_has_a_slope_for_each(axes: Any) -> None:
    layer = PRelu(3, alpha_axes=axes, alpha=np.array([0.1, 0.2, 0.3]))
    network = make_network(layer)
    x = normal(5, 4)
    z = x @ layer.weight + layer.bias
    torch.testing.assert_close(network(x), torch.where(z > 0, z, torch.tensor([0.1, 0.2, 0.3]) * z), check_dtype=False)
    assert list(layer.variables) == ["weight", "bias", "alpha"]


@pytest.mark.parametrize(
    "shape, axes, named",
    [
        (3, (-2,), "#-2, which is the batch"),
        ((4, 3), (1, -3), "#-3, which is the batch"),
        (3, (2,), "#2"),
        (3, (-3,), "#-3"),
        ((4, 5, 3), (1, 4), "#4"),
        ((4, 3), (1, 1), "#1"),
        ((4, 3), (2, -1), "#(2|-1)"),
        ((4, 3), (-1, 1, -1), "#-1"),
    ],
)
def test_prelu_axes_that_cannot_be(shape: Any, axes: tuple[int, ...], named: str) -> None:
    layer, source = PRelu(alpha_axes=axes), Input(shape)
    before = repr(layer)
    with pytest.raises(LayerConnectionError, match=rf"axis {named}.*'p-relu-1'"):
        source >> layer
    assert repr(layer) == before
    assert not layer.variables and not layer.is_built and layer.input_shape == TensorShape(None)
    # With units the layer has two dimensions, whatever comes in.
    with pytest.raises(LayerConnectionError, match=r"axis #.*'p-relu-2'"):
        Input(8) >> PRelu(2, alpha_axes=(1, 2))


@pytest.mark.parametrize("axes", [0, (0,), (0, 1), [2, 0]])
def test_prelu_batch_axis_is_refused_at_once(axes: Any) -> None:
    with pytest.raises(ValueError, match=r"PRelu.*alpha_axes.*0|alpha_axes.*0.*PRelu"):
        PRelu(alpha_axes=axes)
    assert PRelu().name == "p-relu-1"


def test_prelu_batch_axis_is_refused_when_assigned() -> None:
    layer = PRelu(alpha_axes=(1, 2))
    with pytest.raises(ValueError, match=r"alpha_axes.*\(0, 1\).*p-relu-1"):
        layer.alpha_axes = (0, 1)
    with pytest.raises(ValueError, match=r"alpha_axes.*\(0, 1\).*p-relu-1"):
        layer.set_params(alpha_axes=(0, 1))
    assert layer.alpha_axes == (1, 2)


@pytest.mark.parametrize("axes, name", [("last", "'last'"), (1.5, r"1\.5"), ((1, None), "None"), ((True,), "True")])
def test_prelu_axes_of_wrong_type(axes: Any, name: str) -> None:
    with pytest.raises(TypeError, match=rf"alpha_axes.*{name}.*PRelu"):
        PRelu(alpha_axes=axes)


def test_prelu_of_unknown_size_waits() -> None:
    layer = PRelu(alpha_axes=1)
    network = Input((None, 4)) >> layer
    assert not layer.is_built and not layer.variables
    with pytest.raises(WeightInitializationError, match=r"`p-relu-1` .*\(\?,\)"):
        network.output(torch.ones(2, 3, 4))
    Input((3, 4)) >> layer
    assert network.output(-torch.ones(2, 3, 4)).unique().tolist() == [-0.25]


def test_prelu_alone_says_what_is_missing() -> None:
    with pytest.raises(WeightInitializationError, match=r"`p-relu-1` has no variables"):
        PRelu().output(torch.ones(2, 3))


# Shapes


sizes = st.one_of(st.none(), st.integers(1, 5))


@every_class
@settings(UNTIMED, max_examples=30)
@given(st.lists(sizes, max_size=4))
def test_without_units_shapes_stay(cls: type[Linear], shape: list[int | None]) -> None:
    assume(cls is not PRelu or shape)
    network = Input(shape) >> cls()
    assert network.output_shape == (None, *shape)
    real = [2 if size is None else size for size in shape]
    if network.is_built:
        assert network(torch.ones([3, *real])).shape == (3, *real)


@every_class
@pytest.mark.parametrize("shape", [(), (4, 3), (None, 4), (2, 3, 4)])
def test_units_need_two_dimensions(cls: type[Linear], shape: Any) -> None:
    layer = cls(5, name="fc")
    described = str(TensorShape((None, *shape))).replace("(", r"\(").replace(")", r"\)").replace("?", r"\?")
    with pytest.raises(LayerConnectionError, match=rf"2 dimensions.* got {1 + len(shape)} .*{described}.*'fc'"):
        Input(shape) >> layer
    assert not layer.is_built and not layer.variables and layer.input_shape == TensorShape(None)
    assert (Input(4) >> layer).output_shape == (None, 5)


@every_class
def test_units_before_the_width_is_known(cls: type[Linear]) -> None:
    layer = cls(5)
    assert layer.output_shape == (None, 5)
    with pytest.raises(WeightInitializationError, match=f"`{layer.name}` has no variables"):
        layer.output(torch.ones(2, 4))
    network = Input(None) >> layer
    with pytest.raises(WeightInitializationError, match=rf"`{layer.name}`.*number of input features.*\(\?, \?\)"):
        network(torch.ones(2, 4))
    assert not layer.variables and not network.is_built


@every_class
@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"n_units": 0}, ValueError, "`n_units` should be between 1 and inf, got 0"),
        ({"n_units": 1.5}, TypeError, r"`n_units`.*got 1\.5"),
        ({"n_units": "5"}, TypeError, "`n_units`.*got '5'"),
        ({"n_units": 3, "weight": None}, TypeError, "`weight`.*got None"),
        ({"n_units": 3, "weight": [1, 2]}, TypeError, r"`weight`.*got \[1, 2\]"),
        ({"n_units": 3, "bias": "zero"}, TypeError, "`bias`.*got 'zero'"),
        ({"n_units": 3, "weight": np.array(["a"])}, TypeError, "`weight`.*dtype <U1"),
    ],
)
def test_wrong_options(cls: type[Linear], options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=rf"{message}.*{cls.__name__}"):
        cls(**options)
    assert cls().name.endswith("-1")


@pytest.mark.parametrize("n_units", [5, 5.0, np.int8(5), np.float64(5), np.float32(5)])
def test_units_have_one_form(n_units: Any) -> None:
    layer = Relu(n_units)
    assert (type(layer.n_units), layer.n_units) == (int, 5)


# Types and devices


@every_activation
@with_and_without_units
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_computes_in_the_layers_type(activation: Activation, n_units: int | None, dtype: torch.dtype) -> None:
    network = make_network(activation.make(n_units))
    x = normal(6, 4)
    exact = network(x)
    found = network.to(dtype)(x.to(dtype))
    assert found.dtype == dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), exact, rtol=20 * eps, atol=20 * eps)


@every_activation
@with_and_without_units
def test_autocast(activation: Activation, n_units: int | None) -> None:
    network = make_network(activation.make(n_units)).float()
    x = normal(6, 4, dtype=torch.float32).requires_grad_()
    exact = network(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network(x)
    # In which type a PRelu with float32 slopes is computed is torch's to say.
    if not isinstance(network.layers[1], PRelu):
        assert found.dtype == (torch.float32 if n_units is None else torch.bfloat16)
    torch.testing.assert_close(found.float(), exact, rtol=0.05, atol=0.05)
    found.sum().backward()
    assert all(tensor.grad.dtype == torch.float32 for tensor in (x, *network.parameters()) if tensor.grad is not None)
    assert all(parameter.grad is not None for parameter in network.parameters())


@every_activation
@with_and_without_units
def test_meta(activation: Activation, n_units: int | None) -> None:
    with torch.device("meta"):
        network = join(Input(4), activation.make(n_units))
        found = network(torch.empty(7, 4))
    assert (found.device.type, found.shape) == ("meta", (7, n_units or 4))
    assert all(parameter.is_meta for parameter in network.parameters())
    network.to_empty(device="cpu")
    assert network(torch.zeros(7, 4)).device.type == "cpu"


# torch.func


@every_activation
@with_and_without_units
def test_vmap_over_samples(activation: Activation, n_units: int | None) -> None:
    network, x = make_network(activation.make(n_units)), normal(5, 3, 4)
    expected = torch.stack([network(sample) for sample in x])
    torch.testing.assert_close(torch.func.vmap(network)(x), expected)


@pytest.mark.parametrize(
    "activation, n_units",
    [*((activation, 4) for activation in ACTIVATIONS.values()), (ACTIVATIONS["PRelu"], None)],
    ids=[*ACTIVATIONS, "PRelu without units"],
)
@settings(UNTIMED, max_examples=15)
@given(data=st.data())
# Torch's own rule for the kernel of PRelu warns so of itself, for nn.PReLU too, where the slopes alone are mapped.
@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized:UserWarning")
def test_vmap_over_parameters(activation: Activation, n_units: int | None, data: st.DataObject) -> None:
    """Also over some of them alone: what the layer computes in place has to be batched as its arguments are."""
    network, x = make_network(activation.make(n_units)), normal(3, 4)
    parameters = dict(network.named_parameters())
    mapped = data.draw(st.lists(st.sampled_from(list(parameters)), min_size=1, unique=True))
    stacked = {name: normal(2, *value.shape) if name in mapped else value for name, value in parameters.items()}
    places = {name: 0 if name in mapped else None for name in parameters}

    def run(values: dict[str, torch.Tensor]) -> Any:
        return torch.func.functional_call(network, values, (x,))

    expected = [run({name: v[i] if name in mapped else v for name, v in stacked.items()}) for i in range(2)]
    torch.testing.assert_close(torch.func.vmap(run, in_dims=(places,))(stacked), torch.stack(expected))


@every_activation
def test_functional_call_leaves_the_layer_alone(activation: Activation) -> None:
    network = make_network(activation.make(3))
    x, before = normal(2, 4), {name: value.clone() for name, value in network.state_dict().items()}
    zeros = {name: torch.zeros_like(value) for name, value in before.items()}
    found = torch.func.functional_call(network, zeros, (x,))
    np.testing.assert_allclose(found.numpy(), activation.function(np.zeros((2, 3))))
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())


# Options and reprs


def test_options_are_in_neupys_order() -> None:
    assert list(Relu.options) == ["name", "n_units", "weight", "bias", "alpha"]
    assert list(PRelu.options) == ["name", "n_units", "weight", "bias", "alpha_axes", "alpha"]
    assert list(Linear.options) == list(Softmax.options) == ["name", "n_units", "weight", "bias"]
    assert repr(Relu.options["alpha"]) == "Option(class_name='Relu', value=NumberProperty(name=\"alpha\"))"
    assert repr(Relu.options["weight"]) == "Option(class_name='Linear', value=ParameterProperty(name=\"weight\"))"


WITH_DEFAULTS = "weight=HeNormal(gain={}), bias=Constant(0), name='{}'"


@pytest.mark.parametrize(
    "make, text",
    [
        (Linear.define(), "Linear(name='linear-1')"),
        (Linear.define(5), f"Linear(5, {WITH_DEFAULTS.format(1.0, 'linear-1')})"),
        (HardSigmoid.define(5), f"HardSigmoid(5, {WITH_DEFAULTS.format(1.0, 'hard-sigmoid-1')})"),
        (Relu.define(), "Relu(alpha=0, name='relu-1')"),
        (Relu.define(5), f"Relu(5, alpha=0, {WITH_DEFAULTS.format(2, 'relu-1')})"),
        (PRelu.define(), "PRelu(alpha_axes=(-1,), alpha=Constant(0.25), name='p-relu-1')"),
        (
            PRelu.define(5, [1], np.ones(5)),
            f"PRelu(5, alpha_axes=(1,), alpha=<Array shape=(5,)>, {WITH_DEFAULTS.format(2, 'p-relu-1')})",
        ),
        (
            Relu.define(5, weight=np.ones((3, 5)), bias=1.5, name="r"),
            "Relu(5, alpha=0, weight=<Array shape=(3, 5)>, bias=Constant(1.5), name='r')",
        ),
        (
            Tanh.define(np.int64(5), weight=init.Normal(std=0.1), bias=None),
            "Tanh(5, weight=Normal(mean=0, std=0.1), bias=None, name='tanh-1')",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_repr(make: Callable[[], Linear], text: str) -> None:
    assert repr(make()) == text


def test_positions_of_arguments_are_neupys() -> None:
    params = Linear(5, 1, 2, "a").get_params()
    assert (params["n_units"], repr(params["weight"]), repr(params["bias"]), params["name"]) == (
        5,
        "Constant(1)",
        "Constant(2)",
        "a",
    )
    assert Relu(5, 0.3, 1).get_params()["alpha"] == 0.3
    prelu = PRelu(5, (1,), 0.5, 1).get_params()
    assert (prelu["alpha_axes"], repr(prelu["alpha"]), repr(prelu["weight"])) == ((1,), "Constant(0.5)", "Constant(1)")
