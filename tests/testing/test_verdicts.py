"""What breaks no promise is told of once, correct layers of unusual kinds pass, and bad arguments are refused."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from torchneupy.layers import BaseLayer, Elementwise, Embedding, Identity, Input, Linear, Relu
from torchneupy.testing import check_layer, check_network

SLOW = ["compile", "export", "pickle"]


class Boom(Identity):
    def output(self, input: Any, **kwargs: Any) -> Any:
        raise RuntimeError("boom")


class Nothing(Identity):
    def output(self, input: Any, **kwargs: Any) -> Any:
        return None


class Two(Identity):
    def output(self, input: Any, **kwargs: Any) -> Any:
        return input, input


class Logarithm(Identity):
    def output(self, input: Any, **kwargs: Any) -> Any:
        return torch.log(input)


class Frozen(Linear):
    """Takes no gradient by its weight."""

    def output(self, input: Any, **kwargs: Any) -> Any:
        assert self.weight is not None
        return input @ self.weight.data + self.bias


class Unreached(Linear):
    """Has a weight that no output depends on."""

    def output(self, input: Any, **kwargs: Any) -> Any:
        return input[:, : self.n_units] + self.bias


class Spectrum(BaseLayer):
    """A correct layer whose output is complex."""

    def get_output_shape(self, input_shape: Any) -> Any:
        size = input_shape[1]
        return (input_shape[0], None if size is None else size // 2 + 1)

    def output(self, input: Any, **kwargs: Any) -> Any:
        return torch.fft.rfft(input)


class Positive(Identity):
    """A correct layer that answers yes or no."""

    def output(self, input: Any, **kwargs: Any) -> Any:
        return input > 0


class Drawn(nn.Module):
    """Initial values that are not torch's."""

    def __init__(self, draw: Any) -> None:
        super().__init__()
        values = np.array([[draw() for _ in range(3)] for _ in range(4)])
        self.weight = nn.Parameter(torch.zeros(4, 3) + torch.from_numpy(values).to(torch.get_default_dtype()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


def message_of(make: Any, shape: Any = 4, **options: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        check_layer(make, shape, skip=SLOW, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    "make, shape, text",
    [
        (Boom, 4, "called in evaluation mode with (3, 4), fails: RuntimeError: boom"),
        (Nothing, 4, "gives NoneType. A layer gives a tensor, or several in a tuple"),
        (Two, 4, "gives 2 tensors, but declares 1 shape(s). Let `get_output_shape` give a list"),
        (lambda: nn.GRU(4, 3, batch_first=True), (5, 4), "declares 1 shape(s). Put a module around it"),
    ],
    ids=["raises", "nothing", "tuple", "module"],
)
def test_what_every_part_would_tell_is_told_once(make: Any, shape: Any, text: str) -> None:
    message = message_of(make, shape)
    assert text in message
    assert "To mend it" not in message


@pytest.mark.parametrize(
    "make, text",
    [
        (Logarithm, "In evaluation mode there is NaN in the output"),
        (lambda: Frozen(3), "-1.weight` is wrong: along a direction it is 0, and "),
        (lambda: Unreached(3), "In neither mode a gradient reaches `unreached-"),
    ],
    ids=["infinite", "frozen", "unreached"],
)
def test_gradients_are_described(make: Any, text: str) -> None:
    message = message_of(make)
    assert "breaks 1 of" in message
    assert text in message
    assert "Jacobian" not in message


def test_inputs_are_prepared():
    check_layer(Logarithm, 4, skip=SLOW, prepare=torch.exp)
    check_layer(lambda: nn.Embedding(5, 2), (), skip=SLOW, prepare=[lambda x: x.abs().long().clamp(max=4)])
    check_network(Input(()) >> Embedding(5, 2), skip=SLOW, prepare=torch.exp)
    check_layer(lambda: Elementwise(torch.pow), [3, 3], skip=SLOW, prepare=[torch.exp, None])
    check_network(Input(4) >> Logarithm(), skip=SLOW, prepare=torch.exp)


@pytest.mark.parametrize(
    "prepare, error, message",
    [
        (5, TypeError, "should be a function, or a list of one or None for each input, got 5"),
        ([torch.exp, 5], TypeError, "should be a function, or a list"),
        ([torch.exp, None], ValueError, "as many functions as there are inputs, 1, got 2"),
        (torch.sum, ValueError, r"a tensor of the shape that it gets, \(3, 4\), got tensor\("),
    ],
)
def test_what_cannot_prepare(prepare: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        check_layer(Relu, 4, prepare=prepare)
    with pytest.raises(error, match=message):
        check_network(Input(4) >> Relu(), prepare=prepare)


def test_outputs_that_are_not_real_numbers():
    check_layer(Positive, 4, skip=SLOW)
    check_layer(Spectrum, 4, skip=[*SLOW, "dtypes"])  # torch has no bfloat16 of it


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("draw", [np.random.mtrand.random, random.random], ids=["numpy", "python"])
def test_initial_values_of_other_generators(draw):
    """Values are the same each time, so that nothing differs that should not; numpy's arrays cannot be on meta."""
    check_layer(lambda: Drawn(draw), 4, skip=[*SLOW, "meta"])


def test_initial_values_that_nobody_can_seed():
    numbers = np.random.default_rng()
    assert "`drawn-" in message_of(lambda: Drawn(numbers.random))


def test_a_factory_that_shares_parameters():
    shared = nn.Linear(4, 3)
    with pytest.raises(TypeError, match=r"share `0.weight`"):
        check_layer(lambda: nn.Sequential(shared, nn.ReLU()), 4)


@pytest.mark.parametrize(
    "shape, options, error, message",
    [
        (3, {"seed": "a"}, TypeError, "a whole number as a seed, got 'a'"),
        (3, {"skip": None}, ValueError, "`skip` should hold names of parts, got None"),
        ([], {}, ValueError, r"got \[\]"),
        (((4,), (3,)), {}, ValueError, r"a list of several inputs' shapes, got \(\(4,\), \(3,\)\)"),
    ],
)
def test_arguments(shape: Any, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        check_layer(lambda: Relu(3), shape, **options)


@pytest.mark.parametrize("value", [nn.Linear(3, 3), Relu(3)], ids=["module", "layer"])
def test_check_network_wants_a_network(value: Any) -> None:
    with pytest.raises(TypeError, match=r"check_network\(\) expects a network"):
        check_network(value)
