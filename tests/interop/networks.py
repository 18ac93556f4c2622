"""The four networks that the tools around torch are tried on, and what it takes to train and compare them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from tests.manners.networks import copied_state, gradients, run_elsewhere
from torchneupy.layers import (
    LSTM,
    BatchNorm,
    Concatenate,
    Convolution,
    Dropout,
    Elementwise,
    Embedding,
    GlobalPooling,
    Identity,
    Input,
    LayerGraph,
    Linear,
    Relu,
    Softmax,
    Tanh,
    join,
    parallel,
)

__all__ = [
    "CASES",
    "Case",
    "copied_state",
    "dtypes_of_layers",
    "equal_states",
    "every_case",
    "every_differentiable_case",
    "gradients",
    "parts",
    "run_elsewhere",
    "snapshot",
    "step",
    "total",
    "train",
]

N_WORDS = 11


def make_dense() -> LayerGraph:
    return join(
        Input(6, name="in"),
        Relu(10, name="hidden"),
        Dropout(0.5, name="dropout"),
        Softmax(3, name="out"),
    )


def make_convolution(size: tuple[int | None, int | None, int] = (8, 9, 3)) -> LayerGraph:
    # No bias before BatchNorm, where its gradient is zero but for rounding, of which some optimizers make large steps.
    branch = join(
        Convolution((3, 3, 4), padding="same", bias=None, name="inner"),
        BatchNorm(name="inner-norm"),
        Convolution((1, 1, 4), name="last"),
    )
    return join(
        Input(size, name="image"),
        Convolution((3, 3, 4), padding="same", bias=None, name="first") >> BatchNorm(name="norm") >> Relu(name="relu"),
        parallel(Identity(name="skip"), branch),
        Elementwise("add", name="sum"),
        Relu(name="after"),
        GlobalPooling("avg", name="pool"),
        Linear(2, name="out"),
    )


def make_sequence() -> LayerGraph:
    return join(
        Input(7, name="words"),
        Embedding(N_WORDS, 5, name="embedding"),
        LSTM(6, name="lstm"),
        Linear(2, name="out"),
    )


def make_two() -> LayerGraph:
    return join(
        parallel(Input(3, name="left"), Input(4, name="right") >> Tanh(5, name="tanh")),
        Concatenate(name="both"),
        Relu(6, name="hidden"),
        parallel(Softmax(2, name="kind"), Linear(3, name="number")),
    )


@dataclass(frozen=True)
class Case:
    """A network, its inputs for one sample, and outputs to learn.

    Parameters
    ----------
    name : str
    build : callable
        Makes the network.
    shapes : tuple of shapes
        One for each input, without the batch.
    outputs : tuple of int
        Number of values that each output has for a sample.
    n_indices : int
        If not 0, the inputs hold whole numbers below it.
    """

    name: str
    build: Callable[[], LayerGraph]
    shapes: tuple[tuple[int, ...], ...]
    outputs: tuple[int, ...]
    n_indices: int = 0

    def network(self, seed: int = 0) -> Any:  # not LayerGraph: its children, by attribute, may be anything to mypy
        """The network, in training mode, with the parameters that a seed gives."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.build()

    def inputs(self, batch: int = 4, seed: int = 1, **options: Any) -> tuple[torch.Tensor, ...]:
        """Some inputs. A dtype among the options changes numbers only, and not indices."""
        generator = torch.Generator().manual_seed(seed)
        if self.n_indices:
            options.pop("dtype", None)
            drawn = [torch.randint(self.n_indices, (batch, *shape), generator=generator) for shape in self.shapes]
        else:
            drawn = [torch.randn(batch, *shape, generator=generator) for shape in self.shapes]
        return tuple(x.to(**options) if options else x for x in drawn)

    def targets(self, batch: int = 4, seed: int = 1, **options: Any) -> tuple[torch.Tensor, ...]:
        """What the outputs for :meth:`inputs` of the same batch and seed are to become."""
        generator = torch.Generator().manual_seed(seed + 1000)
        drawn = [torch.rand(batch, width, generator=generator) for width in self.outputs]
        return tuple(x.to(**options) if options else x for x in drawn)

    def loss(self, outputs: Any, targets: tuple[torch.Tensor, ...] | None = None) -> torch.Tensor:
        """The squared error, a mean over the batch; targets are :meth:`targets` unless given."""
        found = parts(outputs)
        wanted = self.targets(len(found[0])) if targets is None else targets
        errors = [
            (part.float() - goal.to(part.device)).square().mean() for part, goal in zip(found, wanted, strict=True)
        ]
        return torch.stack(errors).sum()


