"""Arguments are checked when a function is called, and errors name what is wrong."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from torch import nn

from torchneupy.layers import LSTM, Convolution, Elementwise, GatedAverage, Identity, Input, Relu
from torchneupy.testing import (
    assert_equivalent,
    inputs_for,
    layers,
    networks,
    register_layer,
    shapes,
    tensors,
    unregister_layer,
)

NETWORK = Input(3, name="x") >> Relu(2)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"inputs": 1.5}, TypeError, "`inputs` should be a whole number.*got 1.5"),
        ({"inputs": True}, TypeError, "`inputs` should be a whole number.*got True"),
        ({"inputs": [1, 2]}, TypeError, r"`inputs` should be a whole number, or a tuple.*got \[1, 2\]"),
        ({"max_layers": 2.5}, TypeError, r"`min_layers and max_layers` should be.*2\.5"),
        ({"ndim": 2.0}, TypeError, "`ndim` should be a whole number, got 2.0"),
        ({"ndim": (2, 3)}, TypeError, r"`ndim` should be a whole number, got \(2, 3\)"),
        ({"ndim": 0}, ValueError, "`ndim` counts the dimensions.*got 0"),
        ({"allow": "Relu"}, TypeError, "`allow` should be a list of classes of layers, got 'Relu'"),
        ({"allow": Relu}, TypeError, "`allow` should be a list of classes of layers, got <class"),
        ({"forbid": None}, TypeError, "`forbid` should be a list of classes of layers, got None"),
        ({"inputs": 2, "allow": [Relu]}, ValueError, "2 inputs of .* need a class .* there are only Relu"),
        (
            {"inputs": 2, "allow": [Convolution, LSTM], "ndim": 2},
            ValueError,
            r"2 inputs of \[2\] dimensions need a class",
        ),
        ({"inputs": 3, "allow": [LSTM]}, ValueError, "3 inputs of .* need a class .* there are only LSTM"),
        (
            {"outputs": 2, "allow": [Elementwise]},
            ValueError,
            r"No layer can take .* with 2 output\(s\): there are only",
        ),
        ({"min_layers": 3, "allow": [Elementwise]}, ValueError, "No layer can take .* there are only Elementwise"),
        ({"min_layers": 3, "allow": [Convolution], "ndim": 2}, ValueError, r"an input of \[2\] dimensions alone"),
    ],
)
def test_networks(options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        networks(**options)


@pytest.mark.parametrize("cls", [Elementwise, GatedAverage])
def test_layers_that_want_several_inputs(cls):
    with pytest.raises(ValueError, match=f"give the shapes of several: there are only {cls.__name__}"):
        layers(allow=[cls])


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"shape": 2, "largest": -1}, ValueError, "at least 0, got -1"),
        ({"shape": 2, "device": "xyz"}, RuntimeError, "xyz"),
        ({"shape": 2, "dtype": torch.int64, "requires_grad": True}, ValueError, "torch.int64 have no gradient"),
        ({"shape": 2, "dtype": torch.float8_e4m3fn}, ValueError, "torch.float8_e4m3fn, which numpy does not have"),
    ],
)
def test_tensors(options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        tensors(**options)


@pytest.mark.parametrize("bounds", [(3, 2), ("a",)])
def test_shapes(bounds: Any) -> None:
    with pytest.raises(InvalidArgument):
        shapes(*bounds)


@pytest.mark.parametrize(
    "arguments, options, error, message",
    [
        ((Relu(3),), {}, TypeError, r"inputs_for\(\) expects a network.*got Relu"),
        ((NETWORK,), {"batch": -1}, ValueError, "at least 0, got -1"),
        ((NETWORK,), {"batch": 1.5}, TypeError, "`batch` should be a whole number, or a strategy for them, got 1.5"),
        ((NETWORK,), {"batch": True}, TypeError, "`batch` should be a whole number.*got True"),
        ((NETWORK,), {"elements": 3}, TypeError, "`elements` should be a strategy, .* got 3"),
        ((NETWORK,), {"elements": {"x": 3}}, TypeError, "`elements` should be a strategy, .* got {'x': 3}"),
        ((NETWORK,), {"elements": {"y": st.just(1)}}, ValueError, r"no input layer 'y' .* \['x'\]"),
    ],
)
def test_inputs_for(arguments: Any, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        inputs_for(*arguments, **options)


@pytest.mark.parametrize(
    "arguments, options, error, message",
    [
        ((nn.Linear(3, 2), NETWORK), {}, TypeError, "expects a network.*got Linear"),
        ((NETWORK, abs), {}, TypeError, "expects a module to compare with, got builtin_function"),
        ((NETWORK, NETWORK), {"inputs": torch.ones(5, 3)}, ValueError, r"a tuple of 1 tensor\(s\)"),
    ],
)
def test_assert_equivalent(arguments: Any, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        assert_equivalent(*arguments, **options)


class Own(Identity):
    """A layer of a user."""


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda sizes: Own(), "What is registered for Own should give a strategy, gave Own"),
        (lambda sizes: None, "What is registered for Own should give a strategy, gave None"),
        (lambda sizes: st.just(3), "What is registered for Own should draw such layers, drew 3"),
    ],
)
def test_what_is_registered(function: Any, message: str) -> None:
    register_layer(Own, function)
    try:
        with pytest.raises(TypeError, match=message):
            hypothesis.find(networks(2, allow=[Own]), lambda network: True)
    finally:
        unregister_layer(Own)


def test_what_is_registered_and_fails():
    register_layer(Own, lambda sizes: st.just(sizes[7]))
    try:
        with pytest.raises(IndexError) as caught:
            hypothesis.find(networks(2, allow=[Own]), lambda network: True)
        assert "Raised by what is registered for Own, called with (1,)" in caught.value.__notes__
    finally:
        unregister_layer(Own)


def test_whole_numbers_of_any_size():
    numbers = hypothesis.find(tensors(2, torch.int64, largest=float("inf")), lambda x: bool((x > 1e18).all()))
    assert (numbers > 1e18).all()


def test_first_example_of_a_process_is_no_slower_than_others():
    """Torch imports a second's worth of modules at its first operation on `meta`, which hypothesis would not like."""
    program = """
import sys
import torch
from torchneupy.testing import networks
networks()
n_modules = len(sys.modules)
torch.tanh(torch.empty(2, device="meta"))
assert len(sys.modules) - n_modules < 10, len(sys.modules) - n_modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
