"""Dictionaries into networks: what matches, what is refused, and that a refusal changes nothing."""

import copy
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from tests.storage.recorded import values
from torchneupy import init, storage
from torchneupy.exceptions import InvalidFormat, ParameterLoaderError, WeightInitializationError
from torchneupy.layers import BatchNorm, Dropout, Input, LayerGraph, Linear, Relu, Softmax, Tanh, as_layer, join


def entry(name, class_name="Relu", **parameters):
    return {"name": name, "class_name": class_name, "parameters": {k: {"value": v} for k, v in parameters.items()}}


def network(*names, units=2):
    return join(Input(2), *[Relu(units, weight=0, bias=0, name=name) for name in names])


def refused(target, data, **arguments):
    """The error of a load, which has changed nothing."""
    before = values(target)
    variables = list(map(id, target.variables.values()))
    with pytest.raises((ParameterLoaderError, InvalidFormat)) as caught:
        storage.load_dict(target, data, **arguments)
    assert list(map(id, target.variables.values())) == variables
    assert all(torch.equal(before[key], value) for key, value in values(target).items())
    return caught.value


ONES, TWOS = np.ones((2, 2)), np.full((2, 2), 2.0)
A, B = entry("a", weight=ONES, bias=[1, 1]), entry("b", weight=TWOS, bias=[2, 2])


# Matching


def test_by_names_whatever_the_order():
    target = network("a", "b")
    storage.load_dict(target, {"layers": [B, A]}, load_by="names")
    assert values(target)["a/bias"].tolist() == [1, 1]
    assert values(target)["b/bias"].tolist() == [2, 2]


def test_by_order_whatever_the_names():
    target = network("a", "b")
    storage.load_dict(target, {"layers": [B, A]}, load_by="order")
    assert values(target)["a/bias"].tolist() == [2, 2]


@pytest.mark.parametrize("names, first", [(("a", "b"), 1), (("b", "a"), 2), (("a", "c"), 1), (("c", "d"), 1)])
def test_by_names_or_else_by_order(names, first):
    target = network(*names)
    storage.load_dict(target, {"layers": [A, B]})
    assert values(target)[f"{names[0]}/bias"].tolist() == [first] * 2


def test_layers_without_parameters_do_not_count():
    target = join(Input(2), Relu(2, name="a"), Dropout(0.5), Relu(name="c"), Relu(2, name="b"))
    data = {"layers": [entry("x"), A, entry("y"), entry("z"), B]}
    for load_by in ("names", "order", "names_or_order"):
        storage.load_dict(target, data, load_by=load_by)
    assert values(target)["b/bias"].tolist() == [2, 2]


@pytest.mark.parametrize("load_by", ["names", "names_or_order"])
def test_some_names_are_missing_on_both_sides(load_by):
    target = network("c", "b")
    storage.load_dict(target, {"layers": [A, B]}, ignore_missing=True, load_by=load_by)
    assert values(target)["b/bias"].tolist() == [2, 2]
    assert values(target)["c/bias"].tolist() == [0, 0]


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c")])
def test_numbers_of_layers_differ(names):
    target = network(*names)
    message = f"The network has {len(names)} layers with parameters, stored data has 2"
    for load_by in ("names", "order", "names_or_order"):
        assert message in str(refused(target, {"layers": [A, B]}, load_by=load_by))
    storage.load_dict(target, {"layers": [B, A]}, ignore_missing=True, load_by="order")
    assert values(target)["a/bias"].tolist() == [2, 2]


def test_names_differ():
    target = network("a", "c")
    assert str(refused(target, {"layers": [A, B]}, load_by="names")) == (
        "Cannot match layers by name: 1 of the names are in both. Layer names in the network: ['a', 'c']. "
        "Layer names in stored data: ['a', 'b']"
    )
    error = refused(network("c", "d"), {"layers": [A, B]}, load_by="names", ignore_missing=True)
    assert "Cannot match layers by name: 0 of the names are in both" in str(error)


def test_a_name_is_there_twice():
    twice = [A, {**B, "name": "a"}]
    assert "a name is there twice" in str(refused(network("a", "b"), {"layers": twice}, load_by="names"))
    assert "a name is there twice" in str(refused(network("a", "a"), {"layers": [A, B]}, load_by="names"))
    target = network("a", "a")
    storage.load_dict(target, storage.save_dict(network("x", "y")))
    storage.load_dict(target, {"layers": twice})
    assert target.layers[2].bias.tolist() == [2, 2]


