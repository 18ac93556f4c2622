"""Layers, and the functions that make networks of them."""

from __future__ import annotations

from torchneupy.layers.activations import (
    Elu,
    HardSigmoid,
    LeakyRelu,
    Linear,
    PRelu,
    Relu,
    Sigmoid,
    Softmax,
    Softplus,
    Tanh,
)
from torchneupy.layers.adapters import ModuleLayer, as_layer
from torchneupy.layers.base import BaseLayer, Identity, Input
from torchneupy.layers.graph import BaseGraph, LayerGraph, join, merge, parallel, repeat
from torchneupy.layers.merging import Concatenate, Elementwise
from torchneupy.layers.recurrent import GRU, LSTM
from torchneupy.layers.stochastic import DropBlock, Dropout, GaussianNoise

__all__ = [
    "GRU",
    "LSTM",
    "BaseGraph",
    "BaseLayer",
    "Concatenate",
    "DropBlock",
    "Dropout",
    "Elementwise",
    "Elu",
    "GaussianNoise",
    "HardSigmoid",
    "Identity",
    "Input",
    "LayerGraph",
    "LeakyRelu",
    "Linear",
    "ModuleLayer",
    "PRelu",
    "Relu",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "as_layer",
    "join",
    "merge",
    "parallel",
    "repeat",
]
