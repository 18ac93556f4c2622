"""Options by themselves: what each kind accepts, what it makes of it, and what it says of anything else."""

import copy
import gc
import inspect
import math
import numbers
import pickle
import re
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.testing import assert_close

from torchneupy import init
from torchneupy.core import properties
from torchneupy.core.config import Configurable
from torchneupy.core.properties import (
    ArrayProperty,
    BaseProperty,
    BoundedProperty,
    ChoiceProperty,
    FunctionWithOptionsProperty,
    IntProperty,
    NumberProperty,
    ParameterProperty,
    ProperFractionProperty,
    Property,
    TypedListProperty,
    WithdrawProperty,
)
from torchneupy.layers import Elementwise, Identity, Input, Linear, Relu, join

ARRAY = np.arange(6.0).reshape(2, 3)
MODULE = nn.Bilinear(3, 3, 3)


def declare(option):
    """Make a class with one option, called ``option``."""
    return type("Owner", (Configurable,), {"option": option})


class Settings(Configurable):
    """At the top of a module, so that it can be pickled."""

    size = IntProperty(default=3, minval=1)
    choice = ChoiceProperty({"one": 1, "two": 2}, default="one")
    sizes = TypedListProperty(default=(1, 2))


def multiply(a, b):
    return a * b


# What is accepted

ACCEPTED = [
    (IntProperty(), 5, 5),
    (IntProperty(), 5.0, 5),
    (IntProperty(), True, 1),
    (IntProperty(), np.int8(4), 4),
    (IntProperty(), np.uint64(2**63), 2**63),
    (IntProperty(), np.float32(4), 4),
    (IntProperty(), np.float64(4), 4),
    (IntProperty(), -(10**30), -(10**30)),
    (IntProperty(minval=1, maxval=3), 1, 1),
    (IntProperty(minval=1, maxval=3), 3, 3),
    (IntProperty(allow_none=True), None, None),
    (NumberProperty(), 3, 3),
    (NumberProperty(), 0.1, 0.1),
    (NumberProperty(), math.inf, math.inf),
    (NumberProperty(), np.float16(0.5), 0.5),
    (NumberProperty(), np.float32(0.5), 0.5),
    (NumberProperty(), np.float64(0.1), 0.1),
    (NumberProperty(), np.longdouble(0.5), 0.5),
    (NumberProperty(), np.int32(-2), -2),
    (NumberProperty(minval=0), 0, 0),
    (NumberProperty(allow_none=True), None, None),
    (ProperFractionProperty(), 0, 0),
    (ProperFractionProperty(), 1, 1),
    (ProperFractionProperty(), True, 1),
    (ProperFractionProperty(), 0.5, 0.5),
    (ProperFractionProperty(), np.float32(0.5), 0.5),
    (ProperFractionProperty(), np.int64(1), 1),
    (BoundedProperty(minval=-1, maxval=1), np.float32(-1), -1.0),
    (Property(str), "text", "text"),
    (Property((str, bytes)), b"text", b"text"),
    (Property(), MODULE.forward, MODULE.forward),
    (Property(str, allow_none=True), None, None),
    (BaseProperty(), "anything", "anything"),
    (TypedListProperty(), (1, 2), (1, 2)),
    (TypedListProperty(), [1, 2], [1, 2]),
    (TypedListProperty(), (), ()),
    (TypedListProperty(), [np.int64(1), np.int8(2)], [1, 2]),
    (TypedListProperty(n_elements=2), (3, 3), (3, 3)),
    (TypedListProperty(element_type=(int, type(None))), (None, 3), (None, 3)),
    (TypedListProperty(element_type=bool), (True, False), (True, False)),
    (TypedListProperty(element_type=str), ["a"], ["a"]),
    (TypedListProperty(element_type=(int, type(None)), minval=1), (1, None), (1, None)),
    (TypedListProperty(allow_none=True), None, None),
    (TypedListProperty(single=True), 3, (3,)),
    (TypedListProperty(single=True), np.int64(3), (3,)),
    (TypedListProperty(single=True), [3], [3]),
    (TypedListProperty(single=True, n_elements=2), 3, (3, 3)),
    (TypedListProperty(single=True, element_type=(int, type(None))), None, (None,)),
    (TypedListProperty(excluded=(0,)), (1, -1), (1, -1)),
    (TypedListProperty(unique=True), [1, -1], [1, -1]),
    (ChoiceProperty(["a", "b"]), "b", "b"),
    (ChoiceProperty(("a", "b")), "a", "a"),
    (ChoiceProperty({"a", "b"}), "a", "a"),
    (ChoiceProperty({"one": 1, "two": 2}), "two", 2),
    (ChoiceProperty(["a"], allow_none=True), None, None),
    (FunctionWithOptionsProperty({"add": torch.add}), "add", torch.add),
    (FunctionWithOptionsProperty({"add": torch.add}), multiply, multiply),
    (FunctionWithOptionsProperty({"add": torch.add}), torch.mul, torch.mul),
    (FunctionWithOptionsProperty({"add": torch.add}), max, max),
    (FunctionWithOptionsProperty({"add": torch.add}), MODULE, MODULE),
]