def test_unknown_strategy():
    with pytest.raises(ValueError, match=r"`load_by` argument: position\. .*: names, order, names_or_order"):
        storage.load_dict(network("a"), {"layers": [A]}, load_by="position")


# Fitting


def test_other_shape_by_name_does_not_load_by_order():
    """NeuPy overwrites the first layers before it fails, or goes on by order."""
    target = join(Input(2), Relu(2, name="a"), Relu(3, name="b"))
    message = str(refused(target, {"layers": [A, B]}))
    assert "Parameter `weight` of layer `b` has the shape (2, 3), the stored one has (2, 2)" in message
    assert "Layer: Relu(3" in message


@pytest.mark.parametrize("load_by", ["names", "order"])
def test_unknown_parameter(load_by):
    message = str(refused(network("a"), {"layers": [entry("a", bias=[1, 1], kernel=ONES)]}, load_by=load_by))
    assert "Parameter 'kernel' is stored for layer `a`, which has no such variable: it has ['weight'" in message


def test_parameter_that_the_layer_goes_without():
    target = Input(2) >> Relu(2, weight=0, bias=None, name="a")
    assert "Parameter 'bias' is stored for layer `a`" in str(refused(target, {"layers": [A]}, ignore_missing=True))


def test_missing_parameter_is_told():
    target = network("a")
    with pytest.warns(UserWarning, match="Nothing is stored for bias of layer `a`, which stay as they are"):
        storage.load_dict(target, {"layers": [entry("a", weight=ONES)]})
    assert values(target)["a/weight"].tolist() == [[1, 1], [1, 1]]
    assert values(target)["a/bias"].tolist() == [0, 0]
    storage.load_dict(target, {"layers": [entry("a", weight=TWOS)]}, ignore_missing=True)  # then nobody is told
    assert values(target)["a/weight"].tolist() == [[2, 2], [2, 2]]


def test_other_class_by_order_is_told():
    target = Input(2) >> Softmax(2, name="x")
    with pytest.warns(UserWarning, match="layer `x`, a Softmax, takes those of the stored layer 'a', a 'Relu'"):
        storage.load_dict(target, {"layers": [A]})
    assert values(target)["x/bias"].tolist() == [1, 1]
    storage.load_dict(target, {"layers": [{**B, "name": "x"}]})  # by name it is meant
    assert values(target)["x/bias"].tolist() == [2, 2]


MALFORMED: list[tuple[Any, str]] = [
    ([], "should be a dictionary, got <list>"),
    (None, "should be a dictionary, got <NoneType>"),
    ({}, "has no key `layers`"),
    ({"layers": {}}, "stored in a list, got <dict>"),
    ({"layers": "text"}, "stored in a list, got 'text'"),
    ({"layers": [[]]}, "position 0 (from 0) should be a dictionary, got <list>"),
    ({"layers": [A, {"parameters": {}}]}, "position 1 (from 0) has no key `name`"),
    ({"layers": [{"name": "a"}]}, "position 0 (from 0) has no key `parameters`"),
    ({"layers": [{"name": 1, "parameters": {}}]}, "should have a text as its name, got <int>"),
    ({"layers": [{"name": ["a"], "parameters": {}}]}, "should have a text as its name, got <list>"),
    ({"layers": [{"name": "a", "parameters": []}]}, "should have a dictionary of parameters, got <list>"),
    ({"layers": [{"name": "a", "parameters": {"weight": 1}}]}, "dictionary for its parameter 'weight', got <int>"),
    ({"layers": [{"name": "a", "parameters": {"weight": {}}}]}, "has no key `value` for its parameter 'weight'"),
    ({"layers": [{"name": "a", "parameters": {1: {}}}]}, "has no key `value` for its parameter <int>"),
]


@pytest.mark.parametrize("skip_validation", [True, False])
@pytest.mark.parametrize("data, message", MALFORMED)
def test_malformed(data, message, skip_validation):
    error = refused(network("a"), data, skip_validation=skip_validation)
    assert type(error) is InvalidFormat
    assert message in str(error)
    with pytest.raises(InvalidFormat, match=re.escape(message)):
        storage.validate_data_structure(data)


