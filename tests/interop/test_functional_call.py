"""``torch.func`` of the parameters: other ones, ensembles as one, gradients of each sample, Jacobians."""

import copy

import pytest
import torch
from torch.func import functional_call, grad, jacfwd, jacrev, stack_module_state, vmap
from torch.testing import assert_close

from tests.interop.networks import (
    ALL,
    copied_state,
    equal_states,
    every_case_of_all,
    gradients,
    parts,
    total,
)

pytestmark = pytest.mark.filterwarnings(
    # What torch says of its own operations under vmap, and of forward-mode derivatives.
    "ignore:.*There is a performance drop:UserWarning",
    "ignore:.*torch.jit.script.* is deprecated",
)


def detached(network):
    return {name: parameter.detach() for name, parameter in network.named_parameters()}


@every_case_of_all
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_a_network_computes_with_the_state_that_it_is_given(case, training, device):
    network, other = (case.network(seed).train(training).to(device) for seed in (0, 1))
    before, state = copied_state(network), copied_state(other)
    outputs = []
    for run in (lambda *x: functional_call(network, state, x), other):
        torch.manual_seed(0)
        outputs.append(run(*case.inputs(device=device)))
    assert_close(*outputs)
    equal_states(network, before)
    equal_states(state, other)  # the statistics of BatchNorm are learned into the state that was given
    if not training:
        assert_close(outputs[0], case.reference(state, *case.inputs(device=device)))
        assert_close(network(*case.inputs(device=device)), case.reference(before, *case.inputs(device=device)))


@every_case_of_all
def test_gradients_of_a_function_of_the_parameters_are_those_of_backward(case, device):
    network, inputs = case.network().eval().to(device), case.inputs(device=device)
    found = grad(lambda parameters: case.loss(functional_call(network, parameters, inputs)))(detached(network))
    case.loss(network(*inputs)).backward()
    assert_close(found, gradients(network))


@every_case_of_all
def test_an_ensemble_computes_and_learns_as_one(case, device):
    networks = [case.network(seed).eval().to(device) for seed in range(3)]
    parameters, buffers = stack_module_state(networks)
    skeleton = copy.deepcopy(networks[0]).to("meta")
    # Here: vmap would want to know what its draws are to be.
    inputs, targets = case.inputs(device=device), case.targets(device=device)

    def run(parameters, buffers):
        return functional_call(skeleton, (parameters, buffers), inputs)

    outputs = vmap(run)(parameters, buffers)
    found = vmap(grad(lambda *state: case.loss(run(*state), targets)))(parameters, buffers)
    for index, network in enumerate(networks):
        expected = parts(case.reference(network.state_dict(), *inputs))
        assert_close(tuple(each[index] for each in parts(outputs)), expected)
        case.loss(network(*inputs)).backward()
        assert_close({name: each[index] for name, each in found.items()}, gradients(network))


@pytest.mark.parametrize("name", ["dense", "chain"])
def test_the_members_of_an_ensemble_drop_different_values_or_the_same(name, device):
    network, inputs = ALL[name].network().to(device), ALL[name].inputs(50, device=device)
    parameters, _ = stack_module_state([network, network])

    def run(randomness):
        return vmap(lambda values: functional_call(network, values, inputs), randomness=randomness)(parameters)

    assert not torch.equal(*run("different"))
    assert_close(*run("same"))


@every_case_of_all
def test_gradients_of_each_sample_are_those_of_a_loop(case, device):
    network, inputs = case.network().eval().to(device), case.inputs(device=device)

    def loss(parameters, *sample):
        return total(functional_call(network, parameters, tuple(x[None] for x in sample)))

    found = vmap(grad(loss), in_dims=(None, *[0 for _ in inputs]))(detached(network), *inputs)
    for index in range(len(inputs[0])):
        network.zero_grad()
        total(network(*[x[index : index + 1] for x in inputs])).backward()
        assert_close({name: each[index] for name, each in found.items()}, gradients(network))


@every_case_of_all
@pytest.mark.parametrize("jacobian", [jacrev, jacfwd])
def test_jacobians_by_the_parameters_are_those_of_backward(case, jacobian, device):
    network = case.network().double().eval().to(device)
    inputs = case.inputs(batch=2, dtype=torch.float64, device=device)

    def run(parameters):
        return parts(functional_call(network, parameters, inputs))

    found = jacobian(run)(detached(network))
    for index, output in enumerate(parts(network(*inputs))):
        for place in range(output.numel()):
            network.zero_grad()
            output.flatten()[place].backward(retain_graph=True)
            for name, parameter in network.named_parameters():
                row = found[index][name].flatten(0, 1)[place]
                assert_close(row, torch.zeros_like(row) if parameter.grad is None else parameter.grad)
