"""Derivatives of every order, in both modes of ``torch.func`` and of autograd, in float64 unless said."""

import copy
from typing import Any

import pytest
import torch
from torch.func import functional_call, hessian, jacfwd, jacrev, jvp
from torch.testing import assert_close

from tests.interop.networks import every_differentiable_case, every_small_case, gradients, parts, total

pytestmark = pytest.mark.filterwarnings(
    # What torch says of its own operations under vmap, and of forward-mode derivatives.
    "ignore:.*There is a performance drop:UserWarning",
    "ignore:.*torch.jit.script.* is deprecated",
)


def in_float64(case, device):
    network = case.network().double().eval().to(device)
    return network, case.inputs(batch=3, dtype=torch.float64, device=device)


def by_hand(case, network):
    """The same function of the inputs, without the network."""
    return lambda *inputs: case.reference(network.state_dict(), *inputs)


@every_differentiable_case
def test_forward_mode_agrees_with_backward(case, device):
    network, inputs = in_float64(case, device)
    generator = torch.Generator().manual_seed(5)
    tangents = tuple(torch.randn(x.shape, generator=generator).to(x) for x in inputs)
    outputs, along = jvp(network, inputs, tangents)[:2]
    assert_close(outputs, case.reference(network.state_dict(), *inputs))
    jacobians = jacrev(lambda *values: parts(network(*values)), argnums=tuple(range(len(inputs))))(*inputs)
    for output, jacobian in zip(parts(along), jacobians, strict=True):
        products = zip(jacobian, tangents, strict=True)
        assert_close(output, sum(torch.tensordot(part, tangent, dims=tangent.ndim) for part, tangent in products))


@every_differentiable_case
@pytest.mark.parametrize("jacobian", [jacrev, jacfwd])
def test_jacobians_by_the_inputs_are_those_of_plain_torch(case, jacobian, device):
    network, inputs = in_float64(case, device)
    places = tuple(range(len(inputs)))
    found = jacobian(network, argnums=places)(*inputs)
    assert_close(found, jacrev(by_hand(case, network), argnums=places)(*inputs))


@every_differentiable_case
def test_jacobians_by_the_inputs_are_those_of_backward(case, device):
    """In float32."""
    network = case.network().eval().to(device)
    inputs = [x.requires_grad_() for x in case.inputs(batch=2, device=device)]
    places = tuple(range(len(inputs)))
    found = jacrev(lambda *values: parts(network(*values))[0], argnums=places)(*inputs)
    output = parts(network(*inputs))[0]
    for place in range(output.numel()):
        rows = torch.autograd.grad(output.flatten()[place], inputs, retain_graph=True)
        assert_close([each.flatten(0, 1)[place] for each in found], list(rows))


@every_small_case
def test_hessians_are_those_of_plain_torch(case, device):
    network, inputs = in_float64(case, device)
    plain = by_hand(case, network)
    found = hessian(lambda *values: total(network(*values)))(*inputs)
    assert_close(found, hessian(lambda *values: total(plain(*values)))(*inputs))


@every_small_case
@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_of_inputs_and_parameters_agree_with_finite_differences(case, order, device):
    network, inputs = in_float64(case, device)
    names = [name for name, _ in network.named_parameters()]

    def run(*values):
        return functional_call(network, dict(zip(names, values[len(inputs) :], strict=True)), values[: len(inputs)])

    values = [value.detach().clone().requires_grad_() for value in (*inputs, *network.parameters())]
    if order == 1:
        assert torch.autograd.gradcheck(run, values, check_forward_ad=True, fast_mode=True)
    else:
        assert torch.autograd.gradgradcheck(run, values, fast_mode=True)


@every_differentiable_case
def test_a_penalty_on_the_gradient_reaches_the_parameters(case, device):
    """Backward through backward, as a gradient penalty needs it."""
    network, inputs = in_float64(case, device)
    twin = copy.deepcopy(network)
    state: dict[str, Any] = dict(twin.named_parameters()) | dict(twin.named_buffers())

    def penalty(run, values):
        values = [x.clone().requires_grad_() for x in values]
        found = torch.autograd.grad(total(run(*values)), values, create_graph=True)
        return sum(each.square().sum() for each in found)

    penalty(network, inputs).backward()
    penalty(lambda *values: case.reference(state, *values), inputs).backward()
    assert_close(gradients(network), gradients(twin))
