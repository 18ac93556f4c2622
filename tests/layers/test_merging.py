"""Expected values are computed by numpy or by folding the function over the inputs from the left."""

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from torchneupy.core.shape import TensorShape
from torchneupy.exceptions import LayerConnectionError
from torchneupy.layers import (
    BaseLayer,
    Concatenate,
    Elementwise,
    GatedAverage,
    Identity,
    Input,
    Linear,
    Relu,
    join,
    parallel,
)

# The first use of something in torch may take long.
UNTIMED = settings(deadline=None)

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
UNKNOWN = TensorShape(None)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def merge(shapes: list[Any], layer: BaseLayer) -> Any:
    """A network that merges inputs of some shapes, given without the batch."""
    return parallel(*map(Input, shapes)) >> layer


def pattern(shape: Any) -> str:
    return str(TensorShape(shape)).replace("(", r"\(").replace(")", r"\)").replace("?", r"\?")


@st.composite
def shapes_for(draw: Any, differ: bool) -> tuple[int, list[tuple[int, ...]], list[tuple[int | None, ...]]]:
    """An axis, shapes without the batch that agree (but for the axis, if they may differ), and what is known."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    axis = draw(st.integers(1, len(shape)))
    real = []
    for _ in range(draw(st.integers(2, 4))):
        size = draw(st.integers(1, 4)) if differ else shape[axis - 1]
        real.append((*shape[: axis - 1], size, *shape[axis:]))
    known = [tuple(draw(st.sampled_from([size, None])) for size in sizes) for sizes in real]
    return axis, real, known


# What Elementwise computes


class Weighted(nn.Module):
    """A merge function that learns, and tells in which mode it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0]))
        self.modes: list[bool] = []

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.modes.append(self.training)
        return self.weight[0] * x + self.weight[1] * y


def subtract_twice(x: Any, y: Any) -> Any:
    return x - 2 * y


class Callables:
    def method(self, x: Any, y: Any) -> Any:
        return x - y

    def __call__(self, x: Any, y: Any) -> Any:
        return x + 3 * y


FUNCTIONS: dict[str, tuple[Any, Callable[[Any, Any], Any]]] = {
    "add": ("add", operator.add),
    "multiply": ("multiply", operator.mul),
    "function": (subtract_twice, subtract_twice),
    "lambda": (lambda x, y: x - y, operator.sub),
    "torch.maximum": (torch.maximum, np.maximum),
    "torch.add": (torch.add, operator.add),
    "torch.hypot": (torch.hypot, np.hypot),
    "operator.sub": (operator.sub, operator.sub),
    "method": (Callables().method, operator.sub),
    "callable object": (Callables(), lambda x, y: x + 3 * y),
    "nn.Module": (Weighted(), subtract_twice),
}


@pytest.mark.parametrize("function, expected", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize("n_inputs", [2, 3, 5])
def test_elementwise_folds_from_the_left(function: Any, expected: Callable[[Any, Any], Any], n_inputs: int) -> None:
    layer = Elementwise(function)
    network = merge([(4, 3)] * n_inputs, layer)
    inputs = [normal(2, 4, 3, seed=seed, dtype=torch.float64) for seed in range(n_inputs)]
    before = [x.clone() for x in inputs]
    wanted = reduce(expected, [x.numpy() for x in inputs])
    for found in (layer.output(*inputs), layer(*inputs), network(*inputs), network.output(*inputs, training=True)):
        np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-12)
    assert all(map(torch.equal, inputs, before))


def test_elementwise_recorded_from_neupy() -> None:
    inputs = [torch.full((1, 2), value) for value in (1.0, 10.0, 100.0)]
    assert merge([2, 2, 2], Elementwise(lambda a, b: a - 2 * b)).output(*inputs).tolist() == [[-219, -219]]


def test_elementwise_adds_by_default() -> None:
    assert repr(Elementwise()) == "Elementwise('add', name='elementwise-1')"
    assert merge([2, 2], Elementwise()).output(torch.ones(1, 2), torch.ones(1, 2)).tolist() == [[2, 2]]


def test_elementwise_takes_what_broadcasts_within_the_declared_shape() -> None:
    assert merge([2, 2], Elementwise()).output(torch.ones(3, 2), torch.ones(1, 2)).shape == (3, 2)


