"""Modules of torch in networks, networks in modules, and modules that torch itself puts in their place."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.interop.networks import Case, copied_state, equal_states, every_case, gradients
from torchneupy.layers import Input, Linear, Relu, Transpose, join, parallel

# Modules of torch in networks


class SelfAttention(nn.Module):
    """Attention of one input, that gives one output, as users wrap it."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)

    def forward(self, x: torch.Tensor) -> Any:
        return self.attention(x, x, x, need_weights=False)[0]


class ChannelsLast(nn.Module):
    """A convolution for images of the networks' order of axes, written without the library."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, image: torch.Tensor) -> Any:
        return self.module(image.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


@dataclass(frozen=True)
class Foreign:
    """A module, what the network around it does by hand, and the shapes of a sample before and after it."""

    make: Callable[[], nn.Module]
    shape: tuple[int | None, ...]
    wanted: tuple[int | None, ...]
    by_hand: Callable[[nn.Module], nn.Module] = lambda module: module
    before: tuple[int, ...] | None = None
    after: tuple[int, ...] | None = None

    def network(self, module: nn.Module) -> Any:
        before = [] if self.before is None else [Transpose(self.before)]
        after = [] if self.after is None else [Transpose(self.after)]
        return join(Input(self.shape), *before, module, *after)

    def inputs(self, device: str) -> torch.Tensor:
        sizes = [7 if size is None else size for size in self.shape]
        return torch.randn(4, *sizes, generator=torch.Generator().manual_seed(1)).to(device)


FOREIGN = {
    "Linear": Foreign(lambda: nn.Linear(6, 4), (6,), (4,)),
    "Linear over steps": Foreign(lambda: nn.Linear(6, 4), (None, 6), (None, 4)),
    "Conv2d": Foreign(
        lambda: nn.Conv2d(3, 5, 3, stride=2), (9, None, 3), (4, None, 5), ChannelsLast, (0, 3, 1, 2), (0, 2, 3, 1)
    ),
    "MultiheadAttention": Foreign(SelfAttention, (None, 8), (None, 8)),
}

every_module = pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN)


@every_module
def test_a_module_tells_its_shape_by_meta_tensors(foreign):
    module = foreign.make()
    before, generator = copied_state(module), torch.get_rng_state()
    network = foreign.network(module)
    assert network.output_shape == (None, *foreign.wanted)
    assert torch.equal(torch.get_rng_state(), generator)
    equal_states(module, before)
    assert foreign.network(foreign.make().to("meta")).output_shape == (None, *foreign.wanted)


@every_module
@pytest.mark.parametrize("training", [True, False])
def test_a_module_runs_in_its_mode_and_learns(foreign, training, device):
    module = foreign.make()
    network = foreign.network(module).to(device).train(training)
    assert all(part.training is training for part in module.modules())
    twin = foreign.by_hand(copy.deepcopy(module))
    x, outputs, models = foreign.inputs(device), [], (network, twin)
    for model in models:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        torch.manual_seed(3)  # attention drops some of its weights
        outputs.append(model(x))
        outputs[-1].square().sum().backward()
        optimizer.step()
    assert_close(*outputs)
    assert network.get_output_shape(tuple(x.shape)) == outputs[0].shape
    assert_close(*[[p.detach() for p in model.parameters()] for model in models])


def test_attention_takes_three_inputs_and_its_two_outputs_come_out(device):
    module = nn.MultiheadAttention(8, 2, batch_first=True, device=device)
    network = parallel(*[Input((None, 8), name=name) for name in ("query", "key", "value")]) >> module
    inputs = [torch.randn(4, steps, 8, device=device) for steps in (3, 5, 5)]
    assert_close(network(*inputs), module(*inputs))
    assert_close(network(dict(zip(("query", "key", "value"), inputs, strict=True))), module(*inputs))


# Networks in modules in networks


class First(nn.Module):
    """A network of any number of inputs and outputs, as a module that gives the first output."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: torch.Tensor) -> Any:
        outputs = self.network(*inputs)
        return outputs[0] if isinstance(outputs, tuple) else outputs


def nest(case: Case) -> tuple[Any, Any, nn.Module]:
    """A network of a case in a module of torch in a network: the outer network, the inner one, and the module."""
    inner = case.network()
    part = First(inner) if len(case.shapes) > 1 else nn.Sequential(inner, nn.Linear(case.outputs[0], 5))
    outer = join(parallel(*map(Input, case.shapes)), part, Linear(2, name="last"))
    return outer, inner, part


