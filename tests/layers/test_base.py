"""BaseLayer, Identity and Input, and layers of one's own written as NeuPy's documentation shows it."""

import copy
import functools
import pickle
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.testing import assert_close

from torchneupy import init
from torchneupy.core.properties import IntProperty, NumberProperty, ParameterProperty
from torchneupy.core.shape import TensorShape
from torchneupy.exceptions import LayerConnectionError, WeightInitializationError
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
    PRelu,
    Relu,
    Sigmoid,
    Softmax,
    Softplus,
    Tanh,
    join,
    repeat,
)

X = torch.tensor([[1.0, -2.0, 3.0], [0.5, 0.0, -1.0]])


def untyped(value: Any) -> Any:
    """What the hints of arguments do not promise to take, and what is taken all the same."""
    return value


# Layers as the documentation writes them; at the top of the module, so that they can be pickled.


class Double(Identity):
    def output(self, input, **kwargs):
        return 2 * input


class Square(Linear):
    def activation_function(self, input):
        return torch.square(input)


class Mean(BaseLayer):
    def output(self, input, **kwargs):
        return input.mean(dim=-1, keepdim=True)


class ShapedMean(Mean):
    def get_output_shape(self, input_shape):
        return TensorShape(input_shape)[:-1].concatenate(1)


class Difference(BaseLayer):
    def get_output_shape(self, left, right):
        return TensorShape(left).merge_with(right)

    def output(self, left, right, **kwargs):
        return left - right


class Wx(BaseLayer):
    """Its argument is no option, and is kept before the base class is asked."""

    def __init__(self, outsize, name=None):
        self.outsize = outsize
        super().__init__(name=name)

    def get_output_shape(self, input_shape):
        return TensorShape([input_shape[0], self.outsize])

    def create_variables(self, input_shape):
        self.weight = self.variable(
            name="weight", shape=(input_shape[1], self.outsize), value=init.Uniform(), trainable=True
        )

    def output(self, input, **kwargs):
        return torch.matmul(input, self.weight)


class Scale(Identity):
    """Its options are assigned after the base class's constructor, as in NeuPy; ``extra`` never is."""

    factor = NumberProperty(default=2.0, minval=0)
    extra = IntProperty(allow_none=True)
    gamma = ParameterProperty()

    def __init__(self, factor=3, gamma=1, name=None):
        super().__init__(name=name)
        self.factor = factor
        self.gamma = gamma

    def create_variables(self, input_shape):
        self.gamma = self.variable(self.gamma, "gamma", shape=(input_shape[-1],))

    def output(self, input, **kwargs):
        return input * self.factor * self.gamma


class NoInit(Identity):
    factor = NumberProperty(default=2.0)


class WithList(Identity):
    """A layer that holds what is neither option nor variable."""

    def __init__(self, words, name=None):
        self.words = words
        super().__init__(name=name)
        self.inner = nn.Linear(3, 3)

    def output(self, input, **kwargs):
        return self.inner(input)


