"""Networks within modules of torch, walks through modules, and modules beside the layers."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.interop.networks import SMALL, Case, copied_state, descend, every_small_case
from torchneupy.layers import Input, Linear, Relu, Softmax, as_layer

# Networks within modules


def test_a_network_is_part_of_a_sequential():
    case = SMALL["residual"]
    network = case.network()
    head = nn.Linear(4, 2)
    model = nn.Sequential(network, head, nn.ReLU())
    (x,) = case.inputs()
    expected = torch.relu(nn.functional.linear(case.reference(network.state_dict(), x), head.weight, head.bias))
    assert_close(model(x), expected)
    assert list(model.state_dict())[:2] == ["0.tanh-1.weight", "0.tanh-1.bias"]
    assert len(list(model.parameters())) == 6
    assert not model.eval()[0].get_submodule("tanh-1").training
    before = copied_state(model)
    descend(model, torch.optim.SGD(model.parameters(), lr=0.1), (x,), steps=1)
    assert all(not torch.equal(before[key], value) for key, value in model.state_dict().items() if key.startswith("0."))


class Model(nn.Module):
    """A network as an attribute, in a list and in a dictionary of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.body = SMALL["residual"].network()
        self.heads = nn.ModuleList([Input(4) >> Softmax(2), Input(4) >> Linear(3)])
        self.more = nn.ModuleDict({"again": SMALL["residual"].network(seed=1)})

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        hidden = self.more["again"](self.body(x))
        return [head(hidden) for head in self.heads]


def test_a_network_is_an_attribute_and_in_lists_and_dictionaries():
    model = Model()
    keys = list(model.state_dict())
    assert {"body.tanh-1.weight", "heads.0.softmax-1.bias", "heads.1.linear-1.weight"} <= set(keys)
    assert "more.again.linear-1.bias" in keys
    assert len(list(model.parameters())) == 4 + 2 + 2 + 4
    (x,) = SMALL["residual"].inputs()
    outputs = model.double()(x.double())
    assert [tuple(output.shape) for output in outputs] == [(4, 2), (4, 3)]
    assert {output.dtype for output in outputs} == {torch.float64}
    twin = Model().double()
    twin.load_state_dict(model.state_dict(), strict=True)
    assert_close(twin(x.double()), outputs)
    assert "(body): (?, 4) -> [... 5 layers ...] -> (?, 4)" in repr(model)


@every_small_case
def test_modes_reach_every_layer_from_outside(case):
    network = case.network()
    model = nn.Sequential(network)
    assert all(module.training for module in model.eval().train().modules())
    assert not any(module.training for module in model.eval().modules())


@pytest.mark.parametrize("name, key, index", [("chain", "dropout-1", None), ("branches", "dropout-1", 1)])
def test_each_layer_has_a_mode_of_its_own(name, key, index):
    """Frozen in a network that trains, or the other way round."""
    case = SMALL[name]
    network = case.network().train()
    network.get_submodule(key).eval()
    plain = case.reference(network.state_dict(), *case.inputs())
    assert_close(network(*case.inputs()), plain)
    network.eval().get_submodule(key).train()
    outputs = network(*case.inputs())
    # With so many values the chance that none is dropped is next to none.
    pair = (outputs, plain) if index is None else (outputs[index], plain[index])
    assert not torch.equal(*pair)


@every_small_case
def test_a_network_leaves_its_inputs_as_they_were(case):
    network, inputs = case.network(), case.inputs()
    network(*inputs)
    network.output(*inputs, training=True)
    assert_close(inputs, case.inputs(), rtol=0, atol=0)


def test_a_network_as_one_layer_of_another_keeps_its_hooks():
    case: Case = SMALL["residual"]
    inner = case.network().eval()
    calls = []
    inner.register_forward_hook(lambda module, inputs, output: calls.append(module))
    outer = Input(4) >> as_layer(inner) >> Linear(4, weight=torch.eye(4), bias=None)
    assert_close(outer.eval()(*case.inputs()), case.reference(inner.state_dict(), *case.inputs()))
    assert calls == [inner]


# Going through modules


@every_small_case
def test_apply_reaches_every_module_once(case):
    network = case.network()
    seen: list[nn.Module] = []
    assert network.apply(seen.append) is network
    assert [id(module) for module in seen].count(id(network)) == 1
    assert sorted(map(id, seen)) == sorted(map(id, network.modules()))


