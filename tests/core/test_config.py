"""How classes collect their options, and how options are read and written together."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.testing import assert_close

from torchneupy import init
from torchneupy.core import config
from torchneupy.core.config import Configurable, Option
from torchneupy.core.properties import IntProperty, NumberProperty, ProperFractionProperty, Property, WithdrawProperty
from torchneupy.exceptions import LayerConnectionError
from torchneupy.layers import (
    BaseLayer,
    Concatenate,
    DropBlock,
    Dropout,
    Elementwise,
    Elu,
    GaussianNoise,
    HardSigmoid,
    Identity,
    Input,
    LeakyRelu,
    Linear,
    ModuleLayer,
    PRelu,
    Relu,
    Sigmoid,
    Softmax,
    Softplus,
    Tanh,
    join,
)


class Window(Configurable):
    size = IntProperty(default=3, minval=1)
    share = ProperFractionProperty(default=0.5)


class NamedWindow(Window):
    title = Property(str, default="window")


# Collecting


def test_options_print_as_in_neupy():
    assert repr(Dropout.options) == (
        "{'name': Option(class_name='BaseLayer', value=Property(name=\"name\")), "
        "'proba': Option(class_name='Dropout', value=ProperFractionProperty(name=\"proba\"))}"
    )


@pytest.mark.parametrize(
    ("kind", "option", "text"),
    [
        (Relu, "alpha", "Option(class_name='Relu', value=NumberProperty(name=\"alpha\"))"),
        (Relu, "weight", "Option(class_name='Linear', value=ParameterProperty(name=\"weight\"))"),
        (
            Elementwise,
            "merge_function",
            "Option(class_name='Elementwise', value=FunctionWithOptionsProperty(name=\"merge_function\"))",
        ),
        (PRelu, "alpha_axes", "Option(class_name='PRelu', value=TypedListProperty(name=\"alpha_axes\"))"),
        (PRelu, "n_units", "Option(class_name='Linear', value=IntProperty(name=\"n_units\"))"),
    ],
)
def test_an_option_prints_as_in_neupy(kind, option, text):
    assert repr(kind.options[option]) == text


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (BaseLayer, ["name"]),
        (Identity, ["name"]),
        (Linear, ["name", "n_units", "weight", "bias"]),
        (LeakyRelu, ["name", "n_units", "weight", "bias"]),
        (Relu, ["name", "n_units", "weight", "bias", "alpha"]),
        (PRelu, ["name", "n_units", "weight", "bias", "alpha_axes", "alpha"]),
        (GaussianNoise, ["name", "mean", "std"]),
        (DropBlock, ["name", "keep_proba", "block_size"]),
        (Window, ["size", "share"]),
        (NamedWindow, ["size", "share", "title"]),
        (Configurable, []),
    ],
)
def test_options_of_parents_come_first_and_then_in_order_of_declaration(kind, names):
    assert list(kind.options) == names


def test_an_option_declared_again_keeps_its_place_and_names_the_new_class():
    class Wide(NamedWindow):
        size = IntProperty(default=9)

    assert list(Wide.options) == ["size", "share", "title"]
    assert Wide.options["size"] == Option("Wide", vars(Wide)["size"])
    assert (Wide().size, Window().size) == (9, 3)


def test_a_subclass_changes_no_parent():
    before = dict(Window.options)

    class Blind(Window):
        share = WithdrawProperty()
        depth = IntProperty()

    assert list(Blind.options) == ["size", "depth"]
    assert Window.options == before


def test_several_parents_give_their_options_and_the_first_one_wins():
    class Sized(Configurable):
        size = IntProperty(default=1)
        colour = Property(str, default="red")

    class Both(NamedWindow, Sized):
        pass

    assert sorted(Both.options) == ["colour", "share", "size", "title"]
    assert Both.options["size"].class_name == "Window"
    assert (Both().size, Both().colour) == (3, "red")


def test_a_class_without_options_of_its_own_has_its_parents():
    class Plain(Window):
        pass

    assert Plain.options == Window.options and Plain(size=4).get_params() == {"size": 4, "share": 0.5}


# Constructing


def test_a_configurable_takes_options_by_name():
    window = NamedWindow(size=4.0, title="a")
    assert window.get_params() == {"size": 4, "share": 0.5, "title": "a"}


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"sise": 3}, ValueError, "`Window` object contains invalid properties: sise.*size, share"),
        ({"size": 3, "b": 1, "a": 2}, ValueError, "`Window` object contains invalid properties: b, a"),
        ({"size": 0}, ValueError, "`size` should be between 1 and inf, got 0.*Window"),
        ({"share": "half"}, TypeError, "`str` for `share`.*'half'.*Window"),
    ],
    ids=repr,
)
def test_a_configurable_refuses_what_it_does_not_know(given, error, message):
    with pytest.raises(error, match=message):
        Window(**given)


def test_what_is_required_has_to_be_given():
    class Strict(Configurable):
        first = NumberProperty(required=True)
        second = NumberProperty(required=True, allow_none=True)

    assert Strict(first=1, second=None).get_params() == {"first": 1, "second": None}
    with pytest.raises(ValueError, match=r"Option `second` is required.*Strict.*first"):
        Strict(first=1)


def test_an_unknown_argument_of_a_layer_is_pythons_own_error():
    with pytest.raises(TypeError, match="unexpected keyword argument 'units'"):
        Relu(5, units=10)  # type: ignore[call-arg]


# Reading

LAYERS = [
    (Identity, {}),
    (Input, {"shape": (3, None)}),
    (Input, {"shape": ()}),
    (Linear, {}),
    (Linear, {"n_units": 5, "weight": 0.5, "bias": None}),
    (Sigmoid, {"n_units": 5, "weight": init.XavierUniform(gain=0.5, seed=3)}),
    (HardSigmoid, {"n_units": 1}),
    (Tanh, {"n_units": 2, "bias": init.Normal(std=0.1)}),
    (Softmax, {"n_units": 2}),
    (Softplus, {"n_units": 2}),
    (Elu, {"n_units": 2}),
    (LeakyRelu, {"n_units": 2}),
    (Relu, {"n_units": 5, "alpha": 0.25}),
    (PRelu, {"n_units": 3, "alpha_axes": -1, "alpha": init.Uniform(0, 1, seed=1)}),
    (PRelu, {"alpha_axes": (1, 2)}),
    (Dropout, {"proba": 0.25}),
    (GaussianNoise, {"mean": 2, "std": 0.5}),
    (DropBlock, {"keep_proba": 0.9, "block_size": 3}),
    (Elementwise, {"merge_function": "multiply"}),
    (Elementwise, {"merge_function": torch.sub}),
    (Concatenate, {"axis": 1}),
    (ModuleLayer, {"module": nn.Flatten()}),
]


@pytest.mark.parametrize(("kind", "arguments"), LAYERS, ids=[f"{kind.__name__}-{a}" for kind, a in LAYERS])
@pytest.mark.parametrize("name", [None, "given", "pattern{}"])
def test_get_params_makes_an_equal_layer(kind, arguments, name):
    layer = kind(**arguments, name=name)
    twin = type(layer)(**layer.get_params())
    assert twin is not layer and repr(twin) == repr(layer)
    assert repr(twin.get_params()) == repr(layer.get_params())


@pytest.mark.parametrize(
    "given", [np.arange(6.0).reshape(3, 2), torch.arange(6.0).reshape(3, 2)], ids=["array", "tensor"]
)
def test_get_params_of_a_connected_layer_makes_one_of_the_same_values(given):
    layer = Linear(2, weight=given, name="l")
    network = Input(3) >> layer
    with torch.no_grad():
        layer.weight += 1
    twin = Linear(**layer.get_params())
    other = Input(3) >> twin
    x = torch.eye(3)
    assert_close(other(x), network(x), rtol=0, atol=0)
    with torch.no_grad():
        twin.weight.zero_()
    assert_close(layer.weight.detach(), torch.arange(1.0, 7).reshape(3, 2))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Dropout(0.3), {"name": "dropout-1", "proba": 0.3}),
        (Elementwise, {"name": "elementwise-1", "merge_function": "add"}),
        (lambda: Input(3, name="x"), {"name": "x", "shape": (3,)}),
    ],
)
def test_get_params_gives_values_by_name(make, expected):
    assert make().get_params() == expected


def test_get_params_keeps_the_order_of_the_options_and_the_specifications():
    assert repr(Relu(5, name="r").get_params()) == (
        "{'name': 'r', 'n_units': 5, 'weight': HeNormal(gain=2), 'bias': Constant(0), 'alpha': 0}"
    )


def test_deep_changes_nothing():
    layer = Relu(5, name="r")
    assert layer.get_params(deep=True) == layer.get_params(deep=False) == layer.get_params()
    assert NamedWindow().get_params(deep=True) == NamedWindow().get_params()


def test_get_params_gives_a_new_dictionary():
    layer = Dropout(0.3)
    layer.get_params()["proba"] = 7
    assert layer.proba == 0.3


# Writing


def test_set_params_gives_the_object_back():
    layer, window = Dropout(0.3), Window()
    assert layer.set_params(proba=np.float32(0.5)) is layer and layer.proba == 0.5
    assert window.set_params(size=4.0) is window and window.size == 4
    assert layer.set_params() is layer and layer.proba == 0.5


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"size": 8, "share": 1.5}, ValueError, "`share` should be between 0 and 1, got 1.5.*Window"),
        ({"size": 8, "share": "x"}, TypeError, "`str` for `share`.*'x'.*Window"),
        ({"share": 0.1, "size": 0}, ValueError, "`size` should be between 1 and inf, got 0.*Window"),
        ({"size": 8, "share": 0.1, "sise": 1}, ValueError, "`Window` object contains invalid properties: sise"),
    ],
    ids=repr,
)
def test_set_params_of_a_configurable_does_all_or_nothing(given, error, message):
    window = Window(size=5)
    with pytest.raises(error, match=message):
        window.set_params(**given)
    assert window.get_params() == {"size": 5, "share": 0.5}


WRONG: list[tuple[Callable[[], BaseLayer], dict[str, Any], type[Exception], str]] = [
    (lambda: Dropout(0.5), {"proba": 1.5}, ValueError, "`proba` should be between 0 and 1, got 1.5"),
    (lambda: Dropout(0.5), {"proba": "often"}, TypeError, "`str` for `proba`.*'often'"),
    (lambda: Relu(5), {"alpha": 1, "n_units": 0}, ValueError, "`n_units` should be between 1 and inf, got 0"),
    (lambda: Relu(5), {"weight": 3, "alpha": -1}, ValueError, "`alpha` should be between 0 and inf, got -1"),
    (lambda: Relu(5), {"n_units": 7, "name": 5}, TypeError, "`int` for `name`.*got 5"),
    (PRelu, {"alpha": 1, "alpha_axes": (0,)}, ValueError, r"`alpha_axes` should not be 0"),
    (PRelu, {"alpha": 1, "alpha_axes": ("a",)}, TypeError, "`alpha_axes`.*'a'"),
    (GaussianNoise, {"mean": 3, "std": -1}, ValueError, "`std` should be between 0 and inf, got -1"),
    (lambda: DropBlock(0.9, 3), {"keep_proba": 0.1, "block_size": (3, 3, 3)}, ValueError, r"`block_size`.*\(3, 3, 3\)"),
    (Concatenate, {"name": "x", "axis": "a"}, TypeError, "`str` for `axis`.*'a'"),
    (Elementwise, {"name": "x", "merge_function": "sub"}, ValueError, "`sub` for property `merge_function`"),
    (lambda: Input(3), {"name": "x", "shape": (-1,)}, ValueError, r"`shape`.*\(-1,\)"),
]
each_wrong = pytest.mark.parametrize(
    ("make", "given", "error", "message"),
    WRONG,
    ids=[f"{make().__class__.__name__}-{given}" for make, given, _, _ in WRONG],
)


@each_wrong
def test_set_params_of_a_layer_does_all_or_nothing(make, given, error, message):
    layer = make()
    before = repr(layer)
    with pytest.raises(error, match=message):
        layer.set_params(**given)
    assert repr(layer) == before


@each_wrong
def test_an_assignment_is_checked_as_in_set_params(make, given, error, message):
    layer = make()
    before = repr(layer)
    name, value = list(given.items())[-1]
    with pytest.raises(error, match=message):
        setattr(layer, name, value)
    assert repr(layer) == before


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"alpha": 1, "weight": "x"}, TypeError, "`str` for `weight`.*'x'.*Relu 'named'"),
        ({"alpha": 1, "prob": 3}, ValueError, "`Relu` object contains invalid properties: prob"),
    ],
    ids=repr,
)
def test_set_params_of_a_layer_refuses_wrong_variables_and_unknown_names(given, error, message):
    layer = Relu(5, name="named")
    before = repr(layer)
    with pytest.raises(error, match=message):
        layer.set_params(**given)
    assert repr(layer) == before and not hasattr(layer, "prob")


def test_set_params_before_the_connection_says_how_variables_are_made():
    layer = Linear(2).set_params(weight=3, bias=None, name="l")
    network = Input(2) >> layer
    assert repr(layer) == "Linear(2, weight=Constant(3), bias=None, name='l')"
    assert_close(network(torch.ones(1, 2)), torch.full((1, 2), 6.0))


@pytest.mark.parametrize(
    "value", [3, init.Constant(3), np.full((2, 2), 3), torch.full((2, 2), 3.0)], ids=lambda v: type(v).__name__
)
def test_set_params_afterwards_writes_into_the_variable(value):
    layer = Linear(2, name="l")
    network = Input(2) >> layer
    weight = layer.weight
    layer.set_params(weight=value)
    # The optimizer that holds the parameter must go on with it.
    assert layer.weight is weight is dict(network.named_parameters())["l.weight"]
    assert_close(weight.detach(), torch.full((2, 2), 3.0))
    twin = Linear(**layer.get_params())
    join(Input(2), twin)
    assert_close(twin.weight, weight)


def test_an_array_given_to_set_params_comes_back_with_its_current_values():
    layer = Linear(2, name="l")
    join(Input(2), layer)
    layer.set_params(weight=np.full((2, 2), 3.0))
    with torch.no_grad():
        layer.weight += 1
    np.testing.assert_array_equal(layer.get_params()["weight"], np.full((2, 2), 4))


class Half(nn.Module):
    def forward(self, x):
        return x / 2

    def right_inverse(self, x):
        return 2 * x


def test_set_params_sets_the_value_in_use_of_a_parametrised_variable():
    layer = Linear(2, bias=None)
    network = Input(2) >> layer
    parametrize.register_parametrization(layer, "weight", Half())
    layer.set_params(weight=np.full((2, 2), 3.0))
    assert_close(layer.weight.detach(), torch.full((2, 2), 3.0))
    assert_close(network(torch.ones(1, 2)), torch.full((1, 2), 6.0))


def test_set_params_sets_what_is_left_of_a_pruned_variable():
    layer = Linear(1, weight=np.array([[1.0], [2.0], [3.0]]), bias=None)
    network = Input(3) >> layer
    prune.l1_unstructured(layer, "weight", amount=1)
    layer.set_params(weight=7)
    assert_close(network(torch.ones(1, 3)), torch.tensor([[14.0]]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weight": 7, "bias": np.ones(5)}, r"layer/l/bias.*\(5,\).*\(2,\)"),
        ({"bias": 7, "weight": np.ones((2, 3))}, r"layer/l/weight.*\(2, 3\).*\(2, 2\)"),
        ({"weight": 7, "bias": None}, "Cannot set `bias` of layer `l` to None"),
    ],
    ids=repr,
)
def test_set_params_of_a_connected_layer_does_all_or_nothing(given, message):
    layer = Linear(2, weight=1, name="l")
    join(Input(2), layer)
    before = repr(layer)
    weight, bias = layer.weight, layer.bias
    with pytest.raises(ValueError, match=message):
        layer.set_params(**given)
    assert repr(layer) == before and layer.weight is weight and layer.bias is bias
    assert_close(list(layer.parameters()), [torch.ones(2, 2), torch.zeros(2)])


def test_a_variable_that_was_left_out_cannot_be_added_later():
    layer = Linear(2, bias=None, name="l")
    network = Input(2) >> layer
    with pytest.raises(ValueError, match=r"Cannot set `bias` of layer `l` to Constant\(1\)"):
        layer.set_params(bias=1)
    assert list(network.state_dict()) == ["l.weight"] and layer.get_params()["bias"] is None


def test_shape_errors_of_set_params_are_connection_errors():
    layer = Linear(2, name="l")
    join(Input(2), layer)
    with pytest.raises(LayerConnectionError, match=r"layer/l/weight.*\(1, 1\).*\(2, 2\)"):
        layer.set_params(weight=np.ones((1, 1)))
    assert layer.weight.shape == (2, 2)


def test_all_is_complete():
    own = {name for name, value in vars(config).items() if getattr(value, "__module__", None) == config.__name__}
    assert set(config.__all__) == own