def test_elementwise_of_one_value_twice() -> None:
    x = normal(3, 4)
    network = Input(4) >> (Identity() | Relu(4, weight=np.eye(4)) | Linear(4, weight=2 * np.eye(4))) >> Elementwise()
    torch.testing.assert_close(network(x), 3 * x + torch.relu(x))


@pytest.mark.parametrize("function", ["add", "multiply", torch.atan2, Weighted()], ids=str)
def test_elementwise_gradcheck(function: Any) -> None:
    network = merge([4, 4, 4], Elementwise(function)).to(torch.float64)
    inputs = [normal(2, 4, seed=seed, dtype=torch.float64).requires_grad_() for seed in range(3)]
    assert torch.autograd.gradcheck(network, inputs)
    assert torch.autograd.gradgradcheck(network, inputs)


# The function that Elementwise is given


@pytest.mark.parametrize(
    "function, text",
    [
        ("multiply", "Elementwise('multiply', name='elementwise-1')"),
        (torch.maximum, "Elementwise(<function maximum>, name='elementwise-1')"),
        (subtract_twice, "Elementwise(<function subtract_twice>, name='elementwise-1')"),
        (nn.Identity(), "Elementwise(Identity(), name='elementwise-1')"),
    ],
    ids=str,
)
def test_elementwise_repr_and_params(function: Any, text: str) -> None:
    layer = Elementwise(function)
    assert repr(layer) == text
    assert layer.get_params() == {"name": "elementwise-1", "merge_function": function}
    again = Elementwise(**layer.get_params())
    assert again.get_params() == layer.get_params()


def test_elementwise_options() -> None:
    option = Elementwise.options["merge_function"]
    expected = "Option(class_name='Elementwise', value=FunctionWithOptionsProperty(name=\"merge_function\"))"
    assert repr(option) == expected
    assert Elementwise.merge_function is None


@pytest.mark.parametrize("value", ["subtract", None, 5, ["add"], Weighted, "Add"], ids=repr)
def test_elementwise_wrong_function(value: Any) -> None:
    layer = Elementwise("multiply")
    name = str(value).replace("[", r"\[").replace("(", r"\(")
    message = rf"`{name}` for property `merge_function`. Available values: add, multiply"
    with pytest.raises(ValueError, match=rf"{message}.*Elementwise"):
        Elementwise(value)
    for assign in (
        lambda: setattr(layer, "merge_function", value),
        lambda: layer.set_params(merge_function=value),
    ):
        with pytest.raises(ValueError, match=rf"{message}.*'elementwise-1'"):
            assign()
    assert layer.get_params()["merge_function"] == "multiply" and not layer.state_dict()
    assert Elementwise().name == "elementwise-2"


def test_elementwise_function_changed_later() -> None:
    layer, module = Elementwise(), Weighted()
    network, x, y = merge([3, 3], layer), normal(2, 3), normal(2, 3, seed=1)

    def check(function: Any, expected: torch.Tensor) -> None:
        torch.testing.assert_close(network(x, y), expected)
        torch.testing.assert_close(network.output(x, y), expected)
        assert layer.get_params()["merge_function"] == function
        # A module that is no longer used is no longer trained.
        assert [*network.parameters()] == ([module.weight] if function is module else [])

    for function, expected in [("multiply", x * y), (module, x - 2 * y), (torch.sub, x - y), ("add", x + y)]:
        layer.set_params(merge_function=function)
        check(function, expected)
    for function, expected in [("multiply", x * y), (torch.sub, x - y), (module, x - 2 * y)]:
        layer.merge_function = function
        check(function, expected)
    # In the place of a child nn.Module takes nothing but another module; set_params() takes anything.
    with pytest.raises(TypeError, match="'merge_function'"):
        layer.merge_function = torch.sub
    check(module, x - 2 * y)


