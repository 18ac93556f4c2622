"""The laws of the library's layers: functions of a variant that raise where it does not keep the law.

They ask what the public contract, ``torchneupy.testing``, cannot ask of a stranger's layer: that it computes what the
entry says, has the entry's variables and takes its options, and what only layers of the library promise. ``LAWS`` has
them all by name. Those in ``ON_CUDA`` are asked where there is CUDA.
"""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
import math
import pickle
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck
from torch.func import functional_call, grad, vmap

from tests.contract.cases import VARIANTS
from tests.contract.entry import NAMES, Variant
from tests.contract.example import (
    Example,
    are_apart,
    concrete,
    fill,
    for_all,
    have_equal_options,
    have_equal_values,
    is_close,
    is_equal,
    is_same_option,
    known,
    leaf,
    outputs_of,
    sizes_of,
)
from tests.interop.networks import run_elsewhere
from torchneupy.core.parameters import ParameterProperty
from torchneupy.exceptions import WeightInitializationError
from torchneupy.testing.parts import PARTS
from torchneupy.testing.parts.places import Devices
from torchneupy.testing.subject import Subject, connect, named_tensors

Law: TypeAlias = Callable[[Variant], None]

LAWS: dict[str, Law] = {}
ON_CUDA: set[str] = set()


def law(function: Law) -> Law:
    LAWS[function.__name__] = function
    return function


# Shapes


@law
def any_sizes(variant: Variant) -> None:
    """What the contract says of shapes holds whatever the sizes are."""

    def check(sizes: dict[str, int]) -> None:
        shapes = concrete(variant, sizes)
        for name in ("shape", "unknown_sizes"):
            PARTS[name].check(Subject(lambda: connect(variant.make(), shapes), make_layer=variant.make))

    for_all(sizes_of(variant), check, examples=5)


@law
def small_batches(variant: Variant) -> None:
    """The least batches that a layer takes, in each mode, give the declared shape, on ``meta`` as well."""
    example = Example(variant)
    for device, training in itertools.product(("cpu", "meta"), (False, True)):
        network = example.network.to(device).train(training)
        for batch in range(variant.least_batch if training else 0, 2):
            inputs = [x[:batch].to(device) for x in example.inputs]
            assert network(*inputs).shape == example.layer.get_output_shape(*(tuple(x.shape) for x in inputs))


@law
def fails_without_variables(variant: Variant) -> None:
    """A layer that has no variables yet, as sizes are unknown, says so when it is called."""
    example = Example(variant)
    layer = variant.make()
    network = connect(layer, [(None,) * len(shape) for shape in example.shapes])
    assert layer.is_built or variant.variables
    if not network.is_built:
        with pytest.raises(WeightInitializationError, match=layer.name):
            network(*example.inputs)


# Computation


@law
def computes(variant: Variant) -> None:
    """In evaluation mode the output is the reference's."""

    def check(drawn: tuple[dict[str, int], int]) -> None:
        example = Example(variant, *drawn)
        is_close(example.network.eval()(*example.inputs), example.expected())
        is_close(example.layer(*example.inputs), example.expected())

    for_all(st.tuples(sizes_of(variant), st.integers(1, 4)), check, examples=5)


