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
from torchneupy.layers.embedding import Embedding
from torchneupy.layers.graph import BaseGraph, LayerGraph, join, merge, parallel, repeat
from torchneupy.layers.merging import Concatenate, Elementwise, GatedAverage
from torchneupy.layers.normalization import BatchNorm, GroupNorm, LocalResponseNorm
from torchneupy.layers.pooling import AveragePooling, GlobalPooling, MaxPooling, Upscale
from torchneupy.layers.recurrent import GRU, LSTM
from torchneupy.layers.reshape import Reshape, Transpose
from torchneupy.layers.stochastic import DropBlock, Dropout, GaussianNoise

# NeuPy's short names.
AvgPool = AveragePooling
BN = BatchNorm
Conv = Convolution
GN = GroupNorm
GlobalPool = GlobalPooling
MaxPool = MaxPooling

__all__ = [
    "BN",
    "GN",
    "GRU",
    "LSTM",
    "AveragePooling",
    "AvgPool",
    "BaseGraph",
    "BaseLayer",
    "BatchNorm",
    "Concatenate",
    "Conv",
    "Convolution",
    "Deconvolution",
    "DropBlock",
    "Dropout",
    "Elementwise",
    "Elu",
    "Embedding",
    "GatedAverage",
    "GaussianNoise",
    "GlobalPool",
    "GlobalPooling",
    "GroupNorm",
    "HardSigmoid",
    "Identity",
    "Input",
    "LayerGraph",
    "LeakyRelu",
    "Linear",
    "LocalResponseNorm",
    "MaxPool",
    "MaxPooling",
    "ModuleLayer",
    "PRelu",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "Transpose",
    "Upscale",
    "as_layer",
    "join",
    "merge",
    "parallel",
    "repeat",
]