def test_elementwise_module_is_a_child() -> None:
    module = Weighted()
    network = merge([2, 2], Elementwise(module))
    assert list(network.state_dict()) == ["elementwise-1.merge_function.weight"]
    assert [*network.parameters()] == [module.weight] and module in network.modules()
    assert [*network.variables.values()] == [module.weight] and network.n_parameters == 2
    assert network.layers[2].merge_function is module
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    network(torch.ones(1, 2), torch.ones(1, 2)).sum().backward()
    optimizer.step()
    # The sum of two features, each by the weights: the gradient is 2 for both.
    assert module.weight.tolist() == [0, -3]
    network.load_state_dict({"elementwise-1.merge_function.weight": torch.tensor([5.0, 7.0])})
    assert network.output(torch.ones(1, 2), torch.ones(1, 2)).tolist() == [[12, 12]]
    assert network.to(torch.float64) and module.weight.dtype == torch.float64
    values = {"elementwise-1.merge_function.weight": torch.ones(2)}
    assert torch.func.functional_call(network, values, (torch.ones(1, 2), torch.ones(1, 2))).tolist() == [[2, 2]]


def test_elementwise_module_of_torch() -> None:
    torch.manual_seed(0)
    bilinear = nn.Bilinear(3, 3, 3)
    network = parallel([Input(4), Linear(3)], [Input(4), Linear(3)]) >> Elementwise(bilinear)
    x, y = normal(5, 4), normal(5, 4, seed=1)
    first, second = network.end("linear-1").output(x), network.end("linear-2").output(y)
    torch.testing.assert_close(network(x, y), bilinear(first, second))
    network(x, y).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert len([*network.parameters()]) == 6


def test_elementwise_module_follows_the_mode() -> None:
    module = Weighted()
    network = merge([2, 2], Elementwise(module))
    x = torch.ones(1, 2)
    for training in (True, False, True):
        network.train(training)
        assert module.training is training
        network(x, x)
    assert module.modes == [True, False, True]
    network.predict(x, x, verbose=False)
    assert module.modes[3:] == [False] and module.training


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_elementwise_module_gets_the_flag_of_output(mode: bool, training: bool) -> None:
    """As a module that is a layer itself does: whatever mode it is in, which is restored."""
    module = Weighted()
    network = merge([2, 2], Elementwise(module)).train(mode)
    network.output(torch.ones(1, 2), torch.ones(1, 2), training=training)
    assert module.modes == [training]
    assert module.training is mode and network.training is mode


# Which shapes Elementwise takes and declares


@UNTIMED
@given(shapes_for(differ=False))
def test_elementwise_merges_what_its_inputs_know(case: tuple[int, list[Any], list[Any]]) -> None:
    _, real, known = case
    network = merge(known, Elementwise())
    merged = [next((size for size in sizes if size is not None), None) for sizes in zip(*known, strict=True)]
    assert network.output_shape == (None, *merged)
    inputs = [torch.ones(2, *shape) for shape in real]
    assert network(*inputs).shape == (2, *real[0])
    with torch.device("meta"):
        assert network(*(torch.ones(2, *shape) for shape in real)).shape == (2, *real[0])


@pytest.mark.parametrize(
    "network, shape",
    [
        (lambda: (Input(None) | Input(4)) >> Elementwise(), (None, 4)),
        (lambda: (Input(10) | Relu()) >> Elementwise(), (None, 10)),
        (lambda: (Relu() | Input((None, 3))) >> Elementwise(), (None, None, 3)),
        (lambda: (Relu() | Relu(5)) >> Elementwise(), (None, 5)),
        (lambda: (Relu() | Relu()) >> Elementwise(), None),
    ],
)
def test_elementwise_of_partly_known_shapes(network: Callable[[], Any], shape: Any) -> None:
    assert network().output_shape == TensorShape(shape)


@pytest.mark.parametrize(
    "shapes",
    [
        [10, 9],
        [10, (4, 10)],
        [(None, 3), (None, 4)],
        [(), 3],
        [5, 5, 6],
        # None of two neighbours contradict each other here.
        [(3, None), (None, None), (4, None)],
    ],
    ids=str,
)
def test_elementwise_of_different_shapes(shapes: list[Any]) -> None:
    layer, inputs = Elementwise("multiply", name="sum"), [Input(shape) for shape in shapes]
    before = [repr(source) for source in inputs]
    listed = ", ".join(pattern(source.output_shape) for source in inputs)
    with pytest.raises(LayerConnectionError, match=rf"`sum` layer have incompatible shapes.*{listed}"):
        parallel(*inputs) >> layer
    assert [repr(source) for source in inputs] == before
    assert repr(layer) == "Elementwise('multiply', name='sum')" and layer.input_shape == UNKNOWN
    assert merge([3, 3], layer).output_shape == (None, 3)


