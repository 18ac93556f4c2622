"""``torch.func``, derivatives of every order, and ``torch.utils.checkpoint``."""

import copy
from typing import Any

import pytest
import torch
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vmap
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from tests.manners.networks import CASES, copied_state, every_case, gradients, total

# Torch's forward-mode derivatives use what it has itself deprecated.
forward_mode = pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")


def detached(network):
    return {name: parameter.detach() for name, parameter in network.named_parameters()}


def in_float64(case):
    return case.network().double().eval(), case.inputs(batch=3, dtype=torch.float64)


@every_case
def test_functional_call_computes_with_the_state_it_is_given(case):
    network, other = case.network(seed=0).eval(), case.network(seed=1)
    before = copied_state(network)
    outputs = functional_call(network, dict(other.state_dict()), case.inputs())
    assert_close(outputs, case.reference(other.state_dict(), *case.inputs()))
    assert_close(copied_state(network), before, rtol=0, atol=0)
    assert_close(network(*case.inputs()), case.reference(before, *case.inputs()))


@every_case
def test_gradients_by_functional_call_are_those_of_backward(case):
    network = case.network().eval()
    found = grad(lambda parameters: total(functional_call(network, parameters, case.inputs())))(detached(network))
    total(network(*case.inputs())).backward()
    assert_close(found, gradients(network))


@every_case
def test_an_ensemble_runs_as_one(case):
    networks = [case.network(seed).eval() for seed in range(3)]
    parameters, buffers = stack_module_state(networks)
    skeleton = copy.deepcopy(networks[0]).to("meta")
    inputs = case.inputs()
    run = vmap(lambda *state: functional_call(skeleton, state, inputs))
    outputs = run(parameters, buffers)
    for index, network in enumerate(networks):
        member = tuple(o[index] for o in outputs) if isinstance(outputs, tuple) else outputs[index]
        assert_close(member, case.reference(network.state_dict(), *inputs))


def test_the_members_of_an_ensemble_drop_different_values():
    case = CASES["chain"]
    network = case.network().train()
    parameters, _ = stack_module_state([network, network])
    x = torch.ones(50, 6)
    outputs = vmap(lambda p: functional_call(network, p, (x,)), randomness="different")(parameters)
    assert not torch.equal(outputs[0], outputs[1])
    same = vmap(lambda p: functional_call(network, p, (x,)), randomness="same")(parameters)
    assert_close(same[0], same[1])


@every_case
def test_gradients_for_each_sample_are_those_of_a_loop(case):
    network, inputs = case.network().eval(), case.inputs()

    def loss(parameters, *sample):
        return total(functional_call(network, parameters, tuple(x.unsqueeze(0) for x in sample)))

    found = vmap(grad(loss), in_dims=(None, *[0 for _ in inputs]))(detached(network), *inputs)
    for index in range(len(inputs[0])):
        network.zero_grad()
        total(network(*[x[index : index + 1] for x in inputs])).backward()
        assert_close({name: each[index] for name, each in found.items()}, gradients(network))


@every_case
@forward_mode
def test_forward_mode_agrees_with_backward(case):
    network, inputs = in_float64(case)
    tangents = tuple(torch.randn(x.shape, generator=torch.Generator().manual_seed(5)).double() for x in inputs)
    outputs, along = jvp(network, inputs, tangents)[:2]
    assert_close(outputs, case.reference(network.state_dict(), *inputs))
    jacobians = jacrev(network, argnums=tuple(range(len(inputs))))(*inputs)
    several = isinstance(outputs, tuple)
    pairs: Any = zip(*((along, jacobians) if several else ((along,), (jacobians,))), strict=True)
    for output, jacobian in pairs:
        by_hand = sum(torch.tensordot(part, t, dims=2) for part, t in zip(jacobian, tangents, strict=True))
        assert_close(output, by_hand)


@every_case
@forward_mode
def test_jacobians_and_hessians_agree_with_those_of_plain_torch(case):
    network, inputs = in_float64(case)

    def plain(*values):
        return case.reference(network.state_dict(), *values)

    assert_close(jacrev(network)(*inputs), jacrev(plain)(*inputs))
    assert_close(jacfwd(network)(*inputs), jacrev(plain)(*inputs))
    assert_close(
        hessian(lambda *values: total(network(*values)))(*inputs), hessian(lambda *v: total(plain(*v)))(*inputs)
    )


@every_case
@forward_mode
@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_of_inputs_and_parameters_agree_with_finite_differences(case, order):
    network, inputs = in_float64(case)
    names = [name for name, _ in network.named_parameters()]

    def run(*values):
        return functional_call(network, dict(zip(names, values[len(inputs) :], strict=True)), values[: len(inputs)])

    values = [value.detach().clone().requires_grad_() for value in (*inputs, *network.parameters())]
    if order == 1:
        assert torch.autograd.gradcheck(run, values, check_forward_ad=True, fast_mode=True)
    else:
        assert torch.autograd.gradgradcheck(run, values, fast_mode=True)


@every_case
def test_a_penalty_on_the_gradient_reaches_the_parameters(case):
    """Backward through backward, as a gradient penalty needs it."""
    network, inputs = in_float64(case)
    twin = copy.deepcopy(network)

    def penalty(run, values):
        values = [x.clone().requires_grad_() for x in values]
        found = torch.autograd.grad(total(run(*values)), values, create_graph=True)
        return sum(each.square().sum() for each in found)

    penalty(network, inputs).backward()
    state = dict(twin.named_parameters()) | dict(twin.named_buffers())
    penalty(lambda *values: case.reference(state, *values), inputs).backward()
    assert_close(gradients(network), gradients(twin))


@every_case
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_a_network_changes_no_gradient(case, use_reentrant):
    network, twin = case.network().train(), case.network().train()
    inputs = [x.requires_grad_() for x in case.inputs()]
    torch.manual_seed(0)
    total(checkpoint(network, *inputs, use_reentrant=use_reentrant)).backward()
    torch.manual_seed(0)
    total(twin(*case.inputs())).backward()
    assert_close(gradients(network), gradients(twin))


def test_a_chain_is_checkpointed_part_by_part():
    case = CASES["chain"]
    network = case.network().eval()
    (x,) = case.inputs()
    assert_close(checkpoint_sequential(network, 2, x, use_reentrant=False), case.reference(network.state_dict(), x))
