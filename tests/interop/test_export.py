"""``torch.export``: programs for any batch, and for any height and width, saved, loaded and run."""

import copy
import io
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.export import Dim
from torch.testing import assert_close

from tests.interop.networks import (
    CASES,
    Case,
    copied_state,
    equal_states,
    every_case_of_all,
    make_convolution,
    parts,
    step,
)
from torchneupy.layers import GRU, LSTM, Concatenate, Convolution, Dropout, Input, Relu, join, parallel

in_both_ways = pytest.mark.parametrize("strict", [True, False], ids=["strict", "not strict"])


def export(network, inputs, strict=False):
    return torch.export.export(network, inputs, dynamic_shapes=network.dynamic_shapes(), strict=strict)


def open_images(device, height, width, batch=2):
    images = torch.randn(batch, height, width, 3, generator=torch.Generator().manual_seed(height))
    return (images.to(device),)


@every_case_of_all
def test_the_batch_is_one_dimension_that_all_inputs_share(case):
    ((*shapes,),) = case.network().dynamic_shapes()
    assert len(shapes) == len(case.shapes)
    assert all(list(shape) == [0] and shape[0].__name__ == "batch" for shape in shapes)


def test_unknown_sizes_are_left_open_and_known_ones_are_not():
    network = parallel(Input((None, 5, None, 3)), Input(()))
    ((first, second),) = network.dynamic_shapes()
    assert {axis: each for axis, each in first.items() if axis} == {1: Dim.AUTO, 3: Dim.AUTO}
    assert list(second) == [0]


@every_case_of_all
@in_both_ways
def test_an_exported_network_takes_any_batch(case, strict, device):
    network = case.network().eval().to(device)
    before = copied_state(network)
    program = export(network, case.inputs(4, device=device), strict)
    for batch in (1, 2, 3, 9):
        inputs = case.inputs(batch, device=device)
        outputs = network(*inputs)
        assert_close(program.module()(*inputs), outputs)
        assert_close(outputs, case.reference(before, *inputs))
        assert {type(part) for part in parts(outputs)} == {torch.Tensor}
    assert program.state_dict.keys() == network.state_dict().keys()
    assert not network.training
    equal_states(network, before)


@every_case_of_all
@in_both_ways
def test_an_exported_network_is_saved_and_loaded(case, strict, device):
    network = case.network().eval().to(device)
    file = io.BytesIO()
    torch.export.save(export(network, case.inputs(device=device), strict), file)
    file.seek(0)
    inputs = case.inputs(5, device=device)
    assert_close(torch.export.load(file).module()(*inputs), case.reference(network.state_dict(), *inputs))


@in_both_ways
def test_height_and_width_are_left_open(strict, device):
    network = make_convolution((None, None, 3)).eval().to(device)
    program = export(network, open_images(device, 8, 9), strict)
    for height, width, batch in [(8, 9, 2), (5, 5, 3), (13, 4, 1)]:
        images = open_images(device, height, width, batch)
        assert_close(program.module()(*images), network(*images))


@pytest.mark.parametrize("layer", [LSTM, GRU])
def test_the_number_of_steps_is_that_of_the_example(layer, device):
    network = join(Input((None, 5)), layer(6)).eval().to(device)
    program = export(network, (torch.ones(2, 7, 5, device=device),))
    x = torch.ones(3, 7, 5, device=device)
    assert_close(program.module()(x), network(x))
    with pytest.raises(AssertionError, match=r"Guard failed: .*size\(\)\[1\] == 7"):
        program.module()(torch.ones(3, 8, 5, device=device))


def test_equal_unknown_sizes_of_two_images_stay_equal(device):
    images = parallel(Input((None, None, 3)), Input((None, None, 2)))
    network = join(images, Concatenate(), Convolution((3, 3, 4)), Relu()).eval().to(device)
    program = export(network, tuple(torch.ones(2, 8, 9, channels, device=device) for channels in (3, 2)))
    pair = tuple(torch.ones(5, 11, 7, channels, device=device) for channels in (3, 2))
    assert_close(program.module()(*pair), network(*pair))


def test_a_keyword_of_python_is_no_name_of_a_layer_for_torch():
    """Torch writes the program as code in which the name stands as it is, for its own modules too."""
    network = Input(3) >> Relu(2, name="class")
    plain = nn.Sequential(OrderedDict({"class": nn.Linear(3, 2)}))
    for module in (network, plain):
        program = torch.export.export(module, (torch.ones(2, 3),))
        with pytest.raises(SyntaxError):
            program.module()


def test_a_program_of_training_keeps_the_statistics(device):
    """Exported in training mode, the program's BatchNorm learns the mean of what it is given."""
    case: Case = CASES["convolution"]
    network = case.network().to(device)
    before = copied_state(network)
    module = export(network, case.inputs(device=device)).module()
    inputs = case.inputs(6, device=device)
    assert_close(module(*inputs), network(*inputs))
    assert_close(dict(module.named_buffers()), dict(network.named_buffers()))
    assert not torch.equal(module.get_buffer("norm.running_mean"), before["norm.running_mean"])


@every_case_of_all
def test_a_program_of_training_is_trained(case, device):
    """Without Dropout, for which the draws of the program are others."""
    network = case.network().to(device)
    for layer in network:
        if isinstance(layer, Dropout):
            layer.eval()
    twin = copy.deepcopy(network)
    module = export(network, case.inputs(device=device)).module()
    for model in (module, twin):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for batch in (4, 6):
            step(case, model, optimizer, batch, device=device)
    equal_states(module.state_dict(), twin.state_dict(), rtol=1e-5, atol=1e-6)