@law
def trains(variant: Variant) -> None:
    """In training mode the output is as in evaluation mode, or as the entry says."""
    example = Example(variant)
    example.inputs = example.draw(batch=10_000 // max(math.prod(sizes) for sizes in example.sizes()))
    expected = example.compute(variant.in_training or variant.reference)
    output = outputs_of(example.network.train(), example.inputs)
    if variant.check_training is None:
        is_close(output, expected)
    else:
        (x,) = example.inputs
        variant.check_training(x.numpy(), output.detach().numpy())


@law
def changes_its_buffers(variant: Variant) -> None:
    """A call in training mode changes buffers as the entry says, and no other variable."""
    example = Example(variant)
    before = {name: value.detach().clone() for name, value in example.layer.variables.items()}
    for call in (example.network.train(), torch.no_grad()(example.network)):
        changed = example.compute(variant.after_training or (lambda values, *inputs: {}))
        call(*example.inputs)
        for name, value in example.layer.variables.items():
            is_close(value, changed.get(name, before[name].double().numpy()))
        assert changed.keys() <= set(variant.buffers)


@law
def draws_while_training(variant: Variant) -> None:
    """Outputs in training mode depend on random numbers if the layer is random, and only then."""
    example = Example(variant)
    inputs = example.draw(batch=20)
    first, again, other = (outputs_of(example.layer.output, inputs, seed, training=True) for seed in (3, 3, 4))
    is_equal(first, again)
    assert torch.equal(first, other) is not variant.random


@law
def two_ways_in(variant: Variant) -> None:
    """A layer's own ``output``, and ``predict``, give what calling the network in that mode gives."""
    example = Example(variant)
    layer, network, inputs = example.layer, example.network, example.inputs
    for training in (True, False):
        called = outputs_of(network.train(training), inputs)
        for mode in (True, False):
            network.train(mode)
            is_equal(outputs_of(layer.output, inputs, training=training), called)
            assert layer.training is mode
    is_equal(outputs_of(layer.output, inputs), called)
    called = torch.no_grad()(outputs_of)(network, inputs)  # some kernels round otherwise for gradients
    np.testing.assert_array_equal(network.train().predict(*inputs, verbose=False), called.detach().numpy())
    assert all(module.training for module in network.modules())


@law
def extreme_values(variant: Variant) -> None:
    """What is large stays finite, and what is no number does not become one."""
    example = Example(variant)
    for training in (False, True):
        large = [x * 1e4 if x.is_floating_point() else x for x in example.inputs]
        assert example.network.train(training)(*large).isfinite().all()
    lost = [torch.full_like(x, torch.nan) if x.is_floating_point() else x for x in example.inputs]
    if any(x.is_floating_point() for x in lost):
        assert example.network.eval()(*lost).isnan().any()


# Gradients


@law
def forward_derivatives(variant: Variant) -> None:
    """Derivatives that go forward, by inputs and by variables, are those of finite differences, in both modes."""
    example = Example(variant, batch=2).to(torch.float64)
    layer, n_inputs = example.layer, len(example.inputs)
    variables = dict(layer.named_parameters())

    def compute(*tensors: torch.Tensor) -> torch.Tensor:
        values = dict(zip(variables, tensors[n_inputs:], strict=True))
        return outputs_of(lambda *inputs: functional_call(layer, values, inputs), tensors[:n_inputs])

    tensors = [leaf(tensor.detach()) for tensor in (*example.inputs, *variables.values())]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")  # torch's forward derivatives use it
        for training in (False, True):
            layer.train(training)
            assert gradcheck(compute, tensors, check_forward_ad=True, check_backward_ad=False, fast_mode=True)


@law
def gradients_arrive(variant: Variant) -> None:
    """The gradient reaches every variable that is trained, every input that can have one, and nothing else."""
    example = Example(variant)
    network, layer = example.network, example.layer
    for training in (False, True):
        network.zero_grad()
        output = outputs_of(network.train(training), example.inputs)
        if layer.variables:
            (output * torch.linspace(1, 2, output.numel()).view_as(output)).sum().backward()
        for name, variable in layer.variables.items():
            trained = name not in variant.buffers
            assert (variable.grad is not None and bool(variable.grad.any())) is trained, name
    inputs = [leaf(x) for x in example.inputs]
    output = network.eval()(*inputs)
    if output.requires_grad:
        output.sum().backward()
    assert all((x.grad is not None) is x.is_floating_point() for x in inputs)


# Variables and options


@law
def variables_are_registered(variant: Variant) -> None:
    """The variables are those of the entry, and are the layer's Parameters and buffers; nothing else holds a tensor."""
    example = Example(variant)
    layer, network, variables = example.layer, example.network, dict(example.layer.variables)
    sizes = variant.typical_sizes()
    shapes = {name: tuple(known(size, sizes) for size in shape) for name, shape in variant.variables.items()}
    assert [(name, tuple(v.shape)) for name, v in variables.items()] == list(shapes.items())
    trained = {id(v) for name, v in variables.items() if name not in variant.buffers}
    others = {id(v) for name, v in variables.items() if name in variant.buffers}
    assert {id(parameter) for parameter in layer.parameters()} == trained
    assert {id(buffer) for buffer in layer.buffers()} == others
    assert all(parameter.requires_grad for parameter in layer.parameters())
    assert {id(v) for v in layer.state_dict(keep_vars=True).values()} == trained | others
    assert {id(v) for v in network.variables.values()} == trained | others
    assert list(named_tensors(layer)) == []
    assert layer.is_built
    (key,) = [key for key, child in network.named_children() if child is layer]
    assert list(network.state_dict()) == [f"{key}.{name}" for name in layer.state_dict()]
    if variables:
        with pytest.raises(RuntimeError, match=next(iter(network.state_dict()))):
            network.load_state_dict({})


def declared_variables(layer: Any) -> list[str]:
    """The options that have become variables."""
    return [
        name
        for name, option in layer.options.items()
        if isinstance(option.value, ParameterProperty) and name in layer.variables
    ]


@law
def given_values(variant: Variant) -> None:
    """A Parameter given for a variable is shared, of a buffer the storage; an array or another tensor is copied."""
    example = Example(variant)
    for name in declared_variables(example.layer):
        options = variant.make().get_params()
        shape = tuple(example.layer.variables[name].shape)
        shared = nn.Parameter(torch.rand(shape))
        one, other = (type(example.layer)(**{**options, name: shared}) for _ in range(2))
        for layer in (one, other):
            network = connect(layer, example.shapes)
            assert layer.variables[name].data_ptr() == shared.data_ptr()
            assert (layer.variables[name] is shared) is (name not in variant.buffers)
            assert any(p is shared for p in network.parameters()) is (name not in variant.buffers)
        for given_value in (torch.rand(shape), np.random.default_rng(0).random(shape), np.ones(shape, int)):
            wanted = torch.as_tensor(copy.deepcopy(given_value)).float()
            copied = type(example.layer)(**{**options, name: given_value})
            connect(copied, example.shapes)
            given_value[...] = 7
            variable = copied.variables[name]
            assert isinstance(variable, nn.Parameter) is (name not in variant.buffers)
            is_equal(variable.detach(), wanted)


@law
def repr_evaluates(variant: Variant) -> None:
    """The repr, of a new layer and of one that has its variables, makes an equal layer."""
    for layer in (variant.make(), Example(variant).layer):
        have_equal_options(eval(repr(layer), dict(NAMES)), layer)


@law
def stays_what_was_asked_for(variant: Variant) -> None:
    """Connecting, computing and training change no option and not the repr."""
    layer, shapes = variant.make(), Example(variant).shapes
    before, text = layer.get_params(), repr(layer)
    network = connect(layer, shapes)
    output = outputs_of(network.train(), Example(variant).inputs)
    if layer.variables:
        output.sum().backward()
        torch.optim.SGD(network.parameters(), lr=0.1).step()
    assert repr(layer) == text
    # For an array come the values that the variable has now.
    kept = {name: value for name, value in before.items() if not isinstance(value, (np.ndarray, torch.Tensor))}
    after = layer.get_params()
    assert [name for name, value in kept.items() if not is_same_option(after[name], value)] == []


@law
def options_rebuild(variant: Variant) -> None:
    """``get_params`` has the constructor's arguments, and makes an equal layer, of which ``set_params`` is aware."""
    example = Example(variant)
    for layer in (variant.make(), example.layer):
        options = layer.get_params()
        assert options.keys() == inspect.signature(type(layer)).parameters.keys()
        again = type(layer)(**options)
        have_equal_options(again, layer)
        assert again.name == layer.name
    network = connect(again, example.shapes)
    again.load_state_dict(example.layer.state_dict())
    is_equal(outputs_of(network, example.inputs), outputs_of(example.network, example.inputs))
    fresh = variant.make()
    before = repr(fresh)
    declared = {name: value for name, value in fresh.get_params().items() if name in fresh.options}
    assert fresh.set_params(**declared) is fresh
    assert repr(fresh) == before
    with pytest.raises(ValueError, match="no_such_option"):
        fresh.set_params(**declared, no_such_option=1)


# Copies and files


ELSEWHERE = """
import torch
from tests.contract.cases import VARIANTS
from tests.contract.example import Example, fill, outputs_of
from torchneupy.layers import Input, Relu, Tanh

Input(3) >> Relu(2) >> Tanh(1)  # so that names are numbered otherwise than here
stored = torch.load(folder / "here.pt", weights_only=True)
results = []
for variant, state in zip(VARIANTS, stored, strict=True):
    example = Example(variant)
    fill(example.network, seed=9)
    example.network.load_state_dict(state)
    outputs = [outputs_of(example.network.train(mode), example.inputs).detach() for mode in (True, False)]
    results.append((list(example.network.state_dict()), outputs))
torch.save(results, folder / "elsewhere.pt")
"""


@functools.cache
def results_elsewhere() -> dict[str, Any]:
    """Keys and outputs of all variants' networks, made in another process, with the values that they have here."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save([Example(variant).network.state_dict() for variant in VARIANTS], folder / "here.pt")
        run_elsewhere(ELSEWHERE, folder)
        results = torch.load(folder / "elsewhere.pt", weights_only=True)
    return {str(variant): result for variant, result in zip(VARIANTS, results, strict=True)}


@law
def state_dict_elsewhere(variant: Variant) -> None:
    """A network made in another process takes the state and computes the same."""
    example = Example(variant)
    keys, outputs = results_elsewhere()[str(variant)]
    assert keys == list(example.network.state_dict())
    for training, output in zip((True, False), outputs, strict=True):
        is_equal(outputs_of(example.network.train(training), example.inputs).detach(), output)


def keeps_options(variant: Variant, make_copy: Callable[[Any], Any]) -> None:
    for layer in (variant.make(), Example(variant).layer):
        twin = make_copy(layer)
        assert (twin.name, twin.is_built) == (layer.name, layer.is_built)
        have_equal_options(twin, layer)


@law
def deepcopy_keeps_options(variant: Variant) -> None:
    """A deep copy, of a new layer and of one that has its variables, has the same options and name."""
    keeps_options(variant, copy.deepcopy)


@law
def pickle_keeps_options(variant: Variant) -> None:
    """What comes back from pickle has the same options and name."""
    keeps_options(variant, lambda layer: pickle.loads(pickle.dumps(layer)))


@law
def copy_is_a_new_layer(variant: Variant) -> None:
    """A copy of a layer is a new layer with the same values; a copy of a network shares its layers."""
    example = Example(variant)
    layer, network = example.layer, example.network
    twin = copy.copy(layer)
    assert (twin.name == layer.name) is (layer._name_pattern is None)
    assert twin.original_name == layer.original_name
    have_equal_values(twin, layer)
    are_apart(twin, layer)
    is_equal(outputs_of(twin, example.inputs), outputs_of(layer, example.inputs))
    is_equal(outputs_of(connect(twin, example.shapes), example.inputs), outputs_of(network, example.inputs))
    sharing = copy.copy(network)
    assert all(one is other for one, other in zip(sharing, network, strict=True))
    is_equal(outputs_of(sharing, example.inputs), outputs_of(network, example.inputs))


# Types and places


@law
def other_dtypes(variant: Variant) -> None:
    """In types of more and of less precision, the output is the reference's as nearly as the type can tell."""
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.bfloat16, 2e-2)):
        example = Example(variant).to(dtype)
        is_close(outputs_of(example.network.eval(), example.inputs), example.expected(), tolerance)


