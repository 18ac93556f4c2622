"""A layer at work, and what is compared of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.contract.entry import Variant
from torchneupy.init import Initializer
from torchneupy.layers import BaseLayer
from torchneupy.testing.inputs import largest_index
from torchneupy.testing.subject import Subject, call, connect


def known(size: int | str, sizes: dict[str, int]) -> int:
    return sizes[size] if isinstance(size, str) else size


def concrete(variant: Variant, sizes: dict[str, int]) -> list[tuple[int, ...]]:
    """Shapes of the inputs, without the batch."""
    return [tuple(known(size, sizes) for size in shape) for shape in variant.inputs]


def fill(module: nn.Module, seed: int = 1) -> None:
    """Give all variables values that tell them apart; what is not trained, a deviation perhaps, gets positive ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in module.state_dict(keep_vars=True).values():
            values = torch.rand(tensor.shape, generator=generator) + 0.2
            signs = torch.randint(2, tensor.shape, generator=generator) * 2 - 1
            tensor.copy_(values * signs if isinstance(tensor, nn.Parameter) else values)


class Example(Subject):
    """A variant's layer in a network, with values in its variables that tell them apart, and inputs for it."""

    def __init__(self, variant: Variant, sizes: dict[str, int] | None = None, batch: int = 3) -> None:
        torch.manual_seed(0)
        self.variant = variant
        shapes = concrete(variant, variant.typical_sizes() if sizes is None else sizes)
        super().__init__(lambda: connect(variant.make(), shapes), make_layer=variant.make)
        self.layer: Any = self.checked  # whatever stands in its place later
        fill(self.network)
        self.inputs = self.draw(batch)

    def other_inputs(self) -> tuple[torch.Tensor, ...]:
        """Inputs that differ from this one's everywhere, where they can."""
        sizes = dict(zip(self.network.input_layers, self.sizes(), strict=True))
        largest = [largest_index(self.network, layer, sizes) for layer in sizes]
        return tuple(
            x + 1 if most is None else (x + 1) % (most + 1) for x, most in zip(self.inputs, largest, strict=True)
        )

    def expected(self, *inputs: torch.Tensor) -> np.ndarray[Any, Any]:
        """The output for the layer's values, in evaluation mode; of float64."""
        output: np.ndarray[Any, Any] = self.compute(self.variant.reference, *inputs)
        return output

    def compute(self, reference: Callable[..., Any], *inputs: torch.Tensor) -> Any:
        """What a reference makes of the layer's values and the inputs, in float64."""
        values = {name: variable.detach().double().cpu().numpy() for name, variable in self.layer.variables.items()}
        return reference(values, *(as_array(x) for x in inputs or self.inputs))

    def to(self, target: torch.dtype | str) -> Example:
        """Take network and inputs to a type or a device; whole numbers stay whole numbers."""
        self.network.to(target)
        keeps = isinstance(target, torch.dtype)
        self.inputs = tuple(x if keeps and not x.is_floating_point() else x.to(target) for x in self.inputs)
        return self


def as_array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    tensor = tensor.detach().cpu()
    array: np.ndarray[Any, Any] = (tensor.double() if tensor.is_floating_point() else tensor).numpy()
    return array


def leaf(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of which the gradient is kept, if it can have one."""
    return tensor.clone().requires_grad_(tensor.is_floating_point())


def outputs_of(function: Any, inputs: Sequence[torch.Tensor], seed: int = 3, **options: Any) -> torch.Tensor:
    """What a function with one output gives after a seed."""
    output: torch.Tensor
    (output,) = call(function, inputs, seed, **options)
    return output


def is_equal(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def is_close(found: torch.Tensor, wanted: np.ndarray[Any, Any], tolerance: float = 1e-5) -> None:
    assert tuple(found.shape) == wanted.shape
    np.testing.assert_allclose(found.detach().double().cpu().numpy(), wanted, rtol=10 * tolerance, atol=tolerance)


def have_equal_values(found: Any, wanted: Any) -> None:
    """Two layers, or networks, have variables of equal values under equal keys."""
    one, other = found.state_dict(), wanted.state_dict()
    assert list(one) == list(other)
    for key in one:
        is_equal(one[key], other[key])


def are_apart(one: nn.Module, other: nn.Module) -> None:
    """Nothing that one writes into its variables shows in the other."""
    ours, theirs = ({tensor.data_ptr() for tensor in module.state_dict().values()} for module in (one, other))
    assert ours.isdisjoint(theirs)


def is_same_option(one: Any, other: Any) -> bool:
    if isinstance(one, (np.ndarray, torch.Tensor)):
        return type(one) is type(other) and np.array_equal(np.asarray(one), np.asarray(other))
    if isinstance(one, Initializer):
        return type(one) is type(other) and vars(one) == vars(other)
    if isinstance(one, nn.Module):
        return type(one) is type(other) and repr(one) == repr(other)
    return bool(one == other) and type(one) is type(other)


def have_equal_options(one: BaseLayer, other: BaseLayer) -> None:
    assert type(one) is type(other)
    ours, theirs = one.get_params(), other.get_params()
    assert list(ours) == list(theirs)
    assert [name for name in ours if not is_same_option(ours[name], theirs[name])] == []


def for_all(strategy: st.SearchStrategy[Any], check: Callable[[Any], None], examples: int) -> None:
    """Let hypothesis look for something that makes the check fail; it looks longer where it usually does."""

    def test(drawn: Any) -> None:
        check(drawn)

    usual, here = 100, settings().max_examples
    settings(max_examples=examples * here // usual, deadline=None, database=None)(given(strategy)(test))()


def sizes_of(variant: Variant) -> st.SearchStrategy[dict[str, int]]:
    return st.fixed_dictionaries({name: st.integers(*bounds) for name, bounds in variant.bounds().items()})
