"""ONNX by ``torch.onnx.export(dynamo=True)``: onnxruntime computes what the network does, for any batch."""

from collections.abc import Iterable
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch.testing import assert_close

from tests.contract.cases import CASES as LAYERS
from tests.contract.cases import VARIANTS
from tests.contract.entry import Variant
from tests.contract.example import Example
from tests.interop.networks import every_case, make_convolution
from torchneupy.layers import GRU, LSTM, Dropout, Identity, Input, Relu, join, parallel

pytestmark = pytest.mark.filterwarnings(
    # The exporter itself uses what torch and onnxscript have deprecated.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    # What it says of its own loop for recurrent layers, and of a batch that several inputs share.
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning",
    "ignore:# The axis name. batch will not be used:UserWarning",
)


def export(network: Any, inputs: tuple[torch.Tensor, ...], **options: Any) -> onnxruntime.InferenceSession:
    program = torch.onnx.export(
        network, inputs, dynamo=True, dynamic_shapes=network.dynamic_shapes(), verbose=False, **options
    )
    assert program is not None
    return onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, inputs: tuple[torch.Tensor, ...]) -> Any:
    """What comes out, as the network has it: a tuple if there are several outputs."""
    names = [each.name for each in session.get_inputs()]
    outputs = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
    tensors = tuple(torch.from_numpy(np.asarray(output)) for output in outputs)
    return tensors if len(tensors) > 1 else tensors[0]


def joined(parts: Iterable[tuple[torch.Tensor, ...]]) -> tuple[torch.Tensor, ...]:
    return tuple(chain.from_iterable(parts))


def told(variant: Variant, message: str) -> str:
    return f"{variant}: {message}"


def agrees(session: onnxruntime.InferenceSession, network: Any, inputs: tuple[torch.Tensor, ...]) -> None:
    with torch.no_grad():
        assert_close(run(session, inputs), network(*inputs), rtol=1e-4, atol=1e-5)


@every_case
def test_onnxruntime_computes_what_the_network_does(case):
    network = case.network().eval()
    session = export(network, case.inputs())
    assert all(each.shape[0] == "batch" for each in session.get_inputs())
    for batch in (1, 3, 8):
        agrees(session, network, case.inputs(batch))


def test_every_layer_is_exported():
    """All side by side in one program, because each one takes its time; in the full run each alone, in every way."""
    examples = [Example(case.variants[0]) for case in LAYERS]
    networks = [example.network.eval() for example in examples]
    session = export(parallel(*networks).eval(), joined(example.draw(11) for example in examples))
    for batch in (1, 2, 13):
        inputs = [example.draw(batch) for example in examples]
        outputs = run(session, joined(inputs))
        for example, network, values, output in zip(examples, networks, inputs, outputs, strict=True):
            with torch.no_grad():
                assert_close(output, network(*values), rtol=1e-4, atol=1e-5, msg=partial(told, example.variant))


@pytest.mark.full
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_variant_of_every_layer_is_exported(variant: Variant):
    example = Example(variant)
    network = example.network.eval()
    session = export(network, example.draw(11))
    for batch in (1, 2, 13):
        agrees(session, network, example.draw(batch))


def test_height_and_width_are_left_open():
    network = make_convolution((None, None, 3)).eval()
    session = export(network, (torch.ones(2, 8, 9, 3),))
    for shape in [(1, 8, 9, 3), (3, 5, 12, 3)]:
        agrees(session, network, (torch.rand(shape),))


@pytest.mark.parametrize("layer", [LSTM, GRU])
def test_the_number_of_steps_is_left_open(layer):
    """Where torch.export alone fixes it, the exporter has a loop."""
    network = join(Input((None, 5)), layer(6)).eval()
    session = export(network, (torch.ones(2, 7, 5),))
    for steps in (7, 1, 12):
        agrees(session, network, (torch.rand(3, steps, 5),))


def test_inputs_and_outputs_have_the_names_that_they_are_given():
    network = join(Input(3), Relu(4)).eval()
    session = export(network, (torch.ones(2, 3),), input_names=["pixels"], output_names=["classes"])
    assert [each.name for each in session.get_inputs()] == ["pixels"]
    assert [each.name for each in session.get_outputs()] == ["classes"]


def test_dropout_is_gone_from_what_was_exported_in_evaluation():
    network = join(Input(3), Dropout(0.5), Identity()).eval()
    x = torch.ones(100, 3)
    assert_close(run(export(network, (x,)), (x,)), x)