@law
def autocast(variant: Variant) -> None:
    """Under autocast outputs are about the same, and gradients reach the variables in their own type."""
    example = Example(variant)
    wanted = {True: example.compute(variant.in_training or variant.reference), False: example.expected()}
    if variant.after_training is not None:
        wanted[False] = None  # of other statistics
    types = set()
    for training in (True, False):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = outputs_of(example.network.train(training), example.inputs)
        if wanted[training] is not None and not (training and variant.check_training):
            is_close(output, wanted[training], 2e-2)
        if example.layer.variables:
            output.float().sum().backward()
            assert all(p.grad is not None and p.grad.dtype is torch.float32 for p in example.layer.parameters())
        types.add(output.dtype)
    assert len(types) == 1


@law
def autocast_of_lower_precision(variant: Variant) -> None:
    """Under autocast, an input of less precision, as it comes from a layer before, gives one type in both modes."""
    example = Example(variant)
    inputs = [x.bfloat16() if x.is_floating_point() else x for x in example.inputs]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        types = {outputs_of(example.network.train(training), inputs).dtype for training in (True, False)}
    assert len(types) == 1


@law
def nothing_is_read_on_the_host(variant: Variant) -> None:
    """No way in, in either mode and with gradients, reads a value on the host, or makes or draws something elsewhere.

    Which on CUDA would have the host wait for the device. On ``meta`` there are no values, so that reading one fails.
    """
    example = Example(variant)
    network, layer = example.network.to("meta"), example.layer
    inputs = [leaf(x.to("meta")) for x in example.inputs]
    before = torch.get_rng_state()
    with Devices() as devices:
        for training in (True, False):
            for call in (network.train(training), network.output, layer.output):
                output = call(*inputs) if call is network else call(*inputs, training=training)
                if output.requires_grad:
                    output.sum().backward()
    assert devices.found <= {"meta"}
    is_equal(torch.get_rng_state(), before)


