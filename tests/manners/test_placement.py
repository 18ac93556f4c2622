"""Dtypes and devices: ``.to()``, ``half``, ``meta``, autocast, CUDA."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.manners.networks import Case, every_case, gradients, total
from torchneupy.layers import Input, Relu

# Against the same computation in float64.
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 1e-2}


def exact(case: Case, network: nn.Module, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """What the network should give, computed in float64 from its values and inputs as ``dtype`` has them."""
    state = {key: tensor.to(dtype).double() for key, tensor in network.state_dict().items()}
    outputs = case.reference(state, *[x.to(dtype).double() for x in case.inputs()])
    return outputs if isinstance(outputs, tuple) else (outputs,)


@every_case
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_a_network_computes_in_the_dtype_it_is_moved_to(case, dtype):
    network = case.network().eval()
    expected = exact(case, network, dtype)
    network.to(dtype)
    assert {tensor.dtype for tensor in network.state_dict().values()} == {dtype}
    assert {variable.dtype for variable in network.variables.values()} == {dtype}
    outputs = network(*case.inputs(dtype=dtype))
    for output, wanted in zip(outputs if isinstance(outputs, tuple) else (outputs,), expected, strict=True):
        assert output.dtype == dtype
        assert_close(output.double(), wanted, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype])
    total(outputs).backward()
    assert {parameter.grad.dtype for parameter in network.parameters()} == {dtype}


@every_case
@pytest.mark.parametrize(
    "method, dtype", [("half", torch.float16), ("bfloat16", torch.bfloat16), ("double", torch.float64)]
)
def test_the_methods_named_after_dtypes_convert_everything(case, method, dtype):
    network = case.network()
    assert getattr(network, method)() is network
    assert {tensor.dtype for tensor in [*network.parameters(), *network.buffers()]} == {dtype}
    assert {tensor.dtype for tensor in network.float().state_dict().values()} == {torch.float32}


@every_case
def test_an_optimizer_keeps_the_parameters_that_are_moved(case):
    network = case.network()
    before = [id(parameter) for parameter in network.parameters()]
    network.to(torch.float64)
    assert [id(parameter) for parameter in network.parameters()] == before


@every_case
def test_arrays_are_taken_in_the_dtype_of_the_network(case):
    network = case.network().double().eval()
    outputs = network(*[x.numpy() for x in case.inputs()])
    assert_close(outputs, case.reference(network.state_dict(), *case.inputs(dtype=torch.float64)))


@every_case
def test_shapes_come_out_on_meta_and_the_values_come_back(case):
    network = case.network().eval()
    twin = copy.deepcopy(network).to("meta")
    outputs = twin(*case.inputs(batch=7, device="meta"))
    expected = network(*case.inputs(batch=7))
    for output, wanted in zip(*([o] if torch.is_tensor(o) else o for o in (outputs, expected)), strict=True):
        assert output.is_meta and output.shape == wanted.shape
    twin.to_empty(device="cpu")
    twin.load_state_dict(network.state_dict())
    assert_close(twin(*case.inputs()), case.reference(network.state_dict(), *case.inputs()))


@every_case
@pytest.mark.parametrize("assign", [True, False])
def test_a_network_is_built_on_meta_with_nothing_drawn(case, assign):
    network = case.network()
    before = torch.get_rng_state()
    with torch.device("meta"):
        twin = case.build().eval()
    assert torch.equal(torch.get_rng_state(), before)
    assert twin.is_built
    assert all(tensor.is_meta for tensor in twin.state_dict().values())
    assert {k: t.shape for k, t in twin.state_dict().items()} == {k: t.shape for k, t in network.state_dict().items()}
    if not assign:
        twin.to_empty(device="cpu")
    twin.load_state_dict(network.state_dict(), assign=assign)
    assert_close(twin(*case.inputs()), case.reference(network.state_dict(), *case.inputs()))


@every_case
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


@every_case
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


@every_case
@pytest.mark.cuda
def test_cuda_gives_what_the_cpu_gives(case):
    network = case.network().eval()
    twin = copy.deepcopy(network).to("cuda")
    assert {variable.device.type for variable in twin.variables.values()} == {"cuda"}
    outputs, expected = twin(*case.inputs(device="cuda")), network(*case.inputs())
    assert_close(outputs, expected, check_device=False, rtol=1e-4, atol=1e-5)
    arrays = [x.numpy() for x in case.inputs()]
    assert_close(twin.predict(*arrays, verbose=False), network.predict(*arrays, verbose=False), rtol=1e-4, atol=1e-5)


@every_case
@pytest.mark.cuda
def test_cuda_learns_what_the_cpu_learns(case):
    network = case.network().eval()
    twin = copy.deepcopy(network).to("cuda")
    total(network(*case.inputs())).backward()
    parts = twin(*case.inputs(device="cuda"))
    total(tuple(part.cpu() for part in (parts if isinstance(parts, tuple) else (parts,)))).backward()
    assert_close(gradients(twin), gradients(network), check_device=False, rtol=1e-4, atol=1e-4)


@every_case
@pytest.mark.cuda
def test_a_network_is_built_on_cuda_with_the_same_keys(case):
    with torch.device("cuda"):
        twin = case.network()
    assert {tensor.device.type for tensor in twin.state_dict().values()} == {"cuda"}
    assert list(twin.state_dict()) == list(case.network().state_dict())