@pytest.mark.parametrize(("option", "given_value", "expected"), ACCEPTED, ids=repr)
def test_an_accepted_value_takes_its_canonical_form(option, given_value, expected):
    owner = declare(option)(option=given_value)
    assert owner.option == expected and type(owner.option) is type(expected)
    other = declare(option)()
    other.option = given_value
    assert other.option == expected and type(other.option) is type(expected)


@pytest.mark.parametrize("array", [ARRAY, ARRAY.view(np.matrix), np.array(["text"])], ids=["array", "matrix", "text"])
def test_an_array_is_kept_as_it_is(array):
    assert declare(ArrayProperty())(option=array).option is array


def test_a_list_of_the_user_is_not_the_options_own():
    mine = [1, 2]
    owner = declare(TypedListProperty())(option=mine)
    mine.append(3)
    assert owner.option == [1, 2]


@given(st.floats() | st.integers(), st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_bounds_are_part_of_the_range_and_nan_is_in_no_range(value, a, b):
    low, high = min(a, b), max(a, b)
    owner = declare(NumberProperty(minval=low, maxval=high, default=low))()
    if low <= value <= high:
        owner.option = value
        assert owner.option == value
    else:
        with pytest.raises(ValueError, match=re.escape(f"between {low} and {high}, got {value!r}")):
            owner.option = value
        assert owner.option == low


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_an_int_takes_exactly_the_whole_floats(value):
    owner = declare(IntProperty(default=7))()
    if value == math.floor(value):
        owner.option = value
        assert owner.option == int(value) and type(owner.option) is int
    else:
        with pytest.raises(TypeError, match=re.escape("`float` for `option` property. Expected types: Integral")):
            owner.option = value
        assert owner.option == 7


# What is refused

TYPE, RANGE = TypeError, ValueError

REFUSED = [
    (IntProperty(), 1, "5", TYPE, "Invalid data type `str` for `option` property.*Integral, integer.*got '5'"),
    (IntProperty(), 1, 5.5, TYPE, "Invalid data type `float` for `option`.*got 5.5"),
    (IntProperty(), 1, np.float32(5.5), TYPE, "`float` for `option`.*got 5.5"),
    (IntProperty(), 1, math.inf, TYPE, "`float` for `option`.*got inf"),
    (IntProperty(), 1, None, TYPE, "`NoneType` for `option`.*got None"),
    (IntProperty(), 1, [5], TYPE, r"`list` for `option`.*got \[5\]"),
    (IntProperty(allow_none=True), 1, "5", TYPE, "`str` for `option`.*Expected types: Integral, integer, NoneType"),
    (IntProperty(minval=1), 1, 0, RANGE, "`option` should be between 1 and inf, got 0"),
    (IntProperty(maxval=9), 1, 10.0, RANGE, "`option` should be between -inf and 9, got 10"),
    (NumberProperty(), 1, "1", TYPE, "Invalid data type `str` for `option`.*got '1'"),
    (NumberProperty(), 1, 1j, TYPE, "`complex` for `option`.*got 1j"),
    (NumberProperty(), 1, torch.ones(1), TYPE, r"`Tensor` for `option`.*got tensor\(\[1.\]\)"),
    (NumberProperty(), 1, None, TYPE, "`NoneType` for `option`"),
    (NumberProperty(minval=0), 1, -0.5, RANGE, "`option` should be between 0 and inf, got -0.5"),
    (NumberProperty(), 1, math.nan, RANGE, "`option` should be between -inf and inf, got nan"),
    (ProperFractionProperty(), 1, 1.5, RANGE, "`option` should be between 0 and 1, got 1.5"),
    (ProperFractionProperty(), 1, -1, RANGE, "`option` should be between 0 and 1, got -1"),
    (ProperFractionProperty(), 1, np.float32(1.5), RANGE, "between 0 and 1, got 1.5"),
    (ProperFractionProperty(), 1, math.nan, RANGE, "between 0 and 1, got nan"),
    (ProperFractionProperty(), 1, "a", TYPE, "`str` for `option` property. Expected types: float, int, got 'a'"),
    (ProperFractionProperty(), 1, None, TYPE, "`NoneType` for `option`"),
    (Property(str), "a", 5, TYPE, "Invalid data type `int` for `option` property. Expected types: str, got 5"),
    (Property((str, bytes)), "a", 5, TYPE, "Expected types: str, bytes, got 5"),
    (Property(str), "a", None, TYPE, "`NoneType` for `option`"),
    (ArrayProperty(), ARRAY, [1], TYPE, r"`list` for `option` property. Expected types: ndarray, matrix, got \[1\]"),
    (TypedListProperty(), (1,), 5, TYPE, "`int` for `option` property. Expected types: list, tuple, got 5"),
    (TypedListProperty(), (1,), None, TYPE, "`NoneType` for `option`"),
    (TypedListProperty(), (1,), np.ones(2), TYPE, "`ndarray` for `option`"),
    (TypedListProperty(), (1,), (1, 2.0), TYPE, r"`option` parameter received invalid element types.*\(1, 2.0\)"),
    (TypedListProperty(), (1,), (1, True), TYPE, r"`option` parameter received invalid element types.*\(1, True\)"),
    (TypedListProperty(), (1,), ("a",), TYPE, r"Expected element types: int, Value: \('a',\)"),
    (TypedListProperty(n_elements=2), (1, 2), (1,), RANGE, r"list with 2 variables.*`option`.*\(1,\)"),
    (TypedListProperty(minval=1), (1,), (2, 0), RANGE, r"`option` should not be less than 1, got \(2, 0\)"),
    (TypedListProperty(excluded=(0,)), (1,), (1, 0), RANGE, r"`option` should not be 0, got \(1, 0\)"),
    (TypedListProperty(unique=True), (1,), (1, 0, 1), RANGE, r"`option` should be unique, got \(1, 0, 1\)"),
    (TypedListProperty(single=True), (1,), True, TYPE, "`option`.*True"),
    (TypedListProperty(single=True), (1,), 2.5, TYPE, "`float` for `option`.*got 2.5"),
    (ChoiceProperty(["a", "b"]), "a", "c", RANGE, "Wrong value `c` for property `option`. Available values: a, b"),
    (ChoiceProperty({"x": 1}), "x", 1, RANGE, "Wrong value `1` for property `option`. Available values: x"),
    (ChoiceProperty(["a"]), "a", ["a"], RANGE, r"Wrong value `\['a'\]` for property `option`"),
    (ChoiceProperty(["a"]), "a", None, RANGE, "Wrong value `None` for property `option`"),
    (FunctionWithOptionsProperty(["a"]), "a", "b", RANGE, "Wrong value `b` for property `option`. Available values: a"),
    (FunctionWithOptionsProperty(["a"]), "a", 5, RANGE, "Wrong value `5` for property `option`"),
    (FunctionWithOptionsProperty(["a"]), "a", nn.Bilinear, RANGE, "Wrong value `.*Bilinear.*` for property `option`"),
]


def assign(owner, **values):
    for name, value in values.items():
        setattr(owner, name, value)


def set_params(owner, **values):
    owner.set_params(**values)


@pytest.mark.parametrize("attempt", [assign, set_params])
@pytest.mark.parametrize(
    ("option", "before", "value", "error", "message"), REFUSED, ids=[f"{o}-{v!r}" for o, _, v, _, _ in REFUSED]
)
def test_a_refused_value_is_named_and_the_old_one_stays(option, before, value, error, message, attempt):
    owner = declare(option)(option=before)
    kept = owner.get_params()["option"]
    with pytest.raises(error, match=rf"(?s){message}.*\(option of Owner\)"):
        attempt(owner, option=value)
    assert owner.get_params()["option"] is kept and vars(owner) == {"option": kept}


@pytest.mark.parametrize(
    ("option", "before", "value", "error", "message"), REFUSED, ids=[f"{o}-{v!r}" for o, _, v, _, _ in REFUSED]
)
def test_a_constructor_refuses_the_same(option, before, value, error, message):
    with pytest.raises(error, match=rf"(?s){message}.*\(option of Owner\)"):
        declare(option)(option=value)


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: assign(Relu(5, name="big"), n_units=-1), "`n_units` .*between 1 and inf, got -1.*Relu 'big'"),
        (lambda: Relu(5, name="big").set_params(alpha=-2), "`alpha` .*between 0 and inf, got -2.*Relu 'big'"),
    ],
)
def test_the_message_names_the_layer_once_it_has_a_name(attempt, message):
    with pytest.raises(ValueError, match=message):
        attempt()


