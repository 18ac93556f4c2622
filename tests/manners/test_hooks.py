"""Hooks of every kind, on layers, on networks and on all modules, run as they do for modules of torch."""

import copy
from collections import Counter
from typing import Any
from unittest import mock

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from tests.manners.networks import CASES, every_case, total
from torchneupy.layers import BaseLayer, Input, Relu

ORDER = {
    "chain": ["input-1", "relu-1", "dropout-1", "softmax-1"],
    "residual": ["input-1", "identity-1", "tanh-1", "linear-1", "elementwise-1"],
    "branches": ["input-1", "input-2", "concatenate-1", "elu-1", "softmax-1", "linear-1", "dropout-1"],
    "custom": ["input-1", "shifted-1", "linear-1", "p-relu-1"],
}

every_order = pytest.mark.parametrize("name", ORDER)


def double_the_output(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    return output * 2


def named(network: nn.Module) -> dict[nn.Module, str]:
    return {child: key for key, child in network.named_children()}


@every_order
@pytest.mark.parametrize("kind", ["register_forward_pre_hook", "register_forward_hook"])
def test_forward_hooks_of_every_layer_run_once_in_topological_order(name, kind):
    case = CASES[name]
    network = case.network().eval()
    keys = named(network)
    seen: list[str] = []
    for child in network:
        getattr(child, kind)(lambda module, *values: seen.append(keys[module]))
    outputs = network(*case.inputs())
    assert seen == ORDER[name]
    assert_close(outputs, case.reference(network.state_dict(), *case.inputs()))


@every_order
def test_hooks_for_all_modules_see_every_layer_and_the_network(name):
    case = CASES[name]
    network = case.network().eval()
    keys, seen = named(network), []
    handles = [
        torch_module.register_module_forward_pre_hook(lambda module, inputs: seen.append(("before", module))),
        torch_module.register_module_forward_hook(lambda module, inputs, output: seen.append(("after", module))),
    ]
    try:
        network(*case.inputs())
    finally:
        for handle in handles:
            handle.remove()
    for when in ("before", "after"):
        assert [keys[module] for time, module in seen if time == when and module in keys] == ORDER[name]
    assert seen[0] == ("before", network) and seen[-1] == ("after", network)
    seen.clear()
    network(*case.inputs())
    assert seen == []


@every_case
@pytest.mark.parametrize("kind", ["register_full_backward_pre_hook", "register_full_backward_hook"])
def test_backward_hooks_run_on_layers_and_on_the_network(case, kind):
    network = case.network().eval()
    seen: Counter[nn.Module] = Counter()
    watched = [*(child for child in network.children() if list(child.parameters())), network]
    for module in watched:
        getattr(module, kind)(lambda module, *gradients: seen.update([module]))
    inputs = [x.requires_grad_() for x in case.inputs()]
    total(network(*inputs)).backward()
    assert seen == dict.fromkeys(watched, 1)
    assert all(x.grad is not None for x in inputs)


def test_a_backward_hook_can_change_the_gradient():
    case = CASES["chain"]
    network, twin = case.network().eval(), case.network().eval()
    network.get_submodule("relu-1").register_full_backward_hook(lambda module, inputs, outputs: (inputs[0] * 2,))
    x: Any = case.inputs()[0]
    y: Any = case.inputs()[0]
    total(network(x.requires_grad_())).backward()
    total(twin(y.requires_grad_())).backward()
    assert_close(x.grad, y.grad * 2)


@every_case
def test_backward_hooks_for_all_modules_run(case):
    network = case.network().eval()
    seen = []
    handle = torch_module.register_module_full_backward_hook(lambda module, inputs, outputs: seen.append(module))
    try:
        total(network(*[x.requires_grad_() for x in case.inputs()])).backward()
    finally:
        handle.remove()
    assert {id(module) for module in seen} == {id(module) for module in network.modules()}


@pytest.mark.parametrize("key", ORDER["chain"])
def test_what_hooks_return_is_used_until_they_are_removed(key):
    network = CASES["chain"].network().eval()
    (x,) = CASES["chain"].inputs()

    def by_hand(before: float, after: float) -> torch.Tensor:
        value: torch.Tensor = x
        for name, child in network.named_children():
            value = child.output(value * before) * after if name == key else child.output(value)
        return value

    child = network.get_submodule(key)
    with child.register_forward_hook(double_the_output):
        assert_close(network(x), by_hand(1, 2))
        with child.register_forward_pre_hook(lambda module, inputs: (inputs[0] * -3,)):
            assert_close(network(x), by_hand(-3, 2))
    assert_close(network(x), by_hand(1, 1))


@every_case
def test_hooks_of_the_network_see_and_change_what_goes_in_and_out(case):
    network = case.network().eval()
    inputs = case.inputs()
    network.register_forward_pre_hook(lambda module, given: tuple(x * 2 for x in given))
    network.register_forward_hook(lambda module, given, output: {"doubled": given, "output": output})
    found = network(*inputs)
    assert_close(found["doubled"], tuple(x * 2 for x in inputs))
    assert_close(found["output"], case.reference(network.state_dict(), *[x * 2 for x in inputs]))


def test_hooks_with_keywords_and_hooks_that_are_always_called():
    case = CASES["chain"]
    network = case.network().eval()
    relu, softmax = network.get_submodule("relu-1"), network.get_submodule("softmax-1")
    seen = []
    relu.register_forward_pre_hook(lambda module, args, kwargs: seen.append((len(args), kwargs)), with_kwargs=True)
    relu.register_forward_hook(lambda module, args, kwargs, output: seen.append(kwargs), with_kwargs=True)
    softmax.register_forward_hook(lambda module, args, output: seen.append(output), always_call=True)
    softmax.register_forward_pre_hook(lambda module, args: (torch.ones(1, 1),))
    with pytest.raises(RuntimeError):
        network(*case.inputs())
    assert seen == [(1, {}), {}, None]


def test_hooks_are_copied_with_the_network_and_not_run_by_output():
    network = CASES["chain"].network().eval()
    network.get_submodule("relu-1").register_forward_hook(double_the_output)
    (x,) = CASES["chain"].inputs()
    twin = copy.deepcopy(network)
    assert torch.equal(twin(x), network(x))
    assert not torch.equal(network(x), network.output(x))
    assert_close(network.output(x), CASES["chain"].reference(network.state_dict(), x))


def test_predict_runs_hooks():
    case = CASES["chain"]
    network = case.network().train()
    network.register_forward_hook(double_the_output)
    (x,) = case.inputs()
    assert_close(
        torch.from_numpy(network.predict(x, verbose=False)), case.reference(network.state_dict(), x).detach() * 2
    )
    assert network.training


def test_hooks_of_state_dict_and_of_loading_run():
    network, seen = CASES["chain"].network(), []
    relu = network.get_submodule("relu-1")
    relu.register_state_dict_pre_hook(lambda module, prefix, keep: seen.append(("saving", prefix)))
    network.register_state_dict_post_hook(lambda module, state, prefix, local: state.update(extra=torch.ones(1)))
    network.register_load_state_dict_pre_hook(lambda module, state, *rest: state.pop("extra") and None)
    relu.register_load_state_dict_post_hook(lambda module, keys: seen.append(("loaded", list(keys.missing_keys))))
    state = network.state_dict()
    assert state["extra"].tolist() == [1]
    network.load_state_dict(state)
    assert seen == [("saving", "relu-1."), ("loaded", [])]


def test_hooks_of_parameters_run():
    network, seen = CASES["residual"].network(), []
    for name, parameter in network.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda p, name=name: seen.append(name))
    total(network(*CASES["residual"].inputs())).backward()
    assert sorted(seen) == sorted(name for name, _ in network.named_parameters())


