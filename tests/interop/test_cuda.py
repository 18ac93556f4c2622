"""Training on CUDA, and what can be proved of it where there is none: nothing waits for a device.

The contract asks of each layer that on ``meta`` nothing is made elsewhere, and that no value is read on the host.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tests.contract.cases import VARIANTS
from tests.contract.entry import Variant
from tests.contract.example import Example
from tests.contract.laws import LAWS
from tests.interop.loops import RATE, calm, learn
from tests.interop.networks import (
    dtypes_of_layers,
    equal_states,
    every_case,
    every_small_case,
    gradients,
    parts,
    step,
    total,
)
from torchneupy.layers import Identity

Read = Callable[[torch.Tensor], Any]


class Planted(Identity):
    """A layer that may wait for its device, or make something on another."""

    def __init__(self, read: Read, name: str | None = None) -> None:
        super().__init__(name=name)
        self.read = read

    def output(self, input: Any, **kwargs: Any) -> Any:
        self.read(input)
        return input


@dataclass(frozen=True)
class PlantedVariant(Variant):
    read: Read = torch.square

    def make(self) -> Any:
        return Planted(self.read)


READS: dict[str, Read] = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x.sum()),
    "bool": lambda x: bool(x.sum() > 0),
    "tolist": lambda x: x.tolist(),
    "numpy": lambda x: x.detach().numpy(),
    "cpu": lambda x: x.cpu(),
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 0],
    "made on the CPU": lambda x: torch.zeros(3),
    "drawn on the CPU": lambda x: torch.rand(3),
}


def ask(read: Read) -> None:
    LAWS["nothing_is_read_on_the_host"](PlantedVariant("Planted", ((3,),), lambda values, x: x, read=read))


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_layer_that_waits_breaks_the_law(read):
    ask(torch.square)
    with pytest.raises((AssertionError, RuntimeError, TypeError)):
        ask(read)


# Training, on the CPU and on CUDA


@every_case
def test_a_network_learns_what_it_learns_on_the_cpu(case, device):
    network = learn(case, calm(case), device)
    assert {tensor.device.type for tensor in network.state_dict().values()} == {device}
    equal_states(network.cpu(), learn(case, calm(case)), rtol=1e-3, atol=1e-4)


#: The CPU's LSTM has no float16 on most processors, nor has that of ``nn.LSTM``.
HALF = {"cpu": torch.bfloat16, "cuda": torch.float16}


@every_case
def test_gradients_of_half_precision_are_scaled(case, device):
    network = calm(case).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE)
    scaler = torch.amp.GradScaler(device, init_scale=2.0**10)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        with torch.autocast(device, dtype=HALF[device]), dtypes_of_layers(network) as dtypes:
            loss = case.loss(network(*case.inputs(device=device)), case.targets(device=device))
        assert HALF[device] in dtypes.values()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert scaler.get_scale() == 2.0**10  # or steps were left out, because gradients were infinite
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    twin = calm(case)
    optimizer = torch.optim.SGD(twin.parameters(), lr=RATE)
    assert_close(losses, [step(case, twin, optimizer).item() for _ in range(5)], rtol=1e-2, atol=1e-3)


# Only where CUDA is


@every_small_case
@pytest.mark.cuda
def test_a_network_gives_what_the_cpu_gives(case):
    network = case.network().eval()
    twin = copy.deepcopy(network).to("cuda")
    assert {variable.device.type for variable in twin.variables.values()} == {"cuda"}
    outputs, expected = twin(*case.inputs(device="cuda")), network(*case.inputs())
    assert_close(outputs, expected, check_device=False, rtol=1e-4, atol=1e-5)
    arrays = [x.numpy() for x in case.inputs()]
    assert_close(twin.predict(*arrays, verbose=False), network.predict(*arrays, verbose=False), rtol=1e-4, atol=1e-5)


@every_small_case
@pytest.mark.cuda
def test_gradients_are_those_of_the_cpu(case):
    network = case.network().eval()
    twin = copy.deepcopy(network).to("cuda")
    total(network(*case.inputs())).backward()
    total(tuple(part.cpu() for part in parts(twin(*case.inputs(device="cuda"))))).backward()
    assert_close(gradients(twin), gradients(network), check_device=False, rtol=1e-4, atol=1e-4)


@every_small_case
@pytest.mark.cuda
def test_a_network_is_built_on_cuda_with_the_same_keys(case):
    with torch.device("cuda"):
        twin = case.network()
    assert {tensor.device.type for tensor in twin.state_dict().values()} == {"cuda"}
    assert list(twin.state_dict()) == list(case.network().state_dict())


@every_case
@pytest.mark.cuda
def test_a_step_of_training_is_captured_as_a_graph(case):
    network, twin = calm(case).cuda(), calm(case).cuda()
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE)
    inputs, targets = case.inputs(device="cuda"), case.targets(device="cuda")

    def learn_once() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss: torch.Tensor = case.loss(network(*inputs), targets)
        loss.backward()
        optimizer.step()
        return loss

    # As torch's manual has it: some steps on another stream, and then the one that is kept.
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            learn_once()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = learn_once()
    losses = []
    for seed in range(2, 6):
        for place, fresh in zip((*inputs, *targets), (*case.inputs(seed=seed), *case.targets(seed=seed)), strict=True):
            place.copy_(fresh)
        graph.replay()
        losses.append(loss.item())
    plain = torch.optim.SGD(twin.parameters(), lr=RATE)
    expected = [step(case, twin, plain, seed=seed, device="cuda").item() for seed in (1, 1, 1, 2, 3, 4, 5)]
    assert_close(losses, expected[3:], rtol=1e-4, atol=1e-5)
    equal_states(network, twin, rtol=1e-4, atol=1e-5)


@contextmanager
def no_waiting() -> Iterator[None]:
    """Where the host waits for the device, torch raises."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


# What torch says of this mode at its first use.
of_a_prototype = pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature:UserWarning")


@every_case
@pytest.mark.cuda
@of_a_prototype
def test_no_step_of_training_waits_for_the_device(case):
    network = case.network().cuda()
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE)
    inputs, targets = case.inputs(device="cuda"), case.targets(device="cuda")
    with no_waiting():
        for _ in range(3):
            optimizer.zero_grad()
            case.loss(network(*inputs), targets).backward()
            optimizer.step()


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.cuda
@of_a_prototype
def test_no_layer_waits_for_the_device(variant):
    example = Example(variant).to("cuda")
    with no_waiting():
        for training in (True, False):
            example.network.train(training)(*example.inputs)
            example.layer.output(*example.inputs, training=training)


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant.random], ids=str)
@pytest.mark.cuda
def test_random_layers_draw_from_the_generator_of_the_device(variant):
    example = Example(variant).to("cuda")
    before = torch.get_rng_state()
    outputs = []
    for seed in (3, 3, 4):
        torch.cuda.manual_seed(seed)
        outputs.append(example.layer.output(*example.inputs, training=True))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