@pytest.mark.parametrize("choices", [{}, [], (), set()], ids=repr)
def test_there_has_to_be_a_choice(choices):
    with pytest.raises(ValueError, match="at least one choice"):
        ChoiceProperty(choices)


@pytest.mark.parametrize("choices", ["add", 5, None], ids=repr)
def test_choices_are_a_collection(choices):
    with pytest.raises(ValueError, match=f"can be only a `dict`, got `{type(choices).__name__}`.*{choices}"):
        ChoiceProperty(choices)


def test_choices_of_a_list_stand_for_themselves():
    assert ChoiceProperty(["a", "b"]).choices == {"a": "a", "b": "b"}


def test_a_choice_is_kept_by_its_key():
    settings = Settings()
    assert (settings.choice, settings.get_params()["choice"]) == (1, "one")
    settings.choice = "two"
    assert (settings.choice, settings.get_params()["choice"]) == (2, "two")


def test_choices_given_do_not_change_with_the_users_dictionary():
    mine = {"one": 1}
    owner = declare(ChoiceProperty(mine))(option="one")
    mine.clear()
    assert owner.option == 1


def test_allow_none_adds_its_type():
    expected_type: object = IntProperty(allow_none=True).expected_type
    assert expected_type == (numbers.Integral, np.integer, type(None))
    assert Property(str, allow_none=True).expected_type == (str, type(None))