def test_a_forward_that_is_put_in_place_is_the_one_that_runs():
    case = CASES["chain"]
    network = case.network().eval()
    (x,) = case.inputs()
    relu = network.get_submodule("relu-1")
    expected = network.get_submodule("softmax-1")(torch.ones(4, 5))
    relu.forward = lambda x: torch.ones(len(x), 5)
    assert_close(network(x), expected)
    del relu.forward
    with mock.patch.object(Relu, "forward", lambda self, x: torch.ones(len(x), 5)):
        assert_close(network(x), expected)
    with mock.patch.object(Relu, "output", lambda self, x, **kwargs: torch.ones(len(x), 5)):
        assert_close(network(x), expected)
    assert_close(network(x), case.reference(network.state_dict(), x))


@every_order
def test_a_call_of_all_modules_that_is_patched_sees_every_layer(name):
    """As tracers and quantisation tools patch it while they run."""
    case = CASES[name]
    network, seen = case.network().eval(), []
    keys, plain = named(network), nn.Module.__call__

    def call(module: nn.Module, *inputs: Any) -> Any:
        seen.append(module)
        return plain(module, *inputs)

    with mock.patch.object(nn.Module, "__call__", call):
        network(*case.inputs())
    assert seen[0] is network
    assert [keys[module] for module in seen if module in keys] == ORDER[name]


class Called(Relu):
    def __call__(self, x: torch.Tensor) -> Any:
        return super().__call__(x) * 2


class Forward(BaseLayer):
    def get_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def output(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(x) * 2


@pytest.mark.parametrize("make", [lambda: Called(3, weight=torch.eye(3)), Forward], ids=["__call__", "forward"])
def test_a_custom_layers_own_call_or_forward_is_the_one_that_runs(make):
    network = Input(3) >> make()
    x = torch.tensor([[1.0, 2.0, 3.0]])
    assert_close(network(x), x * 2)


def test_torchs_flop_counter_sees_the_layers():
    case = CASES["chain"]
    network = case.network().eval()
    with FlopCounterMode(display=False) as counter:
        network(*case.inputs())
    # A product of a (4, 6) and a (6, 5) matrix: a multiplication and an addition for each of 4 * 6 * 5 terms.
    assert sum(counter.get_flop_counts()["LayerGraph.relu-1"].values()) == 2 * 4 * 6 * 5
    assert counter.get_total_flops() == 2 * 4 * (6 * 5 + 5 * 3)
