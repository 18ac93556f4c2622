"""``torch.nn.utils.parametrize``: what it makes of a weight is the weight that counts."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.testing import assert_close

from tests.interop.networks import copied_state, descend, equal_states, every_case_of_all, train
from tests.interop.two_layers import expected, half, inputs, make_network, weights
from torchneupy import init
from torchneupy.layers import Input, Linear, Relu, repeat

#: Those that leave the weight, for now, as it was.
KEEPING = {"own": half, "weight_norm": parametrizations.weight_norm}
ALL = KEEPING | {"orthogonal": parametrizations.orthogonal, "spectral_norm": parametrizations.spectral_norm}

every_parametrization = pytest.mark.parametrize("apply", ALL.values(), ids=ALL)

# Of every weight of every network


def weights_of(chosen, keys):
    return {f"{keys[layer]}.{name}": getattr(layer, name) for layer, name in chosen}


@every_case_of_all
@every_parametrization
def test_parametrized_weights_compute_learn_and_are_removed(case, apply, device):
    network, twin = (case.network().eval().to(device) for _ in range(2))
    x, chosen = case.inputs(device=device), weights(network)
    keys = {layer: key for key, layer in network.named_children()}
    for layer, name in chosen:
        apply(layer, name)
    if apply in KEEPING.values():
        assert_close(network(*x), twin(*x))
    before = copied_state(network)
    assert_close(network(*x), case.reference(before | weights_of(chosen, keys), *x))
    train(case, network.train(), torch.optim.SGD(network.parameters(), lr=0.1), steps=2, device=device)
    assert all(
        not torch.equal(before[name], parameter)
        for name, parameter in network.named_parameters()
        if ".original" in name
    )
    again = copy.deepcopy(network).eval()
    assert_close(again(*x), network.eval()(*x))
    outputs = network(*x)
    assert_close(outputs, case.reference(copied_state(network) | weights_of(chosen, keys), *x))
    for layer, name in chosen:
        parametrize.remove_parametrizations(layer, name)
    assert sorted(network.state_dict()) == sorted(twin.state_dict())
    assert_close(network(*x), outputs)


@every_case_of_all
@every_parametrization
def test_a_parametrized_state_is_loaded(case, apply, device):
    network, twin = (case.network(seed).to(device) for seed in (0, 1))
    x, keys = case.inputs(device=device), {layer: key for key, layer in network.named_children()}
    changed = {f"{keys[layer]}.{name}" for layer, name in weights(network)}
    for each in (network, twin):
        for layer, name in weights(each):
            apply(layer, name)
    train(case, network, torch.optim.SGD(network.parameters(), lr=0.1), steps=1, device=device)
    assert changed.isdisjoint(network.state_dict())
    twin.load_state_dict(network.state_dict())
    equal_states(twin, network)
    assert_close(twin.eval()(*x), network.eval()(*x))


@every_case_of_all
def test_the_norm_of_a_spectrally_normalised_weight_is_one(case, device):
    network = case.network().to(device)
    for layer, name in weights(network):
        parametrizations.spectral_norm(layer, name, n_power_iterations=20)
    train(case, network, torch.optim.SGD(network.parameters(), lr=0.1), steps=2, device=device)
    network.eval()
    for layer, name in weights(network):
        weight = getattr(layer, name)
        assert_close(torch.linalg.matrix_norm(weight.flatten(1), 2), torch.ones((), device=device), rtol=0.05, atol=0)


# Of one weight


@every_parametrization
def test_a_parametrized_weight_is_the_one_that_computes_and_learns(apply):
    network = make_network()
    apply(network["hidden"])
    before = copied_state(network)
    assert_close(network(inputs()), expected(network, network["hidden"].weight))
    assert_close(network["hidden"].variables["weight"], network["hidden"].weight)
    descend(network, torch.optim.SGD(network.parameters(), lr=0.5), (inputs(),), steps=2)
    originals = [key for key in before if "parametrizations.weight.original" in key]
    assert originals and all(not torch.equal(before[key], network.state_dict()[key]) for key in originals)
    network.eval()
    assert_close(network(inputs()), expected(network, network["hidden"].weight))


def test_an_orthogonal_weight_stays_orthogonal_while_it_learns():
    network = make_network()
    parametrizations.orthogonal(network["hidden"])
    descend(network, torch.optim.SGD(network.parameters(), lr=0.5), (inputs(),), steps=3)
    weight = network["hidden"].weight
    assert_close(weight.T @ weight, torch.eye(5))


@every_parametrization
def test_a_parametrized_layer_shows_itself_as_before(apply):
    network = make_network()
    layer = network["hidden"]
    text, options, summary = repr(layer), layer.get_params(), str(network)
    apply(layer)
    assert type(layer) is not Relu
    assert repr(layer) == text
    assert layer.get_params() == options
    assert str(network) == summary
    assert "Parametrized" not in str(network.summary())


@every_parametrization
def test_a_parametrized_network_is_copied(apply):
    network = make_network()
    apply(network["hidden"])
    network.eval()
    twin = copy.deepcopy(network)
    assert_close(twin(inputs()), network(inputs()))
    assert repr(list(twin)) == repr(list(network))
    before = copied_state(network)
    descend(twin.train(), torch.optim.SGD(twin.parameters(), lr=0.5), (inputs(),), steps=1)
    assert_close(copied_state(network), before)


@every_parametrization
def test_copies_under_new_names_are_named_after_the_layers_own_class(apply):
    layer = Relu(5)
    network = Input(5) >> layer
    apply(layer)
    network.eval()
    assert copy.copy(layer).name == "relu-2"
    assert [child.name for child in repeat(layer, 2)] == ["relu-1", "relu-3"]


@every_parametrization
def test_a_parametrized_layer_is_connected_further(apply):
    network = make_network()
    layer = network["hidden"]
    apply(layer)
    network.eval()
    before = copied_state(layer)
    longer = network >> Linear(3)
    other = Input(5) >> layer
    assert longer.is_built and longer.output_shape == (None, 3) and longer["hidden"] is layer
    assert_close(other(inputs()), torch.relu(inputs() @ layer.weight + layer.bias))
    assert_close(copied_state(layer), before)


@every_parametrization
@pytest.mark.usefixtures("fresh_compiler")
def test_a_parametrized_network_compiles(apply):
    network = make_network()
    apply(network["hidden"])
    network.eval()
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    assert_close(compiled(inputs()), expected(network, network["hidden"].weight))


@every_parametrization
def test_removed_a_parametrization_leaves_the_weight_it_gave(apply):
    network = make_network()
    keys = list(network.state_dict())
    layer = network["hidden"]
    apply(layer)
    network.eval()
    weight = layer.weight.detach().clone()
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is Relu
    assert_close(layer.weight.detach(), weight)
    assert isinstance(layer.weight, nn.Parameter) and layer.variables["weight"] is layer.weight
    assert sorted(network.state_dict()) == sorted(keys)
    assert_close(network(inputs()), expected(network, weight))


@pytest.mark.parametrize(
    "value", [init.Constant(0.5), 0.5, torch.full((5, 5), 0.5)], ids=["initializer", "number", "tensor"]
)
def test_set_params_writes_through_a_parametrization(value):
    """As assigning ``layer.weight`` does for a parametrized module."""
    network = make_network()
    half(network["hidden"])
    network["hidden"].set_params(weight=value)
    assert_close(network["hidden"].weight.detach(), torch.full((5, 5), 0.5))


def test_two_parametrisations_and_one_of_the_bias_work_together():
    network = make_network()
    layer = network["hidden"]
    half(layer)
    parametrize.register_parametrization(layer, "weight", nn.Tanh(), unsafe=True)
    parametrize.register_parametrization(layer, "bias", nn.Softplus(), unsafe=True)
    original = layer.parametrizations.weight.original
    weight = torch.tanh(original / 2)
    assert_close(layer.weight, weight)
    assert_close(network(inputs()), expected(network, weight))
    with parametrize.cached():
        assert_close(network(inputs()), expected(network, weight))
