"""Expected values are computed by numpy in float64 from the definition, one place of the kernel after the other."""

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.export import Dim
from torch.profiler import ProfilerActivity, profile

from tests.contract.entries.convolutions import convolution, deconvolution
from torchneupy.core.properties import TypedListProperty
from torchneupy.exceptions import LayerConnectionError, WeightInitializationError
from torchneupy.layers import Conv, Convolution, Deconvolution, Input, Relu, join, parallel
from torchneupy.layers.convolutions import LARGE, PaddingProperty, Spatial2DProperty

UNTIMED = settings(deadline=None)
both = pytest.mark.parametrize("cls", [Convolution, Deconvolution])

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
paddings = st.sampled_from(["valid", "same"]) | st.tuples(st.integers(0, 3), st.integers(0, 3))


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def per_axis(padding: Any) -> Any:
    return (padding, padding) if isinstance(padding, str) else padding


def output_and_values(layer: Any, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, np.ndarray]]:
    """What a layer, new, gives for an input, and its variables, which differ from each other."""
    network = join(Input(x.shape[1:]), layer).to(x.dtype)
    with torch.no_grad():
        for seed, variable in enumerate(layer.variables.values()):
            variable.copy_(normal(*variable.shape, seed=seed + 5))
    values = {name: variable.detach().numpy() for name, variable in layer.variables.items()}
    return network(x), values


# Values


@UNTIMED
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=paddings,
    stride=pairs,
    dilation=pairs,
    shape=st.tuples(st.integers(0, 2), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)),
    filters=st.integers(1, 3),
    bias=st.sampled_from([0, None]),
    is_product=st.booleans(),
)
def test_convolution(
    kernel: Any, padding: Any, stride: Any, dilation: Any, shape: Any, filters: int, bias: int | None, is_product: bool
) -> None:
    reaches = [(kernel[axis] - 1) * dilation[axis] + 1 for axis in (0, 1)]
    margins = (0, 0) if isinstance(padding, str) else padding
    assume(padding == "same" or all(shape[1 + axis] + 2 * margins[axis] >= reaches[axis] for axis in (0, 1)))
    x = normal(*shape)
    with patch.object(Convolution, "_is_product", return_value=is_product):
        output, values = output_and_values(Convolution((*kernel, filters), padding, stride, dilation, bias=bias), x)
    wanted = convolution(per_axis(padding), stride, dilation)(values, x.numpy())
    np.testing.assert_allclose(output.detach().numpy(), wanted, rtol=1e-10, atol=1e-10)


@UNTIMED
@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    padding=paddings,
    stride=pairs,
    shape=st.tuples(st.integers(0, 2), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3)),
    filters=st.integers(1, 3),
    bias=st.sampled_from([0, None]),
)
def test_deconvolution(kernel: Any, padding: Any, stride: Any, shape: Any, filters: int, bias: int | None) -> None:
    if not isinstance(padding, str):
        assume(all(shape[1 + a] * stride[a] + kernel[a] - 1 - 2 * padding[a] > 0 for a in (0, 1)))
    x = normal(*shape)
    output, values = output_and_values(Deconvolution((*kernel, filters), padding, stride, bias=bias), x)
    wanted = deconvolution(per_axis(padding), stride)(values, x.numpy())
    np.testing.assert_allclose(output.detach().numpy(), wanted, rtol=1e-10, atol=1e-10)


def test_is_that_of_torch() -> None:
    theirs = nn.Conv2d(3, 5, (3, 2), stride=2, padding=1, dilation=2)
    ours = Convolution((3, 2, 5), padding=1, stride=2, dilation=2)
    join(Input((9, 8, 3)), ours)
    with torch.no_grad():
        ours.weight.copy_(theirs.weight.permute(2, 3, 1, 0))
        ours.bias.copy_(theirs.bias)
    x = torch.randn(2, 9, 8, 3)
    torch.testing.assert_close(ours(x).permute(0, 3, 1, 2), theirs(x.permute(0, 3, 1, 2)))


