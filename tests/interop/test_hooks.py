"""Hooks of every kind, on every layer, on the network, on parameters and on the state."""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.testing import assert_close

from tests.interop.networks import copied_state, equal_states, every_case, gradients, total

FORWARD = ["register_forward_pre_hook", "register_forward_hook"]
BACKWARD = ["register_full_backward_pre_hook", "register_full_backward_hook"]


# Torch says so of a module whose inputs are indices, and runs the hook.
pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing when gradients are computed:UserWarning")


def modules(network):
    return [network, *network]


@every_case
@pytest.mark.parametrize("kind", FORWARD)
def test_forward_hooks_run_once_at_every_layer_and_at_the_network(case, kind):
    network = case.network()
    seen: Counter[nn.Module] = Counter()
    handles = [getattr(each, kind)(lambda module, *_: seen.update([module])) for each in modules(network)]
    network(*case.inputs())
    assert seen == dict.fromkeys(modules(network), 1)
    for handle in handles:
        handle.remove()
    network(*case.inputs())
    assert seen == dict.fromkeys(modules(network), 1)


@every_case
@pytest.mark.parametrize("kind", BACKWARD)
def test_backward_hooks_run_once_at_every_layer_that_has_gradients(case, kind):
    network = case.network()
    seen: Counter[nn.Module] = Counter()
    for each in modules(network):
        getattr(each, kind)(lambda module, *_: seen.update([module]))
    inputs = [x.requires_grad_() if x.is_floating_point() else x for x in case.inputs()]
    case.loss(network(*inputs)).backward()
    without = [] if not case.n_indices else [network["words"]]
    assert seen == dict.fromkeys([each for each in modules(network) if each not in without], 1)


@every_case
@pytest.mark.parametrize("kind", ["forward_pre_hook", "forward_hook", "full_backward_pre_hook", "full_backward_hook"])
def test_hooks_for_all_modules_see_every_layer(case, kind):
    network = case.network()
    seen = set()
    handle = getattr(torch_module, f"register_module_{kind}")(lambda module, *_: seen.add(module))
    try:
        inputs = [x.requires_grad_() if x.is_floating_point() else x for x in case.inputs()]
        case.loss(network(*inputs)).backward()
    finally:
        handle.remove()
    indices = {network["words"]} if case.n_indices and "backward" in kind else set()
    assert seen == {*modules(network)} - indices


@every_case
def test_what_hooks_return_is_what_counts(case):
    network = case.network().eval()
    inputs = case.inputs()
    doubled = tuple(2 * x if x.is_floating_point() else (x + 1) % case.n_indices for x in inputs)
    expected = total(network(*doubled))
    network.register_forward_pre_hook(lambda module, given: doubled)
    network.register_forward_hook(lambda module, given, outputs: 3 * total(outputs))
    assert_close(network(*inputs), 3 * expected)


@every_case
def test_hooks_on_parameters_change_and_see_gradients(case):
    network, twin = case.network().eval(), case.network().eval()
    seen = []
    for name, parameter in network.named_parameters():
        parameter.register_hook(lambda gradient: gradient * 2)
        parameter.register_post_accumulate_grad_hook(lambda p, name=name: seen.append(name))
    case.loss(network(*case.inputs())).backward()
    case.loss(twin(*case.inputs())).backward()
    assert_close(gradients(network), {name: 2 * gradient for name, gradient in gradients(twin).items()})
    assert sorted(seen) == sorted(gradients(twin))


@every_case
def test_an_optimizer_steps_within_the_backward_pass(case):
    """An optimizer for each parameter, in a hook that runs when its gradient is there, which is freed at once."""
    network, twin = case.network().eval(), case.network().eval()
    optimizers = {parameter: torch.optim.SGD([parameter], lr=0.1) for parameter in network.parameters()}

    def learn(parameter):
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in optimizers:
        parameter.register_post_accumulate_grad_hook(learn)
    case.loss(network(*case.inputs())).backward()
    assert all(parameter.grad is None for parameter in optimizers)
    plain = torch.optim.SGD(twin.parameters(), lr=0.1)
    case.loss(twin(*case.inputs())).backward()
    plain.step()
    equal_states(network, twin)


@every_case
def test_hooks_of_the_state_run(case):
    network, twin = case.network(seed=0), case.network(seed=1)
    seen = []
    network.register_state_dict_pre_hook(lambda module, prefix, keep_vars: seen.append("before saving"))
    network.register_state_dict_post_hook(lambda module, state, prefix, metadata: seen.append("saved"))
    twin.register_load_state_dict_pre_hook(lambda module, *_: seen.append("before loading"))
    twin.register_load_state_dict_post_hook(lambda module, keys: seen.append("loaded"))
    twin.load_state_dict(network.state_dict())
    assert seen == ["before saving", "saved", "before loading", "loaded"]
    assert_close(copied_state(twin), copied_state(network))
