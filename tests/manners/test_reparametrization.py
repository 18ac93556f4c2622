"""``torch.nn.utils.parametrize`` and ``prune`` on the weight of a layer: theirs is the weight that counts."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.testing import assert_close

from tests.manners.networks import CASES, copied_state, total, train
from torchneupy import init
from torchneupy.layers import Input, Linear, Relu, Sigmoid, repeat


class Symmetric(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.triu() + weight.triu(1).T

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.triu()


def symmetric(layer: nn.Module) -> nn.Module:
    return parametrize.register_parametrization(layer, "weight", Symmetric())


PARAMETRIZATIONS = {
    "symmetric": symmetric,
    "weight_norm": parametrizations.weight_norm,
    "orthogonal": parametrizations.orthogonal,
    "spectral_norm": parametrizations.spectral_norm,
}

every_parametrization = pytest.mark.parametrize("apply", PARAMETRIZATIONS.values(), ids=PARAMETRIZATIONS)


def make_network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Input(5) >> Relu(5, name="hidden") >> Sigmoid(2, name="last")


def inputs(seed=1):
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(seed))


def expected(network, weight):
    hidden = torch.relu(inputs() @ weight + network["hidden"].bias)
    return torch.sigmoid(hidden @ network["last"].weight + network["last"].bias)


# Parametrisations


@every_parametrization
def test_a_parametrized_weight_is_the_one_that_computes_and_learns(apply):
    network = make_network()
    apply(network["hidden"])
    before = copied_state(network)
    assert_close(network(inputs()), expected(network, network["hidden"].weight))
    assert_close(network["hidden"].variables["weight"], network["hidden"].weight)
    train(network, torch.optim.SGD(network.parameters(), lr=0.5), (inputs(),), steps=2)
    originals = [key for key in before if "parametrizations.weight.original" in key]
    assert originals and all(not torch.equal(before[key], network.state_dict()[key]) for key in originals)
    network.eval()
    assert_close(network(inputs()), expected(network, network["hidden"].weight))


def test_an_orthogonal_weight_stays_orthogonal_while_it_learns():
    network = make_network()
    parametrizations.orthogonal(network["hidden"])
    train(network, torch.optim.SGD(network.parameters(), lr=0.5), (inputs(),), steps=3)
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
def test_a_state_with_parametrisations_is_loaded(apply):
    network, twin = make_network(), make_network()
    for each in (network, twin):
        apply(each["hidden"])
    train(network, torch.optim.SGD(network.parameters(), lr=0.5), (inputs(),), steps=1)
    twin.load_state_dict(network.state_dict(), strict=True)
    assert_close(twin.eval()(inputs()), network.eval()(inputs()))
    assert not any(key.endswith("hidden.weight") for key in network.state_dict())


@every_parametrization
def test_a_parametrized_network_is_copied(apply):
    network = make_network()
    apply(network["hidden"])
    network.eval()
    twin = copy.deepcopy(network)
    assert_close(twin(inputs()), network(inputs()))
    assert repr(list(twin)) == repr(list(network))
    before = copied_state(network)
    train(twin.train(), torch.optim.SGD(twin.parameters(), lr=0.5), (inputs(),), steps=1)
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
def test_a_parametrized_network_compiles(apply):
    torch.compiler.reset()
    network = make_network()
    apply(network["hidden"])
    network.eval()
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    assert_close(compiled(inputs()), expected(network, network["hidden"].weight))
    torch.compiler.reset()


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
    symmetric(network["hidden"])
    network["hidden"].set_params(weight=value)
    assert_close(network["hidden"].weight.detach(), torch.full((5, 5), 0.5))


def test_two_parametrisations_and_one_of_the_bias_work_together():
    network = make_network()
    layer = network["hidden"]
    symmetric(layer)
    parametrize.register_parametrization(layer, "weight", nn.Tanh(), unsafe=True)
    parametrize.register_parametrization(layer, "bias", nn.Softplus(), unsafe=True)
    original = layer.parametrizations.weight.original
    weight = torch.tanh(original.triu() + original.triu(1).T)
    assert_close(layer.weight, weight)
    assert_close(network(inputs()), expected(network, weight))
    with parametrize.cached():
        assert_close(network(inputs()), expected(network, weight))


# Pruning


def smallest_half_zeroed(weight):
    threshold = weight.abs().flatten().kthvalue(round(weight.numel() * 0.4)).values
    return torch.where(weight.abs() <= threshold, 0, weight)


def pruned():
    network = make_network()
    weight = smallest_half_zeroed(network["hidden"].weight.detach())
    prune.l1_unstructured(network["hidden"], "weight", amount=0.4)
    return network, weight


def test_a_pruned_weight_is_the_one_that_computes():
    network, weight = pruned()
    assert_close(network(inputs()), expected(network, weight))
    assert_close(network.output(inputs()), expected(network, weight))
    assert_close(network["hidden"].variables["weight"].detach(), weight)
    assert [key for key in network.state_dict() if key.startswith("hidden")] == [
        "hidden.bias",
        "hidden.weight_orig",
        "hidden.weight_mask",
    ]


def test_a_pruned_weight_learns_where_it_is_kept():
    network, weight = pruned()
    before = copied_state(network)
    train(network, torch.optim.SGD(network.parameters(), lr=0.5), (inputs(),), steps=3)
    network(inputs())
    assert torch.equal(network["hidden"].weight == 0, weight == 0)
    assert not torch.equal(network.state_dict()["hidden.weight_orig"], before["hidden.weight_orig"])


def test_a_pruned_layer_shows_itself_as_before():
    plain = make_network()["hidden"]
    network, _ = pruned()
    layer = network["hidden"]
    assert repr(layer) == repr(plain)
    assert repr(layer.get_params()) == repr(plain.get_params())
    assert str(network) == "(?, 5) -> [... 3 layers ...] -> (?, 2)"
    assert layer.is_built and network.is_built


def test_an_error_in_a_pruned_network_is_the_one_that_was_raised():
    network, _ = pruned()
    network["hidden"].register_forward_hook(lambda module, given, output: output[:, :1])
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied") as caught:
        network(inputs())
    assert "last" in caught.value.__notes__[0]
    network, _ = pruned()
    network["hidden"].register_forward_pre_hook(lambda module, given: (given[0][:, :1],))
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied") as caught:
        network(inputs())
    assert "hidden" in caught.value.__notes__[0]


def test_a_pruned_layer_is_connected_further():
    network, weight = pruned()
    layer = network["hidden"]
    longer = network >> Linear(3)
    assert longer.is_built and longer["hidden"] is layer
    assert_close((Input(5) >> layer)(inputs()), torch.relu(inputs() @ weight + layer.bias))
    assert sorted(dict(layer.named_parameters())) == ["bias", "weight_orig"]


def test_a_network_pruned_without_gradients_is_copied_and_the_copy_is_pruned_too():
    """Pruned with gradients no module can be copied before it is called without them: torch refuses."""
    with torch.no_grad():
        network, weight = pruned()
        twin = copy.deepcopy(network)
    assert_close(twin(inputs()), expected(network, weight))
    assert repr(twin["hidden"]) == repr(network["hidden"])
    train(twin, torch.optim.SGD(twin.parameters(), lr=0.5), (inputs(),), steps=1)
    assert_close(network(inputs()), expected(network, weight))


def test_set_params_writes_what_pruning_masks():
    network, weight = pruned()
    network["hidden"].set_params(weight=torch.full((5, 5), 0.5))
    masked = torch.where(weight == 0, 0.0, 0.5)
    assert_close(network["hidden"].weight.detach(), masked)
    assert_close(network(inputs()), expected(network, masked))
    assert_close(network.state_dict()["hidden.weight_orig"], torch.full((5, 5), 0.5))


@pytest.mark.parametrize("change", [symmetric, lambda layer: prune.l1_unstructured(layer, "weight", amount=0.4)])
def test_set_params_leaves_alone_a_reparametrized_weight_that_it_is_not_given(change):
    network = make_network()
    layer = network["hidden"]
    change(layer)
    keys, weight = list(network.state_dict()), layer.weight.detach().clone()
    layer.set_params(bias=2, alpha=0.5)
    assert_close(layer.weight.detach(), weight)
    assert_close(layer.bias.detach(), torch.full((5,), 2.0))
    assert list(network.state_dict()) == keys


def test_a_pruned_state_is_loaded():
    network, weight = pruned()
    twin, _ = pruned()
    train(twin, torch.optim.SGD(twin.parameters(), lr=0.5), (inputs(),), steps=1)
    twin.load_state_dict(network.state_dict(), strict=True)
    assert_close(twin(inputs()), expected(network, weight))


def test_removed_pruning_leaves_the_pruned_weight():
    network, weight = pruned()
    keys = list(make_network().state_dict())
    prune.remove(network["hidden"], "weight")
    layer = network["hidden"]
    assert isinstance(layer.weight, nn.Parameter) and layer.variables["weight"] is layer.weight
    assert_close(layer.weight.detach(), weight)
    assert sorted(network.state_dict()) == sorted(keys)
    assert_close(copy.deepcopy(network)(inputs()), expected(network, weight))
    assert repr(layer) == repr(make_network()["hidden"])


def test_global_pruning_reaches_layers_of_the_library():
    network = make_network()
    chosen = [(module, "weight") for module in network.modules() if isinstance(module, Linear)]
    prune.global_unstructured(chosen, pruning_method=prune.L1Unstructured, amount=0.5)
    weights = torch.cat([layer.weight.flatten() for layer, _ in chosen])
    assert len(chosen) == 2
    # Half of 35, which Python rounds to 18.
    assert (weights == 0).sum() == 18
    total(network(inputs())).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_the_custom_network_can_be_pruned_and_parametrized_inside():
    case = CASES["custom"]
    network = case.network().eval()
    shifted = network.get_submodule("shifted-1")
    with torch.no_grad():
        prune.random_unstructured(shifted, "scale", amount=0.5)
        parametrizations.weight_norm(shifted.inner, "weight")
        state = {
            **network.state_dict(),
            "shifted-1.scale": shifted.scale,
            "shifted-1.inner.weight": shifted.inner.weight,
        }
        assert (shifted.scale == 0).sum() == 3
        assert_close(network(*case.inputs()), case.reference(state, *case.inputs()))
        assert_close(shifted.variables["scale"], shifted.scale)