# Reading

EVERY_KIND = [
    ArrayProperty(),
    BaseProperty(),
    BoundedProperty(),
    ChoiceProperty(["a"]),
    FunctionWithOptionsProperty(["a"]),
    IntProperty(),
    NumberProperty(),
    ParameterProperty(),
    ProperFractionProperty(),
    Property(),
    TypedListProperty(),
]


@pytest.mark.parametrize("option", EVERY_KIND, ids=repr)
def test_read_on_the_class_an_option_is_none(option):
    assert declare(option).option is None


@pytest.mark.parametrize("option", EVERY_KIND, ids=repr)
def test_the_repr_names_kind_and_option(option):
    kind = type(option)
    fresh = kind(["a"]) if issubclass(kind, ChoiceProperty) else kind()
    assert repr(fresh) == f"{kind.__name__}()"
    assert repr(declare(fresh).options["option"].value) == f'{kind.__name__}(name="option")'


@pytest.mark.parametrize("option", [kind for kind in EVERY_KIND if not isinstance(kind, ParameterProperty)], ids=repr)
def test_without_a_default_an_option_is_none(option):
    owner = declare(option)()
    assert owner.option is None and owner.get_params() == {"option": None}


def test_a_default_is_read_until_something_is_assigned():
    settings = Settings()
    assert (settings.size, settings.choice, settings.sizes) == (3, 1, (1, 2))
    settings.size = 8
    assert settings.size == 8 and Settings().size == 3


def test_a_default_takes_its_canonical_form():
    owner = declare(IntProperty(default=5.0))()
    assert type(owner.option) is int


def test_a_default_list_is_not_shared():
    kind = declare(TypedListProperty(default=[1]))
    kind().option.append(2)
    assert kind().option == [1]


@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        (IntProperty(default=0, minval=1), ValueError, "`option` should be between 1 and inf, got 0"),
        (IntProperty(default="a"), TypeError, "`str` for `option`"),
        (ChoiceProperty(["a"], default="b"), ValueError, "Wrong value `b` for property `option`"),
    ],
    ids=repr,
)
def test_a_default_is_validated_when_it_is_read(option, error, message):
    owner = declare(option)()
    with pytest.raises(error, match=message):
        _ = owner.option


def test_only_a_configurable_asks_for_what_is_required():
    kind = declare(IntProperty(required=True))
    with pytest.raises(ValueError, match=r"Option `option` is required.*Owner"):
        kind()
    assert kind(option=2).option == 2


def test_two_objects_of_a_class_have_their_own_values():
    first, second = Settings(size=1), Settings(size=2)
    first.size = 9
    assert second.size == 2