# Text


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (Identity, "Identity(name='identity-1')"),
        (lambda: Input(10), "Input(10, name='input-1')"),
        (lambda: Input((28, 28, 1)), "Input((28, 28, 1), name='input-1')"),
        (lambda: Input(None), "Input(None, name='input-1')"),
        (lambda: Input(()), "Input((), name='input-1')"),
        (Linear, "Linear(name='linear-1')"),
        (lambda: Linear(5), "Linear(5, weight=HeNormal(gain=1.0), bias=Constant(0), name='linear-1')"),
        (lambda: Sigmoid(5), "Sigmoid(5, weight=HeNormal(gain=1.0), bias=Constant(0), name='sigmoid-1')"),
        (lambda: Tanh(5), "Tanh(5, weight=HeNormal(gain=1.0), bias=Constant(0), name='tanh-1')"),
        (lambda: Softmax(5), "Softmax(5, weight=HeNormal(gain=1.0), bias=Constant(0), name='softmax-1')"),
        (lambda: Softplus(5), "Softplus(5, weight=HeNormal(gain=1.0), bias=Constant(0), name='softplus-1')"),
        (lambda: Elu(5), "Elu(5, weight=HeNormal(gain=1.0), bias=Constant(0), name='elu-1')"),
        (lambda: HardSigmoid(5), "HardSigmoid(5, weight=HeNormal(gain=1.0), bias=Constant(0), name='hard-sigmoid-1')"),
        (lambda: LeakyRelu(5), "LeakyRelu(5, weight=HeNormal(gain=1.0), bias=Constant(0), name='leaky-relu-1')"),
        (Relu, "Relu(alpha=0, name='relu-1')"),
        (lambda: Relu(5), "Relu(5, alpha=0, weight=HeNormal(gain=2), bias=Constant(0), name='relu-1')"),
        (PRelu, "PRelu(alpha_axes=(-1,), alpha=Constant(0.25), name='p-relu-1')"),
        (
            lambda: PRelu(5),
            (
                "PRelu(5, alpha_axes=(-1,), alpha=Constant(0.25), weight=HeNormal(gain=2), bias=Constant(0), "
                "name='p-relu-1')"
            ),
        ),
        (lambda: Dropout(0.5), "Dropout(proba=0.5, name='dropout-1')"),
        (GaussianNoise, "GaussianNoise(mean=0, std=1, name='gaussian-noise-1')"),
        (lambda: DropBlock(0.9, 3), "DropBlock(keep_proba=0.9, block_size=(3, 3), name='drop-block-1')"),
        (Elementwise, "Elementwise('add', name='elementwise-1')"),
        (lambda: Elementwise("multiply"), "Elementwise('multiply', name='elementwise-1')"),
        (Concatenate, "Concatenate(axis=-1, name='concatenate-1')"),
        # What was passed decides.
        (
            lambda: Relu(5, weight=np.ones((3, 5)), bias=1.5),
            "Relu(5, alpha=0, weight=<Array shape=(3, 5)>, bias=Constant(1.5), name='relu-1')",
        ),
        (
            lambda: Relu(untyped(np.int64(5)), weight=init.Normal(std=0.1), bias=init.Uniform(-1, 1)),
            "Relu(5, alpha=0, weight=Normal(mean=0, std=0.1), bias=Uniform(-1, 1), name='relu-1')",
        ),
        (lambda: Relu(untyped(5.0), bias=None), "Relu(5, alpha=0, weight=HeNormal(gain=2), bias=None, name='relu-1')"),
        (lambda: Input([3, None], name="x"), "Input((3, None), name='x')"),
        (lambda: Dropout(untyped(np.float32(0.5))), "Dropout(proba=0.5, name='dropout-1')"),
        # Layers of one's own: what is declared prints, last what the constructor does not have.
        (Double, "Double(name='double-1')"),
        (lambda: Square(4), "Square(4, weight=HeNormal(gain=1.0), bias=Constant(0), name='square-1')"),
        (Mean, "Mean(name='mean-1')"),
        (lambda: Wx(3), "Wx(name='wx-1')"),
        (Scale, "Scale(factor=3, gamma=Constant(1), name='scale-1', extra=None)"),
        (NoInit, "NoInit(name='no-init-1', factor=2.0)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_repr_is_neupys(make, text):
    layer = make()
    assert repr(layer) == str(layer) == text


def test_the_repr_of_a_connected_layer_is_still_what_was_asked_for():
    layer = Relu(2, weight=init.XavierUniform())
    expected = "Relu(2, alpha=0, weight=XavierUniform(gain=1.0), bias=Constant(0), name='relu-1')"
    assert repr(layer) == expected
    join(Input(3), layer)
    assert repr(layer) == expected


def test_a_function_prints_by_its_name():
    def blend(a, b):
        return a + b

    assert re.fullmatch(r"Elementwise\(<function .*blend.*>, name='elementwise-1'\)", repr(Elementwise(blend)))


@pytest.mark.parametrize("make", [lambda: Linear(2), lambda: Wx(2), Scale], ids=["Linear", "Wx", "Scale"])
def test_the_class_that_parametrize_makes_is_not_shown(make):
    layer = make()
    join(Input(3), layer)
    before, options = repr(layer), type(layer).options
    variable = next(iter(layer.variables))
    parametrize.register_parametrization(layer, variable, nn.Identity())
    assert type(layer).__name__ != type(make()).__name__  # else this test would show nothing
    assert repr(layer) == before and type(layer).options == options


def test_numpys_numbers_print_as_pythons():
    assert (
        repr(GaussianNoise(untyped(np.float32(0.5)), untyped(np.int64(2)), name="n"))
        == "GaussianNoise(mean=0.5, std=2, name='n')"
    )


# Identity and Input


def test_identity_gives_back_the_very_tensor():
    layer = Identity()
    assert layer(X) is X and layer.output(X) is X and layer.output(X, training=True) is X
    assert layer.variables == {} and layer.is_built


@pytest.mark.parametrize("shape", [None, (), (None, 3), (4, 5, 6)])
def test_identity_keeps_the_shape(shape):
    assert Identity().get_output_shape(TensorShape(shape)) == TensorShape(shape)


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        (3, (3,)),
        (np.int64(3), (3,)),
        (None, (None,)),
        ((), ()),
        ((28, 28, 1), (28, 28, 1)),
        ([3, 4], (3, 4)),
        ((None, None, 3), (None, None, 3)),
        ((np.int32(3), 4), (3, 4)),
        (TensorShape([3, None]), (3, None)),
        (torch.Size([3, 4]), (3, 4)),
    ],
)
def test_an_input_adds_the_batch_to_its_shape(given, sizes):
    layer = Input(given)
    assert type(layer.shape) is tuple and layer.shape == sizes
    assert layer.input_shape == layer.output_shape == (None, *sizes)
    assert isinstance(layer.input_shape, TensorShape)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (-3, ValueError, r"`shape`.*\(-3,\)"),
        ((-3, 2), ValueError, r"`shape`.*\(-3, 2\)"),
        (True, TypeError, r"`shape`.*\(True,\)"),
        (2.5, TypeError, r"`shape`.*\(2.5,\)"),
        ("10", TypeError, r"`shape`.*'10'"),
        ((3, "a"), TypeError, r"`shape`.*\(3, 'a'\)"),
        ((3, (4, 5)), TypeError, r"`shape`.*\(3, \(4, 5\)\)"),
    ],
    ids=repr,
)
def test_an_input_refuses_what_is_no_size(given, error, message):
    with pytest.raises(error, match=rf"{message}.*option of Input"):
        Input(given)
    assert Input(1).name == "input-1"


