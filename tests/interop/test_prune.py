"""``torch.nn.utils.prune``: the weight with zeros is the weight that counts, and it is the other one that learns."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.testing import assert_close

from tests.interop.networks import SMALL, Case, copied_state, descend, every_case_of_all, step
from tests.interop.two_layers import expected, half, inputs, make_network, weights
from torchneupy.layers import Input, Linear

# Of every weight of every network


@every_case_of_all
def test_pruned_weights_compute_stay_zero_and_are_made_permanent(case, device):
    network, x = case.network().eval().to(device), case.inputs(device=device)
    state = copied_state(network)
    keys = {layer: key for key, layer in network.named_children()}
    chosen = weights(network)
    prune.global_unstructured(chosen, pruning_method=prune.L1Unstructured, amount=0.5)
    zeros = {(layer, name): getattr(layer, name) == 0 for layer, name in chosen}
    assert sum(zero.sum().item() for zero in zeros.values()) == round(sum(zero.numel() for zero in zeros.values()) / 2)
    zero_at = {f"{keys[layer]}.{name}": zero for (layer, name), zero in zeros.items()}
    assert_close(network(*x), case.reference({**state, **{k: state[k] * ~zero for k, zero in zero_at.items()}}, *x))
    step(case, network.train(), torch.optim.SGD(network.parameters(), lr=0.1), device=device)
    assert all(parameter.grad is not None for parameter in network.parameters())
    outputs = network.eval()(*x)
    assert all((getattr(layer, name)[zero] == 0).all() for (layer, name), zero in zeros.items())
    for layer, name in chosen:
        prune.remove(layer, name)
    assert set(network.state_dict()) == set(state)
    assert_close(network(*x), outputs)


# Of one weight


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
    descend(network, torch.optim.SGD(network.parameters(), lr=0.5), (inputs(),), steps=3)
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
    descend(twin, torch.optim.SGD(twin.parameters(), lr=0.5), (inputs(),), steps=1)
    assert_close(network(inputs()), expected(network, weight))


def test_set_params_writes_what_pruning_masks():
    network, weight = pruned()
    network["hidden"].set_params(weight=torch.full((5, 5), 0.5))
    masked = torch.where(weight == 0, 0.0, 0.5)
    assert_close(network["hidden"].weight.detach(), masked)
    assert_close(network(inputs()), expected(network, masked))
    assert_close(network.state_dict()["hidden.weight_orig"], torch.full((5, 5), 0.5))


@pytest.mark.parametrize("change", [half, lambda layer: prune.l1_unstructured(layer, "weight", amount=0.4)])
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
    descend(twin, torch.optim.SGD(twin.parameters(), lr=0.5), (inputs(),), steps=1)
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


def test_the_custom_network_can_be_pruned_and_parametrized_inside():
    case: Case = SMALL["custom"]
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
