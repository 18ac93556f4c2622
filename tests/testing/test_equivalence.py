"""assert_equivalent tells what differs, also for large inputs, indices, and networks that remember."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from torchneupy.layers import (
    BaseLayer,
    Convolution,
    Embedding,
    Identity,
    Input,
    LayerGraph,
    MaxPooling,
    Relu,
    Reshape,
    join,
)
from torchneupy.testing import assert_equivalent, inputs_for


@pytest.mark.parametrize("shape", [(64, 64, 3), 20_000, (10, 300)])
def test_large_inputs(shape):
    network = Input(shape) >> Relu()
    assert_equivalent(network, nn.ReLU())
    with pytest.raises(AssertionError, match="output 0 differs"):
        assert_equivalent(network, nn.Identity())


@pytest.mark.parametrize(
    "network",
    [
        Input(3) >> Identity() >> Embedding(4, 2),
        Input(4) >> Reshape((2, 2)) >> Embedding(4, 2),
        join(Input((None, None, 3)), Convolution((5, 5, 2)), MaxPooling((3, 3)), Convolution((3, 3, 2))),
    ],
    ids=["identity", "reshape", "open sizes"],
)
def test_inputs_suit_layers_further_on(network):
    assert_equivalent(network, copy.deepcopy(network))


class Pick(BaseLayer):
    """Takes values from their places."""

    takes_indices = (1,)

    def get_output_shape(self, input_shape, places_shape):
        return places_shape

    def output(self, input, places):
        return input.gather(1, places)


def picking() -> LayerGraph:
    return (Input(5, name="values") | Input(3, name="places")) >> Pick()


@given(inputs_for(picking(), elements={"places": st.integers(0, 4), "values": st.integers(1, 2)}))
def test_elements_for_one_input(inputs):
    values, places = inputs
    assert places.dtype is torch.int64 and values.dtype is torch.float32
    assert set(values.flatten().tolist()) <= {1, 2}
    assert picking()(values, places).shape == places.shape


def test_elements_are_used():
    assert_equivalent(picking(), picking(), elements={"places": st.integers(0, 4)})
    small = Input(3) >> Relu()
    assert_equivalent(small, nn.ReLU6())
    with pytest.raises(AssertionError, match="output 0 differs"):
        assert_equivalent(small, nn.ReLU6(), elements=st.integers(0, 9))


class Counting(nn.Module):
    """Differs from the second call on."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.calls: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * self.calls


def test_no_example_knows_of_the_one_before():
    module = Counting()
    assert_equivalent(Input(3) >> Identity(), module, training=True)
    assert module.calls == 0


class Moody(nn.Module):
    """Differs for some inputs, and raises for others."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if (x > 2).any():
            raise ArithmeticError("too large")
        return x.abs()


def test_one_failure_is_told_of():
    with pytest.raises((AssertionError, ArithmeticError)):  # and no group of both
        assert_equivalent(Input(3) >> Identity(), Moody())