CASES = {
    case.name: case
    for case in (
        Case("dense", make_dense, ((6,),), (3,)),
        Case("convolution", make_convolution, ((8, 9, 3),), (2,)),
        Case("sequence", make_sequence, ((7,),), (2,), n_indices=N_WORDS),
        Case("two in two out", make_two, ((3,), (4,)), (2, 3)),
    )
}

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
#: Those whose inputs have derivatives, which indices have not.
DIFFERENTIABLE = {name: case for name, case in CASES.items() if not case.n_indices}
every_differentiable_case = pytest.mark.parametrize("case", DIFFERENTIABLE.values(), ids=DIFFERENTIABLE)


def parts(outputs: Any) -> tuple[torch.Tensor, ...]:
    """The outputs of a network, of which there may be one."""
    return outputs if isinstance(outputs, tuple) else (outputs,)


def total(outputs: Any) -> torch.Tensor:
    """One number that depends on every value of the outputs, and on each in another way."""
    sums = []
    for part in parts(outputs):
        weights = torch.linspace(-1, 2, part.numel(), device=part.device)
        sums.append((part.float() * weights.view_as(part)).square().sum())
    return torch.stack(sums).sum()


@contextmanager
def dtypes_of_layers(network: Any) -> Iterator[dict[str, torch.dtype]]:
    """The dtypes of what the layers with parameters give, by the layers' names, while this is open."""
    found: dict[str, torch.dtype] = {}

    def remember(layer: Any, inputs: Any, output: torch.Tensor) -> None:
        found[layer.name] = output.dtype

    layers = [layer for layer in network if any(True for _ in layer.parameters())]
    handles = [layer.register_forward_hook(remember) for layer in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def step(
    case: Case, network: Any, optimizer: torch.optim.Optimizer, batch: int = 4, seed: int = 1, **options: Any
) -> torch.Tensor:
    """A step of training; ``options`` as those of ``inputs``. Gives the loss before it."""
    optimizer.zero_grad()
    loss = case.loss(network(*case.inputs(batch, seed, **options)), case.targets(batch, seed))
    loss.backward()
    optimizer.step()
    return loss.detach()


def train(
    case: Case, network: Any, optimizer: torch.optim.Optimizer, steps: int, batch: int = 4, **options: Any
) -> list[float]:
    """Some steps, each with other inputs. Gives their losses."""
    return [step(case, network, optimizer, batch, seed, **options).item() for seed in range(1, steps + 1)]


def tensors_of(state: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of a state, which may have states within, as an optimizer's has."""
    if isinstance(state, torch.Tensor):
        yield path, state
    elif isinstance(state, dict):
        for key, value in state.items():
            yield from tensors_of(value, f"{path}/{key}")
    elif isinstance(state, (list, tuple)):
        for index, value in enumerate(state):
            yield from tensors_of(value, f"{path}/{index}")


def snapshot(state: nn.Module | torch.optim.Optimizer | dict[str, Any]) -> dict[str, torch.Tensor]:
    """Copies of every tensor in a state, or in that of a module or an optimizer."""
    values = state if isinstance(state, dict) else state.state_dict()
    return {path: tensor.detach().clone() for path, tensor in tensors_of(values)}


def equal_states(one: Any, other: Any, rtol: float = 0, atol: float = 0) -> None:
    """Two states have the same keys, in the same order, and equal values: to the bit, unless tolerances are given."""
    ours, theirs = snapshot(one), snapshot(other)
    assert list(ours) == list(theirs)
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)
