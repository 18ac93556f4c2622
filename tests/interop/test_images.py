"""Networks for images, compiled and exported: heights and widths that stay open, and changes of axes that cancel."""

from typing import Any

import pytest
import torch
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.testing import CompileCounterWithBackend
from torch._functorch.compilers import nop
from torch._functorch.partitioners import default_partition
from torch._inductor.fx_passes.joint_graph import joint_graph_passes
from torch.export import Dim
from torch.testing import assert_close

from torchneupy import layers
from torchneupy.layers import (
    AveragePooling,
    BatchNorm,
    Concatenate,
    Convolution,
    Deconvolution,
    Dropout,
    Elementwise,
    Elu,
    HardSigmoid,
    Identity,
    Input,
    MaxPooling,
    Relu,
    Sigmoid,
    Softmax,
    Softplus,
    Tanh,
    join,
    parallel,
)

#: Layers for which height and width matter, by a name.
LAYERS: dict[str, Any] = {
    f"{name} {padding} {size} {stride}": lambda make=make, size=size, stride=stride, padding=padding: make(
        size, stride=stride, padding=padding
    )
    for name, make in {
        "convolution": lambda size, **options: Convolution((*size, 4), **options),
        "deconvolution": lambda size, **options: Deconvolution((*size, 4), **options),
        "max": MaxPooling,
        "average": AveragePooling,
    }.items()
    for padding in ("same", "valid")
    for size, stride in (((3, 3), 2), ((2, 2), 1), ((3, 2), (1, 3)), ((2, 2), (3, 2)))
}
#: No two sizes are equal in the first: a compiler takes equal ones for one and the same.
SIZES = ((8, 11), (9, 10), (13, 7), (12, 12))

pytestmark = pytest.mark.usefixtures("fresh_compiler")

by_inductor = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")  # torch's own way to it
every_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


def images(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, *size, 3, generator=generator) for size in SIZES]