@pytest.mark.parametrize("make_copy", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_values_survive_copies(make_copy):
    settings = Settings(size=9.0, choice="two", sizes=[4])
    twin = make_copy(settings)
    assert twin.get_params() == settings.get_params() == {"size": 9, "choice": "two", "sizes": [4]}
    twin.size = 1
    assert settings.size == 9


def test_a_value_is_an_ordinary_attribute_of_the_instance():
    # So that deepcopy, pickle and torch.compile need no special care.
    assert vars(declare(IntProperty())(option=5.0)) == {"option": 5}


# Withdrawing


class Parent(Configurable):
    size = IntProperty(default=5)
    name = Property(str, default="a")


class Child(Parent):
    size = WithdrawProperty()


def test_a_withdrawn_option_leaves_the_list_and_keeps_its_default():
    assert (list(Child.options), Child().size, Child.size) == (["name"], 5, None)
    assert list(Parent.options) == ["size", "name"]


def test_a_withdrawn_option_cannot_be_given():
    with pytest.raises(ValueError, match="`Child` object contains invalid properties: size"):
        Child(size=3)
    child = Child()
    with pytest.raises(ValueError, match="`Child` object contains invalid properties: size"):
        child.set_params(size=3)
    assert child.size == 5


def test_a_parent_may_still_assign_what_is_withdrawn():
    child = Child()
    child.size = 7
    assert child.size == 7 and child.get_params() == {"name": "a"}


def test_a_withdrawn_option_may_be_declared_again():
    class Grandchild(Child):
        size = IntProperty(default=8)

    assert (Grandchild().size, Grandchild.options["size"].class_name) == (8, "Grandchild")


def test_what_no_parent_has_cannot_be_withdrawn():
    with pytest.raises((TypeError, RuntimeError), match="sise") as caught:
        type("Child", (Parent,), {"sise": WithdrawProperty()})
    assert "Child" in str(caught.value)


class Calm(Relu):
    """A layer whose slope its users cannot choose."""

    alpha = WithdrawProperty()

    def __init__(self, n_units=None, name=None):
        super().__init__(n_units, alpha=0.25, name=name)


class Unbiased(Linear):
    bias = WithdrawProperty()

    def __init__(self, n_units=None, weight=1, name=None):
        super().__init__(n_units, weight=weight, bias=None, name=name)


def test_a_layer_gives_its_parent_what_it_has_withdrawn():
    layer = Calm()
    assert (layer.alpha, "alpha" in layer.get_params()) == (0.25, False)
    assert_close(layer.output(torch.tensor([-4.0, 2.0])), torch.tensor([-1.0, 2.0]))
    with pytest.raises(TypeError, match="unexpected keyword argument 'alpha'"):
        Calm(alpha=1)  # type: ignore[call-arg]


def test_a_variable_may_be_withdrawn():
    layer = Unbiased(2)
    network = Input(3) >> layer
    assert list(layer.variables) == ["weight"] and "bias" not in layer.get_params()
    assert_close(network(torch.ones(1, 3)), torch.full((1, 2), 3.0))


# Options that become variables


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "Constant(0.5)"),
        (2, "Constant(2)"),
        (np.float32(2), "Constant(2.0)"),
        (np.int64(3), "Constant(3)"),
        (init.Uniform(-1, 1), "Uniform(-1, 1)"),
        (np.ones((3, 5)), "<Array shape=(3, 5)>"),
        (np.ones((3, 5)).view(np.matrix), "<Matrix shape=(3, 5)>"),
        (torch.ones(3, 5), "<Tensor shape=(3, 5)>"),
        (nn.Parameter(torch.ones(3, 5)), "<Variable shape=(3, 5)>"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_specification_is_shown_before_and_after_the_variable_is_made(value, text):
    layer = Relu(5, weight=value, name="r")
    expected = f"Relu(5, alpha=0, weight={text}, bias=Constant(0), name='r')"
    assert repr(layer) == expected
    join(Input(3), layer)
    assert layer.weight.shape == (3, 5) and repr(layer) == expected


def test_a_number_becomes_a_constant_of_that_value():
    weight = Relu(5, weight=np.float32(0.5)).get_params()["weight"]
    assert isinstance(weight, init.Constant) and weight.value == 0.5 and type(weight.value) is float


@pytest.mark.parametrize("value", [init.HeUniform(), np.ones((3, 5)), torch.ones(3, 5), nn.Parameter(torch.ones(3, 5))])
def test_a_specification_is_kept_until_the_variable_is_made(value):
    layer = Relu(5, weight=value)
    assert layer.get_params()["weight"] is value and layer.weight is None


LEAF = torch.ones(3, 5, requires_grad=True)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("text", TypeError, "Invalid data type `str` for `weight` property.*ndarray, int, float.*got 'text'"),
        (None, TypeError, "Invalid data type `NoneType` for `weight`"),
        ([1, 2], TypeError, r"`list` for `weight`.*got \[1, 2\]"),
        (init.HeNormal, TypeError, "Invalid data type `.*` for `weight`.*HeNormal"),
        (np.array(["a"]), TypeError, "`weight` should hold real numbers, got dtype <U1"),
        (np.array([1j]), TypeError, "`weight` should hold real numbers, got dtype complex128"),
        (np.array([None]), TypeError, "`weight` should hold real numbers, got dtype object"),
        (torch.ones(3, 5, dtype=torch.complex64), TypeError, "`weight` should hold real numbers.*complex64"),
        (LEAF * 2, ValueError, r"`weight` is the result of a computation.*\(3, 5\)"),
    ],
    ids=["text", "None", "list", "class", "text array", "complex array", "object array", "complex tensor", "no leaf"],
)
def test_a_wrong_specification_is_refused_by_constructor_and_by_set_params(value, error, message):
    with pytest.raises(error, match=rf"(?s){message}.*option of Linear"):
        Linear(5, weight=value)
    layer = Linear(5, name="kept")
    with pytest.raises(error, match=rf"(?s){message}.*option of Linear 'kept'"):
        layer.set_params(weight=value)
    assert repr(layer) == "Linear(5, weight=HeNormal(gain=1.0), bias=Constant(0), name='kept')"
    # A refused layer leaves no gap in the numbers.
    assert Linear().name == "linear-1"


