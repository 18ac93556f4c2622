"""Hooks of every kind, on every layer, on the network, on parameters and on the state."""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.testing import assert_close

from tests.interop.networks import copied_state, equal_states, every_case, gradients, parts, total

FORWARD = ["register_forward_pre_hook", "register_forward_hook"]
BACKWARD = ["register_full_backward_pre_hook", "register_full_backward_hook"]


# Torch says so of a module whose inputs are indices, and runs the hook.
pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing when gradients are computed:UserWarning")


def modules(network):
    return [network, *network]


@every_case
@pytest.mark.parametrize("kind", FORWARD)
def test_forward_hooks_run_once_at_every_layer_and_at_the_network(case, kind, device):
    network, inputs = case.network().to(device), case.inputs(device=device)
    seen: Counter[nn.Module] = Counter()
    handles = [getattr(each, kind)(lambda module, *_: seen.update([module])) for each in modules(network)]
    network(*inputs)
    assert seen == dict.fromkeys(modules(network), 1)
    for handle in handles:
        handle.remove()
    network(*inputs)
    assert seen == dict.fromkeys(modules(network), 1)


@every_case
@pytest.mark.parametrize("kind", BACKWARD)
def test_backward_hooks_run_once_at_every_layer_that_has_gradients(case, kind, device):
    network = case.network().to(device)
    seen: Counter[nn.Module] = Counter()
    for each in modules(network):
        getattr(each, kind)(lambda module, *_: seen.update([module]))
    inputs = [x.requires_grad_() if x.is_floating_point() else x for x in case.inputs(device=device)]
    case.loss(network(*inputs)).backward()
    without = [] if not case.n_indices else [network["words"]]
    assert seen == dict.fromkeys([each for each in modules(network) if each not in without], 1)


@every_case
@pytest.mark.parametrize("kind", ["forward_pre_hook", "forward_hook", "full_backward_pre_hook", "full_backward_hook"])
def test_hooks_for_all_modules_see_every_layer(case, kind, device):
    network = case.network().to(device)
    seen = set()
    handle = getattr(torch_module, f"register_module_{kind}")(lambda module, *_: seen.add(module))
    try:
        inputs = [x.requires_grad_() if x.is_floating_point() else x for x in case.inputs(device=device)]
        case.loss(network(*inputs)).backward()
    finally:
        handle.remove()
    indices = {network["words"]} if case.n_indices and "backward" in kind else set()
    assert seen == {*modules(network)} - indices


@every_case
def test_what_hooks_return_is_what_counts(case, device):
    network, inputs = case.network().eval().to(device), case.inputs(device=device)
    doubled = tuple(2 * x if x.is_floating_point() else (x + 1) % case.n_indices for x in inputs)
    expected = total(network(*doubled))
    network.register_forward_pre_hook(lambda module, given: doubled)
    network.register_forward_hook(lambda module, given, outputs: 3 * total(outputs))
    assert_close(network(*inputs), 3 * expected)


@every_case
def test_hooks_that_ask_for_keyword_arguments_get_them_and_what_they_return_counts(case, device):
    """Of layers, which are given none, and of a network, given one that no hook leaves for it."""
    network, inputs = case.network().eval().to(device), case.inputs(device=device)
    doubled = tuple(2 * x if x.is_floating_point() else (x + 1) % case.n_indices for x in inputs)
    expected, seen = parts(network(*doubled)), []

    def take_out(module, given, options):
        assert len(given) == len(inputs) and options == {"secret": 3}
        return doubled, {}

    def see(module, given, options, output):
        seen.append((module, given, options))
        return output if module is not network else parts(output)

    network.register_forward_pre_hook(take_out, with_kwargs=True)
    for each in modules(network):
        each.register_forward_hook(see, with_kwargs=True)
    assert_close(network(*inputs, secret=3), expected)
    assert [module for module, _, _ in seen] == [*network, network]
    assert all(given and options == {} for _, given, options in seen)
    assert_close(seen[-1][1], doubled)


@every_case
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


@every_case
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


@every_case
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


@every_case
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