def step_towards(goal: float, model: Any, optimizer: torch.optim.Optimizer, inputs: tuple[torch.Tensor, ...]) -> float:
    optimizer.zero_grad()
    loss = (model(*inputs) - goal).square().mean()
    loss.backward()
    optimizer.step()
    value: float = loss.item()
    return value


@every_case
def test_a_network_in_a_module_in_a_network_computes_and_learns(case, device):
    outer, _, part = nest(case)
    assert outer.is_built and outer.output_shape == (None, 2)
    outer.to(device).eval()
    inputs = case.inputs(device=device)
    hidden = part(*inputs)
    assert_close(outer(*inputs), outer["last"].output(hidden))
    optimizer = torch.optim.SGD(outer.train().parameters(), lr=0.1)
    losses = [step_towards(1, outer, optimizer, inputs) for _ in range(20)]
    assert losses[-1] < losses[0]
    without = {name for name, parameter in outer.named_parameters() if parameter.grad is None}
    assert without == {
        name for name, _ in outer.named_parameters() if ".number." in name
    }  # the output that First drops


@every_case
def test_a_network_in_a_module_in_a_network_keeps_modes_hooks_and_state(case, device):
    outer, inner, _ = nest(case)
    outer.to(device)
    inputs = case.inputs(device=device)
    for training in (False, True):
        outer.train(training)
        assert all(part.training is training for part in outer.modules())
    inner.eval()
    outer["last"].eval()
    torch.manual_seed(0)
    first, again = outer(*inputs), outer(*inputs)
    assert torch.equal(first, again)
    calls = []
    inner.register_forward_hook(lambda module, inputs, output: calls.append(module))
    inner[-1].register_forward_hook(lambda module, inputs, output: calls.append(module))
    outer(*inputs)
    assert calls == [inner[-1], inner]
    twin, _, _ = nest(case)
    twin.to(device)
    assert list(twin.state_dict()) == list(outer.state_dict())
    twin.load_state_dict(outer.state_dict())
    assert_close(twin.eval()(*inputs), outer.eval()(*inputs))
    ours = {id(tensor) for tensor in outer.state_dict(keep_vars=True).values()}
    assert {id(tensor) for tensor in inner.state_dict(keep_vars=True).values()} <= ours


# What torch puts in the place of its own modules


def make_normalised() -> Any:
    return join(Input(6), nn.BatchNorm1d(6), Relu(5), nn.BatchNorm1d(5), Linear(2))


def test_sync_batch_norm_takes_the_place_of_batch_norm(device):
    """Of torch's classes, with torch's conversion."""
    network = make_normalised().to(device)
    twin = copy.deepcopy(network)
    assert nn.SyncBatchNorm.convert_sync_batchnorm(network) is network
    assert [type(network[i].module) for i in (1, 3)] == [nn.SyncBatchNorm, nn.SyncBatchNorm]
    assert list(network.state_dict()) == list(twin.state_dict())
    x = torch.randn(7, 6, device=device)
    for training in (True, False):
        outputs = [one.train(training)(x) for one in (network, twin)]
        assert_close(*outputs)
        for output in outputs:
            output.square().sum().backward()
    assert_close(list(gradients(network).values()), list(gradients(twin).values()))
    equal_states(network, twin)


# What torch itself says of its quantisation, which is to become another package's.
@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, torch.quantize_per_channel:UserWarning")
def test_dynamic_quantisation_takes_the_place_of_modules_of_torch():
    """Layers of the library are other classes than those that it knows, and stay as they are. On the CPU alone."""
    from torch.ao.quantization import quantize_dynamic

    network = join(Input(6), nn.Linear(6, 16), Relu(16), nn.Linear(16, 3)).eval()
    small = quantize_dynamic(network, {nn.Linear}, dtype=torch.qint8)
    assert [type(small[i].module) for i in (1, 3)] == [torch.ao.nn.quantized.dynamic.Linear] * 2
    assert [type(small[i]) for i in (0, 2)] == [Input, Relu]
    x = torch.randn(50, 6)
    expected = network(x)
    assert_close(small(x), expected, rtol=0.1, atol=0.1)
    assert not torch.equal(small(x), expected)
    assert_close(small.output(x), small(x))
    assert_close(torch.from_numpy(small.predict(x, verbose=False)), small(x).detach())