def test_only_the_bias_may_be_none():
    layer = Linear(5, bias=None)
    network = Input(3) >> layer
    assert (
        layer.bias is None and list(layer.variables) == ["weight"] and list(network.state_dict()) == ["linear-1.weight"]
    )


def test_a_variable_reads_none_until_it_is_made():
    # So that the usual ``if module.weight is not None: init_(module.weight)`` works on every layer.
    layer = Linear(5)
    assert layer.weight is None and layer.bias is None and list(layer.parameters()) == []
    join(Input(3), layer)
    assert layer.weight is dict(layer.named_parameters())["weight"] and isinstance(layer.weight, nn.Parameter)


class Scaled(Identity):
    """Its option has a default, and its constructor says nothing of it."""

    scale = ParameterProperty(default=init.Constant(3))

    def create_variables(self, input_shape):
        self.variable(None, "scale", shape=input_shape[1:])

    def output(self, input, **kwargs):
        return input * self.scale


class ScaledByNumber(Scaled):
    scale = ParameterProperty(default=3)


@pytest.mark.parametrize("kind", [Scaled, ScaledByNumber])
def test_a_default_specification_counts_without_a_constructor(kind):
    layer = kind(name="s")
    assert layer.scale is None
    assert isinstance(layer.get_params()["scale"], init.Constant)
    assert repr(layer) == f"{kind.__name__}(name='s', scale=Constant(3))"
    network = Input(2) >> layer
    assert_close(network(torch.ones(1, 2)), torch.full((1, 2), 3.0))


def test_a_slot_that_is_gone_is_an_attribute_error():
    layer = Linear(5, name="bare")
    del layer.weight
    assert not hasattr(layer, "weight") and hasattr(layer, "bias")
    with pytest.raises(AttributeError, match="weight"):
        _ = layer.weight


@pytest.mark.parametrize(
    "value", [0.5, "text", np.ones((3, 5)), torch.ones(3, 5)], ids=["0.5", "text", "array", "tensor"]
)
def test_what_is_no_parameter_cannot_be_assigned_to_a_variable(value):
    # nn.Module refuses it, before the variable is made and after.
    layer = Linear(5)
    with pytest.raises(TypeError, match=r"cannot assign .* as parameter 'weight'"):
        layer.weight = value
    assert layer.weight is None
    join(Input(3), layer)
    before = layer.weight
    with pytest.raises(TypeError, match=r"cannot assign .* as parameter 'weight'"):
        layer.weight = value
    assert layer.weight is before


def test_a_parameter_assigned_to_a_variable_is_the_variable():
    layer = Linear(5)
    network = Input(3) >> layer
    layer.weight = nn.Parameter(torch.ones(3, 5))
    assert layer.variables["weight"] is layer.weight
    assert_close(network(torch.ones(2, 3)), torch.full((2, 5), 3.0))


def test_a_given_array_is_dropped_once_the_variable_holds_it():
    array = np.ones((3, 5))
    layer = Linear(5, weight=array)
    watched = weakref.ref(array)
    join(Input(3), layer)
    del array
    gc.collect()
    assert watched() is None


