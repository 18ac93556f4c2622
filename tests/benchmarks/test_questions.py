"""Every question can be asked, and rivals that are written here do the same work as we, with the same values."""

from __future__ import annotations

import copy
import importlib
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import __main__ as command
from benchmarks import resnet
from benchmarks.measure import Absent, Elsewhere, Options, Question
from benchmarks.memory import train
from benchmarks.peak import peak
from benchmarks.rivals import apart
from benchmarks.rivals.apart import Process
from benchmarks.training import FORWARD, loss_of, step, whole_step
from torchneupy.architectures import resnet50
from torchneupy.layers import BatchNorm, Input, Linear, Relu, join

#: Place of a constant that says how much there is to do to a smaller one.
SMALLER: dict[str, Any] = {
    "dense.N_LAYERS": 2,
    "residual.N_BLOCKS": 2,
    "convolution.IMAGES": {6: 2, 7: 3},
    "convolution.N_FILTERS": 4,
    "resnet.IMAGES": {32: 2, 64: 2},
    "pooling.SHAPES": ((2, 6, 8, 3),),
    "batchnorm.IMAGES": ((2, 5, 6, 8),),
    "batchnorm.ROWS": ((4, 5),),
    "embedding.N_ROWS": 7,
    "embedding.N_STEPS": 4,
    "recurrent.N_STEPS": 5,
    "predicting.N_ROWS": 50,
    "predicting.BATCH": 20,
    # What takes a second process and half a gigabyte is for the benchmarks themselves.
    "loading.vgg16": partial(importlib.import_module("benchmarks.loading").vgg16, scale=64),
    "loading.peak": lambda path: 1.0,
}


#: Kind of a network in the rivals' processes to the arguments that it takes there.
ARGUMENTS = {
    "building": {"n_layers", "width"},
    "dense": {"n_layers", "width", "batch_size"},
    "convolution": {"size", "n_blocks", "n_filters"},
    "resnet50": {"size"},
    "lstm": {"n_steps", "n_features", "n_units"},
    "gru": {"n_steps", "n_features", "n_units"},
    "embedding": {"n_steps", "n_rows", "width"},
    "batchnorm": {"shape"},
    "vgg16": {"path"},
}


class Refusing(Process):
    """A rival's process that looks at what it is asked for, and does nothing."""

    def __init__(self) -> None:
        """Start none."""

    def work(self, kind: str, task: str, x: Any, n_parameters: int | None, options: dict[str, Any]) -> Absent:
        assert task in apart.TASKS
        assert ARGUMENTS[kind] - {"batch_size"} <= set(options) <= ARGUMENTS[kind]
        return Absent("not asked")


@pytest.fixture
def small(monkeypatch):
    """Questions of small work, in which nothing is compiled and no other process is started."""
    for place, value in SMALLER.items():
        monkeypatch.setattr(f"benchmarks.{place}", value)
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    monkeypatch.setattr(apart, "start", lambda rival, options: Refusing())
    torch.manual_seed(0)


def fail_unless_same(mine: Any, theirs: Any) -> None:
    """Compare what work gives: values, whatever the order of their axes, or networks by their size."""
    if isinstance(mine, nn.Module):
        assert sum(p.numel() for p in mine.parameters()) == sum(p.numel() for p in theirs.parameters())
    elif isinstance(mine, torch.Tensor):
        theirs = theirs.permute(0, 2, 3, 1) if theirs.ndim == 4 and theirs.shape != mine.shape else theirs
        torch.testing.assert_close(theirs.reshape(mine.shape), mine, rtol=1e-4, atol=1e-4)
    elif isinstance(mine, np.ndarray):
        np.testing.assert_allclose(theirs, mine, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", command.FILES)
def test_all_do_the_same_work(name, small):
    names = []
    question: Question
    for question in importlib.import_module(f"benchmarks.{name}").questions(Options(quick=True)):
        names.append(question.name)
        assert set(question.goals) <= set(question.rivals)
        works = {rival: work for rival, work in question.rivals.items() if not isinstance(work, Absent)}
        assert works, question.name
        assert callable(question.own)
        mine = question.own()
        assert not (FORWARD in question.name and mine.requires_grad)
        for rival, work in works.items():
            assert callable(work) and not isinstance(work, Elsewhere)
            theirs = work()
            if question.unit == "us":
                try:
                    fail_unless_same(mine, theirs)
                except AssertionError as error:
                    raise AssertionError(f"{question.name}: not what {rival} computes") from error
            else:
                assert mine > 0 and theirs > 0, question.name
    assert len(set(names)) == len(names)


def test_resnet_in_torch_is_ours():
    torch.manual_seed(0)
    own, rival = resnet50((64, 64, 3)), resnet.in_torch()
    resnet.give_values(own, rival)
    assert sum(p.numel() for p in own.parameters()) == sum(p.numel() for p in rival.parameters())
    images = torch.randn(2, 64, 64, 3)
    own.double(), rival.double()
    for training in (False, True):
        output, wanted = (
            own.train(training)(images.double()),
            rival.train(training)(images.permute(0, 3, 1, 2).double()),
        )
        # Running deviations begin with 1 here, variances there, to which torch adds its epsilon.
        torch.testing.assert_close(output, wanted, rtol=1e-6 if training else 1e-3, atol=1e-9)


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
def test_whole_step_is_a_step():
    network = join(Input(4), Relu(5), BatchNorm(), Linear(2))
    twin = copy.deepcopy(network)
    x = torch.randn(6, network.input_shape[1])
    whole, apart = whole_step(network, x), step(twin, twin.parameters(), x)
    for _ in range(3):
        torch.testing.assert_close(whole(), apart())
    torch.testing.assert_close(network.state_dict(), twin.state_dict())


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
def test_whole_steps_are_compiled_for_their_sizes(monkeypatch):
    """Else the second of two networks, whose images have their axes in another order, would get sizes that are open."""
    open_sizes: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        values = [node.meta.get("example_value") for node in graph.graph.nodes if node.op == "placeholder"]
        open_sizes.append(sum(isinstance(value, torch.SymInt) for value in values))
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    steps = [whole_step(nn.Conv2d(2, 2, 1), torch.randn(2, 2, height, 5)) for height in (3, 4)]
    for work in steps:
        work()
    assert open_sizes == [0, 0]


def test_the_loss_keeps_the_layout():
    """Else who has the channels last but not as the last axis would be slower for the loss's sake."""
    images = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last).requires_grad_()
    (gradient,) = torch.autograd.grad(loss_of(images), images)
    assert gradient.stride() == images.stride()
    torch.testing.assert_close(gradient, 2 * images.detach() / images.numel())


class Wasteful(nn.Linear):
    """Keeps a copy of its weight for nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.kept = [*getattr(self, "kept", []), self.weight.detach().clone()]
        return super().forward(x)


@pytest.mark.parametrize("n_features", [50, 400])
def test_peaks_show_a_copy_of_the_weights(n_features):
    x = torch.randn(2, n_features)
    peaks = []
    for layer in (nn.Linear(n_features, n_features), Wasteful(n_features, n_features)):
        work = train(layer, x)
        work()
        peaks.append(peak(work, "cpu", layer.zero_grad))
    weight = n_features**2 * 4 / 1024
    assert peaks[0] >= weight, "the gradient"
    assert peaks[1] - peaks[0] >= 0.9 * weight
