"""The part about gradients."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd.gradcheck import GradcheckError, gradcheck
from torch.func import functional_call

from torchneupy.testing.parts.table import Parts, ensure, go_back, mode_of
from torchneupy.testing.subject import Subject, call

__all__ = ["PARTS"]

PARTS = Parts()


@PARTS.add(
    "gradients",
    "Compute with torch's functions on the tensors themselves: `detach()`, `.data`, `item()`, `numpy()`, `no_grad()` "
    "cut the gradient off, and `float()` rounds what is differentiated. What is not to be trained is a variable with "
    "`trainable=False`, and an input that has no gradient one of whole numbers or of bool, which `prepare` can make.",
)
def has_the_gradients_of_its_function(subject: Subject) -> None:
    """The gradients by inputs and parameters are those of finite differences, and reach every parameter."""
    network, fed = subject.again().double(), doubled(subject.inputs)
    subject.run(network, fed, training=True)  # so that buffers that change have values of their own
    values = {name: value.detach() for name, value in network.named_parameters() if value.requires_grad}
    lost = list(values)
    values |= {f"input {place}": x for place, x in enumerate(fed) if x.is_floating_point()}
    for training in (False, True):
        outputs = subject.run(network, fed, training=training)
        text = f"In {mode_of(training)} there is NaN in the output, which has no gradient; `prepare` makes other inputs"
        ensure(not any(output.isnan().any() for output in outputs), text)
        problem = failing_gradient(subject, network, values, list(values))
        if problem:
            names = [name for name in values if failing_gradient(subject, network, values, [name])]
            named = ", ".join(f"`{name}`" for name in names or values)
            raise AssertionError(f"In {mode_of(training)} the gradient by {named} is wrong: {problem}")
        network.zero_grad()
        go_back(subject.run(network, fed, training=training))
        parameters = dict(network.named_parameters())
        lost = [name for name in lost if parameters[name].grad is None]
    ensure(not lost, f"In neither mode a gradient reaches {', '.join(f'`{name}`' for name in lost)}")


def doubled(inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [x.double() if x.is_floating_point() else x for x in inputs]


def failing_gradient(subject: Subject, network: Any, values: dict[str, torch.Tensor], names: list[str]) -> str:
    """What is wrong in the gradient by some parameters and inputs; empty where all is well, or there is none."""
    if not names:
        return ""

    def compute(*tensors: torch.Tensor) -> Any:
        given = {**values, **dict(zip(names, tensors, strict=True))}
        fed = [given.get(f"input {place}", x) for place, x in enumerate(subject.inputs)]
        state = {name: value for name, value in given.items() if name in parameters}
        state |= {name: value.clone() for name, value in network.named_buffers()}
        twin = copy.deepcopy(network)  # a call may change more than buffers
        outputs = call(lambda *given: functional_call(twin, state, given), fed)
        # What is infinite, as behind a mask, has no differences.
        found = (output for output in outputs if output.is_floating_point() or output.is_complex())
        return tuple(output.where(output.isfinite(), 0) for output in found)

    parameters = dict(network.named_parameters())
    leaves = [values[name].detach().clone().requires_grad_() for name in names]
    if not compute(*leaves):
        return ""
    try:
        gradcheck(compute, leaves, fast_mode=True)
    except GradcheckError as error:
        return in_numbers(str(error))
    return ""


def in_numbers(text: str) -> str:
    """What torch says of a gradient, in a line; its own numbers of inputs mean nothing to the reader."""
    numbers = dict(re.findall(r"^(numerical|analytical):\s*(?:tensor\()?([-+.\w]+)", text, re.MULTILINE))
    if len(numbers) != 2:
        return " ".join(text.split())
    analytical, numerical = (float(numbers[kind]) for kind in ("analytical", "numerical"))
    return f"along a direction it is {analytical:.6g}, and {numerical:.6g} by finite differences of the output"