def test_elementwise_needs_several_inputs() -> None:
    layer = Elementwise(name="sum")
    for connect, shape in [
        (lambda: Input(10) >> layer, (None, 10)),
        (lambda: Relu() >> layer, None),
        (lambda: layer >> Relu(), None),
    ]:
        with pytest.raises(LayerConnectionError, match=rf"`sum` expected multiple inputs.* {pattern(shape)}"):
            connect()
    assert merge([3, 3], layer).output_shape == (None, 3)


# Concatenate


@UNTIMED
@given(shapes_for(differ=True), st.booleans())
def test_concatenate(case: tuple[int, list[Any], list[Any]], from_the_end: bool) -> None:
    axis, real, known = case
    layer = Concatenate(axis - len(real[0]) - 1 if from_the_end else axis)
    network = merge(known, layer)
    # Along the axis the sum, which one unknown size hides; elsewhere what any of the inputs knows.
    declared: list[int | None] = [next((n for n in sizes if n is not None), None) for sizes in zip(*known, strict=True)]
    along = [shape[axis - 1] for shape in known]
    declared[axis - 1] = None if None in along else sum(along)
    assert network.output_shape == (None, *declared)

    inputs = [normal(2, *shape, seed=seed) for seed, shape in enumerate(real)]
    expected = np.concatenate([x.numpy() for x in inputs], axis=axis)
    for found in (layer.output(*inputs), network(*inputs), network.output(*inputs, training=True)):
        assert np.array_equal(found.numpy(), expected)
    assert network.output_shape.is_compatible_with(expected.shape)
    with torch.device("meta"):
        assert network(*(torch.ones(2, *shape) for shape in real)).shape == expected.shape


def test_concatenate_by_default_along_the_last_axis() -> None:
    assert repr(Concatenate()) == "Concatenate(axis=-1, name='concatenate-1')"
    assert merge([(2, 3), (2, 4)], Concatenate()).output_shape == (None, 2, 7)


@pytest.mark.parametrize("axis", [0, -2])
def test_concatenate_along_the_batch(axis: int) -> None:
    network = merge([3, 3], Concatenate(axis=axis))
    assert network.output_shape == (None, 3)
    assert network(torch.ones(2, 3), torch.ones(4, 3)).shape == (6, 3)


@pytest.mark.parametrize("axis", [-1, 1, 0])
def test_concatenate_of_one(axis: int) -> None:
    network = Input(3) >> Concatenate(axis=axis)
    x = normal(2, 3)
    assert network.output_shape == (None, 3)
    assert torch.equal(network(x), x)


@pytest.mark.parametrize(
    "network, shape",
    [
        (lambda: (Input(10) | Relu(9)) >> Concatenate(), (None, 19)),
        (lambda: (Input(None) | Input(10)) >> Concatenate(), (None, None)),
        (lambda: (Input((4, None)) | Input((4, 3))) >> Concatenate(), (None, 4, None)),
        (lambda: (Input(10) | Relu()) >> Concatenate(), None),
        (lambda: Relu() >> Concatenate(), None),
        (lambda: Concatenate() >> Relu(), None),
        (lambda: (Input((None, 2)) | Input((3, 2))) >> Concatenate(axis=1), (None, None, 2)),
    ],
)
def test_concatenate_of_partly_known_shapes(network: Callable[[], Any], shape: Any) -> None:
    assert network().output_shape == TensorShape(shape)


@pytest.mark.parametrize(
    "shapes, axis, message",
    [
        ([10, (4, 10)], -1, "different number of dimensions"),
        ([(4, 4, 3), (4, 5, 3)], -1, "don't match over dimension #2"),
        ([(4, 3), (5, 3)], 2, "don't match over dimension #1"),
        ([(4, 3), (4, 3), (4, 2)], 1, "don't match over dimension #2"),
        ([(4, 3), (4, None), (4, 2)], 1, "don't match over dimension #2"),
        ([3, 3], 2, "over the axis 2.*2 dimensions"),
        ([3, 3], -3, "over the axis -3.*2 dimensions"),
        ([(2, 3), (2, 3)], 5, "over the axis 5.*3 dimensions"),
        ([3], 2, "over the axis 2.*2 dimensions"),
    ],
)
def test_concatenate_of_what_does_not_fit(shapes: list[Any], axis: int, message: str) -> None:
    layer, inputs = Concatenate(axis, name="join"), [Input(shape) for shape in shapes]
    listed = ", ".join(pattern(source.output_shape) for source in inputs)
    with pytest.raises(LayerConnectionError, match=rf"{message}.*{listed}.*'join'"):
        parallel(*inputs) >> layer
    assert repr(layer) == f"Concatenate(axis={axis}, name='join')" and layer.input_shape == UNKNOWN
    fitting = (1,) * (axis if axis > 0 else -axis - 1)
    assert merge([fitting, fitting], layer).output_shape.ndims == len(fitting) + 1


