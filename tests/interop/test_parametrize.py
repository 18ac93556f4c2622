"""``torch.nn.utils.parametrize`` and ``prune``, on every weight of every network at once."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.testing import assert_close

from tests.interop.networks import copied_state, equal_states, every_case, step, train
from torchneupy.layers import Convolution, Input, Linear


class Half(nn.Module):
    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return value / 2

    def right_inverse(self, value: torch.Tensor) -> torch.Tensor:
        return value * 2


def half(layer: nn.Module, name: str) -> None:
    parametrize.register_parametrization(layer, name, Half())


PARAMETRIZATIONS = {"own": half, "weight_norm": parametrizations.weight_norm}

every_parametrization = pytest.mark.parametrize("apply", PARAMETRIZATIONS.values(), ids=PARAMETRIZATIONS)


def weights(network):
    """The layers and names of all weights."""
    return [(layer, name) for layer in network for name, _ in layer.named_parameters(recurse=False) if "weight" in name]


@every_case
@every_parametrization
def test_parametrized_weights_compute_learn_and_are_removed(case, apply, device):
    network, twin = (case.network().eval().to(device) for _ in range(2))
    inputs = case.inputs(device=device)
    chosen = weights(network)
    for layer, name in chosen:
        apply(layer, name)
    assert_close(network(*inputs), twin(*inputs))
    before = copied_state(network)
    train(case, network.train(), torch.optim.SGD(network.parameters(), lr=0.1), steps=2, device=device)
    assert all(
        not torch.equal(before[name], parameter)
        for name, parameter in network.named_parameters()
        if ".original" in name
    )
    again = copy.deepcopy(network).eval()
    assert_close(again(*inputs), network.eval()(*inputs))
    outputs = network(*inputs)
    for layer, name in chosen:
        parametrize.remove_parametrizations(layer, name)
    assert sorted(network.state_dict()) == sorted(twin.state_dict())
    assert_close(network(*inputs), outputs)


@every_case
@every_parametrization
def test_a_parametrized_state_is_loaded(case, apply, device):
    network, twin = (case.network(seed).to(device) for seed in (0, 1))
    inputs = case.inputs(device=device)
    for each in (network, twin):
        for layer, name in weights(each):
            apply(layer, name)
    twin.load_state_dict(network.state_dict())
    equal_states(twin, network)
    assert_close(twin.eval()(*inputs), network.eval()(*inputs))


@every_case
def test_pruned_weights_compute_stay_zero_and_are_made_permanent(case, device):
    network, inputs = case.network().eval().to(device), case.inputs(device=device)
    keys = set(network.state_dict())
    chosen = weights(network)
    prune.global_unstructured(chosen, pruning_method=prune.L1Unstructured, amount=0.5)
    zeros = {(layer, name): getattr(layer, name) == 0 for layer, name in chosen}
    assert sum(zero.sum().item() for zero in zeros.values()) == round(sum(zero.numel() for zero in zeros.values()) / 2)
    twin = case.network().eval().to(device)
    with torch.no_grad():
        for (layer, name), zero in zeros.items():
            getattr(twin[layer.name], name)[zero] = 0
    assert_close(network(*inputs), twin(*inputs))
    step(case, network.train(), torch.optim.SGD(network.parameters(), lr=0.1), device=device)
    outputs = network.eval()(*inputs)
    assert all((getattr(layer, name)[zero] == 0).all() for (layer, name), zero in zeros.items())
    for layer, name in chosen:
        prune.remove(layer, name)
    assert set(network.state_dict()) == keys
    assert_close(network(*inputs), outputs)


@every_case
def test_the_norm_of_a_spectrally_normalised_weight_is_one(case, device):
    network = case.network().to(device)
    for layer, name in weights(network):
        parametrizations.spectral_norm(layer, name, n_power_iterations=20)
    train(case, network, torch.optim.SGD(network.parameters(), lr=0.1), steps=2, device=device)
    network.eval()
    for layer, name in weights(network):
        weight = getattr(layer, name)
        assert_close(torch.linalg.matrix_norm(weight.flatten(1), 2), torch.ones((), device=device), rtol=0.05, atol=0)


# The filters' axis, which is the last one here and the first one in torch's own layers


def spectral_norm(layer: nn.Module, axis: int) -> None:
    # So many steps that where they begin, which is drawn, makes no difference.
    parametrizations.spectral_norm(layer, n_power_iterations=100, dim=axis)


def weight_norm(layer: Any, axis: int) -> None:
    # It takes -1 for None, which is one norm of the whole weight.
    parametrizations.weight_norm(layer, dim=axis % layer.weight.ndim)


def prune_filters(layer: nn.Module, axis: int) -> None:
    prune.ln_structured(layer, "weight", amount=2, n=2, dim=axis)


#: A layer with its input's shape, torch's own, and the axes of the first one's weight in the order of the other's.
SAME: dict[str, Any] = {
    "Linear": (lambda: Linear(10), (6,), lambda: nn.Linear(6, 10), (1, 0)),
    "Convolution": (lambda: Convolution((3, 2, 5)), (8, 9, 4), lambda: nn.Conv2d(4, 5, (3, 2)), (3, 2, 0, 1)),
}


@pytest.mark.parametrize("kind", SAME)
@pytest.mark.parametrize("apply", [spectral_norm, weight_norm, prune_filters])
def test_filters_are_normalised_and_pruned_as_those_of_torch(kind, apply, device):
    torch.manual_seed(0)  # of some weights the largest singular value stands out more than of others
    make, shape, make_other, axes = SAME[kind]
    layer, other = make(), make_other().to(device)
    network = (Input(shape) >> layer).to(device)
    with torch.no_grad():
        other.weight.copy_(layer.weight.permute(axes))
        other.bias.copy_(layer.bias)
    apply(layer, -1)
    apply(other, 0)
    x = torch.randn(7, *shape, device=device)
    for _ in range(2):
        outputs = network(x), other(x.movedim(-1, 1)).movedim(1, -1)
        assert_close(*outputs)
        for model, output in zip((network, other), outputs, strict=True):
            optimizer = torch.optim.SGD(model.parameters(), lr=1)
            optimizer.zero_grad()
            output.square().mean().backward()
            optimizer.step()
        assert_close(layer.weight.permute(axes), other.weight)