@pytest.mark.parametrize(
    "kernel, options, values",
    [
        ((1, 2), {"padding": "same"}, [3, 5, 7, 4]),
        ((1, 3), {"padding": "same", "stride": 2}, [6, 7]),
        ((1, 3), {"padding": (0, 1), "stride": 2}, [3, 9]),
    ],
)
def test_values_recorded_from_neupy(kernel: Any, options: Any, values: list[float]) -> None:
    network = join(Input((1, 4, 1)), Convolution((*kernel, 1), weight=1, **options))
    assert network(torch.tensor([1.0, 2, 3, 4]).reshape(1, 1, 4, 1)).flatten().tolist() == values


def test_deconvolution_recorded_from_neupy() -> None:
    one = torch.ones(1, 2, 2, 1)
    rows = [1.5, 1.5, 1.5, 1.5, 0.5]
    network = join(Input((2, 2, 1)), Deconvolution((2, 2, 1), stride=2, weight=1, bias=0.5, padding=0))
    assert network(one)[0, :, :, 0].tolist() == [rows, rows, rows, rows, [0.5] * 5]
    network = join(Input((2, 2, 1)), Deconvolution((3, 3, 1), stride=2, weight=1, padding=1))
    assert network(one)[0, :, :, 0].tolist() == [[1, 2, 1, 1], [2, 4, 2, 2], [1, 2, 1, 1], [1, 2, 1, 1]]


@pytest.mark.parametrize("size", [(1, 7, 7, 96, 80), (2, 9, 9, 90, 100)])
@both
def test_large_weights(cls: Any, size: Any) -> None:
    *shape, filters = size
    assert 9 * shape[-1] * filters > LARGE
    x = normal(*shape).requires_grad_()
    layer = cls((3, 3, filters), stride=2)
    output, values = output_and_values(layer, x)
    reference = convolution if cls is Convolution else deconvolution
    wanted = reference(stride=(2, 2))(values, x.detach().numpy())
    np.testing.assert_allclose(output.detach().numpy(), wanted, rtol=1e-10, atol=1e-10)
    output.sum().backward()
    # Each weight's gradient is the sum of what it was multiplied with.
    step = torch.zeros_like(layer.weight)
    step[1, 2, 3, 4] = 1
    with torch.no_grad():
        layer.weight += step
        change = layer(x).sum() - output.sum()
    torch.testing.assert_close(layer.weight.grad[1, 2, 3, 4], change)