def test_concatenate_checks_known_inputs_beside_unknown_ones() -> None:
    with pytest.raises(LayerConnectionError, match=r"over the axis 2.*\(\?, 3\), <unknown>.*'concatenate-1'"):
        (Input(3) | Relu()) >> Concatenate(axis=2)
    with pytest.raises(LayerConnectionError, match=r"number of dimensions.*<unknown>.*'concatenate-2'"):
        parallel(Input(3), Relu(), Input((3, 3))) >> Concatenate()


@pytest.mark.parametrize(
    "axis, error, text", [("last", TypeError, "'last'"), (1.5, TypeError, r"1\.5"), (None, TypeError, "None")]
)
def test_concatenate_wrong_axis(axis: Any, error: type[Exception], text: str) -> None:
    layer = Concatenate(1)
    with pytest.raises(error, match=f"`axis`.*got {text} .*Concatenate"):
        Concatenate(axis)
    with pytest.raises(error, match=f"`axis`.*got {text} .*'concatenate-1'"):
        layer.axis = axis
    assert layer.axis == 1 and Concatenate().name == "concatenate-2"


@pytest.mark.parametrize("axis", [1, 1.0, np.int64(1), np.float32(1)])
def test_concatenate_axis_has_one_form(axis: Any) -> None:
    layer = Concatenate(axis)
    assert (type(layer.axis), layer.axis) == (int, 1)


def test_concatenate_gives_each_input_its_gradient() -> None:
    inputs = [normal(2, n, seed=n, dtype=torch.float64).requires_grad_() for n in (1, 3, 2)]
    network = merge([1, 3, 2], Concatenate())
    assert torch.autograd.gradcheck(network, inputs)
    coefficients = normal(2, 6, dtype=torch.float64)
    (network(*inputs) * coefficients).sum().backward()
    gradients = [x.grad for x in inputs if x.grad is not None]
    assert torch.equal(torch.cat(gradients, dim=1), coefficients)


# Types, devices, torch.func

MERGING: dict[str, Callable[[], BaseLayer]] = {
    "add": Elementwise,
    "multiply": lambda: Elementwise("multiply"),
    "torch.maximum": lambda: Elementwise(torch.maximum),
    "concatenate": Concatenate,
}
every_layer = pytest.mark.parametrize("make", MERGING.values(), ids=MERGING)


@every_layer
@pytest.mark.parametrize("dtype", DTYPES)
def test_type_stays(make: Callable[[], BaseLayer], dtype: torch.dtype) -> None:
    network = merge([4, 4], make())
    x, y = normal(3, 4, dtype=torch.float64), normal(3, 4, seed=1, dtype=torch.float64)
    found = network(x.to(dtype), y.to(dtype))
    assert found.dtype == dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), network(x, y), rtol=4 * eps, atol=4 * eps)