def test_a_shape_whose_number_of_dimensions_is_unknown_is_no_input():
    with pytest.raises((TypeError, ValueError), match=r"<unknown>|not known"):
        Input(TensorShape(None))


def test_the_shape_has_to_be_given():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'shape'"):
        Input()  # type: ignore[call-arg]


def test_the_input_shape_of_an_input_follows_from_its_option():
    layer = Input(3)
    with pytest.raises(AttributeError, match="input_shape"):
        layer.input_shape = TensorShape([None, 4])  # type: ignore[misc]
    assert layer.input_shape == (None, 3)


def test_an_input_passes_its_value_on():
    assert Input(3)(X) is X and Input(3).output(X, training=True) is X


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (Input((4, 4, 3)), Input((None, 4, 3)), (None, 4, 4, 3)),
        (Input((None, 4, 3)), Input((4, 4, 3)), (None, 4, 4, 3)),
        (Relu(5), Input(5), (None, 5)),
        (Relu(), Input(7), (None, 7)),
    ],
    ids=repr,
)
def test_an_input_may_stand_behind_another_layer(first, second, expected):
    assert (first >> second).output_shape == expected


def test_an_input_refuses_another_shape():
    first, second = Input(10, name="first") >> Relu(5, name="middle"), Input(6, name="second")
    with pytest.raises(LayerConnectionError, match=r"`middle`.*`second`.*\(\?, 5\).*\(\?, 6\)"):
        first >> second  # the operator itself raises
    assert second.input_shape == (None, 6) and len(first) == 2


# Layers of one's own


def test_a_subclass_of_identity_computes_what_it_says():
    network = Input(3) >> Double()
    assert network.output_shape == (None, 3)
    assert_close(network(X), 2 * X)
    assert_close(network.output(X), 2 * X)
    assert_close(Double()(X), 2 * X)