def initialise(module: Any) -> None:
    """As users write it: what has a weight gets new values."""
    if getattr(module, "weight", None) is not None:
        nn.init.constant_(module.weight, 0.25)
    if getattr(module, "bias", None) is not None:
        nn.init.ones_(module.bias)


@every_small_case
def test_apply_initialises_weights(case):
    network = case.network().eval()
    network.apply(initialise)
    for name, tensor in network.state_dict().items():
        if name.endswith(("weight", "bias")):
            assert_close(tensor, torch.full_like(tensor, 0.25 if name.endswith("weight") else 1))
    assert_close(network(*case.inputs()), case.reference(network.state_dict(), *case.inputs()))


@pytest.mark.parametrize("layer", [Linear(5), Relu(5), Linear(5, bias=None), Relu(), Linear()], ids=repr)
def test_apply_passes_by_the_weights_that_are_not_there_yet(layer):
    layer.apply(initialise)
    assert layer.weight is None and layer.bias is None
    assert list(layer.parameters()) == []


def test_initialising_by_hand_is_kept_when_the_layer_is_connected_further():
    layer = Relu(5)
    Input(3) >> layer
    with torch.no_grad():
        layer.weight.fill_(2)
    longer = Input(3) >> layer >> Softmax(2)
    assert longer.is_built
    assert layer.weight.unique().tolist() == [2]


# Modules beside the layers


def test_buffers_of_layers_and_networks_are_kept_and_moved():
    network = SMALL["chain"].network()
    network.register_buffer("mean", torch.full((6,), 0.5))
    network.get_submodule("relu-1").register_buffer("calls", torch.zeros(1))
    network.get_submodule("relu-1").register_buffer("scratch", torch.zeros(1), persistent=False)
    keys = set(network.state_dict())
    assert {"mean", "relu-1.calls"} <= keys and "relu-1.scratch" not in keys
    network.double()
    assert network.mean.dtype == network.get_submodule("relu-1").scratch.dtype == torch.float64
    twin = copy.deepcopy(network)
    assert torch.equal(twin.mean, network.mean) and twin.mean is not network.mean
    case = SMALL["chain"]
    inputs = case.inputs(dtype=torch.float64)
    assert_close(network.eval()(*inputs), case.reference(network.state_dict(), *inputs))


def with_a_head(name):
    network = SMALL[name].network().eval()
    network.head = nn.Linear(3, 2)
    return network


@pytest.mark.parametrize("name", SMALL)
def test_a_module_beside_the_layers_is_a_child_that_does_not_run(name):
    case = SMALL[name]
    network = with_a_head(name)
    assert_close(network(*case.inputs()), case.reference(network.state_dict(), *case.inputs()))
    assert_close(network.output(*case.inputs()), case.reference(network.state_dict(), *case.inputs()))
    assert {"head.weight", "head.bias"} <= set(network.state_dict())
    assert network.is_built
    # Like every child it is moved and copied.
    assert {tensor.dtype for tensor in copy.deepcopy(network).double().parameters()} == {torch.float64}


@pytest.mark.parametrize("name", SMALL)
def test_a_module_beside_the_layers_is_no_layer_of_the_network(name):
    """What lists the layers agrees with the graph."""
    network, plain = with_a_head(name), SMALL[name].network()
    assert repr(network) == repr(plain)
    assert len(network) == len(network.layers) == len(list(network)) == len(network.forward_graph) == len(plain)
    assert network[-1] is network.layers[-1] and network[-1] is not network.head
    assert network.head not in network
    assert network.n_parameters == plain.n_parameters
    assert network.output_shapes_per_layer.keys() == set(network.layers)


@pytest.mark.parametrize("name", SMALL)
def test_a_network_with_a_module_beside_the_layers_can_be_summed_up_cut_and_connected(name):
    network = with_a_head(name)
    network.summary()
    last = network.output_layers[0]
    case = SMALL[name]
    part = network.end(last)
    assert part.output_layers == [last]
    assert (part >> Relu(2)).output_shape == (None, 2)
    longer = network.end(last) >> Relu(2)
    assert longer(*case.inputs()).shape == (4, 2)
