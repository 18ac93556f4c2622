"""Expected values are computed by numpy in float64 from the definition, one place of the window after the other."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradgradcheck
from torch.export import Dim
from torch.profiler import ProfilerActivity, profile

from tests.contract.entries.pooling import pooling
from torchneupy.exceptions import LayerConnectionError
from torchneupy.layers import (
    AveragePooling,
    AvgPool,
    GlobalPool,
    GlobalPooling,
    Input,
    MaxPool,
    MaxPooling,
    Relu,
    Upscale,
    join,
)

UNTIMED = settings(deadline=None)
both = pytest.mark.parametrize("cls", [MaxPooling, AveragePooling])

FUNCTIONS: dict[Any, Any] = {MaxPooling: np.nanmax, AveragePooling: np.nanmean}


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def row(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, -1, 1)


# Pools


@both
@UNTIMED
@given(
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.none() | st.tuples(st.integers(1, 6), st.integers(1, 6)),
    padding=st.sampled_from(["valid", "same", "VALID", "SAME"]),
    shape=st.tuples(st.integers(0, 2), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)),
)
def test_values(cls: Any, size: Any, stride: Any, padding: str, shape: Any) -> None:
    assume(padding.lower() == "same" or all(shape[1 + axis] >= size[axis] for axis in (0, 1)))
    x = normal(*shape) - 3  # all less than 0: what is not in the image must not be taken for 0
    output = cls(size, stride, padding).output(x)
    wanted = pooling(FUNCTIONS[cls], size, stride, padding.lower())({}, x.numpy())
    np.testing.assert_allclose(output.numpy(), wanted, rtol=1e-12)


def test_values_recorded_from_neupy() -> None:
    x = row(1, 2, 3, 4)
    assert AvgPool((1, 3), stride=1, padding="same").output(x).flatten().tolist() == [1.5, 2, 3, 3.5]
    assert MaxPool((1, 3), stride=1, padding="same").output(-x).flatten().tolist() == [-1, -1, -2, -3]
    assert AvgPool((1, 3), stride=(1, 2), padding="same").output(x).flatten().tolist() == [2, 3.5]


@pytest.mark.parametrize("padding, sizes", [("valid", [[2, 4], [5, 7], [3, 3]]), ("same", [[3, 4], [7, 8], [4, 3]])])
@both
def test_sizes_recorded_from_neupy(cls: Any, padding: str, sizes: list[list[int]]) -> None:
    for stride, wanted in zip((None, 1, (2, 3)), sizes, strict=True):
        network = join(Input((7, 8, 2)), cls((3, 2), padding=padding, stride=stride))
        assert network.output_shape == (None, *wanted, 2)


@pytest.mark.parametrize(
    "cls, dtype",
    [
        *((MaxPooling, dtype) for dtype in (torch.bfloat16, torch.float16, torch.int64, torch.uint8)),
        *((AveragePooling, dtype) for dtype in (torch.bfloat16, torch.float16)),
    ],
)
@pytest.mark.parametrize("options", [(None, "valid"), (None, "same"), ((1, 1), "same")], ids=str)
def test_dtypes(cls: Any, dtype: torch.dtype, options: Any) -> None:
    x = (normal(2, 5, 5, 3).abs() * 20).to(dtype)
    layer = cls((2, 2), *options)
    output = layer.output(x)
    assert output.dtype is dtype
    wanted = pooling(FUNCTIONS[cls], (2, 2), *options)({}, x.double().numpy())
    np.testing.assert_allclose(output.double().numpy(), wanted, rtol=1e-2)


@both
def test_infinity_and_nan(cls: Any) -> None:
    layer = cls((1, 2), stride=1, padding="same")
    assert layer.output(row(-torch.inf, -torch.inf, 1, 2)).flatten()[0] == -torch.inf
    assert layer.output(row(0, torch.nan, 1, 2)).isnan().flatten().tolist() == [True, True, False, False]


@both
def test_unknown_sizes(cls: Any) -> None:
    layer = cls((3, 2), padding="same")
    assert layer.get_output_shape(None) == (None, None, None, None)
    assert join(Input((None, 6, None)), layer).output_shape == (None, None, 3, None)
    network = layer >> Relu()
    assert network.output_shape == (None, None, None, None)
    assert network(torch.zeros(2, 4, 5, 6)).shape == (2, 2, 3, 6)


@both
def test_image_of_unknown_size_too_small(cls: Any) -> None:
    network = join(Input((None, None, 2)), cls((3, 3), name="narrow"))
    with pytest.raises(LayerConnectionError, match=r"`narrow`.*\(1, 2, 5, 2\).*0 rows"):
        network(torch.zeros(1, 2, 5, 2))
    with pytest.raises(LayerConnectionError, match=r"`narrow`.*4 dimensions.*got 3.*\(5, 5, 2\)"):
        cls((3, 3), name="narrow").output(torch.zeros(5, 5, 2))


@both
@pytest.mark.parametrize(
    "option, given_value, kept",
    [
        ("size", (2, 3), (2, 3)),
        ("size", [2, np.int64(3)], [2, 3]),
        ("stride", 2, (2, 2)),
        ("stride", (2,), (2, 1)),
        ("stride", [2, 1], [2, 1]),
        ("stride", None, None),
        ("padding", "SAME", "SAME"),
    ],
)
def test_options(cls: Any, option: str, given_value: Any, kept: Any) -> None:
    layer = cls(**{"size": (2, 2), option: given_value})
    assert getattr(layer, option) == kept and type(getattr(layer, option)) is type(kept)
    assert repr(kept) in repr(layer)


@both
def test_changed_options_count(cls: Any) -> None:
    layer = cls((2, 2))
    x = normal(1, 6, 6, 1)
    layer.output(x)
    layer.set_params(size=(3, 3), stride=2, padding="same")
    wanted = pooling(FUNCTIONS[cls], (3, 3), (2, 2), "same")({}, x.numpy())
    np.testing.assert_allclose(layer.output(x).numpy(), wanted)
    assert layer.get_output_shape(x.shape) == wanted.shape


# Layout and torch's tools

POOLS = [
    MaxPooling((2, 2)),
    MaxPooling((3, 3), stride=2, padding="same"),
    AveragePooling((2, 3)),
    AveragePooling((3, 3), stride=1, padding="same"),
    Upscale((2, 3)),
]


@pytest.mark.parametrize("layer", POOLS, ids=str)
@pytest.mark.parametrize("shape", [(2, 8, 9, 3), (1, 8, 9, 1), (2, 3, 3, 1)], ids=str)
def test_contiguous_stays_contiguous_and_is_not_copied(layer: Any, shape: Any) -> None:
    x = torch.randn(shape, requires_grad=True)
    with profile(activities=[ProfilerActivity.CPU]) as record:
        output = layer.output(x)
    names = {event.name for event in record.events()}
    assert not names & {"aten::copy_", "aten::clone", "aten::contiguous", "aten::constant_pad_nd"}
    assert output.is_contiguous()
    # Not `x.grad`, which torch brings into the layout of `x`, whatever layout it comes in.
    (gradient,) = torch.autograd.grad(output, x, torch.ones_like(output))
    assert gradient.is_contiguous()


@pytest.mark.parametrize("layer", [*POOLS, GlobalPooling("max"), GlobalPooling("avg")], ids=str)
def test_second_derivatives(layer: Any) -> None:
    assert gradgradcheck(layer.output, normal(2, 4, 5, 2).requires_grad_())


@pytest.mark.parametrize(
    "layer",
    [
        MaxPooling((2, 3)),
        MaxPooling((3, 4), stride=1, padding="same"),
        AveragePooling((2, 3)),
        AveragePooling((3, 4), stride=1, padding="same"),
        Upscale((2, 3)),
        GlobalPooling("avg"),
        GlobalPooling("max"),
        GlobalPooling("sum"),
    ],
    ids=str,
)
def test_exported_with_open_sizes(layer: Any) -> None:
    network = join(Input((None, None, 3)), layer).eval()
    sizes = {0: Dim("batch", min=2), 1: Dim("height", min=8), 2: Dim("width", min=8)}
    program = torch.export.export(network, (torch.randn(3, 11, 13, 3),), dynamic_shapes=((sizes,),))
    for height, width in ((8, 9), (9, 8), (12, 12)):
        x = torch.randn(2, height, width, 3)
        torch.testing.assert_close(program.module()(x), network(x))


@both
@pytest.mark.parametrize("size", [(1, 2), (3, 4)])
def test_traced_with_open_sizes(cls: Any, size: Any) -> None:
    network = join(Input((None, None, 2)), cls(size, padding="same", stride=(3, 2)))
    traced = torch.fx.symbolic_trace(network)
    for height, width in ((1, 1), (5, 6), (6, 7), (7, 4)):
        x = torch.randn(2, height, width, 2)
        torch.testing.assert_close(traced(x), network(x))


# Upscale


@UNTIMED
@given(
    scale=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    shape=st.tuples(st.integers(0, 2), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3)),
)
def test_upscale(scale: Any, shape: Any) -> None:
    x = normal(*shape)
    wanted = x.numpy().repeat(scale[0], axis=1).repeat(scale[1], axis=2)
    np.testing.assert_array_equal(Upscale(scale).output(x).numpy(), wanted)


WHOLE = (torch.bool, torch.uint8, torch.int8, torch.int32, torch.int64)


@pytest.mark.parametrize("dtype", WHOLE)
def test_upscale_of_whole_numbers(dtype: torch.dtype) -> None:
    x = torch.arange(24).reshape(2, 2, 3, 2).remainder(2 if dtype is torch.bool else 24).to(dtype)
    output = Upscale((2, 3)).output(x)
    assert output.dtype is dtype and output.is_contiguous()
    np.testing.assert_array_equal(output.numpy(), x.numpy().repeat(2, axis=1).repeat(3, axis=2))


def test_upscale_of_unknown_sizes() -> None:
    assert Upscale(2).get_output_shape(None) == (None, None, None, None)
    assert join(Input((None, 6, None)), Upscale((2, 3))).output_shape == (None, None, 18, None)


@pytest.mark.parametrize("scale, kept", [(2, (2, 2)), (np.int64(2), (2, 2)), ((1, 3), (1, 3)), ([1, 3], [1, 3])])
def test_scale(scale: Any, kept: Any) -> None:
    layer = Upscale(scale)
    assert layer.scale == kept and repr(layer) == f"Upscale({kept}, name='{layer.name}')"


def test_upscale_on_meta() -> None:
    x = torch.empty(2, 3, 4, 5, device="meta")
    output = Upscale((2, 3)).output(x)
    assert output.is_meta and output.shape == (2, 6, 12, 5)


# GlobalPooling


@pytest.mark.parametrize(
    "function, reference",
    [
        ("avg", np.mean),
        ("max", np.max),
        ("sum", np.sum),
        (torch.amax, np.max),
        (torch.max, np.max),
        (torch.min, np.min),
        (torch.mean, np.mean),
        (torch.sum, np.sum),
        (torch.prod, np.prod),
        (torch.median, partial(np.quantile, q=0.5, method="lower")),
        (torch.norm, lambda x, axis: np.sqrt((x**2).sum(axis))),
        (torch.linalg.vector_norm, lambda x, axis: np.sqrt((x**2).sum(axis))),
        (torch.logsumexp, lambda x, axis: np.log(np.exp(x).sum(axis))),
        (torch.Tensor.var, partial(np.var, ddof=1)),
        (partial(torch.quantile, q=0.25), partial(np.quantile, q=0.25)),
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(2, 4, 3), (2, 4, 3, 5), (2, 2, 3, 2, 5)], ids=str)
def test_global_pooling(function: Any, reference: Any, shape: Any) -> None:
    x = normal(*shape)
    network = join(Input(shape[1:]), GlobalPool(function))
    wanted = reference(x.numpy(), axis=tuple(range(1, len(shape) - 1)))
    for found in (network(x), network.output(x, training=True)):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-10)
    assert network.output_shape == (None, shape[-1])


@pytest.mark.parametrize("dtype", WHOLE)
@pytest.mark.parametrize("shape", [(2, 4, 3), (2, 4, 3, 5), (2, 2, 3, 2, 5)], ids=str)
def test_largest_of_whole_numbers(dtype: torch.dtype, shape: Any) -> None:
    x = (normal(*shape) * 40).abs().to(torch.int64).remainder(2 if dtype is torch.bool else 100).to(dtype)
    output = GlobalPooling("max").output(x)
    assert output.dtype is dtype
    np.testing.assert_array_equal(output.numpy(), x.numpy().max(axis=tuple(range(1, len(shape) - 1))))


def test_largest_of_whole_numbers_is_exact() -> None:
    x = torch.tensor([2**60, 2**60 + 1, -(2**60)]).reshape(1, 3, 1)  # float64 knows no difference between the first two
    assert GlobalPooling("max").output(x).item() == 2**60 + 1


@pytest.mark.parametrize("shape", [(3, 7, 4), (3, 5, 6, 4), (3, 2, 5, 3, 4)], ids=str)
def test_largest_reads_the_input_as_it_lies(shape: Any) -> None:
    x = torch.randn(shape, requires_grad=True)
    with profile(activities=[ProfilerActivity.CPU]) as record:
        output = GlobalPooling("max").output(x)
    assert not {event.name for event in record.events()} & {"aten::copy_", "aten::clone", "aten::contiguous"}
    (gradient,) = torch.autograd.grad(output, x, torch.ones_like(output))
    assert gradient.is_contiguous()


def test_own_functions_are_called_as_in_neupy() -> None:
    calls = []

    def corner(x: Any, axis: Any = None) -> Any:
        calls.append((tuple(x.shape), axis))
        return x[:, 0, 0]

    x = normal(2, 4, 3, 5)
    torch.testing.assert_close(GlobalPooling(corner).output(x), x[:, 0, 0])
    assert calls == [((2, 4, 3, 5), [1, 2])]


def test_modules_as_functions() -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(2.0))
            self.dropout = nn.Dropout(1.0)

        def forward(self, x: torch.Tensor, axis: list[int]) -> Any:
            return self.dropout(x.mean(axis) * self.scale)

    function = Weighted()
    network = join(Input((4, 3, 5)), GlobalPooling(function))
    assert list(network.parameters()) == [function.scale]
    x = normal(2, 4, 3, 5, dtype=torch.float32)
    wanted = 2 * x.mean((1, 2))
    torch.testing.assert_close(network.eval()(x), wanted)
    torch.testing.assert_close(network.train().output(x), wanted)
    assert function.dropout.training
    assert not network(x).any() and not network.eval().output(x, training=True).any()


@pytest.mark.parametrize("function", ["avg", "max", "sum", torch.amax])
def test_two_dimensions_stay(function: Any) -> None:
    x = normal(3, 4)
    assert GlobalPooling(function).output(x) is x
    assert join(Input(4), GlobalPooling(function)).output_shape == (None, 4)


def test_global_pooling_of_unknown_shape() -> None:
    layer = GlobalPooling("max")
    network = layer >> Relu()
    assert network.output_shape == (None, None)
    x = normal(2, 3, 4, 5)
    torch.testing.assert_close(network(x), x.amax((1, 2)).relu())
    with pytest.raises(LayerConnectionError, match=rf"`{layer.name}`.*2 dimensions.*got 1.*\(5,\)"):
        network(torch.zeros(5))


def test_gradient_of_the_largest_goes_to_one() -> None:
    x = torch.zeros(1, 2, 2, 1, requires_grad=True)
    GlobalPooling("max").output(x).sum().backward()
    assert x.grad is not None and sorted(x.grad.flatten().tolist()) == [0, 0, 0, 1]


def test_function_in_repr() -> None:
    assert repr(GlobalPooling("avg", name="pool")) == "GlobalPooling('avg', name='pool')"
    assert repr(GlobalPooling(torch.amax, name="pool")) == "GlobalPooling(<function amax>, name='pool')"


def test_upscale_by_much_repeats_each_value_so_often() -> None:
    x = torch.arange(6.0).reshape(1, 2, 3, 1)
    expected = x.repeat_interleave(41, dim=1).repeat_interleave(53, dim=2)
    torch.testing.assert_close(Upscale((41, 53)).output(x), expected)