def test_a_subclass_of_linear_has_its_own_activation_function():
    layer = Square(2)
    network = Input(3) >> layer
    assert network.output_shape == (None, 2)
    x, weight = X.double(), layer.weight.double()
    assert_close(network(X).double(), (x @ weight) ** 2, rtol=1e-5, atol=1e-5)
    assert_close(Square()(X), X**2)


def test_a_layer_without_a_shape_has_an_unknown_one():
    network = Input((10, 2)) >> Mean()
    assert network.output_shape == TensorShape(None) and str(network) == "(?, 10, 2) -> [... 2 layers ...] -> <unknown>"
    assert_close(network(torch.ones(1, 10, 2)), torch.ones(1, 10, 1))
    assert str(Input((10, 2)) >> Mean() >> Relu(4)) == "(?, 10, 2) -> [... 3 layers ...] -> (?, 4)"


def test_a_layer_with_a_shape_tells_it():
    assert (Input((10, 2)) >> ShapedMean()).output_shape == (None, 10, 1)


def test_a_layer_of_several_inputs_takes_them_in_their_order():
    left, right = Input(3), Input(3)
    network = (left | right) >> Difference()
    assert network.output_shape == (None, 3)
    assert_close(network(X, 2 * X), -X)


@pytest.mark.parametrize(
    ("compose", "message"),
    [
        (lambda: (Input(3) | Input(3)) >> Double(name="d"), r"`d` takes 1 input\(s\), got 2 .*\(\?, 3\), \(\?, 3\)"),
        (lambda: Input(3) >> Difference(name="d"), r"`d` takes 2 input\(s\), got 1 .*\(\?, 3\)"),
        (lambda: (Input(1) | Input(2) | Input(3)) >> Difference(name="d"), r"`d` takes 2 input\(s\), got 3"),
    ],
)
def test_a_wrong_number_of_inputs_is_a_connection_error(compose, message):
    with pytest.raises(LayerConnectionError, match=message):
        compose()


def test_a_layer_with_a_weight_trains():
    network = Input(3) >> Wx(2)
    assert network.output_shape == (None, 2) and list(network.state_dict()) == ["wx-1.weight"]
    weight = network.layers[1].weight
    assert weight.shape == (3, 2) and bool(((weight >= 0) & (weight <= 1)).all())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(X).sum().backward()
    expected = weight.detach() - 0.1 * X.sum(0)[:, None].expand(3, 2)
    optimizer.step()
    assert_close(weight.detach(), expected)
    assert_close(network(X), X @ expected)


def test_options_of_a_subclass_join_its_parents():
    assert list(Scale.options) == ["name", "factor", "extra", "gamma"]
    assert Scale.options["factor"].class_name == "Scale" and list(Wx.options) == ["name"]
    assert repr(Scale(4, gamma=0.5).get_params()) == (
        "{'name': 'scale-1', 'factor': 4, 'extra': None, 'gamma': Constant(0.5)}"
    )


@pytest.mark.parametrize("gamma", [np.array([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0])], ids=["array", "tensor"])
def test_options_assigned_after_the_base_class_count(gamma):
    layer = Scale(gamma=gamma)
    network = Input(3) >> layer
    assert_close(network(torch.ones(1, 3)), torch.tensor([[3.0, 6.0, 9.0]]))
    kind = type(gamma).__name__.replace("ndarray", "Array")
    assert repr(layer) == f"Scale(factor=3, gamma=<{kind} shape=(3,)>, name='scale-1', extra=None)"
    assert list(network.state_dict()) == ["scale-1.gamma"]
    twin = Scale(gamma=layer.get_params()["gamma"])
    assert_close((Input(3) >> twin)(torch.ones(1, 3)), torch.tensor([[3.0, 6.0, 9.0]]))


def test_a_parameter_assigned_after_the_base_class_is_shared_and_stays_in_get_params():
    gamma = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
    layer = Scale(gamma=gamma)
    network = Input(3) >> layer
    assert layer.gamma is gamma and dict(network.named_parameters()) == {"scale-1.gamma": gamma}
    assert layer.get_params()["gamma"] is gamma


