"""Networks within modules of torch, and modules put in a layer's place or beside the layers."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    CheckpointWrapper,
    apply_activation_checkpointing,
)
from torch.testing import assert_close

from tests.manners.networks import CASES, Shifted, copied_state, every_case, gradients, total, train
from torchneupy.layers import Input, Linear, Relu, Softmax, as_layer

# Networks within modules


def test_a_network_is_part_of_a_sequential():
    case = CASES["residual"]
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
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), (x,), steps=1)
    assert all(not torch.equal(before[key], value) for key, value in model.state_dict().items() if key.startswith("0."))


class Model(nn.Module):
    """A network as an attribute, in a list and in a dictionary of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.body = CASES["residual"].network()
        self.heads = nn.ModuleList([Input(4) >> Softmax(2), Input(4) >> Linear(3)])
        self.more = nn.ModuleDict({"again": CASES["residual"].network(seed=1)})

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        hidden = self.more["again"](self.body(x))
        return [head(hidden) for head in self.heads]


def test_a_network_is_an_attribute_and_in_lists_and_dictionaries():
    model = Model()
    keys = list(model.state_dict())
    assert {"body.tanh-1.weight", "heads.0.softmax-1.bias", "heads.1.linear-1.weight"} <= set(keys)
    assert "more.again.linear-1.bias" in keys
    assert len(list(model.parameters())) == 4 + 2 + 2 + 4
    (x,) = CASES["residual"].inputs()
    outputs = model.double()(x.double())
    assert [tuple(output.shape) for output in outputs] == [(4, 2), (4, 3)]
    assert {output.dtype for output in outputs} == {torch.float64}
    twin = Model().double()
    twin.load_state_dict(model.state_dict(), strict=True)
    assert_close(twin(x.double()), outputs)
    assert "(body): (?, 4) -> [... 5 layers ...] -> (?, 4)" in repr(model)


@every_case
def test_modes_reach_every_layer_from_outside(case):
    network = case.network()
    model = nn.Sequential(network)
    assert all(module.training for module in model.eval().train().modules())
    assert not any(module.training for module in model.eval().modules())


@pytest.mark.parametrize("name, key, index", [("chain", "dropout-1", None), ("branches", "dropout-1", 1)])
def test_each_layer_has_a_mode_of_its_own(name, key, index):
    """Frozen in a network that trains, or the other way round."""
    case = CASES[name]
    network = case.network().train()
    network.get_submodule(key).eval()
    plain = case.reference(network.state_dict(), *case.inputs())
    assert_close(network(*case.inputs()), plain)
    network.eval().get_submodule(key).train()
    outputs = network(*case.inputs())
    # With so many values the chance that none is dropped is next to none.
    pair = (outputs, plain) if index is None else (outputs[index], plain[index])
    assert not torch.equal(*pair)


@every_case
def test_a_network_leaves_its_inputs_as_they_were(case):
    network, inputs = case.network(), case.inputs()
    network(*inputs)
    network.output(*inputs, training=True)
    assert_close(inputs, case.inputs(), rtol=0, atol=0)


# Going through modules


@every_case
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


@every_case
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
    network = CASES["chain"].network()
    network.register_buffer("mean", torch.full((6,), 0.5))
    network.get_submodule("relu-1").register_buffer("calls", torch.zeros(1))
    network.get_submodule("relu-1").register_buffer("scratch", torch.zeros(1), persistent=False)
    keys = set(network.state_dict())
    assert {"mean", "relu-1.calls"} <= keys and "relu-1.scratch" not in keys
    network.double()
    assert network.mean.dtype == network.get_submodule("relu-1").scratch.dtype == torch.float64
    twin = copy.deepcopy(network)
    assert torch.equal(twin.mean, network.mean) and twin.mean is not network.mean
    case = CASES["chain"]
    inputs = case.inputs(dtype=torch.float64)
    assert_close(network.eval()(*inputs), case.reference(network.state_dict(), *inputs))


def with_a_head(name):
    network = CASES[name].network().eval()
    network.head = nn.Linear(3, 2)
    return network


@pytest.mark.parametrize("name", CASES)
def test_a_module_beside_the_layers_is_a_child_that_does_not_run(name):
    case = CASES[name]
    network = with_a_head(name)
    assert_close(network(*case.inputs()), case.reference(network.state_dict(), *case.inputs()))
    assert_close(network.output(*case.inputs()), case.reference(network.state_dict(), *case.inputs()))
    assert {"head.weight", "head.bias"} <= set(network.state_dict())
    assert network.is_built
    # Like every child it is moved and copied.
    assert {tensor.dtype for tensor in copy.deepcopy(network).double().parameters()} == {torch.float64}


@pytest.mark.parametrize("name", CASES)
def test_a_module_beside_the_layers_is_no_layer_of_the_network(name):
    """What lists the layers agrees with the graph."""
    network, plain = with_a_head(name), CASES[name].network()
    assert repr(network) == repr(plain)
    assert len(network) == len(network.layers) == len(list(network)) == len(network.forward_graph) == len(plain)
    assert network[-1] is network.layers[-1] and network[-1] is not network.head
    assert network.head not in network
    assert network.n_parameters == plain.n_parameters
    assert network.output_shapes_per_layer.keys() == set(network.layers)


