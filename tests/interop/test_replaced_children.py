"""Modules of users that take the places of layers: they run, learn and are shown, and the rest stays as it is."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.interop.networks import SMALL, Case, copied_state, descend, every_case_of_all, parts, step
from torchneupy.layers import Linear, Relu


class Scaled(nn.Module):
    """A foreign module around a layer."""

    def __init__(self, inner: Any, factor: float) -> None:
        super().__init__()
        self.inner = inner
        self.factor = factor

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.inner(*inputs) * self.factor


@pytest.mark.parametrize(
    "name, key",
    [("chain", "softmax-1"), ("residual", "elementwise-1"), ("branches", "dropout-1"), ("custom", "p-relu-1")],
)
@pytest.mark.parametrize("replace", ["setattr", "set_submodule", "_modules"])
def test_a_replaced_child_is_the_one_that_runs(name, key, replace, device):
    case: Case = SMALL[name]
    network, inputs = case.network().eval().to(device), case.inputs(device=device)
    old = network.get_submodule(key)
    expected = case.reference(network.state_dict(), *inputs)
    expected = (expected[0], expected[1] * 3) if isinstance(expected, tuple) else expected * 3
    new = Scaled(old, 3)
    if replace == "setattr":
        setattr(network, key, new)
    elif replace == "set_submodule":
        network.set_submodule(key, new)
    else:
        network._modules[key] = new
    assert_close(network(*inputs), expected)
    assert_close(network.output(*inputs), expected)
    arrays = network.predict(*case.inputs(), verbose=False)
    arrays = arrays if isinstance(arrays, tuple) else (arrays,)
    assert_close(tuple(map(torch.from_numpy, arrays)), tuple(part.detach().cpu() for part in parts(expected)))
    assert new in network and old not in network
    assert f"{key}.inner.weight" in network.state_dict() or not list(old.parameters())


@every_case_of_all
def test_a_network_with_replaced_children_is_a_network_as_before(case, device):
    network, inputs = case.network().eval().to(device), case.inputs(device=device)
    for key, child in list(network.named_children()):
        if list(child.parameters()):
            network.set_submodule(key, Scaled(child, 1))
    expected = network(*inputs)
    assert network.is_built
    assert repr(network) == repr(case.network())
    assert network.n_parameters == sum(tensor.numel() for tensor in network.state_dict().values())
    assert_close(copy.deepcopy(network)(*inputs), expected)
    assert str(network.summary()).count("Scaled") == sum(isinstance(child, Scaled) for child in network)
    part = network.end(network.output_layers[0])
    first = parts(expected)[0]
    assert_close(part(*inputs), first)
    assert_close((part >> Relu())(*inputs), torch.relu(first))


# Some of which learn alone


class LoRA(nn.Module):
    """A dense layer with its weights fixed, and a trained product of two thin matrices beside it."""

    def __init__(self, base: Linear, rank: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        n_inputs, n_outputs = base.weight.shape
        self.down = nn.Parameter(torch.ones(n_inputs, rank) / math.sqrt(n_inputs))
        self.up = nn.Parameter(torch.zeros(rank, n_outputs))

    def forward(self, x: torch.Tensor) -> Any:
        return self.base(x) + x @ self.down @ self.up


def test_low_rank_matrices_beside_dense_layers_compute_what_is_done_by_hand(device):
    case: Case = SMALL["residual"]
    network = case.network().to(device)
    plain = copied_state(network)
    for key, child in list(network.named_modules()):
        if isinstance(child, Linear):
            network.set_submodule(key, LoRA(child, rank=2))
    network.to(device)
    (x,) = case.inputs(device=device)
    assert_close(network(x), case.reference(plain, x))
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained == {"tanh-1.down", "tanh-1.up", "linear-1.down", "linear-1.up"}
    descend(network, torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1), (x,), steps=2)
    state = network.state_dict()
    for key, value in plain.items():
        assert torch.equal(state[key.replace("-1.", "-1.base.")], value)
    hidden = torch.tanh(x @ plain["tanh-1.weight"] + plain["tanh-1.bias"])
    hidden = hidden + x @ state["tanh-1.down"] @ state["tanh-1.up"]
    by_hand = hidden @ plain["linear-1.weight"] + plain["linear-1.bias"]
    by_hand = x + by_hand + hidden @ state["linear-1.down"] @ state["linear-1.up"]
    assert_close(network(x).detach(), by_hand)
    assert not torch.equal(by_hand, case.reference(plain, x))


class Adapter(nn.Module):
    """Any layer with its variables fixed, and a trained product of two thin matrices of its output."""

    def __init__(self, base: nn.Module, width: int, rank: int = 2) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Parameter(torch.ones(width, rank) / width)
        self.up = nn.Parameter(torch.zeros(rank, width))

    def forward(self, *inputs: torch.Tensor) -> Any:
        output = self.base(*inputs)
        return output + output @ self.down @ self.up


@every_case_of_all
def test_low_rank_adapters_take_the_places_of_layers_and_alone_learn(case, device):
    network = case.network()
    plain = copied_state(network)
    expected = network.eval()(*case.inputs())
    for key, layer in list(network.named_children()):
        if any(True for _ in layer.parameters()):
            network.set_submodule(key, Adapter(layer, network.output_shapes_per_layer[layer][-1]))
    assert_close(network(*case.inputs()), expected)
    network.to(device)
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert trained and all(name.endswith((".down", ".up")) for name in trained)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    losses = [step(case, network, optimizer, device=device).item() for _ in range(20)]
    assert losses[-1] < losses[0]
    state = network.cpu().state_dict()
    base = {key.replace(".base.", "."): value for key, value in state.items() if ".base." in key}
    assert_close(base, plain, rtol=0, atol=0)