def test_options_of_a_subclass_are_validated():
    with pytest.raises(ValueError, match=r"`factor` should be between 0 and inf, got -1.*Scale"):
        Scale(-1)
    layer = Scale(4)
    with pytest.raises(ValueError, match=r"`factor` should be between 0 and inf, got -2.*Scale 'scale-2'"):
        layer.factor = -2
    assert layer.factor == 4


def test_an_option_without_a_constructor_has_its_default():
    layer = NoInit()
    assert layer.factor == 2.0
    layer.factor = np.float32(0.5)
    assert layer.factor == 0.5 and NoInit().factor == 2.0
    with pytest.raises(TypeError, match="unexpected keyword argument 'factor'"):
        NoInit(factor=3)  # type: ignore[call-arg]


def test_a_layer_has_to_define_output():
    class NoOutput(BaseLayer):
        pass

    with pytest.raises(TypeError, match="Can't instantiate abstract class NoOutput with abstract method output"):
        NoOutput()
    with pytest.raises(TypeError, match="Can't instantiate abstract class BaseLayer with abstract method output"):
        BaseLayer()


# The flag


class Plain(BaseLayer):
    def output(self, x):
        return x + 1


class Keywords(BaseLayer):
    def output(self, x, **kwargs):
        return x + 1 if kwargs["training"] else x


class Flagged(BaseLayer):
    def output(self, x, training=False):
        return x + 1 if training else x


class FlaggedOnly(BaseLayer):
    def output(self, x, *, training):
        return x + 1 if training else x


class Inherited(Flagged):
    pass


@pytest.mark.parametrize("kind", [Keywords, Flagged, FlaggedOnly, Inherited])
def test_calling_a_layer_gives_its_mode_as_the_flag(kind):
    layer = kind()
    assert_close(layer(X), X + 1)
    assert_close(layer.eval()(X), X)
    network = Input(3) >> kind()
    assert_close(network(X), X + 1)
    assert_close(network.eval()(X), X)
    assert_close(network.output(X, training=True), X + 1)
    assert_close(network.train().output(X), X)


@pytest.mark.parametrize("kind", [Keywords, Flagged, FlaggedOnly, Inherited])
@pytest.mark.parametrize("training", [True, False], ids=["traced in training", "traced in evaluation"])
def test_a_layer_that_takes_the_flag_follows_the_mode_after_tracing(kind, training):
    traced = torch.fx.symbolic_trace((Input(3) >> kind()).train(training))
    assert_close(traced.train()(X), X + 1)
    assert_close(traced.eval()(X), X)


def test_a_layer_that_takes_no_flag_gets_none():
    layer = Plain()
    network = Input(3) >> layer
    for run in (layer, network, network.output, lambda x: network.output(x, training=True)):
        assert_close(run(X), X + 1)


def test_other_keywords_reach_the_layers_that_take_them():
    seen = []

    class Listener(BaseLayer):
        def output(self, x, **kwargs):
            seen.append(kwargs)
            return x

    network = Input(3) >> Relu() >> Listener()
    network.output(X, training=True, extra=1)
    assert seen == [{"training": True, "extra": 1}]
    with pytest.raises(TypeError, match="extra"):
        (Input(3) >> Flagged()).output(X, extra=1)


def test_dropout_follows_the_flag_of_its_network():
    network = Input(3) >> Dropout(0.5)
    torch.manual_seed(0)
    out = network.output(X, training=True)
    torch.manual_seed(0)
    assert_close(out, functional.dropout(X, 0.5, training=True), rtol=0, atol=0)
    assert network.output(X) is X


# Shapes


def test_a_layer_remembers_the_width_that_its_variables_are_for():
    relu = Relu(5)
    assert relu.input_shape == TensorShape(None) and relu.output_shape == (None, 5)
    network = Input(10) >> relu
    assert relu.input_shape == (None, 10) and str(network.start(relu)) == "(?, 10) -> [... 1 layers ...] -> (?, 5)"


