"""What is put in the place of ``forward`` or of a call: on a layer, on its class, on all modules, and by users."""

from typing import Any
from unittest import mock

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from tests.interop.by_hand import ORDER
from tests.interop.networks import SMALL, Case, every_case_of_all
from torchneupy.layers import BaseLayer, Input, Relu


def test_a_forward_that_is_put_in_place_is_the_one_that_runs(device):
    case: Case = SMALL["chain"]
    network = case.network().eval().to(device)
    (x,) = case.inputs(device=device)
    relu = network.get_submodule("relu-1")
    expected = network.get_submodule("softmax-1")(torch.ones(4, 5, device=device))

    def ones(x: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(x), 5, device=device)

    relu.forward = ones
    assert_close(network(x), expected)
    del relu.forward
    with mock.patch.object(Relu, "forward", lambda self, x: ones(x)):
        assert_close(network(x), expected)
    with mock.patch.object(Relu, "output", lambda self, x, **kwargs: ones(x)):
        assert_close(network(x), expected)
    assert_close(network(x), case.reference(network.state_dict(), x))


@every_case_of_all
def test_a_call_of_all_modules_that_is_patched_sees_every_layer(case, device):
    """As tracers and quantisation tools patch it while they run."""
    network, seen = case.network().eval().to(device), []
    plain = nn.Module.__call__

    def call(module: nn.Module, *inputs: Any) -> Any:
        seen.append(module)
        return plain(module, *inputs)

    with mock.patch.object(nn.Module, "__call__", call):
        network(*case.inputs(device=device))
    assert seen[0] is network
    keys = {child: key for key, child in network.named_children()}
    assert [keys[module] for module in seen if module in keys] == ORDER[case.name]


class Called(Relu):
    def __call__(self, x: torch.Tensor) -> Any:
        return super().__call__(x) * 2


class Forward(BaseLayer):
    def get_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def output(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(x) * 2


@pytest.mark.parametrize("make", [lambda: Called(3, weight=torch.eye(3)), Forward], ids=["__call__", "forward"])
def test_a_custom_layers_own_call_or_forward_is_the_one_that_runs(make):
    network = Input(3) >> make()
    x = torch.tensor([[1.0, 2.0, 3.0]])
    assert_close(network(x), x * 2)


def test_torchs_flop_counter_sees_the_layers(device):
    case: Case = SMALL["chain"]
    network = case.network().eval().to(device)
    with FlopCounterMode(display=False) as counter:
        network(*case.inputs(device=device))
    # A product of a (4, 6) and a (6, 5) matrix: a multiplication and an addition for each of 4 * 6 * 5 terms.
    assert sum(counter.get_flop_counts()["LayerGraph.relu-1"].values()) == 2 * 4 * 6 * 5
    assert counter.get_total_flops() == 2 * 4 * (6 * 5 + 5 * 3)
