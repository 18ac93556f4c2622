"""The four networks that torch's tools are tried on, each with the same computation written with torch alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from torchneupy.layers import (
    BaseLayer,
    Concatenate,
    Dropout,
    Elementwise,
    Elu,
    Identity,
    Input,
    LayerGraph,
    Linear,
    PRelu,
    Relu,
    Softmax,
    Tanh,
    join,
)

ROOT = Path(__file__).resolve().parents[2]

State = Mapping[str, torch.Tensor]


class Shifted(BaseLayer):
    """A user's layer: a variable that is trained, one that is not, a buffer and a module of torch."""

    def __init__(self, width: int, name: str | None = None) -> None:
        super().__init__(name=name)
        self.inner = nn.Linear(width, width)
        self.register_buffer("sign", torch.tensor(-1.0))

    def get_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def create_variables(self, input_shape: Any) -> None:
        self.scale = self.variable(2, name="scale", shape=input_shape[1:])
        self.shift = self.variable(0.5, name="shift", shape=input_shape[1:], trainable=False)

    def output(self, input: Any, **kwargs: Any) -> Any:
        return self.sign * self.inner(input * self.scale + self.shift)


def make_chain() -> LayerGraph:
    return join(Input(6), Relu(5) >> Dropout(0.5), Softmax(3))


def make_residual() -> LayerGraph:
    return Input(4) >> (Identity() | Tanh(8) >> Linear(4)) >> Elementwise("add")


def make_branches() -> LayerGraph:
    return (Input(3) | Input(4)) >> Concatenate() >> Elu(5) >> (Softmax(2) | Linear(3) >> Dropout(0.2))


def make_custom() -> LayerGraph:
    return Input(6) >> Shifted(6) >> nn.Linear(6, 4) >> PRelu(3)


def dense(state: State, key: str, x: torch.Tensor) -> torch.Tensor:
    return functional.linear(x, state[f"{key}.weight"].T, state[f"{key}.bias"])


def chain(state: State, x: torch.Tensor) -> Any:
    return torch.softmax(dense(state, "softmax-1", torch.relu(dense(state, "relu-1", x))), dim=1)


def residual(state: State, x: torch.Tensor) -> Any:
    return x + dense(state, "linear-1", torch.tanh(dense(state, "tanh-1", x)))


def branches(state: State, x: torch.Tensor, y: torch.Tensor) -> Any:
    hidden = functional.elu(dense(state, "elu-1", torch.cat([x, y], dim=1)))
    return torch.softmax(dense(state, "softmax-1", hidden), dim=1), dense(state, "linear-1", hidden)


def custom(state: State, x: torch.Tensor) -> Any:
    x = x * state["shifted-1.scale"] + state["shifted-1.shift"]
    x = state["shifted-1.sign"] * functional.linear(x, state["shifted-1.inner.weight"], state["shifted-1.inner.bias"])
    x = functional.linear(x, state["linear-1.module.weight"], state["linear-1.module.bias"])
    x = dense(state, "p-relu-1", x)
    return functional.prelu(x, state["p-relu-1.alpha"])


@dataclass(frozen=True)
class Case:
    """A network, the widths of its inputs, and what it computes in evaluation, from its state_dict and the inputs."""

    build: Callable[[], LayerGraph]
    widths: tuple[int, ...]
    reference: Callable[..., Any]

    def network(self, seed: int = 0) -> Any:  # not LayerGraph: its children, by attribute, may be anything to mypy
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.build()

    def inputs(self, batch: int = 4, seed: int = 1, **options: Any) -> tuple[torch.Tensor, ...]:
        generator = torch.Generator().manual_seed(seed)
        return tuple(torch.randn(batch, width, generator=generator).to(**options) for width in self.widths)


CASES = {
    "chain": Case(make_chain, (6,), chain),
    "residual": Case(make_residual, (4,), residual),
    "branches": Case(make_branches, (3, 4), branches),
    "custom": Case(make_custom, (6,), custom),
}

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def total(outputs: Any) -> torch.Tensor:
    """One number that depends on every value of the outputs, and on each in another way."""
    parts = outputs if isinstance(outputs, tuple) else (outputs,)
    weighted = [part.float() * torch.linspace(-1, 2, part.numel()).view_as(part) for part in parts]
    return torch.stack([part.square().sum() for part in weighted]).sum()


def gradients(network: nn.Module) -> dict[str, Any]:
    return {name: None if p.grad is None else p.grad.clone() for name, p in network.named_parameters()}


def copied_state(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def train(network: Any, optimizer: torch.optim.Optimizer, inputs: tuple[torch.Tensor, ...], steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        total(network(*inputs)).backward()
        optimizer.step()


def run_elsewhere(script: str, folder: Path) -> None:
    """Run a script in another process, in which ``folder`` is a Path."""
    program = f"from pathlib import Path\nfolder = Path({str(folder)!r})\n{script}"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
