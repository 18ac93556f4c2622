"""What does it cost to make and join layers? ``python -m benchmarks --only building``.

The layers are made, joined, and have their parameters, as those of the rival. Small layers, so that drawing numbers
does not hide the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torch import nn

from benchmarks.measure import Options, Question
from benchmarks.rivals.apart import keras_and_neupy
from torchneupy.layers import Input, LayerGraph, Relu, join

__all__ = ["questions"]

WIDTH = 6


def sequential(n_layers: int) -> nn.Sequential:
    return nn.Sequential(*[part for _ in range(n_layers) for part in (nn.Linear(WIDTH, WIDTH), nn.ReLU())])


def ours(n_layers: int) -> LayerGraph:
    return join(Input(WIDTH), *[Relu(WIDTH) for _ in range(n_layers)])


def by_operator(n_layers: int) -> LayerGraph:
    network: LayerGraph = join(Input(WIDTH))
    for _ in range(n_layers):
        network >>= Relu(WIDTH)
    return network


def questions(options: Options) -> Iterator[Question]:
    """Ask what the docstring of this module says."""
    options = options._replace(device="cpu")  # built there, whatever runs it later
    for n_layers in (10, 100, 1000):
        yield Question(
            f"building {n_layers} layers by join",
            partial(ours, n_layers),
            {
                "nn.Sequential": partial(sequential, n_layers),
                **keras_and_neupy("building", "building", options, n_layers=n_layers, width=WIDTH),
            },
            {"nn.Sequential": 2.0},
        )
    yield Question(
        "building 1000 layers by repeated >>", lambda: by_operator(1000), {"nn.Sequential": lambda: sequential(1000)}
    )
