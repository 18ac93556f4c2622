"""Whether two networks are the same function."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from hypothesis import Phase, currently_in_test_context, given, settings
from torch import nn
from torch.testing import assert_close

from torchneupy.layers import LayerGraph
from torchneupy.layers.modes import in_mode
from torchneupy.testing.inputs import ElementsOf, fail_unless_network, inputs_for
from torchneupy.testing.randomness import seeded
from torchneupy.testing.subject import as_tuple

__all__ = ["assert_equivalent"]


def assert_equivalent(
    network_a: LayerGraph,
    network_b: nn.Module,
    *,
    inputs: Sequence[torch.Tensor] | None = None,
    elements: ElementsOf = None,
    training: bool = False,
    rtol: float = 1e-4,
    atol: float = 1e-5,
    examples: int = 20,
) -> None:
    """Check that two networks give equal outputs for equal inputs, after a refactoring or a conversion, say.

    Parameters
    ----------
    network_a : LayerGraph
        Says what the inputs are like.
    network_b : LayerGraph or nn.Module
        Called with the same tensors.
    inputs : sequence of Tensor, or None
        One for each input layer. Defaults to ``None``: they are drawn. Inside a test of hypothesis's draw them there,
        ``inputs=data.draw(inputs_for(network_a))``.
    elements : strategy, mapping or None
        For the inputs that are drawn, as for :func:`inputs_for`. Defaults to ``None``: multiples of 1/8 up to 4.
    training : bool
        Whether to compare in training mode, with equal random numbers. Buffers change in copies only. Defaults to
        ``False``.
    rtol, atol : float
        How much outputs may differ, relative and absolute. Default to ``1e-4`` and ``1e-5``.
    examples : int
        How many inputs are drawn. Defaults to ``20``.

    Raises
    ------
    AssertionError
        If outputs differ: with the smallest inputs that were found for which they do.
    TypeError
        If the first is no network, or the second no module.
    ValueError
        If no inputs are given inside a test of hypothesis's, or not as many as there are input layers.

    Examples
    --------
    >>> from torch import nn
    >>> from torchneupy.layers import *
    >>> from torchneupy.testing import assert_equivalent
    >>> network = Input(3) >> Linear(2) >> Tanh()
    >>> module = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    >>> module[0].weight.data, module[0].bias.data = network[1].weight.data.T, network[1].bias.data
    >>> assert_equivalent(network, module)
    >>> assert_equivalent(network, module[:1])
    Traceback (most recent call last):
        ...
    AssertionError: The networks are not equivalent, in evaluation mode: output 0 differs. ...
    """
    fail_unless_network(network_a, "assert_equivalent()")
    if not isinstance(network_b, nn.Module):
        raise TypeError(f"assert_equivalent() expects a module to compare with, got {type(network_b).__name__}")
    if inputs is not None:
        if len(inputs) != len(network_a.input_layers):
            raise ValueError(f"Expected a tuple of {len(network_a.input_layers)} tensor(s), one for each input layer")
        compare(network_a, network_b, inputs, training, rtol, atol)
        return
    if currently_in_test_context():
        raise ValueError("Inside a test of hypothesis's, draw the inputs: inputs=data.draw(inputs_for(network_a))")

    # Without a database: there is no test under whose name it could be kept.
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
    )
    @given(drawn=inputs_for(network_a, elements=elements))
    def compare_drawn(drawn: tuple[torch.Tensor, ...]) -> None:
        compare(network_a, network_b, drawn, training, rtol, atol)

    compare_drawn()


def compare(
    network_a: nn.Module,
    network_b: nn.Module,
    inputs: Sequence[torch.Tensor],
    training: bool,
    rtol: float,
    atol: float,
) -> None:
    """Raise AssertionError if outputs differ."""
    found, wanted = (outputs_of(network, inputs, training) for network in copies(network_b, network_a, training))
    mode = "training mode" if training else "evaluation mode"
    if len(found) != len(wanted):
        raise AssertionError(f"The networks are not equivalent: {len(wanted)} output(s), and {len(found)}")
    for place, (one, other) in enumerate(zip(found, wanted, strict=True)):
        text = f"The networks are not equivalent, in {mode}: output {place} differs"
        assert_close(one, other, rtol=rtol, atol=atol, equal_nan=True, msg=with_inputs(text, inputs))


def copies(first: nn.Module, second: nn.Module, training: bool) -> tuple[nn.Module, nn.Module]:
    """Networks whose buffers may change, so that no example knows of the one before."""
    return (copy.deepcopy(first), copy.deepcopy(second)) if training else (first, second)


def with_inputs(text: str, inputs: Sequence[torch.Tensor]) -> Any:
    return lambda difference: f"{text}. {difference}\nInputs: {tuple(inputs)}"


def outputs_of(network: nn.Module, inputs: Sequence[torch.Tensor], training: bool) -> tuple[torch.Tensor, ...]:
    with torch.no_grad(), seeded(0), in_mode(network, training):
        return as_tuple(network(*inputs))
