"""Hooks of every kind, on every layer, on the network, on all modules, on parameters and on the state."""

import copy
from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.testing import assert_close

from tests.interop.by_hand import ORDER
from tests.interop.networks import (
    SMALL,
    Case,
    copied_state,
    equal_states,
    every_case_of_all,
    gradients,
    parts,
    total,
)

# Torch says so of a module whose inputs are indices, and runs the hook.
pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing when gradients are computed:UserWarning")


def modules(network):
    return [network, *network]


def layers_in_order(case, network):
    return [network.get_submodule(key) for key in ORDER[case.name]]


def leaves(case, device):
    """Inputs that want gradients, if they can have them."""
    return [x.requires_grad_() if x.is_floating_point() else x for x in case.inputs(device=device)]


def others(case, device):
    """Inputs, and what hooks are to put in their place."""
    inputs = case.inputs(device=device)
    return inputs, tuple(2 * x if x.is_floating_point() else (x + 1) % case.n_indices for x in inputs)


def double_the_output(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    return output * 2


# Forward


@every_case_of_all
@pytest.mark.parametrize("kind", ["register_forward_pre_hook", "register_forward_hook"])
def test_forward_hooks_run_once_at_every_layer_in_order_and_at_the_network(case, kind, device):
    network, inputs = case.network().to(device), case.inputs(device=device)
    layers = layers_in_order(case, network)
    expected = [network, *layers] if "pre" in kind else [*layers, network]
    seen: list[nn.Module] = []
    handles = [getattr(each, kind)(lambda module, *_: seen.append(module)) for each in modules(network)]
    for training in (True, False):
        outputs = network.train(training)(*inputs)
        assert list(map(id, seen)) == list(map(id, expected))
        seen.clear()
    assert_close(outputs, case.reference(network.state_dict(), *inputs))
    for handle in handles:
        handle.remove()
    network(*inputs)
    assert seen == []


@pytest.mark.parametrize("key", ORDER["chain"])
def test_what_hooks_return_is_used_until_they_are_removed(key, device):
    case: Case = SMALL["chain"]
    network = case.network().eval().to(device)
    (x,) = case.inputs(device=device)

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


@every_case_of_all
def test_hooks_of_the_network_see_and_change_what_goes_in_and_out(case, device):
    network = case.network().eval().to(device)
    inputs, doubled = others(case, device)
    network.register_forward_pre_hook(lambda module, given: doubled)
    network.register_forward_hook(lambda module, given, outputs: {"given": given, "tripled": 3 * total(outputs)})
    found = network(*inputs)
    assert_close(found["given"], doubled)
    assert_close(found["tripled"], 3 * total(case.reference(network.state_dict(), *doubled)))


@every_case_of_all
def test_hooks_that_ask_for_keyword_arguments_get_them_and_what_they_return_counts(case, device):
    """Of layers, which are given none, and of a network, given one that no hook leaves for it."""
    network = case.network().eval().to(device)
    inputs, doubled = others(case, device)
    expected = parts(case.reference(network.state_dict(), *doubled))
    following = network.forward_graph.values()
    n_inputs = [sum(layers.count(layer) for layers in following) or 1 for layer in network]
    before, seen = [], []

    def take_out(module, given, options):
        assert len(given) == len(inputs) and options == {"secret": 3}
        return doubled, {}

    def see(module, given, options, output):
        seen.append((module, given, options))
        return output if module is not network else parts(output)

    network.register_forward_pre_hook(take_out, with_kwargs=True)
    for layer in network:
        layer.register_forward_pre_hook(lambda *arguments: before.append(arguments), with_kwargs=True)
    for each in modules(network):
        each.register_forward_hook(see, with_kwargs=True)
    assert_close(network(*inputs, secret=3), expected)
    assert [module for module, _, _ in before] == [*network]
    assert [module for module, _, _ in seen] == [*network, network]
    assert all(given and options == {} for _, given, options in (*before, *seen))
    assert [len(given) for _, given, _ in before] == [len(given) for _, given, _ in seen[:-1]] == n_inputs
    assert_close(seen[-1][1], doubled)


@every_case_of_all
def test_hooks_that_are_always_called_are_called_when_a_layer_fails(case, device):
    network, inputs = case.network().to(device), case.inputs(device=device)
    *_, failing = network
    always, else_not = [], []

    def fail(module, given):
        raise ArithmeticError("planted")

    failing.register_forward_pre_hook(fail)
    for each in modules(network):
        each.register_forward_hook(lambda module, given, output: always.append((module, output)), always_call=True)
        each.register_forward_hook(lambda module, given, output: else_not.append(module))
    with pytest.raises(ArithmeticError, match="planted"):
        network(*inputs)
    fine = [layer for layer in network if layer is not failing]
    assert else_not == [module for module, _ in always[:-2]] and set(else_not) == set(fine)
    assert always[-2:] == [(failing, None), (network, None)]


def test_hooks_that_are_always_called_are_called_when_the_computation_itself_fails(device):
    case: Case = SMALL["chain"]
    network = case.network().eval().to(device)
    softmax, seen = network.get_submodule("softmax-1"), []
    softmax.register_forward_hook(lambda module, given, output: seen.append(output), always_call=True)
    softmax.register_forward_pre_hook(lambda module, given: (torch.ones(1, 1, device=device),))
    with pytest.raises(RuntimeError):
        network(*case.inputs(device=device))
    assert seen == [None]


def test_hooks_are_copied_with_the_network_and_not_run_by_output(device):
    case: Case = SMALL["chain"]
    network = case.network().eval().to(device)
    network.get_submodule("relu-1").register_forward_hook(double_the_output)
    (x,) = case.inputs(device=device)
    twin = copy.deepcopy(network)
    assert torch.equal(twin(x), network(x))
    assert not torch.equal(network(x), network.output(x))
    assert_close(network.output(x), case.reference(network.state_dict(), x))


def test_predict_runs_hooks(device):
    case: Case = SMALL["chain"]
    network = case.network().to(device)
    network.register_forward_hook(double_the_output)
    (x,) = case.inputs()
    expected = case.reference({key: value.cpu() for key, value in network.state_dict().items()}, x) * 2
    assert_close(torch.from_numpy(network.predict(x, verbose=False)), expected)
    assert network.training


# Backward


@every_case_of_all
@pytest.mark.parametrize("kind", ["register_full_backward_pre_hook", "register_full_backward_hook"])
def test_backward_hooks_run_once_at_every_layer_that_has_gradients(case, kind, device):
    network = case.network().to(device)
    seen: Counter[nn.Module] = Counter()
    for each in modules(network):
        getattr(each, kind)(lambda module, *_: seen.update([module]))
    without = [network["words"]] if case.n_indices else []
    for training in (True, False):
        seen.clear()
        inputs = leaves(case, device)
        case.loss(network.train(training)(*inputs)).backward()
        assert seen == dict.fromkeys([each for each in modules(network) if each not in without], 1)
        assert all(x.grad is not None for x in inputs if x.requires_grad)


def test_a_backward_hook_can_change_the_gradient(device):
    case: Case = SMALL["chain"]
    network, twin = (case.network().eval().to(device) for _ in range(2))
    network.get_submodule("relu-1").register_full_backward_hook(lambda module, inputs, outputs: (inputs[0] * 2,))
    (x,), (y,) = leaves(case, device), leaves(case, device)
    total(network(x)).backward()
    total(twin(y)).backward()
    assert_close(x.grad, y.grad * 2)


# All modules


@every_case_of_all
@pytest.mark.parametrize("kind", ["forward_pre_hook", "forward_hook", "full_backward_pre_hook", "full_backward_hook"])
def test_hooks_for_all_modules_see_every_module_until_they_are_removed(case, kind, device):
    network, seen = case.network().to(device), []
    indices = {network["words"]} if case.n_indices and "backward" in kind else set()
    handle = getattr(torch_module, f"register_module_{kind}")(lambda module, *_: seen.append(module))
    try:
        for training in (True, False):
            seen.clear()
            case.loss(network.train(training)(*leaves(case, device))).backward()
            assert {*seen} == {*network.modules()} - indices
            if "forward" in kind:
                assert [each for each in seen if each in network] == layers_in_order(case, network)
                assert seen[0 if "pre" in kind else -1] is network
    finally:
        handle.remove()
    seen.clear()
    case.loss(network(*leaves(case, device))).backward()
    assert seen == []


# Parameters and states


@every_case_of_all
def test_hooks_on_parameters_change_and_see_gradients(case, device):
    network, twin = (case.network().eval().to(device) for _ in range(2))
    inputs = case.inputs(device=device)
    seen = []
    for name, parameter in network.named_parameters():
        parameter.register_hook(lambda gradient: gradient * 2)
        parameter.register_post_accumulate_grad_hook(lambda p, name=name: seen.append(name))
    case.loss(network(*inputs)).backward()
    case.loss(twin(*inputs)).backward()
    assert_close(gradients(network), {name: 2 * gradient for name, gradient in gradients(twin).items()})
    assert sorted(seen) == sorted(gradients(twin))


@every_case_of_all
def test_an_optimizer_steps_within_the_backward_pass(case, device):
    """An optimizer for each parameter, in a hook that runs when its gradient is there, which is freed at once."""
    network, twin = (case.network().eval().to(device) for _ in range(2))
    inputs = case.inputs(device=device)
    optimizers = {parameter: torch.optim.SGD([parameter], lr=0.1) for parameter in network.parameters()}

    def learn(parameter):
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in optimizers:
        parameter.register_post_accumulate_grad_hook(learn)
    case.loss(network(*inputs)).backward()
    assert all(parameter.grad is None for parameter in optimizers)
    plain = torch.optim.SGD(twin.parameters(), lr=0.1)
    case.loss(twin(*inputs)).backward()
    plain.step()
    equal_states(network, twin)


@every_case_of_all
def test_hooks_of_the_state_run(case, device):
    network, twin = (case.network(seed).to(device) for seed in (0, 1))
    seen = []
    network.register_state_dict_pre_hook(lambda module, prefix, keep_vars: seen.append("before saving"))
    network.register_state_dict_post_hook(lambda module, state, prefix, metadata: seen.append("saved"))
    twin.register_load_state_dict_pre_hook(lambda module, *_: seen.append("before loading"))
    twin.register_load_state_dict_post_hook(lambda module, keys: seen.append("loaded"))
    twin.load_state_dict(network.state_dict())
    assert seen == ["before saving", "saved", "before loading", "loaded"]
    assert_close(copied_state(twin), copied_state(network))


def test_hooks_change_the_state_and_run_at_layers(device):
    network, seen = SMALL["chain"].network().to(device), []
    relu = network.get_submodule("relu-1")
    relu.register_state_dict_pre_hook(lambda module, prefix, keep: seen.append(("saving", prefix)))
    network.register_state_dict_post_hook(lambda module, state, prefix, local: state.update(extra=torch.ones(1)))
    network.register_load_state_dict_pre_hook(lambda module, state, *rest: state.pop("extra") and None)
    relu.register_load_state_dict_post_hook(lambda module, keys: seen.append(("loaded", list(keys.missing_keys))))
    state = network.state_dict()
    assert state["extra"].tolist() == [1]
    network.load_state_dict(state)
    assert seen == [("saving", "relu-1."), ("loaded", [])]