@pytest.mark.parametrize("layer", [Identity(), Dropout(0.1), Relu(), Mean()], ids=repr)
def test_a_layer_alone_has_unknown_shapes(layer):
    assert layer.input_shape == TensorShape(None) and layer.output_shape == TensorShape(None)


def test_an_input_shape_that_was_set_is_checked_when_connecting():
    layer = Double(name="d")
    layer.input_shape = (None, 4)
    with pytest.raises(LayerConnectionError, match=r"`x`.*`d`.*\(\?, 3\).*\(\?, 4\)"):
        Input(3, name="x") >> layer  # the operator itself raises
    with pytest.raises(ValueError, match=r"Current shape: \(\?, 4\), New shape: \(\?, 5\).*name='d'"):
        layer.input_shape = (None, 5)
    assert layer.input_shape == (None, 4)


def test_an_error_of_a_layers_own_keeps_its_class_and_names_the_layer():
    class Odd(Identity):
        def get_output_shape(self, input_shape):
            raise UnicodeDecodeError("utf8", b"", 0, 1, "why")

    with pytest.raises(UnicodeDecodeError, match="why") as caught:
        Input(3) >> Odd(name="odd")  # the operator itself raises
    assert re.search(r"`odd`.*\(\?, 3\)", "\n".join(caught.value.__notes__))


def test_a_layer_without_its_variables_says_how_to_get_them():
    layer = Relu(3, name="alone")
    with pytest.raises(WeightInitializationError, match=r"(?s)`alone` has no variables yet.*Input\(10\) >> layer"):
        layer(X)
    assert not layer.is_built and layer.weight is None


def test_layers_are_equal_to_themselves_only_and_always_true():
    a, b = Relu(3, name="a"), Relu(3, name="a")
    assert a == a and a != b and {a: 1}[a] == 1 and len({a, b}) == 2  # noqa: PLR0124  # equality is what is tested
    assert bool(a) and bool(Input(()))


# define


def test_define_gives_some_arguments_in_advance():
    leaky = Relu.define(alpha=0.1, bias=None)
    assert isinstance(leaky, functools.partial)
    assert repr(leaky(5)) == "Relu(5, alpha=0.1, weight=HeNormal(gain=2), bias=None, name='relu-1')"
    assert repr(leaky(5, alpha=0.2, name="r")) == "Relu(5, alpha=0.2, weight=HeNormal(gain=2), bias=None, name='r')"
    assert repr(Relu.define(10)(alpha=0.1)).startswith("Relu(10, alpha=0.1,")
    assert isinstance(Wx.define(4)(), Wx)


def test_define_gives_an_array_or_an_initializer_to_every_layer():
    make = Linear.define(2, weight=np.ones((3, 2)))
    first, second = make(), make()
    join(Input(3), first)
    join(Input(3), second)
    assert first.weight is not second.weight
    assert_close(first.weight, second.weight)


# Copies


def by_pickle(layer):
    return pickle.loads(pickle.dumps(layer))


MAKERS = [
    Identity,
    lambda: Input((3, None)),
    lambda: Relu(4, alpha=0.1, name="named"),
    lambda: Linear(4, weight=np.arange(12.0).reshape(3, 4), bias=None),
    lambda: PRelu(4, alpha=init.Uniform(0, 1)),
    lambda: Dropout(0.25),
    lambda: Elementwise(torch.sub),
    lambda: Wx(4),
    lambda: Scale(2, gamma=np.array([1.0, 2.0, 3.0])),
    NoInit,
    lambda: WithList(["a"]),
]
every_layer = pytest.mark.parametrize("make", MAKERS, ids=lambda make: type(make()).__name__)


@every_layer
@pytest.mark.parametrize("make_copy", [copy.deepcopy, by_pickle])
@pytest.mark.parametrize("connected", [False, True])
def test_a_deep_copy_has_the_same_name_options_and_values(make, make_copy, connected):
    layer = make()
    if connected and not isinstance(layer, (Input, Elementwise)):
        join(Input(3), layer)
    twin = make_copy(layer)
    assert type(twin) is type(layer) and twin is not layer
    assert repr(twin) == repr(layer) and twin.name == layer.name
    assert twin.is_built == layer.is_built and twin.input_shape == layer.input_shape
    assert list(twin.variables) == list(layer.variables)
    assert_close(dict(twin.variables), dict(layer.variables), rtol=0, atol=0)
    with torch.no_grad():
        for variable in twin.variables.values():
            variable.add_(1)
    for before, after in zip(layer.variables.values(), twin.variables.values(), strict=True):
        assert_close(after, before + 1)


