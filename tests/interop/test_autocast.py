"""Autocast: about the same numbers, by layers that compute in fewer bits, and everything else in float32."""

import pytest
import torch
from torch.testing import assert_close

from tests.interop.networks import dtypes_of_layers, every_case, every_small_case, gradients, parts, step, total
from torchneupy.layers import Input, Relu


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


@every_small_case
def test_autocast_computes_as_torch_does_and_learns_in_float32(case):
    network = case.network().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = network(*case.inputs())
        # assert_close compares the dtypes too.
        assert_close(outputs, case.reference(network.state_dict(), *case.inputs()), rtol=2e-2, atol=2e-2)
    total(outputs).backward()
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert {parameter.grad.dtype for parameter in network.parameters()} == {torch.float32}


def test_autocast_reaches_the_product_of_a_dense_layer():
    network = Input(4) >> Relu(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(torch.ones(2, 4)).dtype == torch.bfloat16