def test_get_params_gives_the_current_values_of_a_given_array():
    layer = Linear(2, weight=np.ones((3, 2)))
    join(Input(3), layer)
    with torch.no_grad():
        layer.weight.mul_(4)
    current = layer.get_params()["weight"]
    assert isinstance(current, np.ndarray)
    np.testing.assert_array_equal(current, np.full((3, 2), 4))
    current[:] = 0
    assert_close(layer.weight.detach(), torch.full((3, 2), 4.0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_get_params_works_in_every_dtype(dtype):
    # numpy has no bfloat16; the values have to come out all the same.
    layer = Linear(2, weight=np.full((3, 2), 1.5), name="l")
    join(Input(3), layer)
    layer.to(dtype)
    twin = Linear(**layer.get_params())
    join(Input(3), twin)
    assert_close(twin.weight, torch.full((3, 2), 1.5), check_dtype=False)


def test_a_shared_parameter_comes_back_itself():
    weight = nn.Parameter(torch.ones(3, 2))
    layer = Linear(2, weight=weight)
    join(Input(3), layer)
    assert layer.weight is weight and layer.get_params()["weight"] is weight


def test_a_variable_gives_way_to_parametrize():
    layer = Linear(2, weight=2, bias=None, name="l")
    network = Input(3) >> layer

    class Twice(nn.Module):
        def forward(self, x):
            return 2 * x

    parametrize.register_parametrization(layer, "weight", Twice())
    assert_close(layer.weight, torch.full((3, 2), 4.0))
    assert_close(layer.variables["weight"], layer.weight)
    assert_close(network(torch.ones(1, 3)), torch.full((1, 2), 12.0))
    # The class that parametrize makes is not shown, and the option stays what was asked for.
    assert repr(layer) == "Linear(2, weight=Constant(2), bias=None, name='l')"
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    assert_close(network(torch.ones(1, 3)), torch.full((1, 2), 6.0))


def test_a_variable_gives_way_to_prune():
    layer = Linear(1, weight=np.array([[1.0], [2.0], [3.0]]), bias=None)
    network = Input(3) >> layer
    prune.l1_unstructured(layer, "weight", amount=1)
    assert_close(layer.variables["weight"].detach(), torch.tensor([[0.0], [2.0], [3.0]]))
    assert_close(network(torch.ones(1, 3)), torch.tensor([[5.0]]))
    prune.remove(layer, "weight")
    assert isinstance(layer.weight, nn.Parameter) and list(layer.variables) == ["weight"]


class Averaging(Identity):
    """One of its variables is expected among the buffers; whether it is there depends on the other option."""

    mean = ParameterProperty(trainable=False)
    learned = Property(expected_type=bool)

    def __init__(self, mean=0, learned=False, name=None):
        self.specify(mean=mean, learned=learned)
        super().__init__(name=name)

    def create_variables(self, input_shape):
        self.variable(None, "mean", shape=(3,), trainable=self.learned)

    def output(self, input, **kwargs):
        return input + self.mean


def test_a_variable_that_is_not_trained_has_its_slot_among_the_buffers():
    layer = Averaging(2)
    assert (layer.mean, layer._buffers, layer._parameters) == (None, {"mean": None}, {})
    layer.register_buffer("mean", torch.ones(3))  # as nn.Module lets anyone
    assert torch.equal(layer.mean, torch.ones(3))
    layer = Averaging(2)
    layer.set_params(mean=5)
    assert (layer.mean, layer._parameters) == (None, {})
    network = Input(3) >> layer
    assert layer.mean.tolist() == [5, 5, 5] and layer.mean is layer._buffers["mean"] and not layer._parameters
    assert torch.equal(network(torch.ones(1, 3)), torch.full((1, 3), 6.0))
    layer.set_params(mean=1)
    assert layer.variables["mean"].tolist() == [1, 1, 1]
    assert repr(layer) == "Averaging(mean=Constant(1), learned=False, name='averaging-2')"
    del layer.mean
    assert not hasattr(layer, "mean")


def test_a_variable_may_be_trained_though_it_was_not_expected():
    layer = Averaging(2, learned=True)
    network = Input(3) >> layer
    assert layer.mean is layer._parameters["mean"] and not layer._buffers
    assert list(network.parameters()) == [layer.mean]


def test_what_is_not_trained_may_be_parametrised():
    class Double(nn.Module):
        def forward(self, tensor):
            return 2 * tensor

    layer = Averaging(2)
    network = Input(3) >> layer
    parametrize.register_parametrization(layer, "mean", Double())
    assert torch.equal(network(torch.ones(1, 3)), torch.full((1, 3), 5.0))


def test_set_params_takes_the_place_of_a_specification_that_was_assigned_plainly():
    # As NeuPy's own layers assign it, after the base class's constructor.
    class Plain(Identity):
        gamma = ParameterProperty()

        def __init__(self, gamma=1, name=None):
            super().__init__(name=name)
            self.gamma = gamma

        def create_variables(self, input_shape):
            self.gamma = self.variable(self.gamma, "gamma", shape=input_shape[1:])

    layer = Plain(2, name="p").set_params(gamma=5)
    assert repr(layer) == "Plain(gamma=Constant(5), name='p')"
    join(Input(3), layer)
    assert_close(layer.gamma.detach(), torch.full((3,), 5.0))


# Options that hold once the variables are there


class Sized(Identity):
    """Nothing assigns its option: what is read is the default."""

    size = IntProperty(default=3, fixed=True)

    def create_variables(self, input_shape):
        self.variable(1, "weight", shape=(self.size,))


def test_an_option_on_which_shapes_depend_is_kept_by_a_built_layer():
    layer = Relu(5, name="r")
    layer.n_units = 6
    join(Input(3), layer)
    for attempt in (assign, set_params):
        with pytest.raises(ValueError, match=r"`n_units` from 6 to 7.*Relu 'r'"):
            attempt(layer, n_units=7)
        attempt(layer, n_units=6.0)
    assert layer.n_units == 6 and layer.weight.shape == (3, 6) and layer.output_shape == (None, 6)


def test_the_default_of_such_an_option_can_be_read_and_confirmed_afterwards():
    layer = Sized(name="s")
    join(Input(3), layer)
    assert layer.size == 3 and layer.get_params() == {"name": "s", "size": 3}
    assert layer.set_params(size=3) is layer and repr(layer) == "Sized(name='s', size=3)"
    with pytest.raises(ValueError, match=r"`size` from 3 to 4.*Sized 's'"):
        layer.size = 4
    assert layer.size == 3


# Modules as options


def test_a_module_given_as_a_function_is_a_child():
    layer = Elementwise(MODULE)
    assert layer.merge_function is MODULE and dict(layer.named_children()) == {"merge_function": MODULE}
    assert layer.get_params()["merge_function"] is MODULE


def test_a_function_takes_the_place_of_a_module_and_the_other_way_round():
    layer = Elementwise(MODULE)
    layer.set_params(merge_function="multiply")
    assert layer.merge_function is torch.mul and list(layer.children()) == []
    layer.set_params(merge_function=MODULE)
    assert layer.merge_function is MODULE and list(layer.children()) == [MODULE]


@pytest.mark.parametrize("value", ["multiply", multiply], ids=["name", "function"])
def test_what_is_no_module_cannot_be_assigned_to_a_child(value):
    # As on every nn.Module; set_params does it.
    layer = Elementwise(MODULE)
    with pytest.raises(TypeError, match=r"cannot assign .* as child module 'merge_function'"):
        layer.merge_function = value
    assert layer.merge_function is MODULE and list(layer.children()) == [MODULE]


def test_a_module_assigned_takes_the_place_of_a_function():
    layer = Elementwise(multiply)
    layer.merge_function = MODULE
    assert layer.merge_function is MODULE and list(layer.children()) == [MODULE]


def test_a_replaced_module_is_the_option():
    layer = Elementwise(MODULE)
    other = nn.Bilinear(3, 3, 3)
    layer._modules["merge_function"] = other
    assert layer.merge_function is other and layer.get_params()["merge_function"] is other


def test_all_is_complete():
    defined = {
        name
        for name, value in vars(properties).items()
        if inspect.isclass(value) and value.__module__.startswith("torchneupy.core.") and name.endswith("Property")
    }
    assert set(properties.__all__) == defined


def test_a_scalar_variable_is_a_number_or_a_tensor_of_one():
    class Trains(Configurable):
        step = properties.ScalarVariableProperty()

    step = torch.tensor(0.5)
    assert Trains(step=step).step is step and Trains(step=np.float32(0.5)).step == 0.5
    with pytest.raises(ValueError, match=r"`step`.*\(2,\).*Trains"):
        Trains(step=torch.ones(2))
    with pytest.raises(TypeError, match=r"`step`.*'fast'.*Trains"):
        Trains(step="fast")