@pytest.mark.parametrize(
    "size, shape, options, is_product",
    [
        ((1, 1, 4), (5, 9, 9, 3), {}, True),
        ((1, 1, 4), (5, 9, 9, 3), {"padding": "same", "stride": 2}, True),
        ((1, 1, 4), (5, 9, 9, 3), {"padding": 1}, False),
        ((3, 3, 96), (1, 6, 8, 90), {"padding": "same"}, True),
        ((3, 3, 96), (2, 6, 8, 90), {"padding": "same"}, False),
        ((3, 3, 96), (2, 6, 8, 90), {"padding": "same", "stride": (2, 1)}, True),
        ((3, 3, 8), (1, 2, 2, 9), {"padding": "same"}, False),
    ],
)
def test_large_weights_at_few_places_are_multiplied(size: Any, shape: Any, options: Any, is_product: bool) -> None:
    network = join(Input(shape[1:]), Convolution(size, **options))
    x = normal(*shape, dtype=torch.float32)
    network(x)
    with profile(activities=[ProfilerActivity.CPU]) as record:
        output = network(x)
    assert ("aten::linear" in {event.name for event in record.events()}) is is_product
    twin = join(Input(shape[1:]), Convolution(size, **options)).double()
    twin.load_state_dict(network.state_dict())
    with patch.object(Convolution, "_is_product", return_value=False):
        torch.testing.assert_close(output.double(), twin(x.double()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dynamic", [False, True])
def test_compilers_see_products_too(dynamic: bool, training: bool) -> None:
    """Else a compiled ResNet-50 takes longer than one that is not; of sizes that are open only the kernel's count."""
    pointwise, large = Convolution((1, 1, 4), stride=2, padding="same"), Convolution((3, 3, 96), padding="same")
    network = join(Input((6, 8, 90)), parallel(pointwise, large))
    found: list[str] = []

    def backend(module: torch.fx.GraphModule, inputs: Any) -> Any:
        found.extend(node.target.__name__ for node in module.graph.nodes if node.op == "call_function")
        return module.forward

    compiled = torch.compile(network, backend=backend, dynamic=dynamic, fullgraph=True)
    x = normal(3 if dynamic else 1, 6, 8, 90, dtype=torch.float32).requires_grad_(training)
    with torch.set_grad_enabled(training):
        torch.testing.assert_close(compiled(x), network(x), rtol=1e-4, atol=1e-4)
    assert (found.count("linear"), found.count("conv2d")) == ((1, 1) if dynamic else (2, 0))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_gradients_of_products() -> None:
    layer = Convolution((3, 2, 3), padding="same", stride=(2, 1), dilation=(1, 2))
    join(Input((5, 4, 2)), layer).double()
    values = dict(layer.named_parameters())

    def compute(x: torch.Tensor, *tensors: torch.Tensor) -> Any:
        return torch.func.functional_call(layer, dict(zip(values, tensors, strict=True)), (x,))

    tensors = [tensor.detach().clone().requires_grad_() for tensor in (normal(2, 5, 4, 2), *values.values())]
    with patch.object(Convolution, "_is_product", return_value=True):
        assert gradcheck(compute, tensors, check_forward_ad=True)
        assert gradgradcheck(compute, tensors)


# Sizes


@pytest.mark.parametrize("stride", [1, 2, (2, 3)])
@pytest.mark.parametrize("padding", ["valid", "same", 1, (0, 2)])
def test_sizes_recorded_from_neupy(padding: Any, stride: Any) -> None:
    recorded = {
        "valid": [[5, 7], [3, 4], [3, 3]],
        "same": [[7, 8], [4, 4], [4, 3]],
        1: [[7, 9], [4, 5], [4, 3]],
        (0, 2): [[5, 11], [3, 6], [3, 4]],
    }
    network = join(Input((7, 8, 2)), Conv((3, 2, 1), padding=padding, stride=stride))
    assert network.output_shape == (None, *recorded[padding][[1, 2, (2, 3)].index(stride)], 1)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", ["valid", "same", 1, (0, 1)])
def test_sizes_of_deconvolutions_recorded_from_neupy(padding: Any, stride: int) -> None:
    recorded = {
        "valid": [[9, 9], [15, 16], [21, 24]],
        "same": [[7, 8], [14, 16], [21, 24]],
        1: [[7, 7], [14, 15], [21, 23]],
        (0, 1): [[9, 7], [16, 15], [23, 23]],
    }
    network = join(Input((7, 8, 2)), Deconvolution((3, 2, 1), padding=padding, stride=stride))
    assert network.output_shape == (None, *recorded[padding][stride - 1], 1)


@both
def test_unknown_sizes(cls: Any) -> None:
    layer = cls((3, 3, 4), padding="same", stride=2)
    assert layer.get_output_shape(None) == (None, None, None, 4)
    network = join(Input((None, 6, 2)), layer)
    assert network.output_shape == (None, None, 3 if cls is Convolution else 12, 4)
    assert network.is_built
    for height in (1, 4, 7):
        assert network(torch.zeros(2, height, 6, 2)).shape == layer.get_output_shape((2, height, 6, 2))


@both
def test_unknown_channels(cls: Any) -> None:
    layer = cls((3, 3, 4))
    network = join(Input((6, 6, None)), layer)
    assert not network.is_built
    with pytest.raises(WeightInitializationError, match=rf"`{layer.name}`.*channels.*\(\?, 6, 6, \?\)"):
        network(torch.zeros(2, 6, 6, 2))
    with pytest.raises(WeightInitializationError, match=f"`{layer.name}`"):
        layer.output(torch.zeros(2, 6, 6, 2))


def test_sequences() -> None:
    network = join(Input((9, 1, 3)), Convolution((3, 1, 4)))
    x = torch.randn(2, 9, 3)
    layer = network.layers[1]
    wanted = nn.functional.conv1d(x.transpose(1, 2), layer.weight[:, 0].permute(2, 1, 0), layer.bias)
    torch.testing.assert_close(network(x[:, :, None])[:, :, 0], wanted.transpose(1, 2))


# Layout


def copied(function: Any) -> list[list[int]]:
    """The shapes of what a function copies, or writes again into a larger tensor."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as record:
        function()
    names = ("aten::copy_", "aten::clone", "aten::contiguous", "aten::constant_pad_nd")
    return [event.input_shapes[0] for event in record.events() if event.name in names]


def activations(shapes: list[list[int]], batch: int) -> list[list[int]]:
    """Those among shapes that are of a whole batch."""
    return [shape for shape in shapes if shape and shape[0] == batch]


SYMMETRIC = [
    {},
    {"padding": "same"},
    {"padding": (2, 1), "stride": (1, 2)},
    {"padding": "same", "stride": 2},
    {"padding": "same", "dilation": 2},
    {"bias": None, "stride": 2},
]


@pytest.mark.parametrize("options", SYMMETRIC, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_no_activation_is_copied(options: Any, channels: int) -> None:
    batch = 7  # the size of nothing else
    x = torch.randn(batch, 9, 11, channels, requires_grad=True)
    network = join(Input((9, 11, channels)), Convolution((3, 3, 4), **options), Convolution((3, 3, 5)))
    network(x)
    assert activations(copied(lambda: network(x)), batch) == []
    with torch.no_grad():
        assert activations(copied(lambda: network(x)), batch) == []


def test_copies_once_where_padding_differs() -> None:
    batch = 7
    x = torch.randn(batch, 8, 8, 3)
    network = join(Input((8, 8, 3)), Convolution((3, 3, 4), padding="same", stride=2))
    network(x)
    # The padded image, and the image written into it.
    assert activations(copied(lambda: network(x)), batch) == [[batch, 3, 8, 8], [batch, 3, 8, 8]]


@pytest.mark.parametrize("options", [*SYMMETRIC, {"padding": "same", "stride": (2, 1)}], ids=str)
@pytest.mark.parametrize("shape", [(2, 8, 9, 3), (1, 8, 9, 1), (2, 5, 5, 1), (0, 5, 5, 3), (3, 5, 5, 2)], ids=str)
@pytest.mark.parametrize("filters", [1, 4])
def test_contiguous_stays_contiguous(options: Any, shape: Any, filters: int) -> None:
    x = torch.randn(shape, requires_grad=True)
    output = join(Input(shape[1:]), Convolution((3, 3, filters), **options))(x)
    assert output.is_contiguous()
    # Not `x.grad`, which torch brings into the layout of `x`, whatever layout it comes in.
    (gradient,) = torch.autograd.grad(output, x, torch.ones_like(output))
    assert gradient.is_contiguous()


@pytest.mark.parametrize("shape", [(2, 1, 1, 3), (1, 1, 1, 4), (2, 1, 7, 3), (2, 7, 1, 1)], ids=str)
def test_contiguous_with_sizes_of_one(shape: Any) -> None:
    x = torch.randn(shape)
    for layer in (Convolution((1, 1, 4)), Convolution((3, 3, 4), padding="same"), Deconvolution((4, 4, 2))):
        assert join(Input(shape[1:]), layer)(x).is_contiguous()


def test_any_layout_goes_in() -> None:
    network = join(Input((6, 5, 3)), Convolution((3, 3, 4), padding="same"))
    x = torch.randn(2, 6, 5, 3)
    others = [x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1), torch.stack([x, x], -1)[..., 0]]
    for other in others:
        assert not other.is_contiguous()
        torch.testing.assert_close(network(other), network(x))


@both
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("filters", [1, 2])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weight_and_its_gradient_are_contiguous(
    cls: Any, channels: int, filters: int, batch: int, dtype: torch.dtype
) -> None:
    # Which kernel torch takes depends on all of these, and some are particular about strides.
    layer = cls((3, 2, filters))
    network = join(Input((5, 5, channels)), layer).to(dtype)
    x = normal(batch, 5, 5, channels, dtype=dtype)
    output = network(x)
    coefficients = normal(*output.shape, seed=1, dtype=dtype)
    (output * coefficients).sum().backward()
    assert layer.weight.is_contiguous() and layer.weight.grad.is_contiguous()
    direction = normal(*layer.weight.shape, seed=2, dtype=dtype)
    with torch.no_grad():
        layer.weight += direction  # the output is linear in the weight
        change = ((network(x) - output) * coefficients).sum()
    torch.testing.assert_close((layer.weight.grad * direction).sum(), change, rtol=1e-3, atol=1e-4)


# Derivatives, dtypes, torch's tools


@pytest.mark.parametrize(
    "layer",
    [
        Convolution((3, 2, 2), padding="same", stride=2),
        Convolution((2, 2, 1), dilation=2),
        Deconvolution((3, 3, 2), padding="same", stride=2),
        Deconvolution((2, 2, 2), padding=1, stride=3),
    ],
    ids=str,
)
def test_second_derivatives(layer: Any) -> None:
    network = join(Input((4, 4, 1)), layer).to(torch.float64)
    values = dict(network.named_parameters())

    def compute(x: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = torch.func.functional_call(network, dict(zip(values, tensors, strict=True)), (x,))
        return output

    tensors = [t.detach().clone().requires_grad_() for t in (normal(2, 4, 4, 1), *values.values())]
    assert gradgradcheck(compute, tensors)


@pytest.mark.parametrize("padding", ["valid", "same", 1])
@pytest.mark.parametrize("stride", [1, 2])
@both
def test_exported_with_open_sizes(cls: Any, padding: Any, stride: int) -> None:
    network = join(Input((None, None, 3)), cls((3, 4, 2), padding=padding, stride=stride)).eval()
    sizes = {0: Dim("batch", min=2), 1: Dim("height", min=8), 2: Dim("width", min=8)}
    program = torch.export.export(network, (torch.randn(3, 11, 13, 3),), dynamic_shapes=((sizes,),))
    for height, width in ((8, 9), (9, 8), (12, 12)):
        x = torch.randn(2, height, width, 3)
        torch.testing.assert_close(program.module()(x), network(x))


@pytest.mark.parametrize("window", [1, 2, 3])
@both
def test_traced_by_fx(cls: Any, window: int) -> None:
    network = join(Input((None, None, 2)), cls((window, 3, 2), padding="same", stride=(3, 2)))
    traced = torch.fx.symbolic_trace(network)
    assert list(traced.state_dict()) == list(network.state_dict())
    assert all(ours is theirs for ours, theirs in zip(traced.parameters(), network.parameters(), strict=True))
    for height, width in ((1, 1), (5, 6), (6, 7), (7, 4)):
        x = torch.randn(2, height, width, 2)
        torch.testing.assert_close(traced(x), network(x))


# Options


@pytest.mark.parametrize(
    "given_value, kept",
    [(3, (3, 3)), (np.int64(3), (3, 3)), ((2, 3), (2, 3)), ([2, 3], [2, 3]), ((2,), (2, 1)), ([2], (2, 1))],
)
@pytest.mark.parametrize("option", ["stride", "dilation"])
def test_spatial_options(option: str, given_value: Any, kept: Any) -> None:
    layer = Convolution((3, 3, 4), **{option: given_value})
    assert getattr(layer, option) == kept and type(getattr(layer, option)) is type(kept)
    assert f"{option}={kept!r}" in repr(layer)


@pytest.mark.parametrize(
    "given_value, kept",
    [
        ("valid", "VALID"),
        ("Same", "SAME"),
        (0, (0, 0)),
        (np.int64(2), (2, 2)),
        ((1, 0), (1, 0)),
        ([1, 0], (1, 0)),
    ],
)
def test_padding(given_value: Any, kept: Any) -> None:
    layer = Convolution((3, 3, 4), padding=given_value)
    assert layer.padding == kept and type(layer.padding) is type(kept)
    assert f"padding={kept!r}" in repr(layer)


def test_options_are_declared_as_in_neupy() -> None:
    declared = {name: type(option.value) for name, option in Convolution.options.items()}
    assert list(declared) == ["name", "size", "weight", "bias", "padding", "stride", "dilation"]
    assert declared["size"] is TypedListProperty
    assert declared["padding"] is PaddingProperty
    assert declared["stride"] is declared["dilation"] is Spatial2DProperty
    assert "dilation" not in Deconvolution.options
    assert Deconvolution((3, 3, 4)).dilation == (1, 1)


def test_error_is_of_the_option_that_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"`dilation`.*\(0, 0\).*Convolution") as caught:
        Convolution((3, 3, 4), dilation=0)
    assert "stride" not in str(caught.value)


@pytest.mark.parametrize(
    "option, value", [("size", (2, 2, 4)), ("padding", "same"), ("stride", 2), ("dilation", (2, 2))]
)
def test_options_on_which_shapes_depend_stay(option: str, value: Any) -> None:
    layer = Convolution((3, 3, 4))
    setattr(layer, option, value)
    setattr(layer, option, getattr(Convolution((3, 3, 4)), option))
    network = join(Input((6, 6, 2)), layer)
    with pytest.raises(ValueError, match=f"`{option}`.*{layer.name}"):
        setattr(layer, option, value)
    with pytest.raises(ValueError, match=f"`{option}`.*{layer.name}"):
        layer.set_params(**{option: value})
    assert network.output_shape == (None, 4, 4, 4)


# Calls that fail


def test_image_of_unknown_size_too_small() -> None:
    layer = Convolution((3, 3, 4), name="narrow")
    network = join(Input((None, None, 2)), Relu(), layer)
    with pytest.raises(LayerConnectionError, match=r"`narrow`.*\(3, 2, 5, 2\).*0 rows"):
        network(torch.zeros(3, 2, 5, 2))
    with pytest.raises(LayerConnectionError, match=r"`narrow`.*\(3, 5, 1, 2\).*-1 columns"):
        layer.output(torch.zeros(3, 5, 1, 2))


@both
def test_wrong_images(cls: Any) -> None:
    layer = cls((3, 3, 4), name="layer")
    join(Input((6, 6, 2)), layer)
    with pytest.raises(LayerConnectionError, match=r"`layer`.*\(6, 6, 2\).*\(\?, \?, \?, 2\)"):
        layer.output(torch.zeros(6, 6, 2))
    with pytest.raises(LayerConnectionError, match=r"`layer`.*\(1, 6, 6, 3\).*\(\?, \?, \?, 2\)"):
        layer.output(torch.zeros(1, 6, 6, 3))


def test_whole_numbers_are_told_with_the_layer() -> None:
    network = join(Input((6, 6, 2)), Convolution((3, 3, 4), name="first"))
    with pytest.raises(RuntimeError) as caught:
        network(torch.zeros(1, 6, 6, 2, dtype=torch.uint8))
    assert any("`first`" in note and "torch.uint8" in note for note in caught.value.__notes__)


@both
def test_one_layer_in_images_of_other_sizes_and_channels(cls: Any) -> None:
    layer = cls((3, 3, 4))
    join(Input((6, 6, 2)), layer)
    assert join(Input((9, 8, 2)), layer).is_built
    with pytest.raises(LayerConnectionError, match=f"{layer.name}"):
        join(Input((6, 6, 3)), layer)