@law
def on_cuda(variant: Variant) -> None:
    """On CUDA, outputs and gradients are those of the CPU, and training works."""
    example = Example(variant)
    wanted = example.expected()
    twin = Example(variant).to("cuda")
    is_close(twin.network.eval()(*twin.inputs), wanted)
    assert twin.network.train()(*twin.inputs).is_cuda
    if example.layer.variables:
        for one in (example, twin):
            one.network.eval()(*one.inputs).square().sum().backward()
        for ours, theirs in zip(twin.layer.parameters(), example.layer.parameters(), strict=True):
            torch.testing.assert_close(ours.grad.cpu(), theirs.grad, rtol=1e-4, atol=1e-4)
    with torch.device("cuda"):
        network = connect(variant.make(), example.shapes)
    assert all(variable.is_cuda for variable in network.variables.values())


ON_CUDA.add("on_cuda")


# Within torch's tools


class Tripled(nn.Module):
    """A stranger that takes a layer's place."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: torch.Tensor) -> Any:
        return 3 * self.inner(*inputs)


@law
def replaced_child_runs(variant: Variant) -> None:
    """What is put in a layer's place in a network is what runs, be it a layer or any other module."""
    example = Example(variant)
    network, inputs = example.network.eval(), example.inputs
    (key,) = [key for key, child in network.named_children() if child is example.layer]
    wanted = 3 * outputs_of(network, inputs)
    setattr(network, key, Tripled(example.layer))
    is_equal(outputs_of(network, inputs), wanted)
    is_equal(outputs_of(network.output, inputs), wanted)
    wanted = 3 * torch.no_grad()(outputs_of)(example.layer, inputs)  # some kernels round otherwise for gradients
    np.testing.assert_array_equal(network.predict(*inputs, verbose=False), wanted.numpy())
    assert not variant.variables or all(".inner." in name for name, _ in network.named_parameters())
    other = copy.deepcopy(example.layer)
    fill(other, seed=9)
    setattr(network, key, other)
    is_equal(outputs_of(network, inputs), outputs_of(other, inputs))
    is_equal(outputs_of(network.output, inputs), outputs_of(other, inputs))