@every_layer
def test_a_copy_is_a_new_layer(make):
    layer = make()
    automatic = layer.original_name is None
    twin = copy.copy(layer)
    assert type(twin) is type(layer) and twin is not layer
    assert (twin.name == layer.name) != automatic
    assert twin.get_params().keys() == layer.get_params().keys()
    twin.name = layer.name
    assert repr(twin) == repr(layer)


def test_names_of_copies():
    copies = [copy.copy(layer).name for layer in (Relu(), Relu(name="a"), Relu(name="b{}"))]
    assert copies == ["relu-2", "a", "b2"]
    layer, pattern = Relu(), Relu(name="b{}")
    assert [copy.deepcopy(layer).name, copy.deepcopy(pattern).name] == ["relu-3", "b3"] == [layer.name, pattern.name]
    assert copy.copy(copy.deepcopy(layer)).name == "relu-4"


@pytest.mark.parametrize("make_copy", [copy.copy, copy.deepcopy, by_pickle])
def test_a_copy_of_a_connected_layer_has_variables_of_its_own(make_copy):
    layer = Relu(2, name="z")
    network = Input(3) >> layer
    twin = make_copy(layer)
    other = Input(3) >> twin
    assert_close(other(X), network(X), rtol=0, atol=0)
    with torch.no_grad():
        twin.weight.zero_()
    assert bool((layer.weight != 0).any()) and twin.input_shape == (None, 3)


@pytest.mark.parametrize("make_copy", [copy.copy, copy.deepcopy, by_pickle])
def test_an_argument_that_is_no_option_is_copied(make_copy):
    # NeuPy made the copy by calling the class, without that argument.
    layer = Wx(2)
    network = Input(3) >> layer
    twin = make_copy(layer)
    assert twin.outsize == 2
    assert_close((Input(3) >> twin)(X), network(X), rtol=0, atol=0)
    assert twin.weight is not layer.weight and twin.variables["weight"] is twin.weight
    fresh = make_copy(Wx(5))
    assert (Input(3) >> fresh).output_shape == (None, 5)


def test_a_layer_whose_argument_is_no_option_can_be_repeated():
    network = Input(3) >> repeat(Wx(3), 3)
    assert network.output_shape == (None, 3) and [layer.name for layer in network][1:] == ["wx-1", "wx-2", "wx-3"]
    assert len({id(p) for p in network.parameters()}) == 3


@pytest.mark.parametrize("make_copy", [copy.copy, copy.deepcopy, by_pickle])
def test_what_a_layer_holds_besides_is_copied_too(make_copy):
    layer = WithList(["a"])
    twin = make_copy(layer)
    twin.words.append("b")
    assert layer.words == ["a"] and twin.words == ["a", "b"]
    assert twin.inner is not layer.inner and set(twin.state_dict()) == {"inner.weight", "inner.bias"}
    assert_close(twin(X), layer(X))


def test_an_initializer_is_not_changed_by_copies():
    rule = init.Normal(std=2)
    layer = Relu(2, weight=rule)
    assert repr(copy.copy(layer).get_params()["weight"]) == repr(rule) == "Normal(mean=0, std=2)"


def test_modes_hooks_and_devices_of_a_layer_survive_a_deep_copy():
    layer = Relu(2).eval()
    layer.register_forward_hook(add_one)
    join(Input(3), layer.double())
    twin = copy.deepcopy(layer)
    assert not twin.training and twin.weight.dtype == layer.weight.dtype
    assert_close(twin(X.to(twin.weight.dtype)), layer(X.to(layer.weight.dtype)))
    assert_close(twin(X.to(twin.weight.dtype)), twin.output(X.to(twin.weight.dtype)) + 1)


def add_one(module, args, output):
    return output + 1