@pytest.mark.parametrize("name", CASES)
def test_a_network_with_a_module_beside_the_layers_can_be_summed_up_cut_and_connected(name):
    network = with_a_head(name)
    network.summary()
    last = network.output_layers[0]
    case = CASES[name]
    part = network.end(last)
    assert part.output_layers == [last]
    assert (part >> Relu(2)).output_shape == (None, 2)
    longer = network.end(last) >> Relu(2)
    assert longer(*case.inputs()).shape == (4, 2)


# Modules in the place of layers


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
def test_a_replaced_child_is_the_one_that_runs(name, key, replace):
    case = CASES[name]
    network = case.network().eval()
    old = network.get_submodule(key)
    expected = case.reference(network.state_dict(), *case.inputs())
    expected = (expected[0], expected[1] * 3) if isinstance(expected, tuple) else expected * 3
    new = Scaled(old, 3)
    if replace == "setattr":
        setattr(network, key, new)
    elif replace == "set_submodule":
        network.set_submodule(key, new)
    else:
        network._modules[key] = new
    assert_close(network(*case.inputs()), expected)
    assert_close(network.output(*case.inputs()), expected)
    arrays = network.predict(*case.inputs(), verbose=False)
    arrays = arrays if isinstance(arrays, tuple) else (arrays,)
    expected = expected if isinstance(expected, tuple) else (expected,)
    assert_close(tuple(map(torch.from_numpy, arrays)), tuple(part.detach() for part in expected))
    assert new in network and old not in network
    assert f"{key}.inner.weight" in network.state_dict() or not list(old.parameters())


@every_case
def test_a_network_with_a_replaced_child_still_has_its_manners(case):
    network = case.network().eval()
    for key, child in list(network.named_children()):
        if list(child.parameters()):
            network.set_submodule(key, Scaled(child, 1))
    expected = network(*case.inputs())
    assert network.is_built
    assert repr(network) == repr(case.network())
    assert network.n_parameters == sum(tensor.numel() for tensor in network.state_dict().values())
    assert_close(copy.deepcopy(network)(*case.inputs()), expected)
    assert str(network.summary()).count("Scaled") == sum(isinstance(child, Scaled) for child in network)
    part = network.end(network.output_layers[0])
    first = expected[0] if isinstance(expected, tuple) else expected
    assert_close(part(*case.inputs()), first)
    assert_close((part >> Relu())(*case.inputs()), torch.relu(first))


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


def test_low_rank_adapters_take_the_place_of_layers_and_alone_learn():
    case = CASES["residual"]
    network = case.network()
    plain = copied_state(network)
    for key, child in list(network.named_modules()):
        if isinstance(child, Linear):
            network.set_submodule(key, LoRA(child, rank=2))
    (x,) = case.inputs()
    assert_close(network(x), case.reference(plain, x))
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained == {"tanh-1.down", "tanh-1.up", "linear-1.down", "linear-1.up"}
    train(network, torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1), (x,), steps=2)
    state = network.state_dict()
    for key, value in plain.items():
        assert torch.equal(state[key.replace("-1.", "-1.base.")], value)
    hidden = torch.tanh(x @ plain["tanh-1.weight"] + plain["tanh-1.bias"])
    hidden = hidden + x @ state["tanh-1.down"] @ state["tanh-1.up"]
    by_hand = hidden @ plain["linear-1.weight"] + plain["linear-1.bias"]
    by_hand = x + by_hand + hidden @ state["linear-1.down"] @ state["linear-1.up"]
    assert_close(network(x).detach(), by_hand)
    assert not torch.equal(by_hand, case.reference(plain, x))


@every_case
def test_activation_checkpointing_wraps_the_layers_and_runs_them_again(case):
    network, twin = case.network().eval(), case.network().eval()
    keys, runs = list(network.state_dict()), []
    for layer in network:
        layer.register_forward_pre_hook(lambda module, inputs: runs.append(module))
    apply_activation_checkpointing(network, check_fn=lambda module: isinstance(module, (Linear, Shifted)))
    wrapped = [child for child in network if isinstance(child, CheckpointWrapper)]
    assert wrapped
    outputs = network(*case.inputs())
    assert_close(outputs, case.reference(twin.state_dict(), *case.inputs()))
    assert len(runs) == len(network)
    total(outputs).backward()
    # Backward computed the wrapped layers once more, instead of keeping what they need.
    assert {id(module) for module in runs[len(network) :]} == {id(w._checkpoint_wrapped_module) for w in wrapped}
    total(twin(*case.inputs())).backward()
    assert_close(list(gradients(network).values()), list(gradients(twin).values()))
    assert list(network.state_dict()) == keys
    twin.load_state_dict(network.state_dict(), strict=True)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.* is deprecated")
def test_a_child_compiled_by_jit_is_the_one_that_runs():
    case = CASES["chain"]
    network = case.network().eval()
    expected = case.reference(network.state_dict(), *case.inputs())
    script = torch.jit.trace(network.get_submodule("relu-1"), case.inputs())
    network.set_submodule("relu-1", script)
    assert_close(network(*case.inputs()), expected)
    assert_close(network.output(*case.inputs()), expected)


def test_a_network_as_one_layer_of_another_keeps_its_hooks():
    case = CASES["residual"]
    inner = case.network().eval()
    calls = []
    inner.register_forward_hook(lambda module, inputs, output: calls.append(module))
    outer = Input(4) >> as_layer(inner) >> Linear(4, weight=torch.eye(4), bias=None)
    assert_close(outer.eval()(*case.inputs()), case.reference(inner.state_dict(), *case.inputs()))
    assert calls == [inner]
