"""The networks that torch and the tools around it are tried on, and what it takes to train and compare them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.interop import by_hand
from torchneupy.layers import (
    LSTM,
    BaseLayer,
    BatchNorm,
    Concatenate,
    Convolution,
    Dropout,
    Elementwise,
    Elu,
    Embedding,
    GlobalPooling,
    Identity,
    Input,
    LayerGraph,
    Linear,
    PRelu,
    Relu,
    Softmax,
    Tanh,
    join,
    parallel,
)

ROOT = Path(__file__).resolve().parents[2]
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
    reference : callable
        What the network computes in evaluation, of its state and the inputs.
    n_indices : int
        If not 0, the inputs hold whole numbers below it.
    """

    name: str
    build: Callable[[], LayerGraph]
    shapes: tuple[tuple[int, ...], ...]
    outputs: tuple[int, ...]
    reference: Callable[..., Any]
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


def by_name(*cases: Case) -> dict[str, Case]:
    return {case.name: case for case in cases}


def parametrize(cases: dict[str, Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases.values(), ids=cases)


#: Those of the table in README.rst. Every layer has a name.
CASES = by_name(
    Case("dense", make_dense, ((6,),), (3,), by_hand.dense),
    Case("convolution", make_convolution, ((8, 9, 3),), (2,), by_hand.convolution),
    Case("sequence", make_sequence, ((7,),), (2,), by_hand.sequence, n_indices=N_WORDS),
    Case("two in two out", make_two, ((3,), (4,)), (2, 3), by_hand.two_in_two_out),
)
#: Smaller ones in shorter notation, whose layers have automatic names: relu-1 and so on.
SMALL = by_name(
    Case("chain", make_chain, ((6,),), (3,), by_hand.chain),
    Case("residual", make_residual, ((4,),), (4,), by_hand.residual),
    Case("branches", make_branches, ((3,), (4,)), (2, 3), by_hand.branches),
    Case("custom", make_custom, ((6,),), (3,), by_hand.custom),
)
ALL = CASES | SMALL
#: Those whose inputs have derivatives, which indices have not.
DIFFERENTIABLE = {name: case for name, case in ALL.items() if not case.n_indices}

every_case = parametrize(CASES)
every_small_case = parametrize(SMALL)
every_case_of_all = parametrize(ALL)
every_differentiable_case = parametrize(DIFFERENTIABLE)


def parts(outputs: Any) -> tuple[torch.Tensor, ...]:
    """The outputs of a network, of which there may be one."""
    return outputs if isinstance(outputs, tuple) else (outputs,)


def gradients(network: nn.Module) -> dict[str, Any]:
    return {name: None if p.grad is None else p.grad.clone() for name, p in network.named_parameters()}


def copied_state(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


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


def descend(network: Any, optimizer: torch.optim.Optimizer, inputs: tuple[torch.Tensor, ...], steps: int) -> None:
    """Some steps of any module, each with the same inputs, and with no targets: ``total`` is the loss."""
    for _ in range(steps):
        optimizer.zero_grad()
        total(network(*inputs)).backward()
        optimizer.step()


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


def run_elsewhere(script: str, folder: Path) -> None:
    """Run a script in another process, in which ``folder`` is a Path."""
    program = f"from pathlib import Path\nfolder = Path({str(folder)!r})\n{script}"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
