"""Checks of networks, of equivalence, and how the checks are called."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.testing import user_layers as user
from torchneupy.exceptions import WeightInitializationError
from torchneupy.layers import (
    LSTM,
    BatchNorm,
    Concatenate,
    Convolution,
    Dropout,
    Elementwise,
    Embedding,
    Identity,
    Input,
    Linear,
    Relu,
    Softmax,
    Tanh,
    as_layer,
)
from torchneupy.testing import assert_equivalent, check_layer, check_network, inputs_for, networks
from torchneupy.testing.parts import PARTS

SLOW = ["compile", "export"]
ONLY = Identity(name="only")

# Layers


def test_the_parts_are_documented():
    listed = re.findall(r"^ *- ``(\w+)``:", check_layer.__doc__ or "", re.MULTILINE)
    assert listed == list(PARTS)


@pytest.mark.parametrize("skip", [["shapes"], ["shape", 5], "shape"], ids=str)
def test_what_is_skipped_has_to_be_there(skip):
    with pytest.raises(ValueError, match=re.escape(f"`skip` should hold names of parts, got {skip!r}")):
        check_layer(Relu, 3, skip=skip)
    with pytest.raises(ValueError, match="Parts: shape, unknown_sizes"):
        check_network(Input(3) >> Relu(), skip=skip)


@pytest.mark.parametrize("part, make", [("shape", lambda: user.OffByOne(3)), ("inputs", user.InPlace)])
def test_a_part_is_skipped(part, make):
    with pytest.raises(AssertionError, match=rf"What is meant to be so is skipped by skip=\['{part}'\]"):
        check_layer(make, 4, skip=SLOW)
    check_layer(make, 4, skip=[part, *SLOW])


@pytest.mark.parametrize(
    "factory, message",
    [
        (Relu(3), r"got a layer; write lambda: Relu\(3"),
        (lambda: 5, "one that gives 5"),
        (lambda: ONLY, r"gives one, Identity\(name='only'\)"),
    ],
)
def test_the_factory_makes_layers(factory, message):
    with pytest.raises(TypeError, match=message):
        check_layer(factory, 3)


def test_inputs_that_do_not_suit_the_layer():
    with pytest.raises(
        AssertionError, match=r"Convolution.* cannot be connected to inputs of the shape \(10,\): Layer"
    ):
        check_layer(lambda: Convolution((3, 3, 2)), 10)
    with pytest.raises(AssertionError, match=r"cannot be connected .*no variables yet"):
        check_layer(lambda: Linear(3), (None,))


def test_checking_touches_no_generator_and_no_mode():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    check_layer(lambda: Dropout(0.5), [(3,)], skip=SLOW)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("mode", ["compile", "export"])
def test_a_layer_that_no_compiler_follows(mode):
    class Branching(Identity):
        def output(self, input, **kwargs):
            return input if input.sum().item() > 0 else 2 * input

    others = [name for name in PARTS if name != mode]
    with pytest.raises(AssertionError, match=rf"\n{mode}: [\s\S]*To mend it: "):
        check_layer(Branching, 3, skip=others)


@pytest.mark.cuda
def test_on_cuda():
    check_layer(lambda: Linear(3), 4, skip=[name for name in PARTS if name != "cuda"])
    with pytest.raises(AssertionError, match="cuda: RuntimeError"):
        check_layer(user.OnTheCpu, 4, skip=[name for name in PARTS if name != "cuda"])


# Networks


def test_right_networks_pass_and_stay_as_they_are():
    words = (Input(5) >> Embedding(6, 3) | Input(())) >> LSTM(3)
    images = Input((4, None, 2)) >> Convolution((2, 2, 3)) >> BatchNorm() >> Relu()
    several = Input(3) >> Tanh(4) >> (Linear(2) | Dropout(0.5))
    for network in (words, images, several):
        network.train()
        before = copy.deepcopy(network.state_dict())
        check_network(network, skip=SLOW)
        torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
        assert all(module.training for module in network.modules())


def test_a_network_for_the_compiler():
    check_network(Input(3) >> (Tanh(3) | Identity()) >> Elementwise() >> BatchNorm(), skip=set(PARTS) - set(SLOW))


@settings(max_examples=15)
@given(networks(max_layers=5, inputs=(1, 2), outputs=(1, 2)))
def test_drawn_networks_pass(network):
    check_network(network, skip=SLOW)


def test_a_broken_network():
    network = Input(4) >> Relu(3) >> user.Detached(2) >> Softmax()
    with pytest.raises(AssertionError, match=r"gradients: .*`detached-1.weight`") as caught:
        check_network(network, skip=SLOW)
    assert str(caught.value).startswith("(?, 4) -> [... 4 layers ...] -> (?, 2) breaks 1 of 13 parts")


def test_networks_that_cannot_be_checked():
    with pytest.raises(WeightInitializationError):
        check_network(Relu(3) >> Tanh(2))
    with pytest.raises(ValueError, match="Nothing is known of the shape for `dropout-1`: put an Input before it"):
        check_network(Dropout(0.5) >> Tanh())


# Equivalence


def test_a_network_is_equivalent_to_its_copy_and_to_its_parts_as_one_layer():
    network = Input(3) >> Relu(4) >> Dropout(0.5) >> Softmax(2)
    network.train()
    assert_equivalent(network, copy.deepcopy(network))
    assert_equivalent(network, copy.deepcopy(network), training=True)
    assert_equivalent(network, Input(3) >> as_layer(network[1:]))
    assert all(module.training for module in network.modules())


def test_networks_that_differ():
    network = Input(2) >> Linear(2, weight=torch.eye(2))
    other = Input(2) >> Linear(2, weight=torch.diag(torch.tensor([1.0, 2.0])))
    with pytest.raises(AssertionError, match="in evaluation mode: output 0 differs") as caught:
        assert_equivalent(network, other)
    assert "Inputs: (tensor([[" in str(caught.value)
    assert_equivalent(network, other, atol=100)
    two = Input(2) >> (Identity() | Identity())
    with pytest.raises(AssertionError, match=r"1 output\(s\), and 2"):
        assert_equivalent(network, two)


def test_equivalence_where_there_are_indices():
    table = torch.rand(5, 3)
    network = Input(4) >> Embedding(5, 3, weight=table)
    assert_equivalent(network, nn.Embedding.from_pretrained(table))


@settings(max_examples=10)
@given(networks(max_layers=4), st.data())
def test_equivalence_within_a_test(network, data):
    twin = copy.deepcopy(network)
    with pytest.raises(ValueError, match=r"draw the inputs: inputs=data.draw\(inputs_for\(network_a\)\)"):
        assert_equivalent(network, twin)
    assert_equivalent(network, twin, inputs=data.draw(inputs_for(network)))


def test_several_inputs_in_their_order():
    network = (Input(2) | Input(3)) >> Concatenate()
    swapped = (Input(3) | Input(2)) >> Concatenate()
    assert_equivalent(network, copy.deepcopy(network))
    with pytest.raises(ValueError, match="Cannot feed value of shape"):
        assert_equivalent(network, swapped)