VALUES: list[tuple[Any, str]] = [
    ("text", "got 'text'"),
    (None, "got <NoneType>"),
    ({}, "got <dict>"),
    ([[1, 2], ["3", 4]], "should hold numbers, got str"),
    ([[1, 2], [None, 4]], "should hold numbers, got NoneType"),
    ([[1, 2], [3, [4]]], "should hold numbers, got list"),
    ([[1, 2], [3]], "not all of the length 2"),
    ([[1, 2], 3], "not all of the length 2"),
    ([[1, 2], [3, 1j]], "should hold numbers, got complex"),
    ([[1, 2], [3, 2**70]], "real numbers, got the dtype object"),
    (np.ones((2, 2), complex), "real numbers, got the dtype complex128"),
    (np.array([["a", "b"], ["c", "d"]]), "real numbers, got the dtype <U1"),
    (np.ones((2, 2), object), "real numbers, got the dtype object"),
    ([[[[[]]]]], "has the shape (2, 2), the stored one has (1, 1, 1, 1, 0)"),
    ([], "has the shape (2, 2), the stored one has (0,)"),
    (5.0, "has the shape (2, 2), the stored one has ()"),
    (2**70, "real numbers, got the dtype object"),
    (np.ones((2, 2, 1)), "has the shape (2, 2), the stored one has (2, 2, 1)"),
]


@pytest.mark.parametrize("value, message", VALUES, ids=[message for _, message in VALUES])
def test_value_that_is_no_fitting_array(value, message):
    target = network("a", "b")
    error = refused(target, {"layers": [A, entry("b", bias=[2, 2], weight=value)]})
    assert message in str(error)
    assert "arameter `weight` of layer `b`" in str(error)


def test_nested_too_deep():
    rows: Any = 1.0
    for _ in range(40):
        rows = [rows]
    assert "nested more than 32 deep" in str(refused(network("a"), {"layers": [entry("a", weight=rows)]}))


KINDS: list[Any] = [
    [[1, 2], [3, 4]],
    ((1, 2), (3, 4)),
    [[True, 2], [3.0, 4]],
    [[np.float16(1), np.int8(2)], [3, 4]],
    np.array([[1, 2], [3, 4]], ">i2"),
    np.asfortranarray([[1.0, 2], [3, 4]]),
    np.array([[1, 0, 2], [3, 0, 4]])[:, ::2],
    torch.tensor([[1, 2], [3, 4]]),
    torch.tensor([[1, 2], [3, 4]], dtype=torch.bfloat16),
]


@pytest.mark.parametrize("value", KINDS)
def test_value_of_any_kind(value):
    target = network("a")
    storage.load_dict(target, {"layers": [entry("a", weight=value, bias=[0, 0])]})
    assert values(target)["a/weight"].tolist() == [[1, 2], [3, 4]]


def test_read_only_array():
    value = np.ones((2, 2), np.float32)
    value.setflags(write=False)
    target = network("a")
    storage.load_dict(target, {"layers": [entry("a", weight=value, bias=[0, 0])]})
    assert values(target)["a/weight"].tolist() == [[1, 1], [1, 1]]


def test_no_layers():
    empty = LayerGraph()
    storage.load_dict(empty, storage.save_dict(empty))
    storage.load_dict(Input(2) >> Relu(), {"layers": []})
    with pytest.raises(InvalidFormat, match="the list `layers` is empty"):
        storage.load_dict(Input(2) >> Relu(), {"layers": []}, skip_validation=False)
    assert "stored data has 0" in str(refused(network("a"), {"layers": []}))


# Which networks


@pytest.mark.parametrize("call", [storage.save_dict, lambda thing: storage.load_dict(thing, {"layers": []})])
@pytest.mark.parametrize("thing", [Relu(2), [Input(2), Relu(2)], None, "network", nn.Linear(2, 2)])
def test_no_network(thing, call):
    with pytest.raises(TypeError, match="Input should be network or optimizer with network, got `<class"):
        call(thing)


def test_optimizer_with_network():
    class Optimizer:
        network = network("a")

    storage.load_dict(Optimizer(), {"layers": [A]})
    assert values(Optimizer.network)["a/bias"].tolist() == [1, 1]
    assert storage.save_dict(Optimizer())["graph"] == [("input-1", ["a"]), ("a", [])]


def test_network_that_is_not_built():
    target = Relu(3) >> Relu(2, name="b")
    with pytest.raises(WeightInitializationError, match="`relu-1`"):
        storage.load_dict(target, {"layers": []})
    with pytest.raises(WeightInitializationError, match="`relu-1`"):
        storage.save_dict(target)


def test_meta_network():
    with torch.device("meta"):
        target = Input(2) >> Relu(2, name="a")
    with pytest.raises(ParameterLoaderError, match=r"`weight` of layer `a` is on the meta device.*to_empty"):
        storage.load_dict(target, {"layers": [A]})
    storage.load_dict(target.to_empty(device="cpu"), {"layers": [A]})
    assert values(target)["a/bias"].tolist() == [1, 1]