@every_layer
def test_autocast_with_branches_of_two_types(make: Callable[[], BaseLayer]) -> None:
    """Under autocast a dense branch is bfloat16, the identity float32."""
    network = join(Input(4), parallel(Identity(), Linear(4)), make())
    x = normal(3, 4)
    exact = network(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network(x)
    torch.testing.assert_close(found.float(), exact, rtol=0.05, atol=0.05)
    found.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@every_layer
def test_meta(make: Callable[[], BaseLayer]) -> None:
    with torch.device("meta"):
        network = (Input(4) >> Linear(3) | Input(4) >> Linear(3)) >> make()
        found = network(torch.empty(5, 4), torch.empty(5, 4))
    assert (found.device.type, found.shape) == ("meta", (5, network.output_shape[1]))


@every_layer
def test_vmap(make: Callable[[], BaseLayer]) -> None:
    network = merge([4, 4], make())
    x, y = normal(5, 3, 4), normal(5, 3, 4, seed=1)
    expected = torch.stack([network(*samples) for samples in zip(x, y, strict=True)])
    assert torch.equal(torch.func.vmap(network)(x, y), expected)
    shared = torch.func.vmap(network, in_dims=(0, None))(x, y[0])
    assert torch.equal(shared, torch.stack([network(sample, y[0]) for sample in x]))


# GatedAverage


@UNTIMED
@given(
    sizes=st.lists(st.integers(1, 4), max_size=3),
    n_others=st.integers(1, 4),
    batch=st.integers(0, 3),
    data=st.data(),
)
def test_gated_average_of_any_inputs(sizes: list[int], n_others: int, batch: int, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, n_others))
    layer = GatedAverage(data.draw(st.sampled_from([place, place - n_others - 1])))
    others = [normal(batch, *sizes, seed=seed, dtype=torch.float64) for seed in range(n_others)]
    gate = normal(batch, n_others, seed=9, dtype=torch.float64)
    inputs, shapes = [*others], [tuple(data.draw(st.sampled_from([n, None])) for n in sizes) for _ in others]
    inputs.insert(place, gate)
    shapes.insert(place, (data.draw(st.sampled_from([n_others, None])),))
    network = merge(shapes, layer)
    wanted = sum(gate.numpy()[:, i].reshape(-1, *[1] * len(sizes)) * x.numpy() for i, x in enumerate(others))
    np.testing.assert_allclose(network(*inputs).numpy(), wanted, rtol=1e-12, atol=1e-12)
    known = [[shape[axis] for shape in (*shapes[:place], *shapes[place + 1 :])] for axis in range(len(sizes))]
    assert network.output_shape == (None, *(next(filter(None, found), None) for found in known))


def test_gated_average_recorded_from_neupy() -> None:
    gate, x, y = torch.tensor([[2.0, 3.0]]), torch.full((1, 2), 10.0), torch.full((1, 2), 100.0)
    assert merge([2, 2, 2], GatedAverage()).output(gate, x, y).tolist() == [[320, 320]]
    assert merge([2, 2, 2], GatedAverage(-1)).output(x, y, gate).tolist() == [[320, 320]]
    assert str(merge([2, (4, 3), (4, 3)], GatedAverage()).output_shape) == "(?, 4, 3)"


def test_gated_average_that_is_not_connected_yet() -> None:
    for network in (GatedAverage() >> Relu(), Relu() >> GatedAverage(2)):
        assert network.output_shape == UNKNOWN
    layer = GatedAverage(name="experts")
    with pytest.raises(LayerConnectionError, match=r"got 0 networks.*'experts'"):
        layer(torch.ones(2, 3))


@pytest.mark.parametrize("gate", [(3, 3), (3, 1), (3,), (3, 2, 1)])
def test_a_gate_of_another_size_shows_at_a_call(gate: tuple[int, ...]) -> None:
    layer = GatedAverage(name="experts")
    with pytest.raises(LayerConnectionError, match="'experts'"):
        layer(torch.ones(gate), torch.ones(3, 4), torch.ones(3, 4))
    network = merge([None, 4, 4], GatedAverage(name="experts"))
    with pytest.raises(ValueError, match=r"experts|input-1"):
        network(torch.ones(gate), torch.ones(3, 4), torch.ones(3, 4))


def test_gated_average_makes_one_sum_and_no_copies() -> None:
    inputs = [normal(8, 3), *(normal(8, 5, 6, 4, seed=seed) for seed in range(3))]
    network = merge([3, *[(5, 6, 4)] * 3], GatedAverage())
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        output = network(*inputs)
    assert output.is_contiguous()
    made = [event.key for event in profile.key_averages()]
    assert not {"aten::cat", "aten::stack", "aten::copy_", "aten::clone"} & set(made)
    assert {event.key: event.count for event in profile.key_averages()}["aten::addcmul"] == 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_gated_average_keeps_the_type(dtype: torch.dtype) -> None:
    inputs = [torch.ones(2, 2, dtype=dtype), *[normal(2, 3, dtype=dtype)] * 2]
    assert merge([2, 3, 3], GatedAverage())(*inputs).dtype is dtype
