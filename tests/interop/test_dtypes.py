"""Networks of every dtype: ``.to()``, ``half`` and the like, the default dtype, arrays."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.interop.networks import Case, copied_state, every_case_of_all, parts, step, train

# Against the same computation in float64.
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 1e-2}


def exact(case: Case, network: nn.Module, dtype: torch.dtype) -> list[torch.Tensor]:
    """What the network should give, computed in float64 from its values and inputs as ``dtype`` has them."""
    state = {key: tensor.to(dtype).double() for key, tensor in network.state_dict().items()}
    inputs = [x.to(dtype).double() if x.is_floating_point() else x for x in case.inputs()]
    return list(parts(case.reference(state, *inputs)))


@every_case_of_all
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_a_network_of_another_dtype_computes_and_learns(case, dtype, device):
    if (case.name, dtype, device) == ("sequence", torch.float16, "cpu"):
        pytest.skip("most processors have no LSTM of float16, nor has nn.LSTM")
    network = case.network().eval()
    expected = exact(case, network, dtype)
    network.to(device)
    assert network.to(dtype) is network
    assert {tensor.dtype for tensor in network.state_dict().values()} == {dtype}
    assert {variable.dtype for variable in network.variables.values()} == {dtype}
    outputs = parts(network(*case.inputs(dtype=dtype, device=device)))
    assert {each.dtype for each in outputs} == {dtype}
    tolerance = TOLERANCES[dtype]
    assert_close([each.double().cpu() for each in outputs], expected, rtol=tolerance, atol=tolerance)
    before = copied_state(network)
    optimizer = torch.optim.SGD(network.train().parameters(), lr=0.1)
    for seed in range(3):
        step(case, network, optimizer, seed=seed, dtype=dtype, device=device)
    assert {parameter.grad.dtype for parameter in network.parameters()} == {dtype}
    assert {tensor.dtype for tensor in network.state_dict().values()} == {dtype}
    assert any(not torch.equal(before[name], parameter) for name, parameter in network.named_parameters())
    assert all(tensor.isfinite().all() for tensor in network.state_dict().values())


@every_case_of_all
def test_a_network_that_was_moved_back_learns_on(case, device):
    network = case.network().to(device)
    network.to(torch.float64).to(torch.float32)
    assert_close(copied_state(network), copied_state(case.network().to(device)), rtol=0, atol=0)
    train(case, network, torch.optim.SGD(network.parameters(), lr=0.1), steps=1, device=device)


@every_case_of_all
@pytest.mark.parametrize(
    "method, dtype", [("half", torch.float16), ("bfloat16", torch.bfloat16), ("double", torch.float64)]
)
def test_the_methods_named_after_dtypes_convert_everything(case, method, dtype):
    network = case.network()
    assert getattr(network, method)() is network
    assert {tensor.dtype for tensor in [*network.parameters(), *network.buffers()]} == {dtype}
    assert {tensor.dtype for tensor in network.float().state_dict().values()} == {torch.float32}


@every_case_of_all
def test_an_optimizer_keeps_the_parameters_that_are_moved(case):
    network = case.network()
    before = [id(parameter) for parameter in network.parameters()]
    network.to(torch.float64)
    assert [id(parameter) for parameter in network.parameters()] == before


@every_case_of_all
def test_arrays_are_taken_in_the_dtype_of_the_network(case):
    network = case.network().double().eval()
    outputs = network(*[x.numpy() for x in case.inputs()])
    assert_close(outputs, case.reference(network.state_dict(), *case.inputs(dtype=torch.float64)))


@every_case_of_all
def test_a_network_is_built_in_the_default_dtype(case):
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        network = case.network().eval()
    finally:
        torch.set_default_dtype(before)
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float64}
    inputs = case.inputs(dtype=torch.float64)
    assert_close(network(*inputs), case.reference(network.state_dict(), *inputs))
