"""``torch.compile`` of a part: a child, ``output``, a network in a module or in a function; and what is put in it."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.interop.networks import SMALL, Case, every_small_case, gradients, total

pytestmark = pytest.mark.usefixtures("fresh_compiler")


@pytest.fixture
def chain(device: str) -> tuple[Any, torch.Tensor]:
    """A network in evaluation, and its input."""
    case: Case = SMALL["chain"]
    (x,) = case.inputs(device=device)
    return case.network().eval().to(device), x


@pytest.mark.parametrize("in_place", [True, False], ids=["child.compile()", "torch.compile(child)"])
def test_a_compiled_child_is_the_one_that_runs(in_place, chain, counter):
    network, x = chain
    expected = network(x)
    child = network.get_submodule("relu-1")
    if in_place:
        child.compile(fullgraph=True, backend=counter)
    else:
        setattr(network, "relu-1", torch.compile(child, fullgraph=True, backend=counter))
    assert_close(network(x), expected)
    assert counter.frame_count == 1


def test_a_frozen_child_keeps_its_mode(chain, counter):
    network, x = chain
    network.train().get_submodule("dropout-1").eval()
    compiled: Any = torch.compile(network, fullgraph=True, backend=counter)
    assert_close(compiled(x), SMALL["chain"].reference(network.state_dict(), x))


def test_hooks_of_layers_are_compiled_in(chain, counter):
    network, x = chain
    network.get_submodule("relu-1").register_forward_pre_hook(lambda layer, inputs: (inputs[0] * 3,))
    network.get_submodule("softmax-1").register_forward_hook(lambda layer, inputs, output: output + 1)
    compiled: Any = torch.compile(network, fullgraph=True, backend=counter)
    assert_close(compiled(x), SMALL["chain"].reference(network.state_dict(), x * 3) + 1)
    assert counter.frame_count == 1


@every_small_case
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_output_with_an_explicit_flag_is_one_graph(case, training, counter, device):
    network, inputs = case.network().to(device), case.inputs(device=device)
    compiled: Any = torch.compile(network.output, fullgraph=True, backend=counter)
    torch.manual_seed(0)
    outputs = compiled(*inputs, training=training)
    torch.manual_seed(0)
    assert_close(outputs, network.output(*inputs, training=training))
    assert counter.frame_count == 1


@every_small_case
def test_compiled_in_place_a_network_keeps_its_keys(case, counter, device):
    network, inputs = case.network().eval().to(device), case.inputs(device=device)
    expected, keys = network(*inputs), list(network.state_dict())
    network.compile(fullgraph=True, backend=counter)
    assert_close(network(*inputs), expected)
    assert counter.frame_count == 1
    assert list(network.state_dict()) == keys


@every_small_case
def test_a_network_is_compiled_within_another_module(case, counter, device):
    class Doubling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = case.network().eval()

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            return total(self.body(*inputs)) * 2

    model, inputs = Doubling().to(device), case.inputs(device=device)
    compiled: Any = torch.compile(model, fullgraph=True, backend=counter)
    assert_close(compiled(*inputs), total(case.reference(model.body.state_dict(), *inputs)) * 2)
    assert counter.frame_count == 1


def test_a_training_step_with_its_loss_is_one_graph(counter, device):
    case: Case = SMALL["residual"]
    network, twin = (case.network().to(device) for _ in range(2))
    inputs = case.inputs(device=device)

    @torch.compile(fullgraph=True, backend=counter)
    def loss(*values: torch.Tensor) -> torch.Tensor:
        return total(network(*values))

    loss(*inputs).backward()
    total(twin(*inputs)).backward()
    assert_close(gradients(network), gradients(twin))
    assert counter.frame_count == 1
