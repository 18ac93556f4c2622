"""Autocast, and networks of other dtypes."""

import pytest
import torch
from torch.testing import assert_close

from tests.interop.networks import copied_state, dtypes_of_layers, every_case, gradients, parts, step, train

# Against the same computation in float64.
TOLERANCES = {torch.float64: 1e-10, torch.bfloat16: 5e-2}


def largest_difference(found, wanted):
    return max((one.double() - other.double()).abs().max().item() for one, other in zip(found, wanted, strict=True))


@every_case
def test_autocast_computes_about_the_same(case, device):
    network, inputs = case.network().eval().to(device), case.inputs(device=device)
    exact = parts(network(*inputs))
    with torch.autocast(device, dtype=torch.bfloat16), dtypes_of_layers(network) as dtypes:
        outputs = parts(network(*inputs))
    assert_close([each.float() for each in outputs], list(exact), rtol=3e-2, atol=3e-2)
    assert torch.bfloat16 in dtypes.values()  # within: CUDA has the softmax, with which some networks end, in float32
    assert largest_difference(outputs, exact) > 1e-5


@every_case
def test_training_with_autocast_keeps_everything_else_in_float32(case, device):
    network, twin = case.network().to(device), case.network().to(device)
    optimizer, plain = (torch.optim.AdamW(each.parameters(), lr=0.01) for each in (network, twin))
    losses = []
    for _ in range(10):
        torch.manual_seed(0)
        with torch.autocast(device, dtype=torch.bfloat16), dtypes_of_layers(network) as dtypes:
            loss = case.loss(network(*case.inputs(device=device)))
        assert torch.bfloat16 in dtypes.values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        torch.manual_seed(0)
        assert step(case, twin, plain, device=device).item() == pytest.approx(losses[-1], rel=5e-2)
    assert losses[-1] < losses[0]
    tensors = [*network.parameters(), *network.buffers(), *gradients(network).values()]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}


@every_case
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_a_network_of_another_dtype_computes_and_learns(case, dtype, device):
    network = case.network().eval().to(device)
    exact = [each.double() for each in parts(case.network().double().eval()(*case.inputs(dtype=torch.float64)))]
    assert network.to(dtype) is network
    assert {tensor.dtype for tensor in network.state_dict().values()} == {dtype}
    outputs = parts(network(*case.inputs(dtype=dtype, device=device)))
    assert {each.dtype for each in outputs} == {dtype}
    assert_close([each.double().cpu() for each in outputs], exact, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype])
    before = copied_state(network)
    optimizer = torch.optim.SGD(network.train().parameters(), lr=0.1)
    for seed in range(3):
        step(case, network, optimizer, seed=seed, dtype=dtype, device=device)
    assert {parameter.grad.dtype for parameter in network.parameters()} == {dtype}
    assert {tensor.dtype for tensor in network.state_dict().values()} == {dtype}
    assert any(not torch.equal(before[name], parameter) for name, parameter in network.named_parameters())
    assert all(tensor.isfinite().all() for tensor in network.state_dict().values())


@every_case
def test_a_network_that_was_moved_back_learns_on(case, device):
    network = case.network().to(device)
    network.to(torch.float64).to(torch.float32)
    assert_close(copied_state(network), copied_state(case.network().to(device)), rtol=0, atol=0)
    train(case, network, torch.optim.SGD(network.parameters(), lr=0.1), steps=1, device=device)