def call_with(network: nn.Module, values: dict[str, torch.Tensor], *inputs: torch.Tensor) -> Any:
    """What a network computes with other values."""
    return functional_call(network, values, inputs)


@law
def stateless(variant: Variant) -> None:
    """``functional_call`` computes with other values, and leaves those that the network has."""
    example, other = Example(variant), Example(variant)
    fill(other.network, seed=9)
    for training in (True, False):
        network, wanted = example.network.train(training), other.network.train(training)
        before = outputs_of(network, example.inputs)
        values = dict(wanted.state_dict())
        with torch.no_grad():  # the values have no gradients, for which some kernels round otherwise
            output = outputs_of(partial(call_with, network, values), example.inputs)
            is_equal(output, outputs_of(wanted, example.inputs))
        is_equal(outputs_of(network, example.inputs), before)


@law
def mapped_over_values(variant: Variant) -> None:
    """``vmap`` computes with many values of the variables, or for many batches, at once."""
    example, other = Example(variant), Example(variant)
    fill(other.network, seed=9)
    network, inputs = example.network.eval(), example.inputs
    states = {key: torch.stack([v, other.network.state_dict()[key]]) for key, v in network.state_dict().items()}
    batches = [torch.stack(both) for both in zip(inputs, example.other_inputs(), strict=True)]
    with warnings.catch_warnings():
        # What torch says of its own operations under vmap.
        warnings.filterwarnings("ignore", ".*(performance drop|was resized since it had shape)", UserWarning)
        if states:
            outputs = vmap(lambda values: functional_call(network, values, inputs))(states)
            torch.testing.assert_close(outputs, torch.stack([network(*inputs), other.network.eval()(*inputs)]))
        outputs = vmap(network)(*batches)
        torch.testing.assert_close(outputs, torch.stack([network(*(x[i] for x in batches)) for i in range(2)]))
        if variant.random:
            drawn = vmap(network.train(), randomness="different")(*(torch.stack([x, x]) for x in inputs))
            assert drawn[0].shape == drawn[1].shape == outputs[0].shape
            assert not torch.equal(*drawn)


