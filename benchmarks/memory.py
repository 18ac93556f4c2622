"""How much memory do a forward pass and a training step take at their peak? ``python -m benchmarks --only memory``.

What an allocator holds beyond what it held before: torch's, for Keras too, and TensorFlow's for the real NeuPy. The
forward pass is one in training mode, with all that backward would need; TensorFlow keeps nothing after one, so that
NeuPy is asked for training steps alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from benchmarks import convolution, dense, embedding, recurrent, residual, resnet
from benchmarks.measure import Options, Question
from benchmarks.peak import peak
from benchmarks.rivals.apart import KERAS, NEUPY, keras_and_neupy
from benchmarks.training import STEP, step
from torchneupy.architectures import resnet50
from torchneupy.layers import GRU, LSTM, Embedding, Input

__all__ = ["questions"]


class Subject(NamedTuple):
    """A network, the same in torch.nn, and an input for each.

    Attributes
    ----------
    kind : str
        Name of the network in the rivals' processes; without one they are not asked.
    sizes : dict
        Its arguments there.
    """

    rival: nn.Module
    own: nn.Module
    rival_input: torch.Tensor
    own_input: torch.Tensor
    kind: str
    sizes: dict[str, Any]
    goal: float = 1.01


def subjects() -> Iterator[tuple[str, Subject]]:
    x = torch.randn(512, dense.WIDTH)
    sizes = {"n_layers": dense.N_LAYERS, "width": dense.WIDTH}
    yield "dense, batch 512", Subject(dense.sequential(), dense.ours(), x, x, "dense", sizes)
    blocks = nn.Sequential(*[residual.Block() for _ in range(residual.N_BLOCKS)])
    yield "residual, batch 512", Subject(blocks, residual.ours(), x, x, "", {})
    for size, batch in convolution.IMAGES.items():
        _, last, own = convolution.images(size, batch, "cpu")
        rival = convolution.in_channels_last(convolution.sequential())
        sizes = {"size": size, "n_blocks": convolution.N_BLOCKS, "n_filters": convolution.N_FILTERS}
        yield f"convolutions {size}x{size}", Subject(rival, convolution.ours(size), last, own, "convolution", sizes)
    size = min(resnet.IMAGES)
    _, last, own = convolution.images(size, resnet.IMAGES[size], "cpu")
    rival = convolution.in_channels_last(resnet.in_torch())
    network = resnet50((size, size, 3))
    yield f"ResNet-50, {size}x{size}", Subject(rival, network, last, own, "resnet50", {"size": size})
    x = torch.randn(recurrent.BATCH, recurrent.N_STEPS, recurrent.N_FEATURES)
    sizes = {"n_steps": recurrent.N_STEPS, "n_features": recurrent.N_FEATURES, "n_units": recurrent.N_UNITS}
    kinds: list[tuple[Any, Any]] = [(LSTM, nn.LSTM), (GRU, nn.GRU)]
    for layer_class, rival_class in kinds:
        rival = recurrent.LastStep(rival_class(recurrent.N_FEATURES, recurrent.N_UNITS, batch_first=True))
        network = Input((recurrent.N_STEPS, recurrent.N_FEATURES)) >> layer_class(recurrent.N_UNITS)
        name = layer_class.__name__
        yield name, Subject(rival, network, x, x, name.lower(), sizes, goal=1.05)
    n_rows, width = embedding.N_ROWS, embedding.WIDTH
    words = torch.randint(n_rows, (embedding.BATCH, embedding.N_STEPS))
    rival, network = nn.Embedding(n_rows, width), Input(embedding.N_STEPS) >> Embedding(n_rows, width)
    sizes = {"n_steps": embedding.N_STEPS, "n_rows": n_rows, "width": width}
    yield "embedding", Subject(rival, network, words, words, "embedding", sizes)


def questions(options: Options) -> Iterator[Question]:
    """Ask what the docstring of this module says."""
    device = options.device
    for name, subject in subjects():
        own, rival = subject.own.to(device), subject.rival.to(device)
        sides = (own, subject.own_input.to(device)), (rival, subject.rival_input.to(device))
        for what, work in (("forward pass", forward_to_train), (STEP, train)):
            # Gradients of the step before would hide what they are as large as.
            ours, theirs = (partial(peak, work(network, x), device, network.zero_grad) for network, x in sides)
            yield Question(
                f"{name}, peak of a {what}",
                ours,
                {"torch.nn": theirs, **apart(subject, what, options)},
                {"torch.nn": subject.goal},
                unit="KiB",
            )


def apart(subject: Subject, what: str, options: Options) -> dict[str, Any]:
    """What the rivals in other processes take for the same."""
    if not subject.kind:
        return {}
    task, x, own = f"peak of a {what}", subject.own_input, subject.own
    not_compared = (KERAS,) if subject.kind == "resnet50" else ()  # it has biases besides
    rivals = (KERAS, NEUPY) if what == STEP else (KERAS,)
    return {**keras_and_neupy(subject.kind, task, options, x, own, not_compared, rivals, **subject.sizes)}


def forward_to_train(network: nn.Module, x: torch.Tensor) -> Callable[[], Any]:
    """A forward pass in training mode, with all that backward would need."""
    return lambda: network.train()(x)


def train(network: nn.Module, x: torch.Tensor) -> Callable[[], Any]:
    return step(network.train(), network.parameters(), x)