def test_the_same_parameters_stay():
    """An optimizer made before a load trains what was loaded."""
    target = network("a")
    optimizer = torch.optim.SGD(target.parameters(), lr=1)
    storage.load_dict(target, {"layers": [A]})
    target(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert values(target)["a/bias"].tolist() == [0, 0]
    assert all(parameter.requires_grad for parameter in target.parameters())


def test_frozen_parameters_stay_frozen_and_are_loaded():
    target = network("a").requires_grad_(False)
    assert storage.save_dict(target)["layers"][1]["parameters"]["bias"]["trainable"] is False
    storage.load_dict(target, {"layers": [A]})
    assert values(target)["a/bias"].tolist() == [1, 1]
    assert not target["a"].bias.requires_grad


def test_buffers():
    target = Input(2) >> BatchNorm(name="bn")
    target(torch.randn(8, 2))
    data = storage.save_dict(target)
    kinds = {name: parameter["trainable"] for name, parameter in data["layers"][1]["parameters"].items()}
    assert kinds == {"running_mean": False, "running_inv_std": False, "gamma": True, "beta": True}
    again = Input(2) >> BatchNorm(name="bn")
    storage.load_dict(again, data)
    assert torch.equal(again["bn"].running_inv_std, target["bn"].running_inv_std)


def test_shared_parameter():
    shared = nn.Parameter(torch.zeros(2, 2))
    target = join(Input(2), Linear(2, weight=shared, name="a"), Linear(2, weight=shared, name="b"))
    storage.load_dict(target, storage.save_dict(target))
    storage.load_dict(target, {"layers": [A, {**A, "name": "b"}]})
    assert target["b"].weight.tolist() == [[1, 1], [1, 1]]
    assert target["a"].weight is target["b"].weight


def test_foreign_modules():
    def make(value):
        foreign = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        made = Input(2) >> foreign >> as_layer(Input(3) >> Relu(2, name="inner"), name="whole")
        with torch.no_grad():
            for tensor in made.state_dict().values():
                tensor.fill_(value)
        return made

    data, target = storage.save_dict(make(7)), make(0)
    storage.load_dict(target, data, load_by="order")
    assert all((tensor == 7).all() for tensor in target.state_dict().values())
    assert target.layers[1].module[1].num_batches_tracked.dtype == torch.int64


def test_whole_numbers_are_not_made_of_fractions():
    target = Input(3) >> nn.BatchNorm1d(3)
    data = storage.save_dict(target)
    data["layers"][1]["parameters"]["num_batches_tracked"]["value"] = 1.5
    assert "has the dtype torch.int64, which cannot hold the stored float64" in str(refused(target, data))


def test_layer_replaced_by_a_module():
    target = network("a", "b")
    target._modules["b"] = nn.Linear(2, 2)
    data = storage.save_dict(target)
    assert [layer["name"] for layer in data["layers"]] == ["input-1", "a", "b"]
    data["layers"][2]["parameters"]["weight"]["value"][:] = 5
    storage.load_dict(target, data)
    assert target._modules["b"].weight.tolist() == [[5, 5], [5, 5]]


def test_pruned():
    target = network("a", "b")
    prune.custom_from_mask(target["a"], "weight", torch.tensor([[1, 0], [0, 1]]))
    storage.load_dict(target, {"layers": [A, B]})
    assert target["a"].weight.tolist() == [[1, 0], [0, 1]]
    assert target["a"].weight_orig.tolist() == [[1, 1], [1, 1]]


def test_parametrised():
    target = network("a", "b")
    parametrizations.weight_norm(target["a"])
    storage.load_dict(target, {"layers": [A, B]})
    torch.testing.assert_close(target["a"].weight, torch.ones(2, 2))
    assert values(target)["b/weight"].tolist() == [[2, 2], [2, 2]]


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
def test_computed_by_a_hook():
    target = join(Input(2), *[Relu(2, weight=3, bias=0, name=name) for name in ("a", "b")])
    nn.utils.weight_norm(target["b"])
    error = refused(target, {"layers": [A, B]})
    assert isinstance(error, ParameterLoaderError)
    assert "`weight` of layer `b` is computed from others by a hook" in str(error)


class Positive(nn.Module):
    """A parametrisation that takes positive values only."""

    def forward(self, x):
        return x.exp()

    def right_inverse(self, value):
        if not (value > 0).all():
            raise ValueError("a value is not positive")
        return value.log()


def test_parametrisation_refuses():
    target = join(Input(2), *[Relu(2, weight=3, bias=0, name=name) for name in ("a", "b", "c")])
    for name in ("a", "c"):
        parametrize.register_parametrization(target[name], "weight", Positive())
    data = {"layers": [A, B, entry("c", weight=-ONES, bias=[1, 1])]}
    before = copy.deepcopy(target.state_dict())
    message = "`weight` of layer `c` is parametrised, and does not take the stored values: a value is not positive"
    with pytest.raises(ParameterLoaderError, match=message):
        storage.load_dict(target, data)
    assert all(torch.equal(before[key], value) for key, value in target.state_dict().items())


# Dtypes

DTYPES = ["f2", "f4", "f8", ">f4", ">f8", "i1", "i4", "i8", "u1", "u2", "u4", "u8", "?"]
TARGETS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@given(st.sampled_from(DTYPES), st.sampled_from(TARGETS), st.randoms(use_true_random=False))
def test_every_dtype_into_every_dtype(stored, wanted, random):
    value = np.array([[random.choice([0, 1, 2, 100]) for _ in range(2)] for _ in range(2)]).astype(stored)
    target = (Input(2) >> Linear(2, bias=None, name="a")).to(wanted)
    storage.load_dict(target, {"layers": [entry("a", "Linear", weight=value)]})
    assert target["a"].weight.dtype == wanted
    assert target["a"].weight.tolist() == value.astype(float).tolist()


def test_number_too_large_for_half_precision():
    target = (Input(1) >> Linear(1, bias=None, name="a")).half()
    storage.load_dict(target, {"layers": [entry("a", "Linear", weight=np.array([[1e6]]))]})
    assert target["a"].weight.tolist() == [[float("inf")]]


def test_parameters_that_are_not_contiguous():
    weight = nn.Parameter(torch.zeros(3, 2).T)
    target = Input(2) >> Linear(3, weight=weight, bias=None, name="a")
    assert not target["a"].weight.is_contiguous()
    storage.load_dict(target, {"layers": [entry("a", "Linear", weight=np.arange(6.0).reshape(2, 3))]})
    assert target["a"].weight.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert storage.save_dict(target)["layers"][1]["parameters"]["weight"]["value"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.cuda
def test_cuda():
    target = network("a").cuda()
    storage.load_dict(target, {"layers": [A]})
    assert target["a"].weight.device.type == "cuda"
    assert target["a"].weight.tolist() == [[1, 1], [1, 1]]
    assert storage.save_dict(target)["layers"][1]["parameters"]["bias"]["value"].tolist() == [1, 1]


# NeuPy's smaller functions


def test_smaller_functions():
    target = network("a", "b")
    storage.load_layer_parameter(target["a"], A)
    assert values(target)["a/bias"].tolist() == [1, 1]
    storage.load_dict_by_names([target["a"], target["b"]], [B, A])
    assert values(target)["b/bias"].tolist() == [2, 2]
    storage.load_dict_sequentially([target["a"], target["b"]], [B, A])
    assert values(target)["b/bias"].tolist() == [1, 1]
    with pytest.raises(ParameterLoaderError, match="1 of the names are in both"):
        storage.load_dict_by_names([target["a"]], [B, A])
    assert storage.extract_network(target) is target


# What is saved


def test_saved_values_are_copies():
    source = network("a")
    data = storage.save_dict(source)
    with torch.no_grad():
        source["a"].weight.fill_(9)
    assert data["layers"][1]["parameters"]["weight"]["value"].tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("dtype, stored", [(torch.float64, "f8"), (torch.float16, "f2"), (torch.bfloat16, "f4")])
def test_saved_dtypes(dtype, stored):
    data = storage.save_dict((Input(2) >> Relu(2)).to(dtype))
    assert data["layers"][1]["parameters"]["weight"]["value"].dtype == stored


def test_saved_configs():
    source = join(Input(3, name="x"), Tanh(2, name="t"), Relu(weight=init.Normal(std=0.5), name="r"))
    first, second, third = storage.save_dict(source)["layers"]
    assert first == {"class_name": "Input", "name": "x", "parameters": {}, "configs": {"name": "x", "shape": (3,)}}
    assert second["configs"] == {"name": "t", "n_units": 2}
    assert repr(third["configs"]["weight"]) == "Normal(mean=0, std=0.5)"
