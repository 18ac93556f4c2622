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
from torchneupy.layers.convolutions import Convolution, Deconvolution
from torchneupy.layers.graph import BaseGraph, LayerGraph, join, merge, parallel, repeat
from torchneupy.layers.merging import Concatenate, Elementwise
from torchneupy.layers.pooling import AveragePooling, GlobalPooling, MaxPooling, Upscale
from torchneupy.layers.recurrent import GRU, LSTM
from torchneupy.layers.stochastic import DropBlock, Dropout, GaussianNoise

# NeuPy's short names.
AvgPool = AveragePooling
Conv = Convolution
GlobalPool = GlobalPooling
MaxPool = MaxPooling

__all__ = [
    "GRU",
    "LSTM",
    "AveragePooling",
    "AvgPool",
    "BaseGraph",
    "BaseLayer",
    "Concatenate",
    "Conv",
    "Convolution",
    "Deconvolution",
    "DropBlock",
    "Dropout",
    "Elementwise",
    "Elu",
    "GaussianNoise",
    "GlobalPool",
    "GlobalPooling",
    "HardSigmoid",
    "Identity",
    "Input",
    "LayerGraph",
    "LeakyRelu",
    "Linear",
    "MaxPool",
    "MaxPooling",
    "ModuleLayer",
    "PRelu",
    "Relu",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "Upscale",
    "as_layer",
    "join",
    "merge",
    "parallel",
    "repeat",
]