def gradient_of(network: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = x.clone().requires_grad_()
    output = network(leaf)
    (gradient,) = torch.autograd.grad(output.square().sum(), leaf)
    return output, gradient


@every_layer
def test_exported_with_open_height_and_width(make):
    network = (Input((None, None, 3)) >> make()).eval()
    shapes = (({0: Dim.DYNAMIC, 1: Dim.DYNAMIC, 2: Dim.DYNAMIC},),)
    program = torch.export.export(network, (images()[0],), dynamic_shapes=shapes)
    for x in images():
        assert_close(program.module()(x), network(x))


@every_layer
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_one_graph_for_all_heights_and_widths(make, training):
    network = (Input((None, None, 3)) >> make()).train(training)
    counter: Any = CompileCounterWithBackend("eager")
    compiled = torch.compile(network, fullgraph=True, backend=counter, dynamic=True)
    for x in images():
        if training:
            assert_close(gradient_of(compiled, x), gradient_of(network, x))
        else:
            with torch.no_grad():
                assert_close(compiled(x), network(x))
    assert counter.frame_count == 1


def test_average_of_an_image_with_open_margins_counts_only_the_image():
    layer = AveragePooling((3, 3), stride=2, padding="same")
    compiled: Any = torch.compile(layer.output, backend="eager", dynamic=True)
    for height, width in SIZES:
        ones = torch.ones(1, height, width, 2)
        assert_close(compiled(ones), torch.ones(1, -(-height // 2), -(-width // 2), 2))


def convolutions(shape: Any) -> Any:
    return join(Input(shape), Convolution((3, 3, 4), padding="same"), Relu())


@by_inductor
@pytest.mark.parametrize("shape", [(8, 11, 3), (None, None, 3)])
def test_a_training_step_for_open_sizes_is_compiled(shape):
    """By inductor, which could not keep a view of sizes that are open."""
    network = convolutions(shape)
    compiled: Any = torch.compile(network, fullgraph=True, dynamic=True)
    # Where sizes are open, torch compiles convolutions anew for each, its own as well.
    for x in images()[:1] if None in shape else [torch.randn(batch, 8, 11, 3) for batch in (2, 3, 7)]:
        assert_close(gradient_of(compiled, x), gradient_of(network, x), rtol=1e-4, atol=1e-5)


def test_declared_sizes_are_not_open():
    """The compiler learns them from the input layer, although it is told to leave all open."""
    network = convolutions((8, 11, 3))
    seen: list[Any] = []

    def backend(module: Any, inputs: list[Any]) -> Any:
        seen.extend(node.meta["example_value"] for node in module.graph.nodes if node.op == "placeholder")
        return module

    compiled: Any = torch.compile(network, fullgraph=True, backend=backend, dynamic=True)
    compiled(torch.randn(2, 8, 11, 3))
    (image,) = [value for value in seen if isinstance(value, torch.Tensor) and value.shape[1:] == (8, 11, 3)]
    assert [str(size) for size in image.shape[1:]] == ["8", "11", "3"]
    assert not str(image.shape[0]).isdigit()
    with pytest.raises(ValueError, match=r"Cannot feed value of shape \(2, 9, 11, 3\) to the input layer `input-\d+`"):
        torch.compile(network, backend="eager")(torch.randn(2, 9, 11, 3))


def permutations(network: Any, x: torch.Tensor) -> int:
    """How many changes of axes inductor leaves in a training step."""
    found = []

    def partition(joint: torch.fx.GraphModule, inputs: Any, **options: Any) -> Any:
        joint_graph_passes(joint)
        found.append(sum(node.target is torch.ops.aten.permute.default for node in joint.graph.nodes))
        return default_partition(joint, inputs, **options)

    backend = aot_autograd(fw_compiler=nop, partition_fn=partition)
    compiled: Any = torch.compile(network, backend=backend, fullgraph=True)
    compiled(x).square().sum().backward()
    (number,) = found
    return number


BETWEEN = {
    "activations": lambda: Relu() >> Sigmoid() >> Tanh() >> Elu() >> Softplus() >> HardSigmoid(),
    "leaky": lambda: Relu(alpha=0.1) >> layers.LeakyRelu(),
    "dropout": lambda: Dropout(0.5) >> Dropout(0.1),
    "sum": lambda: parallel(Identity(), Relu()) >> Elementwise("add"),
    "product": lambda: parallel(Identity(), Relu()) >> Elementwise("multiply"),
    "channels": lambda: parallel(Identity(), Relu()) >> Concatenate(),
    "columns": lambda: parallel(Identity(), Relu()) >> Concatenate(axis=2),
    "batch norm": BatchNorm,
    "pools": lambda: MaxPooling((2, 2)) >> AveragePooling((2, 2)) >> layers.Upscale(2),
    "prelu": layers.PRelu,
}


@by_inductor
@pytest.mark.parametrize("between", BETWEEN.values(), ids=BETWEEN)
def test_changes_of_axes_cancel_between_convolutions(between):
    """Those of what is in between are gone, and what is left is that of the first and the last layer."""
    x = torch.randn(2, 8, 11, 3)
    first, last = lambda: Convolution((3, 3, 4)), lambda: Convolution((2, 2, 4))
    fewest = permutations(join(Input((8, 11, 3)), first(), last()), x)
    assert permutations(join(Input((8, 11, 3)), first(), between(), last()), x) <= fewest


def test_a_function_that_looks_at_axes_gets_them_as_they_are():
    class Along(Relu):
        def activation_function(self, input):
            return input.cumsum(-1)

    x = torch.randn(2, 4, 5, 3)
    for network in (
        Input((4, 5, 3)) >> Along(),
        Input((4, 5, 3)) >> parallel(Identity(), Identity()) >> Elementwise(lambda a, b: a + b.cumsum(-1)),
        Input((4, 5, 3)) >> Softmax(),
    ):
        compiled: Any = torch.compile(network, backend="eager", fullgraph=True)
        assert_close(compiled(x), network(x))


@every_layer
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.* is deprecated")
def test_traced_by_jit(make):
    network = (Input((None, None, 3)) >> make()).eval()
    traced = torch.jit.trace(network, images()[0])
    for x in images():
        assert_close(traced(x), network(x))


@pytest.mark.parametrize("n_layers", [1, 12])
def test_a_break_in_the_graph_costs_as_much_whatever_the_number_of_layers(n_layers):
    """And not a graph for each layer, of which torch would compile no more than eight."""
    network = join(Input((8, 8, 4)), parallel(Relu(), Tanh()), Elementwise(), *[Relu() for _ in range(n_layers)])
    network.layers[2].register_forward_hook(lambda *args: torch._dynamo.graph_break())
    counter: Any = CompileCounterWithBackend("eager")
    x = torch.randn(2, 8, 8, 4)
    compiled = torch.compile(network, backend=counter)
    assert_close(compiled(x), network(x))
    assert counter.frame_count <= 5


def test_output_of_a_wrong_shape_is_refused_as_well():
    network = convolutions((8, 11, 3))
    compiled: Any = torch.compile(network.output, backend="eager")
    assert_close(compiled(torch.ones(2, 8, 11, 3)), network.output(torch.ones(2, 8, 11, 3)))
    with pytest.raises(ValueError, match="Cannot feed value of shape"):
        compiled(torch.ones(2, 9, 11, 3))