@law
def mapped_over_samples(variant: Variant) -> None:
    """``vmap(grad(...))`` gives the gradient of each sample."""
    example = Example(variant)
    network, inputs = example.network.eval(), example.inputs

    def loss(values: Any, *sample: torch.Tensor) -> Any:
        return functional_call(network, values, tuple(x[None] for x in sample)).square().sum()

    values = {name: parameter.detach() for name, parameter in network.named_parameters()}
    wanted = (0, *(1 + place for place, x in enumerate(inputs) if x.is_floating_point()))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*(performance drop|was resized since it had shape)", UserWarning)
        found = vmap(grad(loss, argnums=wanted), in_dims=(None, *(0 for _ in inputs)))(values, *inputs)
    for index in range(len(inputs[0])):
        leaves = [leaf(x[index : index + 1]) for x in inputs]
        network.zero_grad()
        output = network(*leaves)
        if output.requires_grad:
            output.square().sum().backward()
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(found[0][name][index], parameter.grad)
        for gradients, place in zip(found[1:], wanted[1:], strict=True):
            torch.testing.assert_close(gradients[index][None], leaves[place - 1].grad)


@law
def traced_by_fx(variant: Variant) -> None:
    """``torch.fx`` traces a network, which then takes any batch, and has the very same variables."""
    example = Example(variant)
    traced = torch.fx.symbolic_trace(example.network.eval())
    ours, theirs = ({id(v) for v in n.state_dict(keep_vars=True).values()} for n in (example.network, traced))
    assert theirs == ours
    for batch in (1, 5):
        inputs = example.draw(batch)
        is_equal(traced(*inputs), example.network(*inputs))
